"""Run each answer to a benchmark's tasks with the benchmark's tests and give a verdict."""

import argparse
from pathlib import Path

from selfalign.benchmarks.verification import verify_completions
from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings
from selfalign.sandbox import SandboxSettings


def main() -> None:
    """Read the options and judge the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", type=Path, required=True, help="tasks from prepare_benchmark")
    parser.add_argument("--references", type=Path, required=True, help="reference solutions, from run_references")
    parser.add_argument("--completions", type=Path, required=True, help="answers from complete_benchmark")
    parser.add_argument("--sandbox", default="{}", help="sandbox settings as JSON")
    parser.add_argument("--workers", type=int, default=1, help="programs that run at the same time")
    parser.add_argument("--label", default="verdicts", help="name in progress lines and statistics")
    parser.add_argument("--output", type=Path, required=True, help="verdicts, JSON lines")
    parser.add_argument("--stats", type=Path, required=True, help="counts and times, JSON")
    options = parser.parse_args()
    verify_completions(
        benchmark=options.benchmark,
        references=options.references,
        completions=options.completions,
        sandbox=load_settings(SandboxSettings, options.sandbox, "sandbox settings"),
        workers=options.workers,
        label=options.label,
        output=options.output,
        stats=options.stats,
    )


if __name__ == "__main__":
    run_command(main)
