"""Check that this machine can run untrusted programs safely, and record how."""

import argparse

from selfalign.records.commands import run_command
from selfalign.records.files import write_json
from selfalign.sandbox import check_sandbox


def main() -> None:
    """Run the canaries and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, help="JSON file with versions, isolation and the canaries' verdicts")
    options = parser.parse_args()
    write_json(options.output, check_sandbox())


if __name__ == "__main__":
    run_command(main)
