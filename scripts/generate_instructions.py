"""Ask a model for instructions that use given concepts: one shard of concepts."""

import argparse
from pathlib import Path

from selfalign.generation.instructions import generate_instructions, load_weights
from selfalign.generation.options import add_options, read_options
from selfalign.records.commands import run_command


def main() -> None:
    """Parse the options and generate the shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=Path, required=True, help="JSON lines of concepts")
    parser.add_argument("--category-weights", required=True, help='JSON, for example {"function": 0.5, "class": 0.5}')
    add_options(parser)
    args = parser.parse_args()
    generate_instructions(args.concepts, load_weights(args.category_weights), read_options(args))


if __name__ == "__main__":
    run_command(main)
