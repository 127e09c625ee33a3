"""Ask a model to solve the tasks of a benchmark."""

import argparse
from pathlib import Path

from selfalign.benchmarks.asking import AskSettings
from selfalign.benchmarks.completions import complete_benchmark
from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings


def main() -> None:
    """Read the options and write the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model.json of the model that is asked")
    parser.add_argument("--engine", default="{}", help="engine settings as JSON")
    parser.add_argument("--benchmark", type=Path, required=True, help="tasks from prepare_benchmark")
    parser.add_argument("--settings", default="{}", help="how to ask, as JSON; see AskSettings")
    parser.add_argument("--run-seed", type=int, required=True, help="the run's seed")
    parser.add_argument("--label", default="completions", help="name in progress lines and statistics")
    parser.add_argument("--output", type=Path, required=True, help="answers, JSON lines")
    parser.add_argument("--stats", type=Path, required=True, help="times and tokens, JSON")
    options = parser.parse_args()
    complete_benchmark(
        model=options.model,
        engine=options.engine,
        benchmark=options.benchmark,
        settings=load_settings(AskSettings, options.settings, "benchmark"),
        run_seed=options.run_seed,
        label=options.label,
        output=options.output,
        stats=options.stats,
    )


if __name__ == "__main__":
    run_command(main)
