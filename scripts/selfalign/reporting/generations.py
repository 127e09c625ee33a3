"""Read one generation shard by shard: its funnel, its pass rates, and one example per drop reason."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import read_jsonl
from selfalign.records.rows import Concepts, Instruction, Response, RowType, Verdict, load_rows
from selfalign.records.shards import KINDS, benchmark_of, file_names, kinds_of, number_of_rounds, numbered
from selfalign.reporting.examples import Block, Example, Sample
from selfalign.reporting.funnels import Stage


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of responses over all shards.

    Attributes:
        asked: Instructions that were answered in it.
        enough: Those of them that have enough passing responses after it.
    """

    asked: int
    responses: int
    passed: int
    enough: int


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What became of one generation.

    Attributes:
        tags: What marks the parts of the response documents.
        samples: Responses per instruction after each round.
        rounds: The rounds of responses; one without adaptive sampling.
        stages: concepts, instructions, responses, verdicts.
        outcomes: Responses by what became of them: a verdict, or the reason why they never ran.
        by_category: Category to (passed, all) responses.
        by_difficulty: Difficulty to (passed, all) responses.
        passes: Number of passing responses to number of instructions with so many.
        dropped: One example per stage and reason.
    """

    name: str
    tags: str
    samples: tuple[int, ...]
    rounds: tuple[Round, ...]
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


def shard_files(folder: Path, settings: Mapping, suffix: str = ".jsonl") -> list[dict[str, list[Path]]]:
    """Return the files of each shard by kind; several where there are rounds."""
    return [
        {
            kind: [folder / kind / f"{name}{suffix}" for name in file_names(kind, shard, number_of_rounds(settings))]
            for kind in kinds_of(settings)
        }
        for shard in numbered(settings["shards"])
    ]


def _rows(kind: type[RowType], path: Path) -> Iterator[RowType]:
    return load_rows(kind, read_jsonl(path), str(path))


class _Tally:
    """Counts of a generation while its shards are read."""

    def __init__(self, rounds: int):
        self.rows = {kind: Counter() for kind in KINDS}
        self.outcomes: Counter = Counter()
        self.by_category: Counter = Counter()
        self.by_difficulty: Counter = Counter()
        self.passes: Counter = Counter()
        self.rounds = [Counter() for _ in range(rounds)]
        self.examples = {kind: Sample() for kind in KINDS}

    def count(self, kind: str, row_id: str, reason: str | None, blocks) -> None:
        """Count a row as kept (no reason) or dropped, and consider a dropped one as an example."""
        self.rows[kind][reason] += 1
        if reason is not None:
            self.examples[kind].offer(reason, row_id, lambda: (row_id, blocks()))

    def stage(self, kind: str, samples: int, most_samples: int | None) -> Stage:
        """Return what was counted of one kind of rows."""
        rows = self.rows[kind]
        dropped = {reason: count for reason, count in sorted(rows.items(), key=lambda item: item[0] or "") if reason}
        return Stage(
            part="generation",
            name=kind,
            input=sum(rows.values()),
            kept=rows[None],
            dropped=dropped,
            samples=samples,
            most_samples=most_samples,
        )


def _parent(row, parents: Mapping[str, object], path: Path):
    if row.parent not in parents:
        raise ValueError(
            f"{path}: row {row.id} has the parent {row.parent}, which is not among the kept rows of the stage before; "
            "delete the file and run again to remake it"
        )
    return parents[row.parent]


def _read_shard(files: Mapping[str, list[Path]], tally: _Tally, settings: Mapping) -> None:
    concepts = {}
    given = benchmark_of(settings) is not None  # then there are no concepts
    for row in () if given else _rows(Concepts, files["concepts"][0]):
        tally.count("concepts", row.id, row.drop, lambda row=row: (Block(label="Completion", text=row.text),))
        if row.drop is None:
            concepts[row.id] = row
    instructions = {}
    (path,) = files["instructions"]
    for row in _rows(Instruction, path):
        if not given:
            _parent(row, concepts, path)
        told = Block(label="Instruction", text=row.instruction, code=False)
        tally.count("instructions", row.id, row.drop, lambda row=row, told=told: (_properties(row), told))
        if row.drop is None:
            instructions[row.id] = row
    passes = dict.fromkeys(instructions, 0)
    enough = settings["adaptive"]["until_passed"]
    for number, (path, verdicts) in enumerate(zip(files["responses"], files["verdicts"], strict=True)):
        made = _read_round(path, verdicts, instructions, passes, tally)
        asked = set(instructions) if number == 0 else {name for name in instructions if passes[name] < enough}
        if number and (strays := made.keys() ^ asked):
            raise ValueError(
                f"{path}: instruction {min(strays)} has {'no' if min(strays) in asked else 'a'} response in this "
                "round, against what passed before; delete the file and run again to remake it"
            )
        for name, (_, passed) in made.items():
            passes[name] += passed
        counts = {
            "asked": len(made),
            "responses": sum(count for count, _ in made.values()),
            "passed": sum(passed for _, passed in made.values()),
            "enough": sum(passes[name] >= enough for name in made),
        }
        tally.rounds[number].update(counts)
    tally.passes.update(passes.values())


def _read_round(
    path: Path, judged: Path, instructions: Mapping[str, Instruction], passes: Mapping[str, int], tally: _Tally
) -> dict[str, tuple[int, int]]:
    """Count one round of a shard; return how many responses each instruction has in it, and how many passed."""
    made: dict[str, tuple[int, int]] = {}
    verdicts = {row.id: row for row in _rows(Verdict, judged)}
    for row in _rows(Response, path):
        asked = _parent(row, instructions, path)
        task = Block(label="Instruction", text=asked.instruction, code=False)
        verdict = verdicts.pop(row.id, None)
        tally.count(
            "responses", row.id, row.drop, lambda row=row, task=task: (task, Block(label="Completion", text=row.text))
        )
        if row.drop is None and verdict is None:
            raise ValueError(f"{judged}: no verdict for response {row.id}; delete the file and run again")
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
        count, good = made.get(row.parent, (0, 0))
        made[row.parent] = count + 1, good + passed
    if verdicts:
        raise ValueError(f"{judged}: verdict {next(iter(verdicts))} has no response; delete it and run again")
    return made


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
    shards = shard_files(folder, settings)
    if not all(path.is_file() for files in shards for paths in files.values() for path in paths):
        return None
    samples = settings["samples"]
    each_round = [samples["response"], *settings["adaptive"]["samples"]]
    tally = _Tally(len(each_round))
    for files in shards:
        _read_shard(files, tally, settings)
    stages = [kind for kind in KINDS if kind in kinds_of(settings)]
    drawn = tuple(itertools.accumulate(each_round))
    each = 1 if benchmark_of(settings) else samples["instruction"]
    least = {"concepts": samples["concepts"], "instructions": each, "responses": drawn[0]}
    most = {"responses": drawn[-1]} if len(drawn) > 1 else {}
    dropped = [
        Example(id=row_id, stage=kind, reason=reason, origin=row_id.partition("-")[0], blocks=blocks)
        for kind in KINDS
        for reason, (row_id, blocks) in tally.examples[kind].chosen().items()
    ]
    return Generation(
        name=name,
        tags=settings["tags"],
        samples=drawn,
        rounds=tuple(
            Round(**{key: found[key] for key in ("asked", "responses", "passed", "enough")}) for found in tally.rounds
        ),
        stages=tuple(tally.stage(kind, least.get(kind, 1), most.get(kind)) for kind in stages),
        outcomes=dict(tally.outcomes.most_common()),
        by_category=_shares(tally.by_category),
        by_difficulty=_shares(tally.by_difficulty),
        passes=dict(sorted(tally.passes.items())),
        dropped=tuple(dropped),
    )
