"""pass@k, 95 % intervals over tasks, and paired tests between models."""

from collections.abc import Mapping, Sequence

import numpy

RESAMPLES = 10_000
CHUNK = 100  # resamples drawn at a time: 100 x 1,000 tasks are 0.8 MB


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Return the unbiased estimate of the chance that at least one of k samples passes.

    1 - C(n - c, k) / C(n, k), as a product that does not overflow (Chen and others 2021, section 2.1).

    Args:
        samples: Number n of samples drawn.
        passed: Number c of them that pass.
        k: At most `samples`.
    """
    if not 1 <= k <= samples or not 0 <= passed <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, and no more passes than samples: {samples}, {passed}")
    if samples - passed < k:
        return 1.0
    failed = 1.0
    for drawn in range(samples - passed + 1, samples + 1):
        failed *= 1.0 - k / drawn
    return 1.0 - failed


def interval_of_mean(
    values: Sequence[float], weights: Sequence[float] | None = None, *, bounds: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of one value per task.

    It is the percentile interval of 10,000 seeded resamples of tasks, and tells how much the mean would move with other
    tasks of the same kind; it holds nothing about another training. Resampling knows only values that it has seen:
    where all are the same, as when every task passes, it would have no width. The bounds then say what other tasks
    could have been, and the interval is that of Clopper and Pearson (Biometrika 26, 1934) for none of n: at most
    1 - 0.025^(1/n) of all tasks are unlike these.

    Args:
        weights: How much each task counts, such as its number of methods; None weighs all the same.
        bounds: The lowest and the highest value that a task can have; None where there is no such limit.
    """
    array = numpy.asarray(values, dtype=float)
    if bounds and len(set(array.tolist())) == 1:
        low, high = bounds
        unlike = 1 - 0.025 ** (1 / len(array))
        return float(array[0] - unlike * (array[0] - low)), float(array[0] + unlike * (high - array[0]))
    weight = numpy.ones(len(array)) if weights is None else numpy.asarray(weights, dtype=float)
    generator = numpy.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES // CHUNK):
        drawn = generator.integers(len(array), size=(CHUNK, len(array)))
        means.append((array * weight)[drawn].sum(axis=1) / weight[drawn].sum(axis=1))
    low, high = numpy.quantile(numpy.concatenate(means), (0.025, 0.975))
    mean = (array * weight).sum() / weight.sum()  # rounding must not put an interval of no width beside it
    return float(min(low, mean)), float(max(high, mean))


def paired_difference(scores_a: Mapping, scores_b: Mapping) -> dict:
    """Compare two models on the same tasks.

    Args:
        scores_a: Contents of a `scores.json`.
        scores_b: Contents of another, on the same tasks.

    Returns:
        `difference` (pass@1 of a minus that of b), `interval` (of `interval_of_mean`), `p` (of
        `permutation_test`) and `tasks`.

    Raises:
        ValueError: the tasks are not the same.
    """
    a, b = scores_a["per_task"], scores_b["per_task"]
    if a.keys() != b.keys():
        names = [f"{scores['model']} on {scores['benchmark']}" for scores in (scores_a, scores_b)]
        raise ValueError(f"{' and '.join(names)}: {len(a.keys() ^ b.keys())} tasks are not in both; score both anew")
    differences = [a[task] - b[task] for task in sorted(a)]
    low, high = interval_of_mean(differences, bounds=(-1, 1))
    return {
        "difference": sum(differences) / len(differences),
        "interval": [low, high],
        "p": permutation_test(differences),
        "tasks": len(differences),
    }


def permutation_test(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of paired differences: how often random signs give a mean as far from 0.

    From 10,000 seeded draws, so not below 0.0001. Under the null hypothesis the two models of a pair could be swapped
    on every task (Fisher's randomisation test); with passes and failures only, it is McNemar's exact test, sampled.
    """
    array = numpy.asarray([value for value in differences if value], dtype=float)
    observed = abs(array.sum())
    generator = numpy.random.default_rng(0)
    as_far = 0
    for _ in range(RESAMPLES // CHUNK):
        signs = generator.choice((-1.0, 1.0), size=(CHUNK, len(array)))
        as_far += int((abs(signs @ array) >= observed - 1e-9).sum())
    return min(1.0, (1 + as_far) / (1 + RESAMPLES))
