"""What the tests of a generation are worth: agreement, mutants, coverage, and false passes where the truth is known."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.benchmarks.statistics import interval_of_mean
from selfalign.records.files import read_jsonl
from selfalign.records.rows import Quality, TestSuite, load_rows

MEASURES = {  # property of `Quality` to its name
    "independent_agreement": "agreement with independent tests",
    "agreement": "agreement with all tests of others",
    "mutation_score": "mutation score",
    "coverage": "coverage",
}
LEAST = (0.25, 0.5, 0.75, 0.9, 1.0)
ALL, CONSENSUS = "all that passed their own tests", "the best consensus set of each instruction"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of rows, and its 95 % interval over instructions; None where nothing is counted."""

    part: int
    of: int
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The responses that are left of those that passed their own tests when more is asked of them.

    Attributes:
        measure: What is asked for.
        least: Its least value; None for what has none.
        right: Those of them that are right; None where no truth is known.
    """

    measure: str
    least: float | None
    kept: int
    right: Share | None


@dataclass(frozen=True, kw_only=True)
class TestQuality:
    """What was measured of one generation.

    Attributes:
        means: Measure to its mean over the responses that passed their own tests, and how many have it.
        suites: Independent suites by what became of them; None are those that could be used.
        kept: What is left, the whole first.
        confusion: (passed its own tests, is right) to responses; empty where no truth is known.
        rates: What is told of the confusion, by name.
    """

    responses: int
    passed: int
    means: Mapping[str, tuple[float, int]]
    suites: Mapping[str | None, int]
    kept: Sequence[Kept]
    confusion: Mapping[tuple[bool, bool], int]
    rates: Mapping[str, Share]


def read_quality(quality: Iterable[Path], suites: Iterable[Path]) -> TestQuality:
    """Read the `Quality` rows of a generation, of all shards, and its independent suites."""
    rows, sums = Counter(), defaultdict(lambda: [0.0, 0])
    kept: dict[tuple[str, float | None], Counter] = defaultdict(Counter)  # to (instruction, truth)
    confusion: Counter = Counter()  # (instruction, passed, truth)
    for name, group in _by_instruction(quality):
        for row in group:
            rows[row.passed] += 1
            if row.truth is not None:
                confusion[name, row.passed, row.truth] += 1
        passing = [row for row in group if row.passed]
        best = max((row.agreement_score for row in passing if row.consensus), default=None)
        for row in passing:
            kept[ALL, None][name, row.truth] += 1
            if best is not None and row.agreement_score == best:
                kept[CONSENSUS, None][name, row.truth] += 1
            for measure in MEASURES:
                value = getattr(row, measure)
                if value is not None:
                    sums[measure][0] += value
                    sums[measure][1] += 1
                for least in LEAST:
                    kept[measure, least][name, row.truth] += value is not None and value >= least
    known = bool(confusion)
    order = [(ALL, None), *((measure, least) for measure in MEASURES for least in LEAST), (CONSENSUS, None)]
    measured = {ALL, CONSENSUS} | {measure for measure, (_, count) in sums.items() if count}
    return TestQuality(
        responses=rows.total(),
        passed=rows[True],
        means={name: (total / count, count) for name, (total, count) in sums.items() if count},
        suites=Counter(row.drop for path in suites for row in load_rows(TestSuite, read_jsonl(path), str(path))),
        kept=[
            Kept(measure=measure, least=least, kept=counts.total(), right=_share(counts, True) if known else None)
            for measure, least in order
            if measure in measured
            for counts in [kept[measure, least]]
        ],
        confusion=_summed(confusion),
        rates=_rates(confusion) if known else {},
    )


def _by_instruction(paths: Iterable[Path]) -> Iterator[tuple[str, list[Quality]]]:
    for path in paths:
        rows = load_rows(Quality, read_jsonl(path), str(path))
        for name, group in itertools.groupby(rows, key=lambda row: row.id.rpartition("-")[0]):
            yield name, list(group)


def _summed(confusion: Mapping[tuple, int]) -> dict[tuple[bool, bool], int]:
    found: Counter = Counter()
    for (_, passed, right), count in confusion.items():
        found[passed, right] += count
    return dict(found)


def _rates(confusion: Mapping[tuple, int]) -> dict[str, Share]:
    def of(passed: bool | None, right: bool | None, part: tuple[bool, bool]) -> Share:
        counts = Counter()
        for (name, own, truth), count in confusion.items():
            if passed in (None, own) and right in (None, truth):
                counts[name, (own, truth) == part] += count
        return _share(counts, True)

    return {
        "false passes: wrong ones among responses that passed their own tests": of(True, None, (True, False)),
        "right ones among responses that failed their own tests": of(False, None, (False, True)),
        "false failures: right responses that failed their own tests": of(None, True, (False, True)),
    }


def _share(counts: Mapping[tuple[str, object], int], wanted: object) -> Share:
    """Return the share of the rows with the wanted mark, and its interval over instructions: rows of one are alike."""
    whole, part = Counter(), Counter()
    for (name, mark), count in counts.items():
        if mark is not None:
            whole[name] += count
            part[name] += count * (mark == wanted)
    names = sorted(name for name, count in whole.items() if count)
    if not names:
        return Share(part=0, of=0, interval=None)
    values = [part[name] / whole[name] for name in names]
    interval = interval_of_mean(values, [whole[name] for name in names], bounds=(0, 1))
    return Share(part=part.total(), of=whole.total(), interval=interval)
