"""One run at a time in a working directory. The kernel frees the lock when its holder dies, however it dies."""

import os
import platform
from pathlib import Path
from typing import TextIO

from selfalign.records.files import try_lock

LOCK = Path(".snakemake/selfalign.lock")  # holds the process and the computer of the run that had it last
_held: list[TextIO] = []  # an open file keeps its lock; closing it would free it


REMEDY = (
    "a run needs a folder that it may write into; mend that, or name another one with `snakemake --directory OTHER`"
)


def require_writable() -> None:
    """Look whether Snakemake can keep its records here, without which it ends with a traceback, dry runs too.

    Raises:
        ValueError: it cannot; names the folder.
    """
    folder = LOCK.parent if LOCK.parent.exists() else Path()
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {folder.absolute()}; {REMEDY}")


def hold_run_lock() -> str:
    """Take the working directory's run lock for as long as this process lives.

    Returns:
        The process of the run before and, if it was on another computer, that one's name: "4711 on login2"; else "".

    Raises:
        ValueError: another run holds it; names its process. Or no file can be locked or written here.
    """
    try:
        LOCK.parent.mkdir(exist_ok=True)
        file = open(LOCK, "a+")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"cannot write {LOCK.absolute()}: {error.strerror}; {REMEDY}") from None
    file.seek(0)
    process, _, computer = file.read().strip().partition(" on ")
    if not try_lock(file):
        raise ValueError(
            f"another run (process {process or 'unknown'} on {computer or 'an unknown computer'}) is working in "
            f"{Path.cwd()}; wait for it, stop it, or run elsewhere with `snakemake --directory OTHER`"
        )
    _held.append(file)
    return f"{process} on {computer}" if computer not in ("", platform.node()) else ""


def note_run() -> None:
    """Write into the lock who holds it."""
    file = _held[-1]
    file.truncate(0)
    file.write(f"{os.getpid()} on {platform.node()}")
    file.flush()
