"""Ask a model for instructions, from concepts or as another method has it: one shard."""

import argparse
from pathlib import Path

from selfalign.generation.instructions import METHODS, generate_instructions
from selfalign.generation.methods.properties import load_weights
from selfalign.generation.options import add_options, read_options
from selfalign.records.commands import run_command


def main() -> None:
    """Parse the options and generate the shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=Path, required=True, help="JSON lines of concepts")
    parser.add_argument("--method", choices=METHODS, default="self-oss-instruct", help="(default: self-oss-instruct)")
    parser.add_argument("--seeds", type=Path, help="Parquet of seeds, for methods that show their code")
    parser.add_argument("--instructions", type=Path, help="JSON lines of instructions, for methods that change some")
    parser.add_argument("--category-weights", required=True, help='JSON, for example {"function": 0.5, "class": 0.5}')
    add_options(parser)
    args = parser.parse_args()
    generate_instructions(
        args.concepts,
        load_weights(args.category_weights),
        read_options(args),
        method=args.method,
        seeds=args.seeds,
        instructions=args.instructions,
    )


if __name__ == "__main__":
    run_command(main)
