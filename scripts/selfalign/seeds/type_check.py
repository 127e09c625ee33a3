"""Type-check many functions in few processes, each function with its imports, on its own.

Each step takes what the one before left: undefined names (with ruff) and imports of modules that are not installed
cost next to nothing and remove most; the rest goes to one type checker or to several in turn, many functions in one
process. A process that crashes or runs too long is repeated on halves, so it loses no function but one that fails by
itself.

Checkers are set to what Pyright calls an error in its standard mode, as far as they can be: bench/README.md holds how
far their verdicts agree and what they cost.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from selfalign.records.rows import Function

UNDEFINED = "F821"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
# A program with an error that every checker reports: a process that does not report it has checked nothing
CANARY, CANARY_PROGRAM = "canary.py", "def canary(x: int) -> str:\n    return x.nothing\n"
# How checkers say that they cannot find a module; "Module `math` has no member" is another thing
_MISSING_MODULE = re.compile(r"(?:imported module|find module|named|Import) [`\"]([^`\"]+)")
# Comments that switch off one checker; `type: ignore` is for all of them, and they all follow it
_OTHERS_COMMENT = re.compile(r"#\s*(?:ty|pyright|pyrefly|zuban|mypy)\s*:")
_ZUBAN_LINE = re.compile(r"(?P<file>\S+\.py):\d+(?::\d+)?: error: (?P<message>.*?)(?:  \[(?P<rule>[\w-]+)\])?")


class CheckFailed(Exception):
    """The type checker gave no verdict; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One error that a checker reports: the file's name, the rule, and what it says."""

    file: str
    rule: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Checker:
    """A type checker as a command.

    Attributes:
        command: Arguments after the program's name.
        settings: Files to write into the folder that is checked, name to content.
        environment: Variables that keep it to one core: parts are what runs side by side.
        exit_codes: Of a run that came to its end.
        read: Diagnostics of severity "error" in what it prints.
    """

    command: tuple[str, ...]
    settings: dict[str, str]
    environment: dict[str, str]
    exit_codes: tuple[int, ...]
    read: Callable[[str], Iterator[Diagnostic]]


def _read_pyright(output: str) -> Iterator[Diagnostic]:
    for item in json.loads(output)["generalDiagnostics"]:
        if item["severity"] == "error":
            yield Diagnostic(file=item["file"], rule=item.get("rule", "syntax"), message=item["message"])


def _read_ty(output: str) -> Iterator[Diagnostic]:
    for item in json.loads(output):
        if item["severity"] not in ("info", "minor"):  # its words for what is less than an error
            message = item["description"].removeprefix(f"{item['check_name']}: ")
            yield Diagnostic(file=item["location"]["path"], rule=item["check_name"], message=message)


def _read_pyrefly(output: str) -> Iterator[Diagnostic]:
    for item in json.loads(output)["errors"]:
        if item["severity"] == "error":
            yield Diagnostic(file=item["path"], rule=item["name"], message=item["concise_description"])


def _read_zuban(output: str) -> Iterator[Diagnostic]:
    for match in filter(None, map(_ZUBAN_LINE.fullmatch, output.splitlines())):
        yield Diagnostic(file=match["file"], rule=match["rule"] or "syntax", message=match["message"])


# The same verdict wherever the check runs: the platform is said, too
_PYRIGHT = Checker(
    command=("--outputjson", "--level", "error", "--pythonpath", sys.executable, "-p", "."),
    settings={
        "pyrightconfig.json": json.dumps(
            {
                "include": ["."],
                "typeCheckingMode": "standard",
                "pythonVersion": VERSION,
                "pythonPlatform": "Linux",
            }
        )
    },
    environment={"NODE_OPTIONS": "--max-semi-space-size=256"},  # MB for new objects: a tenth less CPU time than with 16
    exit_codes=(0, 1),
    read=_read_pyright,
)
CHECKERS = {
    "ty": Checker(
        command=(
            *("check", "--python", sys.executable, "--python-version", VERSION, "--python-platform", "linux"),
            # Less than errors by default; Pyright's standard mode drops nearly all functions that have one of the first
            # three, and a function that declares a global of its module is not whole without it
            *("--error", "possibly-unresolved-reference", "--error", "possibly-missing-submodule"),
            *("--error", "single-overload", "--error", "unresolved-global"),
            *("--output-format", "gitlab", "--no-progress", "--no-respect-ignore-files", "--exit-zero", "."),
        ),
        settings={"ty.toml": ""},  # else it looks for settings in the folders above
        environment={"TY_MAX_PARALLELISM": "1"},
        exit_codes=(0,),
        read=_read_ty,
    ),
    "pyrefly": Checker(
        command=(
            *("check", "--python-interpreter-path", sys.executable, "--python-version", VERSION),
            *("--python-platform", "linux", "--threads", "1", "--output-format", "json"),
            *("--summary=none", "--progress-bar=no"),
        ),
        settings={"pyrefly.toml": ""},
        environment={},
        exit_codes=(0, 1),
        read=_read_pyrefly,
    ),
    "zuban": Checker(
        command=(
            *("check", "--python-executable", sys.executable, "--python-version", VERSION),
            *("--platform", "linux", "."),
        ),
        settings={"mypy.ini": "[mypy]\n"},
        environment={"RAYON_NUM_THREADS": "1"},
        exit_codes=(0, 1),
        read=_read_zuban,
    ),
    "pyright": _PYRIGHT,
    "basedpyright": _PYRIGHT,
}


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
            "choose another checker, or remove type_check from the filters"
        )
    return found


