"""One run at a time in a working directory. The kernel frees the lock when its holder dies, however it dies."""

import fcntl
import os
from pathlib import Path
from typing import TextIO

_held: list[TextIO] = []  # an open file keeps its lock; closing it would free it


def hold_run_lock() -> None:
    """Take the working directory's run lock for as long as this process lives.

    Raises:
        ValueError: another run holds it; names its process.
    """
    path = Path(".snakemake/selfalign.lock")
    path.parent.mkdir(exist_ok=True)
    file = open(path, "a+")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        raise ValueError(
            f"another run (process {holder}) is working in {Path.cwd()}; wait for it, stop it, or run elsewhere "
            "with `snakemake --directory OTHER`"
        ) from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    _held.append(file)
