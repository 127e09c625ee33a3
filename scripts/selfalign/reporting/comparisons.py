"""Which scores are compared, and what the paired difference says in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfalign.benchmarks.statistics import paired_difference
from selfalign.reporting.artifacts import Score


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """pass@1 of the first minus that of the second over the same tasks, from -1 to 1.

    Attributes:
        low, high: Its 95 % interval.
        p: Of the permutation test, two-sided.
    """

    first: Score
    second: Score
    difference: float
    low: float
    high: float
    p: float

    @property
    def label(self) -> str:
        """The two models; the benchmark too where the second was asked otherwise."""
        other = self.second.model if self.second.benchmark == self.first.benchmark else self.second.label
        return f"{self.first.model} − {other}"

    @property
    def decided(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    @property
    def words(self) -> str:
        """What the interval says."""
        if not self.decided:
            return "includes 0: may be noise"
        return f"excludes 0: {self.first.model} is {'better' if self.low > 0 else 'worse'}"


def points(value: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def compare(first: Score, second: Score) -> Comparison:
    """Return the paired difference of two scores."""
    found = paired_difference(first.data, second.data)
    low, high = found["interval"]
    return Comparison(first=first, second=second, difference=found["difference"], low=low, high=high, p=found["p"])


def other_pairs(scores: Sequence[Score], compared: Sequence[Comparison]) -> list[Comparison]:
    """Return every two models on every benchmark, of the same tasks, that are not compared already."""
    known = {frozenset((one.first.label, one.second.label)) for one in compared}
    return [
        compare(first, second)
        for place, first in enumerate(scores)
        for second in scores[place + 1 :]
        if first.benchmark == second.benchmark
        and first.per_task.keys() == second.per_task.keys()
        and frozenset((first.label, second.label)) not in known
    ]


def show_p(value: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def comparisons(scores: Sequence[Score], models: Mapping[str, Mapping]) -> list[Comparison]:
    """Return the comparisons that a reader asks for, over equal tasks only.

    Each trained model with its base and with the later models trained from the same base, asked the same way; and
    with its base asked in a way that it was not asked itself (few-shot), since that is the base's best chance.

    Args:
        models: The config's table of models.
    """
    base_of = {name: entry.get("base") for name, entry in models.items()}
    asked = {(score.model, score.benchmark) for score in scores}
    places = {name: place for place, name in enumerate(models)}
    found = []
    for first in scores:
        for second in scores:
            if base_of[first.model] is None or first.model == second.model:
                continue
            if first.per_task.keys() != second.per_task.keys():
                continue
            same_way = first.benchmark == second.benchmark
            is_base = base_of[first.model] == second.model
            later = base_of[first.model] == base_of[second.model] and places[first.model] < places[second.model]
            if (same_way and (is_base or later)) or (
                not same_way and is_base and (first.model, second.benchmark) not in asked
            ):
                found.append(compare(first, second))
    return found


def win_rates(scores: Sequence[Score], metric: str = "dps") -> dict[tuple[str, str], float]:
    """Return how often a model is ahead on a task that it and another have a score of, by benchmark and model.

    Every two models of a benchmark meet on every task that both have a score of; a tie is half a win. So a win rate is
    one among these models: with others it is another. As EvalPerf's authors compute it for their leaderboard
    (evalplus.github.io, results/evalperf/stats.py).

    Args:
        metric: Of the scores' `extra`, with a value for each task. A model without rivals has no win rate.
    """
    wins: dict[tuple[str, str], list[float]] = {}
    for one in scores:
        for other in scores:
            if one.model == other.model or one.benchmark != other.benchmark:
                continue
            own, theirs = (score.data.get("extra", {}).get(metric, {}).get("per_task", {}) for score in (one, other))
            wins.setdefault((one.benchmark, one.model), []).extend(
                0.5 * ((own[task] > theirs[task]) + (own[task] >= theirs[task])) for task in own.keys() & theirs.keys()
            )
    return {key: sum(found) / len(found) for key, found in wins.items() if found}
