"""Ask a model for tests from each instruction alone, without a response: one shard of instructions."""

import argparse
from pathlib import Path

from selfalign.generation.options import add_options, read_options
from selfalign.generation.suites import generate_tests
from selfalign.records.commands import run_command


def main() -> None:
    """Parse the options and generate the shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instructions", type=Path, required=True, help="JSON lines of instructions")
    add_options(parser)
    args = parser.parse_args()
    generate_tests(args.instructions, read_options(args))


if __name__ == "__main__":
    run_command(main)
