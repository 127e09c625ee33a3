"""Read one generation shard by shard: its funnel, its pass rates, and one example per drop reason."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import read_jsonl
from selfalign.records.rows import Concepts, Instruction, Response, RowType, Verdict, load_rows
from selfalign.reporting.examples import Block, Example, Sample
from selfalign.reporting.funnels import Stage

KINDS = ("concepts", "instructions", "responses", "verdicts")


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What became of one generation.

    Attributes:
        stages: concepts, instructions, responses, verdicts.
        outcomes: Responses by what became of them: a verdict, or the reason why they never ran.
        by_category: Category to (passed, all) responses.
        by_difficulty: Difficulty to (passed, all) responses.
        passes: Number of passing responses to number of instructions with so many.
        dropped: One example per stage and reason.
    """

    name: str
    samples: int
    stages: tuple[Stage, ...]
    outcomes: Mapping[str, int]
    by_category: Mapping[str, tuple[int, int]]
    by_difficulty: Mapping[str, tuple[int, int]]
    passes: Mapping[int, int]
    dropped: tuple[Example, ...]

    @property
    def responses(self) -> int:
        """All sampled responses, those without readable code and tests included."""
        return sum(self.outcomes.values())

    @property
    def pass_rate(self) -> float:
        """The share of all sampled responses that passed verification."""
        return self.outcomes.get("passed", 0) / self.responses if self.responses else 0.0


def shard_files(folder: Path, shards: int) -> list[dict[str, Path]] | None:
    """Return the files of each shard by kind, or None where one is missing; files of other shards are not looked at."""
    files = [{kind: folder / kind / f"{number:05}.jsonl" for kind in KINDS} for number in range(shards)]
    return files if all(path.is_file() for shard in files for path in shard.values()) else None


def _rows(kind: type[RowType], path: Path) -> Iterator[RowType]:
    return load_rows(kind, read_jsonl(path), str(path))


class _Tally:
    """Counts of a generation while its shards are read."""

    def __init__(self):
        self.rows = {kind: Counter() for kind in KINDS}
        self.outcomes: Counter = Counter()
        self.by_category: Counter = Counter()
        self.by_difficulty: Counter = Counter()
        self.passes: Counter = Counter()
        self.examples = {kind: Sample() for kind in KINDS}

    def count(self, kind: str, row_id: str, reason: str | None, blocks) -> None:
        """Count a row as kept (no reason) or dropped, and consider a dropped one as an example."""
        self.rows[kind][reason] += 1
        if reason is not None:
            self.examples[kind].offer(reason, row_id, lambda: (row_id, blocks()))

    def stage(self, kind: str, samples: int) -> Stage:
        rows = self.rows[kind]
        dropped = {reason: count for reason, count in sorted(rows.items(), key=lambda item: item[0] or "") if reason}
        return Stage(
            part="generation", name=kind, input=sum(rows.values()), kept=rows[None], dropped=dropped, samples=samples
        )


def _parent(row, parents: Mapping[str, object], path: Path):
    if row.parent not in parents:
        raise ValueError(
            f"{path}: row {row.id} has the parent {row.parent}, which is not among the kept rows of the stage before; "
            "delete the file and run again to remake it"
        )
    return parents[row.parent]


def _read_shard(files: Mapping[str, Path], tally: _Tally) -> None:
    concepts = {}
    for row in _rows(Concepts, files["concepts"]):
        tally.count("concepts", row.id, row.drop, lambda row=row: (Block(label="Completion", text=row.text),))
        if row.drop is None:
            concepts[row.id] = row
    instructions = {}
    for row in _rows(Instruction, files["instructions"]):
        _parent(row, concepts, files["instructions"])
        told = Block(label="Instruction", text=row.instruction, code=False)
        tally.count("instructions", row.id, row.drop, lambda row=row, told=told: (_properties(row), told))
        if row.drop is None:
            instructions[row.id] = row
    verdicts = {row.id: row for row in _rows(Verdict, files["verdicts"])}
    passes = dict.fromkeys(instructions, 0)
    for row in _rows(Response, files["responses"]):
        asked = _parent(row, instructions, files["responses"])
        task = Block(label="Instruction", text=asked.instruction, code=False)
        verdict = verdicts.pop(row.id, None)
        tally.count(
            "responses", row.id, row.drop, lambda row=row, task=task: (task, Block(label="Completion", text=row.text))
        )
        if row.drop is None and verdict is None:
            raise ValueError(f"{files['verdicts']}: no verdict for response {row.id}; delete the file and run again")
        outcome = row.drop or verdict.verdict
        passed = outcome == "passed"
        if row.drop is None:
            reason = None if passed else outcome
            tally.count(
                "verdicts", row.id, reason, lambda row=row, task=task, seen=verdict: (task, *_program(row, seen))
            )
        tally.outcomes[outcome] += 1
        tally.by_category[asked.category, passed] += 1
        tally.by_difficulty[asked.difficulty, passed] += 1
        passes[row.parent] += passed
    if verdicts:
        raise ValueError(
            f"{files['verdicts']}: verdict {next(iter(verdicts))} has no response; delete it and run again"
        )
    tally.passes.update(passes.values())


def _properties(row: Instruction) -> Block:
    text = f"{row.category}, {row.difficulty}: {', '.join(row.concepts)}"
    return Block(label="Properties", text=text, code=False)


def _program(row: Response, verdict: Verdict) -> tuple[Block, ...]:
    seen = f"{verdict.verdict}: {verdict.detail}" if verdict.detail else verdict.verdict
    return (
        Block(label="Response", text=row.response),
        Block(label="Tests", text=row.tests),
        Block(label="Verdict", text=seen, code=False),
    )


def _shares(counts: Counter) -> dict[str, tuple[int, int]]:
    names = dict.fromkeys(name for name, _ in counts)
    return {name: (counts[name, True], counts[name, True] + counts[name, False]) for name in names}


def read_generation(folder: Path, name: str, settings: Mapping) -> Generation | None:
    """Read all shards of a generation, or return None where it has not been made.

    Args:
        folder: `results/generations/{name}`.
        settings: The generation's entry in the config.

    Raises:
        ValueError: a row is malformed, or its parent or verdict is missing; names file and row.
    """
    shards = shard_files(folder, settings["shards"])
    if shards is None:
        return None
    tally = _Tally()
    for files in shards:
        _read_shard(files, tally)
    samples = settings["samples"]
    each = {"concepts": samples["concepts"], "instructions": samples["instruction"], "responses": samples["response"]}
    dropped = [
        Example(id=row_id, stage=kind, reason=reason, origin=row_id.partition("-")[0], blocks=blocks)
        for kind in KINDS
        for reason, (row_id, blocks) in tally.examples[kind].chosen().items()
    ]
    return Generation(
        name=name,
        samples=samples["response"],
        stages=tuple(tally.stage(kind, each.get(kind, 1)) for kind in KINDS),
        outcomes=dict(tally.outcomes.most_common()),
        by_category=_shares(tally.by_category),
        by_difficulty=_shares(tally.by_difficulty),
        passes=dict(sorted(tally.passes.items())),
        dropped=tuple(dropped),
    )
