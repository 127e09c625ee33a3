"""Take over one shard of another generation's rows as they are."""

import argparse
from pathlib import Path

from selfalign.engines.resumable import Clock, stats_without_engine
from selfalign.records.commands import run_command
from selfalign.records.files import read_jsonl, write_json, write_jsonl


def main() -> None:
    """Parse the options and copy the rows; their time and tokens stay with the generation that made them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="JSON lines of the other generation")
    parser.add_argument("--stage", required=True, help="stage that they are of")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines to write")
    parser.add_argument("--stats", type=Path, required=True, help="JSON with the count to write")
    args = parser.parse_args()
    clock = Clock.start()
    count = write_jsonl(args.output, read_jsonl(args.rows))
    write_json(args.stats, stats_without_engine(args.stage, count, clock))


if __name__ == "__main__":
    run_command(main)
