"""Run a benchmark's reference solutions: what they return, how long they take, and which do not pass here."""

import argparse
from pathlib import Path

from selfalign.benchmarks.references import run_references
from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings
from selfalign.sandbox import SandboxSettings


def main() -> None:
    """Read the options and run the reference solutions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", type=Path, required=True, help="tasks from prepare_benchmark")
    parser.add_argument("--sandbox", default="{}", help="sandbox settings as JSON")
    parser.add_argument("--workers", type=int, default=1, help="programs that run at the same time")
    parser.add_argument("--label", default="references", help="name in progress lines and statistics")
    parser.add_argument("--output", type=Path, required=True, help="a row for each task, JSON lines")
    parser.add_argument("--stats", type=Path, required=True, help="counts and times, JSON")
    options = parser.parse_args()
    run_references(
        benchmark=options.benchmark,
        sandbox=load_settings(SandboxSettings, options.sandbox, "sandbox settings"),
        workers=options.workers,
        label=options.label,
        output=options.output,
        stats=options.stats,
    )


if __name__ == "__main__":
    run_command(main)
