"""Benchmark tasks: one row for all benchmarks."""

from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import read_jsonl
from selfalign.records.rows import Row, load_rows


@dataclass(frozen=True, kw_only=True)
class Task(Row):
    """One task of a benchmark.

    Attributes:
        benchmark: Name of the config's entry.
        instruction: What a model is asked in words.
        prompt: Code to complete, or None for a task that has words only.
        canonical_solution: A complete program that solves the task, without the tests.
        tests: Code that follows a solution and raises when it is wrong.
        difficulty: None where the benchmark has none.
        stop: Strings that end a completion of `prompt`.
    """

    benchmark: str
    instruction: str
    prompt: str | None
    entry_point: str
    canonical_solution: str
    tests: str
    category: str
    difficulty: str | None
    stop: list[str]


def read_tasks(path: str | Path) -> list[Task]:
    """Read the tasks that `prepare_benchmark` wrote."""
    return list(load_rows(Task, read_jsonl(path), str(path)))


def text(fields: dict, name: str) -> str:
    """Return a field that has to be a text with something in it."""
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{name} is {value!r}, not a text")
    return value
