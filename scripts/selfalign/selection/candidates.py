"""Responses with all that they come from: verdict, instruction, concepts and seed, joined from the shards' files."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import read_jsonl, read_table
from selfalign.records.rows import (
    Concepts,
    Function,
    Instruction,
    Negative,
    Pair,
    Quality,
    Response,
    RowType,
    Verdict,
    load_rows,
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A response and its ancestors.

    Attributes:
        verdict: None for a response that was dropped before verification.
        samples: Verified responses of the same instruction.
        pass_rate: Passed share of them, from 0 to 1.
        language: Of the code of its texts.
        quality: What its tests are worth; None where that was not measured, or nobody selects by it.
    """

    response: Response
    verdict: Verdict | None
    instruction: Instruction
    concepts: Concepts
    seed: Function
    samples: int
    pass_rate: float
    language: str = "python"
    quality: Quality | None = None

    @property
    def id(self) -> str:
        """Return the id of the response."""
        return self.response.id

    @property
    def passed(self) -> bool:
        """Return whether the response passed its tests."""
        return self.verdict is not None and self.verdict.passed

    @property
    def failed(self) -> bool:
        """Return whether the response was run and did not pass."""
        return self.verdict is not None and not self.verdict.passed

    def pair(self) -> Pair:
        """Return the candidate as a training pair."""
        assert self.verdict is not None
        return Pair(
            id=self.id,
            instruction=self.instruction.instruction,
            response=self.response.response,
            tests=self.response.tests,
            category=self.instruction.category,
            difficulty=self.instruction.difficulty,
            concepts=self.instruction.concepts,
            instruction_id=self.instruction.id,
            concepts_id=self.concepts.id,
            seed_id=self.seed.id,
            verdict=self.verdict.verdict,
            pass_rate=self.pass_rate,
            samples=self.samples,
            package=self.seed.package,
            path=self.seed.path,
            line=self.seed.line,
            licence=self.seed.licence,
        )

    def negative(self, *, passes_other_tests: bool) -> Negative:
        """Return the candidate as a response that failed."""
        assert self.failed
        return Negative(**self.pair().dump(), detail=self.verdict.detail, passes_other_tests=passes_other_tests)


def _read(kind: type[RowType], paths: Iterable[str | Path]) -> dict[str, RowType]:
    rows: dict[str, RowType] = {}
    for path in paths:
        for row in load_rows(kind, read_jsonl(path), str(path)):
            if row.id in rows:
                raise ValueError(f"{path}: the id {row.id} occurs twice; give each shard once")
            rows[row.id] = row
    return rows


def _parent(rows: Mapping[str, RowType], child: Response | Instruction | Concepts, option: str) -> RowType:
    if child.parent not in rows:
        raise ValueError(
            f"row {child.id}: its parent {child.parent} is not among the {option}; "
            "give the files of the same run, all shards"
        )
    return rows[child.parent]


def load_candidates(
    *,
    seeds: str | Path,
    concepts: Iterable[str | Path],
    instructions: Iterable[str | Path],
    responses: Iterable[str | Path],
    verdicts: Iterable[str | Path],
    language: str = "python",
    quality: Iterable[str | Path] = (),
) -> list[Candidate]:
    """Read all shards and join each response with its ancestors; sorted by id.

    Raises:
        ValueError: a row has no parent, an id occurs twice, or a response that was not dropped has no verdict.
    """
    functions = {row.id: row for row in load_rows(Function, read_table(seeds), str(seeds))}
    concept_rows, instruction_rows = _read(Concepts, concepts), _read(Instruction, instructions)
    response_rows, verdict_rows = _read(Response, responses), _read(Verdict, verdicts)
    quality_rows = _read(Quality, quality)
    samples, passed = Counter(), Counter()
    for response in response_rows.values():
        if not response.drop and response.id in verdict_rows:
            samples[response.parent] += 1
            passed[response.parent] += verdict_rows[response.id].passed
    candidates = []
    for response in sorted(response_rows.values(), key=lambda row: row.id):
        verdict = verdict_rows.get(response.id)
        if verdict is None and not response.drop:
            raise ValueError(f"response {response.id} has no verdict; give the files of the same run, all shards")
        instruction = _parent(instruction_rows, response, "instructions")
        concept_row = _parent(concept_rows, instruction, "concepts")
        candidates.append(
            Candidate(
                response=response,
                verdict=None if response.drop else verdict,
                instruction=instruction,
                concepts=concept_row,
                seed=_parent(functions, concept_row, "seeds"),
                samples=samples[instruction.id],
                pass_rate=round(passed[instruction.id] / max(samples[instruction.id], 1), 4),
                language=language,
                quality=quality_rows.get(response.id),
            )
        )
    return candidates
