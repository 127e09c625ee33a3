"""Ask a model for the concepts of seed functions: one shard of the seeds."""

import argparse
from pathlib import Path

from selfalign.generation.concepts import generate_concepts
from selfalign.generation.options import add_options, read_options
from selfalign.records.commands import run_command


def main() -> None:
    """Parse the options and generate the shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=Path, required=True, help="Parquet of seed functions")
    parser.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    parser.add_argument("--shards", type=int, required=True, help="number of shards")
    parser.add_argument("--draw", type=int, help="draw so many of the seeds for all shards together (default: all)")
    add_options(parser)
    args = parser.parse_args()
    generate_concepts(args.seeds, args.shard, args.shards, read_options(args), args.draw)


if __name__ == "__main__":
    run_command(main)
