"""What is watched of a round: how much passes, how much is repeated, how varied and how long the texts are.

Everything is counted over all rows of the round, but for near-duplicates, whose candidates come from hashes
(`matching.near_duplicates`). Files are read a row at a time; what stays in memory are the ids of one shard's passing
responses, the different concepts, and of each instruction its hashes.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selfalign.matching.near_duplicates import BATCH, Sketches, sketch
from selfalign.records.files import read_jsonl
from selfalign.records.rows import Concepts, Instruction, Response, Verdict, load_rows
from selfalign.records.shards import numbered


@dataclass(frozen=True, kw_only=True)
class Monitors:
    """What is watched of a round; None where there is nothing to count.

    Attributes:
        instructions: Those that are in form.
        responses: All sampled responses of the first sampling: what adaptive sampling adds is for instructions that
            are hard, and would make rounds incomparable.
        pass_rate: Passed share of these.
        exact_duplicates: Share of instructions whose words are, in order, those of one before.
        duplicate_rate: Share of instructions that are like one before, exact duplicates among them: all but the first
            of each cluster of near-duplicates.
        repeated: Share of instructions in a cluster with one of an earlier round; None for round 1.
        concepts, different_concepts: How often any concept was named, and how many there are.
        concept_entropy: Of how often each concept was named, in bits; 2 to its power is the number of concepts that,
            named equally often, would be as varied.
        instruction_words, response_characters: Mean lengths, of instructions and responses in form.
        instruction_words_deviation, response_characters_deviation: Their standard deviations.
    """

    instructions: int
    responses: int
    pass_rate: float | None
    exact_duplicates: float | None
    duplicate_rate: float | None
    repeated: float | None
    concepts: int
    different_concepts: int | None
    concept_entropy: float | None
    instruction_words: float | None
    instruction_words_deviation: float | None
    response_characters: float | None
    response_characters_deviation: float | None
    pairs: int


@dataclass
class Lengths:
    """Mean and standard deviation (of the rows themselves, not of a sample) from whole numbers, and so exact."""

    count: int = 0
    total: int = 0
    squares: int = 0

    def add(self, length: int) -> None:
        """Count one more text."""
        self.count += 1
        self.total += length
        self.squares += length * length

    @property
    def mean(self) -> float | None:
        """The mean length."""
        return self.total / self.count if self.count else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation."""
        if not self.count:
            return None
        return math.sqrt(self.count * self.squares - self.total * self.total) / self.count


def entropy(counts: Iterable[int]) -> float | None:
    """Return the Shannon entropy of a distribution given by counts, in bits."""
    counts = list(counts)
    total = sum(counts)
    if not total:
        return None
    return math.fsum(count / total * math.log2(total / count) for count in counts)


def same_words(text: str) -> str:
    """Return a text without what makes no difference for duplicates: layout and case."""
    return " ".join(text.split()).lower()


@dataclass
class _Texts:
    """Instructions as they are read: what they have in common with those before."""

    sketches: Sketches = field(default_factory=Sketches)
    batch: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.batch.append(text)
        if len(self.batch) == BATCH:
            self.flush()

    def flush(self) -> None:
        if self.batch:
            self.sketches.add(sketch(self.batch))
            self.batch = []


def _instructions(generation: Path, shards: int) -> Iterator[Instruction]:
    for shard in numbered(shards):
        path = generation / "instructions" / f"{shard}.jsonl"
        yield from (row for row in load_rows(Instruction, read_jsonl(path), str(path)) if row.drop is None)


def _repeated(generation: Path, earlier: Sequence[Path], shards: int, threshold: float) -> float | None:
    texts, before, count = _Texts(), 0, 0
    for folder in (*earlier, generation):
        before, count = before + count, 0
        for row in _instructions(folder, shards):
            texts.add(row.instruction)
            count += 1
    texts.flush()
    firsts = texts.sketches.clusters(threshold)[before:]
    return int((firsts < before).sum()) / count if count else None


def measure_round(
    generation: Path, shards: int, pairs: Path, threshold: float, earlier: Sequence[Path] = ()
) -> Monitors:
    """Return what is watched of a round.

    Args:
        generation: Folder of the round's generation.
        shards: Of this and of the earlier generations.
        pairs: The dataset's `pairs.jsonl`.
        threshold: Least Jaccard similarity of two near-duplicates.
        earlier: The generations of the rounds before.

    Raises:
        ValueError: a row is malformed; names file and row.
    """
    named: Counter = Counter()
    passed, responses, lengths = 0, 0, Lengths()
    for shard in numbered(shards):
        concepts, made, judged = (
            generation / kind / f"{shard}.jsonl" for kind in ("concepts", "responses", "verdicts")
        )
        for row in load_rows(Concepts, read_jsonl(concepts), str(concepts)):
            named.update(map(same_words, row.concepts if row.drop is None else ()))
        good = {row.id for row in load_rows(Verdict, read_jsonl(judged), str(judged)) if row.passed}
        for row in load_rows(Response, read_jsonl(made), str(made)):
            responses += 1
            passed += row.id in good
            if row.drop is None:
                lengths.add(len(row.response))
    texts, words, seen, count = _Texts(), Lengths(), set(), 0
    for row in _instructions(generation, shards):
        count += 1
        words.add(len(row.instruction.split()))
        seen.add(hashlib.blake2b(same_words(row.instruction).encode("utf-8", "surrogatepass"), digest_size=16).digest())
        texts.add(row.instruction)
    texts.flush()
    firsts = texts.sketches.clusters(threshold)
    return Monitors(
        instructions=count,
        responses=responses,
        pass_rate=passed / responses if responses else None,
        exact_duplicates=(count - len(seen)) / count if count else None,
        duplicate_rate=(count - len(set(firsts.tolist()))) / count if count else None,
        repeated=_repeated(generation, earlier, shards, threshold) if earlier else None,
        concepts=named.total(),
        different_concepts=len(named) or None,
        concept_entropy=entropy(named.values()),
        instruction_words=words.mean,
        instruction_words_deviation=words.deviation,
        response_characters=lengths.mean,
        response_characters_deviation=lengths.deviation,
        pairs=sum(1 for _ in read_jsonl(pairs)),
    )
