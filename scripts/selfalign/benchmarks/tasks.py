"""Benchmark tasks: one row for all benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from selfalign.records.files import read_jsonl
from selfalign.records.rows import Row, load_rows


@dataclass(frozen=True, kw_only=True)
class Check:
    """One program that decides about a solution: test code that follows it, or inputs whose outputs are compared.

    Attributes:
        name: Unique within its task.
        tests: Code that follows a solution and raises when it is wrong; "" where outputs are compared.
        driver: How inputs are given: "call" calls the entry point, "script" runs the solution with standard input.
        inputs: For each run of "call" the list of arguments, as `values.encode` gives it or as a Python expression (a
            text), which only the sandbox evaluates; for each run of "script" the standard input.
        expected: For each input the right output, encoded; None where the reference solution has to tell.
        whole: Outputs are compared by a rule of the benchmark's own, so they are never shortened to a digest.
        typed: Types count: 1, 1.0 and True are three values, in digests too.
        input_s: CPU seconds for one input; None is `outputs.INPUT_S`, or more where the reference solution needs it.
        cpu_s: CPU seconds of the whole program; None leaves it to the reference solution and the sandbox's limit.
    """

    name: str = "tests"
    tests: str = ""
    driver: Literal["call", "script"] | None = None
    inputs: list | None = None
    expected: list | None = None
    whole: bool = False
    typed: bool = False
    input_s: float | None = None
    cpu_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Task(Row):
    """One task of a benchmark.

    Attributes:
        benchmark: Name of the config's entry.
        kind: Which benchmark it is of: a key of `kinds.KINDS`.
        instruction: What a model is asked in words.
        prompt: What a model that was never aligned is to go on with, or None for a task that has words only.
        prefix: The code at the end of `prompt` that the answer continues; "" where the answer is whole without it.
        entry_point: The function, method or class that is asked for; "" for a script.
        canonical_solution: A complete program that solves the task, without the tests; "" where none was published.
        groups: What scores are told apart by: {"category": "function", "difficulty": "easy"}.
        stop: Strings that end a completion of `prompt`.
        checks: What a solution has to stand.
        metrics: Metric to its units, each a list of checks that have to pass together; the first metric is the one that
            tables show. {"class": [["a", "b"]], "method": [["a"], ["b"]]} has one unit, and two.
        data: What the benchmark's own module needs besides; `language` where it is not Python.
    """

    benchmark: str
    kind: str
    instruction: str
    prompt: str | None = None
    prefix: str = ""
    entry_point: str = ""
    canonical_solution: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    stop: list[str] = field(default_factory=list)
    checks: list[Check]
    metrics: dict[str, list[list[str]]]
    data: dict = field(default_factory=dict)

    @property
    def language(self) -> str:
        """Return the language of solutions and tests."""
        return self.data.get("language", "python")

    @classmethod
    def load(cls, row: dict, where: str = "row") -> Self:
        """Build a task from a dictionary; see `Row.load`."""
        try:
            return super().load(row | {"checks": [Check(**check) for check in row["checks"]]}, where)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{where}: not a task row ({error!r}); delete the file and run again to remake it"
            ) from error


def single(tests: str) -> dict:
    """Return the fields of a task that is decided by one piece of test code."""
    return {"checks": [Check(tests=tests)], "metrics": {"pass": [["tests"]]}}


def read_tasks(path: str | Path) -> list[Task]:
    """Read the tasks that `prepare_benchmark` wrote."""
    return list(load_rows(Task, read_jsonl(path), str(path)))


def language_of(tasks: Sequence[Task]) -> str:
    """Return the language of a benchmark's tasks.

    Raises:
        ValueError: there are several.
    """
    found = sorted({task.language for task in tasks})
    if len(found) > 1:
        raise ValueError(f"{tasks[0].benchmark}: its tasks are in {' and '.join(found)}; make a benchmark of each")
    return found[0] if found else "python"


def text(fields: dict, name: str) -> str:
    """Return a field that has to be a text with something in it."""
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{name} is {value!r}, not a text")
    return value
