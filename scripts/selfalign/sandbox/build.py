"""Build the C core of the sandbox for the running interpreter, and find it again: `python build.py` builds it."""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("core.c")
REMEDY = "install gcc and the headers of Python (Debian: apt-get install gcc python3-dev), then run make setup again"


def core_path() -> Path:
    """Return where the core belongs that is built from this source for the running interpreter."""
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    return Path(sysconfig.get_path("platlib"), f"selfalign_sandbox_{key}{sysconfig.get_config_var('EXT_SUFFIX')}")


def core_file() -> Path | None:
    """Return the core that was built from this source for the running interpreter, None where there is none."""
    path = core_path()
    return path if path.is_file() else None


def build_core() -> Path:
    """Compile the core, or find it already there; earlier versions go.

    Raises:
        ValueError: there is no compiler, or it failed; names the remedy.
    """
    path = core_path()
    if path.is_file():
        return path
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if compiler is None or not headers.is_file():
        missing = "a C compiler" if compiler is None else str(headers)
        raise ValueError(f"the sandbox's C core was not built ({missing} is missing); {REMEDY}")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder, path.name)
        flags = ["-O2", "-Wall", "-Wno-unused-parameter", "-fPIC", "-shared", f"-I{headers.parent}"]
        command = [compiler, *flags, str(SOURCE), "-o", str(built)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            said = f"{' '.join(command)}: {' '.join(result.stderr.split())[-2000:]}"
            raise ValueError(f"the sandbox's C core was not built ({said})")
        for old in path.parent.glob("selfalign_sandbox_*"):
            old.unlink()
        built.rename(path)
    return path


if __name__ == "__main__":
    try:
        print(build_core())
    except ValueError as error:
        # No error: the Python core serves then, as check_sandbox.py and every verdict row say.
        print(f"note: {error}. Until then the slower Python core serves.", file=sys.stderr)
