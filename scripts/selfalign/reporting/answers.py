"""The rows behind one score: the verdict on each task for each seed, and what a model answered to some of them."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import read_jsonl
from selfalign.reporting.artifacts import Run, Score
from selfalign.reporting.examples import Block, smallest_hashes
from selfalign.reporting.experiments import Cell

PASSED = "passed"
NUMBERS = re.compile(r"(\d+)")
FAILURES, PASSES = 10, 3  # answers shown of one cell
MOST_CHARACTERS = 1_200  # of one text of an answer


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One answer with what became of it."""

    task: str
    seed: int
    verdict: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The tasks behind a cell.

    Attributes:
        verdicts: Task to what became of it with each seed: a verdict, a reason, or with several samples how many pass.
        shown: Some answers, failures before passes; of the same tasks for every model, as far as these fail.
        failures, passes: How many answers there are.
        folders: Where the rest is.
    """

    verdicts: Mapping[str, tuple[str, ...]]
    shown: Sequence[Shown]
    failures: int
    passes: int
    folders: Sequence[str]


def cell_rows(run: Run, cell: Cell, tasks: Mapping[str, str]) -> Rows:
    """Return the rows behind a cell.

    Args:
        tasks: What each task of the benchmark asks for.
    """
    first = next(iter(cell.scores.values()))
    outcomes = {number: _outcomes(run, score) for number, score in cell.scores.items()}
    in_order = sorted(first.per_task, key=_natural)
    verdicts = {task: tuple(found[task][0] for found in outcomes.values()) for task in in_order}
    answers = [(task, number) for task in first.per_task for number in outcomes]
    failed = [one for one in answers if not _passed(cell.scores[one[1]], one[0])]
    passed = [one for one in answers if _passed(cell.scores[one[1]], one[0])]
    chosen = [*_choose(failed, FAILURES), *_choose(passed, PASSES)]
    texts = {number: _texts(run, score, {t for t, n in chosen if n == number}) for number, score in cell.scores.items()}
    return Rows(
        verdicts=verdicts,
        shown=tuple(
            Shown(
                task=task,
                seed=number,
                verdict=outcomes[number][task][0],
                blocks=_blocks(tasks.get(task, ""), texts[number].get(task, ""), outcomes[number][task][1]),
            )
            for task, number in chosen
        ),
        failures=len(failed),
        passes=len(passed),
        folders=tuple(f"scores/{score.model}/{score.benchmark}/" for score in cell.scores.values()),
    )


def questions(run: Run, benchmark: str) -> dict[str, str]:
    """Return what each task of a benchmark asks for."""
    path = run.results / "benchmarks" / f"{benchmark}.jsonl"
    return {row["id"]: row["instruction"] or row["prompt"] or "" for row in _rows(path)}


def _choose(answers: Sequence[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    """Return the answers of those tasks with the smallest hashes, the first seed of each."""
    first: dict[str, int] = {}
    for task, number in answers:
        first.setdefault(task, number)
    return [(task, first[task]) for task in smallest_hashes(list(first), count)]


def _natural(task: str) -> list[str | int]:
    """Return what sorts 9 before 10."""
    return [int(part) if place % 2 else part for place, part in enumerate(NUMBERS.split(task))]


def _passed(score: Score, task: str) -> bool:
    return score.per_task[task] == 1


def _outcomes(run: Run, score: Score) -> dict[str, tuple[str, str]]:
    """Return for each task its verdict, and the detail of what failed, of its first sample."""
    folder = run.results / "scores" / score.model / score.benchmark
    failing: dict[str, tuple[str, str]] = {}
    for row in _rows(folder / "verdicts.jsonl"):  # in the order of the checks
        if row["verdict"] != PASSED:
            failing.setdefault(row["id"].rpartition("/")[0], (row["verdict"], row["detail"]))
    found = dict.fromkeys(score.per_task, ("not recorded", ""))
    for row in _rows(folder / "completions.jsonl"):
        if row["k"] == 0 and row["task"] in found:
            found[row["task"]] = (row["drop"], "") if row["drop"] else failing.get(row["id"], (PASSED, ""))
    for task, share in score.per_task.items():
        if score.samples > 1:
            found[task] = (f"{share * score.samples:.0f} of {score.samples}", found[task][1])
        elif share == 1:  # by the metric that counts; a check of another one may have failed
            found[task] = (PASSED, "")
    return found


def _rows(path: Path) -> Iterator[dict]:
    return read_jsonl(path) if path.is_file() else iter(())


def _texts(run: Run, score: Score, wanted: Container[str]) -> dict[str, str]:
    path = run.results / "scores" / score.model / score.benchmark / "completions.jsonl"
    rows = (row for row in _rows(path) if row["k"] == 0 and row["task"] in wanted)
    return {row["task"]: row["code"] or "\n\n".join(row["texts"]) for row in rows}


def _blocks(question: str, answer: str, detail: str) -> tuple[Block, ...]:
    blocks = (
        Block(label="Task", text=_cut(question), code=False),
        Block(label="Answer", text=_cut(answer) or "(empty)"),
        Block(label="What the sandbox saw", text=_cut(detail)),
    )
    return tuple(block for block in blocks if block.text)


def _cut(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}\n… and {len(text) - MOST_CHARACTERS:,} characters more"
