"""Selection by difficulty and by what tests are worth: each check says why a response is dropped."""

from collections import defaultdict
from collections.abc import Sequence

from selfalign.records.commands import derive_seed
from selfalign.selection.candidates import Candidate

MEASURES = ("agreement", "mutation_score", "coverage")  # of `Quality`


def outside(row: Candidate, low: float, high: float) -> tuple[str, str] | None:
    """Return reason and detail where the pass rate of a response's instruction is not from low to high."""
    if low <= row.pass_rate <= high:
        return None
    return ("too hard" if row.pass_rate < low else "too easy"), f"pass rate {row.pass_rate} of {row.samples}"


def below(row: Candidate, measure: str, least: float) -> tuple[str, str] | None:
    """Return reason and detail where a measure of a response's quality is below the least, or unknown.

    Args:
        measure: One of `MEASURES`.

    Raises:
        ValueError: a verified response has no quality.
    """
    assert measure in MEASURES
    name = measure.replace("_", " ")
    value = getattr(_measured(row), measure)
    if value is None:  # no mutant or suite of others, or it did not pass its own tests
        return f"{name} unknown", ""
    return None if value >= least else (f"{name} below {least:g}", f"{value:.3f}")


def not_in_consensus(rows: Sequence[Candidate], run_seed: int) -> dict[str, tuple[str, str]]:
    """Return the responses that are not in the best consensus set of their instruction; of equal sets one is drawn."""
    sets: dict[str, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        quality = _measured(row)
        own = quality.others.replace("-", "1" if quality.passed else "0")
        sets[row.instruction.id][own + quality.independent].append(row)
    drops = {}
    for found in sets.values():

        def rank(members: list[Candidate]) -> tuple[float, int]:
            draws = (derive_seed(run_seed, "consensus", row.id) for row in members)
            return -members[0].quality.agreement_score, min(draws)

        for members in sorted(found.values(), key=rank)[1:]:
            detail = "of {0.consensus}, score {0.agreement_score:.2f}"
            drops |= {row.id: ("another consensus set is better", detail.format(row.quality)) for row in members}
    return drops


def _measured(row: Candidate):
    if row.quality is None:
        raise ValueError(
            f"response {row.id}: its quality was not measured; give the files of the same run, all shards, and set "
            "generations.*.tests to what the dataset selects by"
        )
    return row.quality
