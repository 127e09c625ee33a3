"""Tell what differs between two runs: settings, versions, counts, scores, files."""

import argparse
from pathlib import Path

from selfalign.archiving.differences import compare_runs
from selfalign.archiving.differences_text import render
from selfalign.records.commands import print_lines, run_command
from selfalign.records.files import write_json


def main() -> None:
    """Compare and print; differences are no error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path, metavar="A", help="results folder or archive of a run")
    parser.add_argument("second", type=Path, metavar="B", help="results folder or archive of another")
    parser.add_argument("--output", type=Path, help="write everything as JSON, too")
    options = parser.parse_args()
    found = compare_runs(options.first, options.second)
    print_lines(render(found))
    if options.output:
        write_json(options.output, found.dump())


if __name__ == "__main__":
    run_command(main, makes=False)
