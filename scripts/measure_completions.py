"""Measure the answers that passed, for benchmarks that score more than whether they pass."""

import argparse
from pathlib import Path

from selfalign.benchmarks.measuring import measure_completions
from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings
from selfalign.sandbox import SandboxSettings


def main() -> None:
    """Read the options and measure the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", type=Path, required=True, help="tasks from prepare_benchmark")
    parser.add_argument("--completions", type=Path, required=True, help="answers from complete_benchmark")
    parser.add_argument("--verdicts", type=Path, required=True, help="verdicts from verify_completions")
    parser.add_argument("--sandbox", default="{}", help="sandbox settings as JSON")
    parser.add_argument("--workers", type=int, default=1, help="programs that run at the same time")
    parser.add_argument("--label", default="measurements", help="name in progress lines and statistics")
    parser.add_argument("--output", type=Path, required=True, help="measurements, JSON lines")
    parser.add_argument("--stats", type=Path, required=True, help="counts and times, JSON")
    options = parser.parse_args()
    measure_completions(
        benchmark=options.benchmark,
        completions=options.completions,
        verdicts=options.verdicts,
        sandbox=load_settings(SandboxSettings, options.sandbox, "sandbox settings"),
        workers=options.workers,
        label=options.label,
        output=options.output,
        stats=options.stats,
    )


if __name__ == "__main__":
    run_command(main)
