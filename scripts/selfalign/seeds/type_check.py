"""Type-check many functions in few processes, each function with its imports, on its own.

Undefined names are looked for first, with ruff: that removes most functions at a fraction of the cost. What is left
goes to the type checker in its standard mode, Pyright's default rules, many functions in one process. A process that
crashes or runs too long is repeated on halves, so it loses no function but one that fails by itself.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.progress import Progress
from selfalign.records.rows import Function

CHECKERS = ("basedpyright", "pyright")  # the same options and output
UNDEFINED = "F821"
_UNRESOLVED = re.compile(r'^Import "([^".]+)')


def find_tool(name: str) -> str:
    """Return the path of a program installed beside this Python, or else on the PATH.

    Raises:
        ValueError: it is in neither place.
    """
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise ValueError(
            f"type check: {name} is not installed; install it with `{sys.executable} -m pip install {name}`, "
            "or remove type_check from the filters"
        )
    return found


def _program(row: Function) -> str:
    return f"{row.imports}\n\n\n{row.code}\n" if row.imports else f"{row.code}\n"


@dataclass(frozen=True, kw_only=True)
class TypeChecker:
    """Find the functions in which a type checker reports no error.

    Attributes:
        checker: "basedpyright" or "pyright".
        batch: Functions for one process.
        timeout_s: Wall seconds for one process; then its functions are tried in two halves.
    """

    checker: str
    batch: int
    timeout_s: int

    def __post_init__(self):
        if self.checker not in CHECKERS:
            raise ValueError(f"type check: unknown checker {self.checker!r}; known are {', '.join(CHECKERS)}")
        if self.batch < 1 or self.timeout_s < 1:
            raise ValueError("type check: batch and timeout_s must be at least 1")

    def check(self, rows: Sequence[Function]) -> list[str | None]:
        """Return for each function None, or the reason why it is dropped."""
        ruff, checker = find_tool("ruff"), find_tool(self.checker)
        reasons: list[str | None] = [None] * len(rows)
        for start in range(0, len(rows), self.batch):
            numbers = range(start, min(start + self.batch, len(rows)))
            for number in self._undefined(ruff, rows, numbers):
                reasons[number] = "undefined name"
        rest = [number for number, reason in enumerate(reasons) if reason is None]
        progress = Progress(f"type check with {self.checker}", len(rest), unit="functions")
        for start in range(0, len(rest), self.batch):
            batch = rest[start : start + self.batch]
            for number, reason in self._check_batch(checker, rows, batch).items():
                reasons[number] = reason
            progress.add(len(batch))
        return reasons

    def _undefined(self, ruff: str, rows: Sequence[Function], numbers: Iterable[int]) -> set[int]:
        """Return the numbers of the functions with an undefined name or a syntax that ruff refuses."""
        with tempfile.TemporaryDirectory(prefix="selfalign-") as folder:
            _write_programs(folder, rows, numbers)
            command = [ruff, "check", "--isolated", "--no-cache", "--ignore-noqa", "--select", UNDEFINED]
            version = f"py3{sys.version_info.minor}"
            result = subprocess.run(
                [*command, "--target-version", version, "--output-format", "json", "--exit-zero", "."],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode != 0:
                raise RuntimeError(f"ruff ended with {result.returncode}: {result.stderr.strip()[-500:]}")
            return {_number(item["filename"]) for item in json.loads(result.stdout)}

    def _check_batch(self, checker: str, rows: Sequence[Function], numbers: Sequence[int]) -> dict[int, str]:
        """Return the functions with an error, by number; a failed process is repeated on halves."""
        try:
            return self._run(checker, rows, numbers)
        except _Failed as error:
            if len(numbers) <= 1:
                return dict.fromkeys(numbers, f"type checker {error}")
            print(f"type checker {error} on {len(numbers):,} functions; trying halves", file=sys.stderr, flush=True)
            middle = len(numbers) // 2
            left = self._check_batch(checker, rows, numbers[:middle])
            return left | self._check_batch(checker, rows, numbers[middle:])

    def _run(self, checker: str, rows: Sequence[Function], numbers: Sequence[int]) -> dict[int, str]:
        with tempfile.TemporaryDirectory(prefix="selfalign-") as folder:
            _write_programs(folder, rows, numbers)
            settings = {
                "include": ["."],
                "typeCheckingMode": "standard",
                "pythonVersion": f"{sys.version_info.major}.{sys.version_info.minor}",
                "pythonPlatform": "Linux",  # the same verdict wherever the check runs
            }
            Path(folder, "pyrightconfig.json").write_text(json.dumps(settings))
            command = [checker, "--outputjson", "--level", "error", "--pythonpath", sys.executable, "-p", folder]
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # the launcher starts node: a time-out must end both
            )
            try:
                output, _ = process.communicate(timeout=self.timeout_s)
            except subprocess.TimeoutExpired:
                raise _Failed("timed out") from None
            finally:
                _end_group(process)
            if process.returncode not in (0, 1):  # 1: it found errors
                raise _Failed("crashed")
            try:
                report = json.loads(output)
            except json.JSONDecodeError:
                raise _Failed("crashed") from None
            if report["summary"]["filesAnalyzed"] != len(numbers):
                raise _Failed("skipped a function")
            return {
                _number(item["file"]): "type error"
                for item in report["generalDiagnostics"]
                if item["severity"] == "error" and not _is_stdlib_import(item)
            }


class _Failed(Exception):
    """The type checker gave no verdict; the message says how."""


def _end_group(process: subprocess.Popen) -> None:
    """End a process with all that it started, and reap it."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.communicate()


def _is_stdlib_import(item: dict) -> bool:
    """Return whether a diagnostic is about a compiled module of the standard library that has no type stubs."""
    match = _UNRESOLVED.match(item["message"]) if item.get("rule") == "reportMissingImports" else None
    return match is not None and match[1] in sys.stdlib_module_names


def _write_programs(folder: str, rows: Sequence[Function], numbers: Iterable[int]) -> None:
    for number in numbers:
        Path(folder, f"program_{number:07}.py").write_text(_program(rows[number]), encoding="utf-8")


def _number(path: str) -> int:
    return int(Path(path).stem.removeprefix("program_"))
