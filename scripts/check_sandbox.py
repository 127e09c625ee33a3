"""Check that this machine can run untrusted programs safely, and record how."""

import argparse
import os
import sys

from selfalign.languages import LANGUAGES
from selfalign.records.commands import run_command
from selfalign.records.files import write_json
from selfalign.sandbox import check_sandbox


def main() -> None:
    """Run the canaries and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, help="JSON file with versions, isolation and the canaries' verdicts")
    parser.add_argument("--languages", nargs="*", choices=LANGUAGES, default=[], help="of programs, beside Python")
    options = parser.parse_args()
    found = check_sandbox(languages=options.languages)
    write_json(options.output, found | {"partition": os.environ.get("SLURM_JOB_PARTITION", "")})
    print(f"the sandbox holds; its core is {found['core']}", file=sys.stderr)
    if found["remedy"]:
        print(f"note: {found['remedy']}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
