"""Ask a model for responses with tests, several for each instruction: one shard of instructions, one round."""

import argparse
from pathlib import Path

from selfalign.generation.options import add_options, read_options
from selfalign.generation.responses import Earlier, generate_responses
from selfalign.prompts.documents import STYLES
from selfalign.records.commands import run_command


def main() -> None:
    """Parse the options and generate the shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instructions", type=Path, required=True, help="JSON lines of instructions")
    parser.add_argument("--tags", choices=STYLES, default="xml", help="what marks a document's parts (default: xml)")
    parser.add_argument("--earlier-responses", type=Path, nargs="+", help="a further round: those of earlier ones")
    parser.add_argument("--earlier-verdicts", type=Path, nargs="+", default=[], help="a further round: their verdicts")
    parser.add_argument("--until-passed", type=int, default=1, help="passing responses that are enough (default: 1)")
    add_options(parser)
    args = parser.parse_args()
    earlier = None
    if args.earlier_responses:
        earlier = Earlier(
            responses=args.earlier_responses, verdicts=args.earlier_verdicts, until_passed=args.until_passed
        )
    generate_responses(args.instructions, read_options(args), tags=args.tags, earlier=earlier)


if __name__ == "__main__":
    run_command(main)
