"""List one shard of the seeds, for a method that asks a model for no concepts."""

import argparse
from pathlib import Path

from selfalign.generation.concepts import list_seeds
from selfalign.records.commands import run_command


def main() -> None:
    """Parse the options and list the shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=Path, required=True, help="Parquet of seeds")
    parser.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    parser.add_argument("--shards", type=int, required=True, help="number of shards")
    parser.add_argument("--draw", type=int, help="draw so many of the seeds for all shards together (default: all)")
    parser.add_argument("--samples", type=int, required=True, help="rows of each seed")
    parser.add_argument("--run-seed", type=int, required=True, help="the config's seed")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines to write")
    parser.add_argument("--stats", type=Path, required=True, help="JSON with counts and times to write")
    list_seeds(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