def undefined_names(rows: Sequence[Function]) -> dict[int, str]:
    """Return the undefined names of the functions that have some, by the function's place; or the syntax error."""
    found: dict[int, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="selfalign-") as folder:
        _write_programs(folder, rows, range(len(rows)))
        command = [find_tool("ruff"), "check", "--isolated", "--no-cache", "--ignore-noqa", "--select", UNDEFINED]
        options = ["--target-version", f"py3{sys.version_info.minor}", "--output-format", "json", "--exit-zero", "."]
        environment = os.environ | {"RAYON_NUM_THREADS": "1"}
        result = subprocess.run(
            [*command, *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise RuntimeError(f"ruff ended with {result.returncode}: {result.stderr.strip()[-500:]}")
        for item in json.loads(result.stdout):
            names = found.setdefault(_number(item["filename"]), [])
            names.append(item["message"].removeprefix("Undefined name ").strip("`"))
    return {number: ", ".join(sorted(set(names))) for number, names in found.items()}


class InstalledModules:
    """Tells whether modules can be imported here, without importing anything."""

    def __init__(self):
        # A command's own folder comes first on the path, and is nobody's library
        own = Path(__file__).resolve().parents[2]
        self._path = [entry for entry in sys.path if entry and Path(entry).resolve() != own]
        self._specs: dict[str, ModuleSpec | None] = {}

    def __contains__(self, name: str) -> bool:
        # Some modules of the standard library are in the interpreter itself, or on other systems only
        return name in sys.stdlib_module_names or self._spec(name) is not None

    def _spec(self, name: str) -> ModuleSpec | None:
        if name not in self._specs:
            path = self._path
            if parent := name.rpartition(".")[0]:
                found = self._spec(parent)
                path = found and found.submodule_search_locations
            self._specs[name] = PathFinder.find_spec(name, path) if path else None
        return self._specs[name]

    def missing(self, imports: str) -> list[str]:
        """Return the modules of import statements, one per line, that are not here."""
        modules = [line.split()[1].partition(".")[0] for line in imports.splitlines()]
        return sorted({module for module in modules if module not in self})


Found = dict[int, tuple[str, str]]  # by the function's place: reason and what was found


def check_in_batches(numbers: Sequence[int], size: int, run: Callable[[Sequence[int]], Found]) -> Found:
    """Return what a check finds in functions that go to processes in batches; a batch that fails is tried in halves.

    Args:
        run: Checks one batch in one process.
    """
    found: Found = {}
    waiting = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    while waiting:
        batch = waiting.pop()
        try:
            found |= run(batch)
        except CheckFailed as error:
            if len(batch) == 1:
                found[batch[0]] = (f"type checker {error}", "")
            else:
                print(f"type checker {error} on {len(batch):,} functions; trying halves", file=sys.stderr)
                middle = len(batch) // 2
                waiting += [batch[middle:], batch[:middle]]
    return found


def run_tool(
    command: list[str],
    *,
    timeout_s: int,
    folder: str | None = None,
    environment: dict[str, str] | None = None,
    exit_codes: tuple[int, ...] = (0,),
    text: str = "",
) -> str:
    """Return what a program prints.

    Args:
        folder: Where it runs.
        environment: Variables besides ours.
        exit_codes: Of a run that came to its end.
        text: Its standard input.

    Raises:
        CheckFailed: it ended in another way, or took too long.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        start_new_session=True,  # a launcher may start node: a time-out must end both
    ) as process:
        try:
            output, _ = process.communicate(text, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise CheckFailed("timed out") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
    if process.returncode not in exit_codes:
        raise CheckFailed("crashed")
    return output


@dataclass(frozen=True, kw_only=True)
class TypeChecker:
    """Run type checkers on functions.

    Attributes:
        checkers: Of `CHECKERS`, in the order in which they run; each sees what those before it keep. What is kept has
            no error in any, so the last one may be slow: a fast one before it spares it part of the work.
        batch: Functions for one process.
        timeout_s: Wall seconds for one process; then its functions are tried in two halves.
    """

    checkers: Sequence[str]
    batch: int
    timeout_s: int

    def __post_init__(self):
        known = ", ".join(CHECKERS)
        if not self.checkers:
            raise ValueError(f"type check: no checker; list at least one of {known}, or leave type_check out")
        for number, name in enumerate(self.checkers):
            if name not in CHECKERS:
                raise ValueError(f"type check: unknown checker {name!r}; known are {known}")
            if name in self.checkers[:number]:
                raise ValueError(f"type check: {name} is listed twice; one run of it says all, so list it once")
        if self.batch < 1 or self.timeout_s < 1:
            raise ValueError("type check: batch and timeout_s must be at least 1")

    def check(self, rows: Sequence[Function]) -> list[tuple[str, str] | None]:
        """Return for each function None, or the reason why it is dropped and what was found.

        Raises:
            ValueError: ruff or a checker is not installed.
        """
        for name in self.checkers:
            find_tool(name)  # a missing one is said before any work
        found: dict[int, tuple[str, str]] = {
            number: ("undefined name", names) for number, names in undefined_names(rows).items()
        }
        installed = InstalledModules()
        for number, row in enumerate(rows):
            missing = installed.missing(row.imports) if number not in found else []
            if missing:
                found[number] = ("unresolved import", ", ".join(missing))
        for name in self.checkers:
            found |= self.type_errors(name, rows, [number for number in range(len(rows)) if number not in found])
        return [found.get(number) for number in range(len(rows))]

    def type_errors(self, name: str, rows: Sequence[Function], numbers: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return reason and first error of those of the numbered functions in which one checker finds any."""
        return check_in_batches(numbers, self.batch, lambda batch: self._run(name, rows, batch))

    def _run(self, name: str, rows: Sequence[Function], numbers: Sequence[int]) -> dict[int, tuple[str, str]]:
        checker = CHECKERS[name]
        with tempfile.TemporaryDirectory(prefix="selfalign-") as folder:
            _write_programs(folder, rows, numbers)
            for file, text in {CANARY: CANARY_PROGRAM, **checker.settings}.items():
                Path(folder, file).write_text(text)
            command = [find_tool(name), *checker.command]
            output = run_tool(
                command,
                timeout_s=self.timeout_s,
                folder=folder,
                environment=checker.environment,
                exit_codes=checker.exit_codes,
            )
            try:
                diagnostics = list(checker.read(output))
            except (ValueError, LookupError, TypeError):  # no report, or not one of this checker
                raise CheckFailed("crashed") from None
        if not any(Path(item.file).name == CANARY for item in diagnostics):
            raise CheckFailed("skipped a function")
        found: dict[int, tuple[str, str]] = {}
        installed = InstalledModules()
        for item in diagnostics:
            if Path(item.file).name != CANARY and not _lacks_only_stubs(item, installed):
                found.setdefault(_number(item.file), ("type error", f"{item.rule}: {item.message}"))
        return found


def _lacks_only_stubs(item: Diagnostic, installed: InstalledModules) -> bool:
    """Return whether a checker cannot find a module that is here: a compiled one, or one that its stubs leave out."""
    match = _MISSING_MODULE.search(item.message)
    return match is not None and match[1] in installed


def program_text(row: Function) -> str:
    """Return a function with its imports as a program of its own, without comments that only one checker follows."""
    code = _OTHERS_COMMENT.sub("#", row.code)
    return f"{row.imports}\n\n\n{code}\n" if row.imports else f"{code}\n"


def _write_programs(folder: str, rows: Sequence[Function], numbers: Iterable[int]) -> None:
    for number in numbers:
        Path(folder, f"program_{number:07}.py").write_text(program_text(rows[number]), encoding="utf-8")


def _number(path: str) -> int:
    return int(Path(path).stem.removeprefix("program_"))
