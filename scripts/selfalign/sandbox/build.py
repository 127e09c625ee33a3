"""Build the C core of the sandbox for the running interpreter, and find it again."""

import hashlib
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("core.c")


def core_file() -> Path | None:
    """Return the C core that was built from this source for the running interpreter, None where there is none."""
    if not SOURCE.is_file():
        return None
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = Path(sysconfig.get_path("platlib"), f"selfalign_sandbox_{key}{sysconfig.get_config_var('EXT_SUFFIX')}")
    return path if path.is_file() else None
