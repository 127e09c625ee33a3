"""Commands of scripts/, run in this process: as a user would see them, without the seconds that imports take."""

import contextlib
import io
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def run(name: str, *arguments: object) -> Done:
    """Run a command with arguments to its end."""
    out, err = io.StringIO(), io.StringIO()
    line = [name, *map(str, arguments)]
    with mock.patch.object(sys, "argv", line), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")
            code = 0
        except SystemExit as stopped:
            code = stopped.code
    return Done(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
