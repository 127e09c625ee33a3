"""Read a benchmark's own file into the rows that all benchmarks share."""

import argparse
import json
from pathlib import Path

from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.records.commands import run_command


def main() -> None:
    """Read the options and write the tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, required=True, help="which benchmark the file is of")
    parser.add_argument("--path", type=Path, help="the benchmark's own file or folder (default: fetch it)")
    parser.add_argument("--options", type=json.loads, default={}, help="options of this kind of benchmark, JSON")
    parser.add_argument("--output", type=Path, required=True, help="tasks, JSON lines; its name is the benchmark's")
    parser.add_argument("--source", type=Path, required=True, help="where files and digests are written, JSON")
    options = parser.parse_args()
    count = prepare_benchmark(options.kind, options.path, options.options, options.output, options.source)
    print(f"{options.output}: {count} tasks")


if __name__ == "__main__":
    run_command(main)
