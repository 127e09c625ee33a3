"""Write the report of a run: one HTML page, figures, tables, and the result table on standard output."""

import argparse
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.reporting.write import write_report


def main() -> None:
    """Write the report and print the result table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="the folder that holds the run's artifacts")
    parser.add_argument("--config", type=Path, required=True, help="the merged config (run_config.yaml)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the report")
    options = parser.parse_args()
    print(write_report(options.results, options.config, options.output), end="")


if __name__ == "__main__":
    run_command(main)
