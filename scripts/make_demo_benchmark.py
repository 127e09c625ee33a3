"""Write the held-out benchmark of the demo domain: tasks with reference tests, the same for the same seed."""

import argparse
from pathlib import Path

from selfalign.demo.benchmark import WRITERS, benchmark_rows
from selfalign.records.commands import run_command
from selfalign.records.files import write_jsonl


def main() -> None:
    """Write the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=160)
    parser.add_argument("--language", choices=WRITERS, default="python")
    arguments = parser.parse_args()
    write_jsonl(arguments.output, benchmark_rows(arguments.seed, arguments.tasks, arguments.language))


if __name__ == "__main__":
    run_command(main)
