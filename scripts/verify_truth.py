"""Run the responses to a benchmark's tasks with the benchmark's own checks, which the model did not see."""

import argparse
from pathlib import Path

from selfalign.benchmarks.truth import verify_truth
from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings
from selfalign.sandbox import SandboxSettings


def main() -> None:
    """Judge one shard of responses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", type=Path, required=True, help="tasks from prepare_benchmark")
    parser.add_argument("--references", type=Path, required=True, help="what run_references wrote")
    parser.add_argument("--responses", type=Path, nargs="+", required=True, help="response rows, one file each round")
    parser.add_argument("--sandbox", required=True, help="sandbox settings as JSON")
    parser.add_argument("--workers", type=int, required=True, help="programs that run at the same time")
    parser.add_argument("--label", required=True, help="name of the shard in progress lines and stats")
    parser.add_argument("--output", type=Path, required=True, help="verdict rows (JSON lines)")
    parser.add_argument("--stats", type=Path, required=True, help="JSON file with counts and times")
    options = vars(parser.parse_args())
    sandbox = load_settings(SandboxSettings, options.pop("sandbox"), "sandbox settings")
    verify_truth(sandbox=sandbox, **options)


if __name__ == "__main__":
    run_command(main)
