"""Compute pass@1 with its interval from the verdicts on a model's answers."""

import argparse
from pathlib import Path

from selfalign.benchmarks.scoring import score_benchmark
from selfalign.records.commands import run_command


def main() -> None:
    """Read the options and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", type=Path, required=True, help="tasks from prepare_benchmark")
    parser.add_argument("--source", type=Path, required=True, help="what the tasks come from, from prepare_benchmark")
    parser.add_argument("--references", type=Path, required=True, help="reference solutions, from run_references")
    parser.add_argument("--completions", type=Path, required=True, help="answers from complete_benchmark")
    parser.add_argument("--verdicts", type=Path, required=True, help="verdicts from verify_completions")
    parser.add_argument("--measurements", type=Path, help="measurements from measure_completions, where there are some")
    parser.add_argument("--model", help="the model's name (default: that of the folder two above the output)")
    parser.add_argument("--output", type=Path, required=True, help="scores, JSON")
    options = parser.parse_args()
    score_benchmark(
        model=options.model or options.output.resolve().parent.parent.name,
        benchmark=options.benchmark,
        source=options.source,
        references=options.references,
        completions=options.completions,
        verdicts=options.verdicts,
        measurements=options.measurements,
        output=options.output,
    )


if __name__ == "__main__":
    run_command(main)
