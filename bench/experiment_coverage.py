"""How often the 95 % interval of a difference holds the truth, for answers that pass or fail; see bench/README.md.

Two models answer the same tasks with every seed. Whether an answer passes is drawn from the chance of its task, to
which the seed of a training adds an amount that is the same for all tasks (its luck), and each task an advantage of one
of the models. The true difference is that of infinitely many seeds and tasks. Beside the interval over seeds and tasks
stands the usual one, over the tasks of a single seed.
"""

import argparse
import sys
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from selfalign.reporting.effects import effect

CASES = {"seeds": (0.4, 0.0), "tasks": (0.0, 1.0), "both": (0.4, 1.0), "neither": (0.0, 0.0)}  # spread, in logits
EASE = 1.5  # spread of how easy tasks are, in logits


def draw(generator: numpy.random.Generator, seeds: int, tasks: int, luck: float, advantage: float) -> numpy.ndarray:
    """Return differences of passes, by seed and task; their true mean is 0."""
    ease = EASE * generator.standard_normal(tasks)
    ahead = advantage * generator.standard_normal(tasks)
    answers = []
    for sign in (1, -1):
        logits = ease + sign * ahead / 2 + luck * generator.standard_normal((seeds, 1))
        answers.append(generator.random((seeds, tasks)) < 1 / (1 + numpy.exp(-logits)))
    return answers[0].astype(float) - answers[1]


def main() -> None:
    """Print the share of intervals that hold the truth, for each number of seeds and each source of noise."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--experiments", type=int, default=2000, help="drawn for each line")
    parser.add_argument("--tasks", type=int, default=164, help="of the benchmark")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    options = parser.parse_args()
    print("| seeds | noise | holds the truth | median half-width | one seed, over tasks |")
    print("|---|---|---|---|---|")
    for seeds in options.seeds:
        for name, (luck, advantage) in CASES.items():
            generator = numpy.random.default_rng(seeds)
            held, single, widths = 0, 0, []
            for _ in range(options.experiments):
                values = draw(generator, seeds, options.tasks, luck, advantage)
                found = effect(values, (-1, 1))
                held += found.low <= 0 <= found.high
                widths.append((found.high - found.low) / 2)
                first = values[0]
                single += abs(first.mean()) <= 1.96 * first.std(ddof=1) / options.tasks**0.5
            shares = (f"{100 * count / options.experiments:.1f} %" for count in (held, single))
            inside, alone = shares
            print(
                f"| {seeds} | {name} | {inside} | {100 * float(numpy.median(widths)):.1f} points | {alone} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
