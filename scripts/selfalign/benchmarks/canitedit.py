"""CanItEdit: 105 Python programs to change, each by a descriptive and by a lazy instruction.

Authors: Federico Cassano and others: Can It Edit? Evaluating the Ability of Large Language Models to Follow Code
Editing Instructions, arXiv 2312.12450 (2023).
Licence: BSD-3-Clause, with a clause against training on it.
Source: hub dataset nuprl/CanItEdit; a file of its rows as JSON lines.

A model gets a program and an instruction and answers with the whole changed program, to which hidden tests are
appended. Both ways of asking give what the authors' prompts give; the words and the fences around programs are ours.

ExcessCode is the share of a passing program's lines that its tests do not run: for each task the median line coverage
of the answers that pass, whole percent as coverage.py prints it; 100 less the mean over tasks that some answer passes.
The lines of the few tests that are not marked `pragma: no cover` count, as with the authors.

47_merge_sort and 60_unique_number assert wall-clock time, so their verdicts depend on the machine.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import ClassVar

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.downloads import Source
from selfalign.benchmarks.driver import MARK
from selfalign.benchmarks.line_coverage import RAN, instrument
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.statistics import interval_of_mean
from selfalign.benchmarks.tasks import Task, single, text

INSTRUCTIONS = ("descriptive", "lazy")
PRINT_LINES = f'\nassert __import__("os").write(1, ({MARK!r} + str([*{RAN}])).encode())\n'


class CanItEdit(Benchmark):
    """A program, an instruction, the changed program."""

    source = Source(hub="nuprl/CanItEdit", files=("**/test*", "test*"))
    # z3 works through ctypes, which the sandbox refuses.
    packages = ("numpy", "scipy", "scipy.stats", "pandas", "sklearn", "torch", "autograd", "flask", "vllm")
    sandbox: ClassVar = {"memory_mb": 4096}  # torch and pandas
    measures = True

    def read_tasks(self, fields: dict, benchmark: str) -> list[Task]:
        """Build two tasks from a row of the file, one for each kind of instruction."""
        name, before, change = (
            text(fields, "full_name"),
            text(fields, "before"),
            text(fields["taxonomy"], "change_kind"),
        )
        found = []
        for kind in INSTRUCTIONS:
            words = text(fields, f"instruction_{kind}").strip()
            program = f"```python\n{before.strip()}\n```"
            task = Task(
                id=f"{name}-{kind}",
                benchmark=benchmark,
                kind="canitedit",
                instruction=f"Change this Python program: {words}\n\n{program}\n\nAnswer with the whole program as it "
                "is after the change, in one code block.",
                prompt=f"The program before the change:\n\n{program}\n\nThe change: {words}\n\n"
                "The whole program after the change:\n\n```python\n",
                canonical_solution=text(fields, "after"),
                groups={"instruction": kind, "change": change},
                stop=["\n```"],
                **single(text(fields, "tests")),
            )
            found.append(task)
        return found

    def measure_program(self, task: Task, code: str) -> tuple[str, str]:
        """Return a solution and its tests with marks at their lines, and what prints those that ran."""
        solution, tests, _ = _instrumented(task, code)
        # Tests of 54_strategy look at the source of a class.
        entry = f"({len(code)}, None, {code.splitlines(keepends=True)!r}, __file__)"
        return solution, f'__import__("linecache").cache[__file__] = {entry}\n{tests}{PRINT_LINES}'

    def read_measurement(self, task: Task, code: str, printed: str) -> dict:
        """Return how many lines there are and how many ran."""
        try:
            ran = set(json.loads(printed.rpartition(MARK)[2]))
        except (ValueError, TypeError) as error:
            raise ValueError("printed no lines that ran") from error
        lines = _instrumented(task, code)[2]
        return {"lines": len(lines), "ran": len(lines & ran)}

    def extra_scores(
        self, tasks: Sequence[Task], answers: Mapping[str, Sequence[Answer]], measurements: Mapping[str, dict]
    ) -> dict[str, dict]:
        """Return ExcessCode in percent, with its interval and the tasks that count."""
        excess = []
        for task in tasks:
            found = [measurements[answer.id] for answer in answers[task.id] if answer.id in measurements]
            if found:
                excess.append(100 - statistics.median(whole_percent(one["ran"], one["lines"]) for one in found))
        if not excess:
            return {"ExcessCode": {"value": None, "interval": None, "unit": "%", "tasks": 0}}
        interval = list(interval_of_mean(excess, bounds=(0, 100)))
        return {
            "ExcessCode": {"value": statistics.fmean(excess), "interval": interval, "unit": "%", "tasks": len(excess)}
        }


def _instrumented(task: Task, code: str) -> tuple[str, str, frozenset[int]]:
    """Return solution and tests with marks, and the lines that count."""
    solution, lines = instrument(code)
    tests, more = instrument(task.checks[0].tests, before=code.count("\n") + 1)
    return solution, tests, lines | more


def whole_percent(part: int, whole: int) -> int:
    """Return a share in percent as coverage.py prints it: 0 and 100 mean none and all."""
    if part in (0, whole):
        return 100 if part == whole else 0
    return min(99, max(1, round(100 * part / whole)))
