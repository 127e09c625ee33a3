"""What the difference of two models is, over seeds and tasks: its interval, its p value, what it could have missed.

Replicates (seeds) and tasks are two crossed samples: another seed would have given another model, other tasks another
score. Both random effects count, so d[r][t] = mean + seed[r] + task[t] + rest[r][t], and the variance of the mean is
(MS_seeds + MS_tasks - MS_rest) / (R T) with the mean squares of the two-way analysis of variance without repeats
(Cornfield and Tukey, Annals of Mathematical Statistics 27, 1956), its degrees of freedom those of Satterthwaite
(Biometrics Bulletin 2, 1946). With one seed the interval is over tasks alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.stats import t as student

from selfalign.benchmarks.statistics import interval_of_mean, permutation_test

LEVEL = 0.05
POWER = 0.8  # with which the detectable difference would be found


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A mean over seeds and tasks.

    Attributes:
        low, high: Its 95 % interval.
        p: Two-sided, of the mean being 0.
        error: Standard error of the mean.
        freedom: Degrees of freedom of that.
        by_seeds, by_tasks: Shares of the mean's variance that are due to seeds and to tasks, the rest to both
            together; None where that is not known: there is one seed, or nothing varies.
    """

    mean: float
    low: float
    high: float
    p: float
    error: float
    freedom: float
    seeds: int
    tasks: int
    by_seeds: float | None = None
    by_tasks: float | None = None

    def detectable(self, comparisons: int = 1) -> float:
        """Return the smallest true mean that would be found in 80 % of experiments like this one.

        Args:
            comparisons: How many are corrected for; the strictest step of Holm's correction counts.
        """
        return float(
            self.error * (student.isf(LEVEL / 2 / comparisons, self.freedom) + student.ppf(POWER, self.freedom))
        )


def effect(values: Sequence[Sequence[float]], bounds: tuple[float, float]) -> Effect:
    """Return the mean of values[seed][task] with what is known of it.

    Args:
        bounds: The lowest and the highest value that there can be.
    """
    array = numpy.asarray(values, dtype=float)
    seeds, tasks = array.shape
    mean = float(array.mean())
    by_task = array.mean(axis=0)
    if seeds == 1 or tasks == 1 or float(array.min()) == float(array.max()):
        low, high = interval_of_mean(by_task, bounds=bounds)
        error = float(by_task.std(ddof=1) / tasks**0.5) if tasks > 1 else 0.0
        return Effect(
            **{
                "mean": mean,
                "low": low,
                "high": high,
                "p": permutation_test(by_task),
                "error": error or (high - low) / 4,
            },
            **{"freedom": float(max(tasks - 1, 1)), "seeds": seeds, "tasks": tasks},
        )
    by_seed = array.mean(axis=1)
    rest = array - by_seed[:, None] - by_task[None, :] + mean
    degrees = numpy.array([seeds - 1, tasks - 1, (seeds - 1) * (tasks - 1)])
    squares = numpy.array(
        [tasks * ((by_seed - mean) ** 2).sum(), seeds * ((by_task - mean) ** 2).sum(), (rest**2).sum()]
    )
    terms = squares / degrees / (seeds * tasks)
    variance = terms[0] + terms[1] - terms[2]
    freedom = variance**2 / (terms**2 / degrees).sum()
    if variance < terms.max():
        variance, freedom = terms.max(), degrees[terms.argmax()]
    error = float(variance**0.5)
    half = float(student.isf(LEVEL / 2, freedom)) * error
    parts = [max(0.0, float(term - terms[2])) for term in terms[:2]]  # of the variance of the mean
    whole = sum(parts) + float(terms[2])
    return Effect(
        mean=mean,
        low=max(bounds[0], mean - half),
        high=min(bounds[1], mean + half),
        p=float(2 * student.sf(abs(mean) / error, freedom)),
        error=error,
        freedom=float(freedom),
        seeds=seeds,
        tasks=tasks,
        by_seeds=parts[0] / whole,
        by_tasks=parts[1] / whole,
    )


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for being several (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    corrected, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = least
    return corrected
