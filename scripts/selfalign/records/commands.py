"""What every command shares: one clear error instead of a traceback, and seeds derived from the run's one seed."""

import errno
import hashlib
import sys
from collections.abc import Callable


def derive_seed(run_seed: int, *parts: object) -> int:
    """Return a 48-bit seed that depends on the run's seed and the parts (stage, row id, sample number) alone."""
    text = "\x1f".join(str(part) for part in (run_seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's main function; print bad input as `error: ...` and exit 1.

    A `ValueError` is the user's to mend and its text says how. Anything else is a bug and keeps its traceback.
    """
    try:
        code = main()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except FileNotFoundError as error:
        print(f"error: {error.filename} does not exist; check the path, or run the step that makes it", file=sys.stderr)
        code = 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        print(
            f"error: cannot write {error.filename or 'the output'}: {error.strerror}. "
            "Free some space or fix the permissions, then run the same command again: finished rows are kept.",
            file=sys.stderr,
        )
        code = 1
    sys.exit(code or 0)
