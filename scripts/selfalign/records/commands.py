"""What every command shares: one clear error instead of a traceback, and seeds derived from the run's one seed."""

import errno
import hashlib
import sys
from collections.abc import Callable, Iterable

from selfalign.records.digests import REMEDY, ChangedError, set_aside


def derive_seed(run_seed: int, *parts: object) -> int:
    """Return a 48-bit seed that depends on the run's seed and the parts (stage, row id, sample number) alone."""
    text = "\x1f".join(str(part) for part in (run_seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def explain(error: Exception) -> str | None:
    """Return what an error tells the user to mend; None for a bug, which keeps its traceback."""
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} does not exist; check the path, or run the step that makes it"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return (
            f"cannot write {error.filename or 'the output'}: {error.strerror}. "
            "Free some space or fix the permissions, then run the same command again: finished rows are kept."
        )
    return None


def visible(line: str) -> str:
    """Return a line for the screen: what would steer a terminal, or begin another line, is spelt out."""
    return "".join(
        character if character.isprintable() or character == "\t" else character.encode("unicode_escape").decode()
        for character in line
    )


def print_lines(lines: Iterable[str]) -> None:
    """Print lines in which something may stand that somebody else wrote."""
    print("\n".join(map(visible, lines)))


def run_command(main: Callable[[], int | None], *, makes: bool = True) -> None:
    """Run a command's main function; print bad input as `error: ...` and exit 1.

    A `ValueError` is the user's to mend and its text says how. Anything else is a bug and keeps its traceback.

    Args:
        makes: The command is one of the workflow's: an artifact that has changed since it was written is set aside, so
            that the next run makes it anew. Commands that only look at a run leave it.
    """
    try:
        code = main()
    except (ValueError, OSError) as error:
        if (text := explain(error)) is None:
            raise
        if makes and isinstance(error, ChangedError):
            for path in error.paths:
                set_aside(path)
            text = f"{text}. {REMEDY}"
        print("error:", "\n".join(map(visible, text.split("\n"))), file=sys.stderr)
        code = 1
    sys.exit(code or 0)
