"""Check many JavaScript functions in one Node: syntax, undefined names, and modules that are not there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.languages.javascript import find_node, parse
from selfalign.records.rows import Function
from selfalign.seeds.javascript import free_names, imported_modules
from selfalign.seeds.type_check import CheckFailed, Found, check_in_batches, run_tool

SCRIPT = Path(__file__).with_name("check_javascript.js")


@dataclass(frozen=True, kw_only=True)
class NodeChecker:
    """Run Node on functions, each with the statements that import what it uses.

    Attributes:
        checkers: Node alone.
        batch: Functions for one process.
        timeout_s: Wall seconds for one process; then its functions are tried in two halves.
    """

    checkers: Sequence[str]
    batch: int
    timeout_s: int

    def __post_init__(self):
        if tuple(self.checkers) != ("node",) or self.batch < 1 or self.timeout_s < 1:
            raise ValueError(
                "type check: JavaScript has the checker node, once; batch and timeout_s must be at least 1"
            )

    def check(self, rows: Sequence[Function]) -> list[tuple[str, str] | None]:
        """Return for each function None, or the reason why it is dropped and what was found.

        Raises:
            ValueError: Node is not installed.
        """
        command = [find_node(), "--experimental-vm-modules", "--no-warnings", str(SCRIPT)]

        def run(numbers: Sequence[int]) -> Found:
            programs = "".join(json.dumps(_program(rows[number])) + "\n" for number in numbers)
            lines = run_tool(command, timeout_s=self.timeout_s, text=programs).splitlines()
            if len(lines) != len(numbers):
                raise CheckFailed("skipped a function")
            answers = zip(numbers, map(json.loads, lines), strict=True)
            return {number: tuple(answer) for number, answer in answers if answer}

        found = check_in_batches(range(len(rows)), self.batch, run)
        return [found.get(number) for number in range(len(rows))]


def _program(row: Function) -> dict:
    code = f"{row.imports}\n{row.code}\n"
    root = parse(code)
    modules = sorted({module for module, _ in imported_modules(root)})
    return {"code": code, "names": sorted(free_names(root)), "modules": modules}
