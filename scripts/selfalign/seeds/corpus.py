"""Join the filtered parts of a corpus into seeds."""

from collections.abc import Mapping, Sequence

from selfalign.matching.benchmarks import BenchmarkIndex
from selfalign.matching.funnels import Funnel, sum_funnels
from selfalign.matching.near_duplicates import near_duplicates
from selfalign.records.rows import Function
from selfalign.seeds.filters import Benchmarks, NearDuplicates
from selfalign.seeds.part import rejected_row


def _exact_duplicates(rows: Sequence[Function]) -> dict[str, tuple[str, str]]:
    """Return the ids of functions whose code, apart from whitespace, is that of one with a smaller id."""
    first: dict[str, str] = {}
    drops = {}
    for row in sorted(rows, key=lambda row: row.id):
        original = first.setdefault("".join(row.code.split()), row.id)
        if original != row.id:
            drops[row.id] = ("exact duplicate", original)
    return drops


def _corpus_drops(rows: Sequence[Function], corpus_filter: object, index: BenchmarkIndex) -> dict[str, tuple[str, str]]:
    """Return the functions that a corpus filter drops: id to reason and detail."""
    if isinstance(corpus_filter, NearDuplicates):
        duplicates = near_duplicates({row.id: row.code for row in rows}, corpus_filter.threshold)
        return {key: ("near-duplicate", original) for key, original in duplicates.items()}
    assert isinstance(corpus_filter, Benchmarks)
    evidence = {row.id: index.find(row.code) for row in rows}
    return {key: (f"benchmark {found.kind}", found.dump()) for key, found in evidence.items() if found}


def select_seeds(
    rows: Sequence[Function],
    funnels: Mapping[str, dict],
    filters: Sequence[tuple[str, object]],
    index: BenchmarkIndex,
) -> tuple[list[Function], list[dict], Funnel]:
    """Join the parts: exact duplicates out, then the corpus filters in their order.

    Args:
        rows: The functions that the parts kept.
        funnels: File name to funnel, of all parts, those of the extraction first.

    Returns:
        The seeds sorted by id, the rejected functions with reasons, and the funnel from the first function to the
        last seed.

    Raises:
        ValueError: funnels and rows are not of the same parts, or nothing is left.
    """
    funnel = sum_funnels(funnels)
    if funnel.rows != len(rows):
        raise ValueError(
            f"the funnels end with {funnel.rows:,} functions, but the parts hold {len(rows):,}; "
            "give the kept functions and the funnels of the same parts"
        )
    kept = sorted({row.id: row for row in rows}.values(), key=lambda row: row.id)
    if len(kept) != len(rows):
        raise ValueError("two functions have the same id: a part was given twice")
    rejected: list[dict] = []
    for name, corpus_filter in [("exact_duplicates", None), *filters]:
        drops = _corpus_drops(kept, corpus_filter, index) if corpus_filter else _exact_duplicates(kept)
        rejected += [rejected_row(row, name, *drops[row.id]) for row in kept if row.id in drops]
        kept = [row for row in kept if row.id not in drops]
        funnel.add(name, len(kept), [reason for reason, _ in drops.values()])
    if not kept:
        worst = max(funnel.stages, key=lambda stage: stage["input"] - stage["kept"])
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in worst["dropped"].items())
        raise ValueError(
            f"no seed is left of {funnel.stages[0]['input']:,} functions; most were dropped by {worst['stage']} "
            f"({reasons or 'no rows at all'}): loosen that filter or add source code"
        )
    return kept, rejected, funnel
