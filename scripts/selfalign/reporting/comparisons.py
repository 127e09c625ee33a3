"""Which scores are compared, and what the paired difference says in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfalign.benchmarks.statistics import paired_difference
from selfalign.reporting.artifacts import Score


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """pass@1 of `better` minus that of `worse` over the same tasks, from -1 to 1, with its 95 % interval."""

    first: Score
    second: Score
    difference: float
    low: float
    high: float
