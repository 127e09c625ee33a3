"""Read a benchmark's own file into the rows that all benchmarks share."""

import argparse
from pathlib import Path

from selfalign.benchmarks.preparation import KINDS, prepare_benchmark
from selfalign.records.commands import run_command


def main() -> None:
    """Read the options and write the tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, required=True, help="which benchmark the file is of")
    parser.add_argument("--path", type=Path, required=True, help="the benchmark's own file, gzipped or not")
    parser.add_argument("--output", type=Path, required=True, help="tasks, JSON lines; its name is the benchmark's")
    options = parser.parse_args()
    count = prepare_benchmark(options.kind, options.path, options.output)
    print(f"{options.output}: {count} tasks")


if __name__ == "__main__":
    run_command(main)
