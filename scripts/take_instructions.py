"""Take the tasks of a benchmark as the instructions of one shard of a generation, to see what its tests are worth."""

import argparse
from pathlib import Path

from selfalign.benchmarks.instructions import take_instructions
from selfalign.records.commands import run_command


def main() -> None:
    """Parse the options and write the shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", type=Path, required=True, help="tasks from prepare_benchmark")
    parser.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    parser.add_argument("--shards", type=int, required=True, help="shards in all")
    parser.add_argument("--draw", type=int, help="tasks of all shards together, drawn (default: all)")
    parser.add_argument("--run-seed", type=int, required=True, help="the config's seed")
    parser.add_argument("--label", required=True, help="name of the shard in the stats")
    parser.add_argument("--output", type=Path, required=True, help="instruction rows (JSON lines)")
    parser.add_argument("--stats", type=Path, required=True, help="JSON file with counts")
    options = parser.parse_args()
    take_instructions(
        options.benchmark,
        options.shard,
        options.shards,
        options.draw,
        options.run_seed,
        options.label,
        options.output,
        options.stats,
    )


if __name__ == "__main__":
    run_command(main)
