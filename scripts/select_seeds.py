"""Join the filtered parts of a corpus into seeds: no duplicates, nothing of the run's benchmarks."""

import argparse

from selfalign.matching.benchmarks import load_benchmarks
from selfalign.records.commands import run_command
from selfalign.records.files import read_json, read_table, write_json, write_table
from selfalign.records.rows import Function, load_rows
from selfalign.seeds.corpus import select_seeds
from selfalign.seeds.filters import parse_filters
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS


def main() -> None:
    """Parse the command line and select the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", nargs="+", required=True, help="kept functions of all parts (Parquet)")
    parser.add_argument("--rejected", nargs="+", required=True, help="rejected functions of all parts (Parquet)")
    parser.add_argument(
        "--funnels", nargs="+", required=True, help="statistics of all extractions, then funnels of all filtered parts"
    )
    parser.add_argument("--filters", required=True, help="ordered list of filters (JSON)")
    parser.add_argument("--benchmarks", nargs="*", default=[], help="benchmark files whose tasks must not be seeds")
    parser.add_argument("--seeds", required=True, help="seeds, sorted by id (Parquet)")
    parser.add_argument("--rejects", required=True, help="every rejected function, with stage and reason (Parquet)")
    parser.add_argument("--funnel", required=True, help="counts from the first function to the last seed (JSON)")
    options = parser.parse_args()
    corpus_filters = parse_filters(options.filters).corpus
    rows = [row for path in options.kept for row in load_rows(Function, read_table(path), path)]
    funnels = {path: read_json(path) for path in options.funnels}
    index = load_benchmarks(options.benchmarks)
    seeds, rejected, funnel = select_seeds(rows, funnels, corpus_filters, index)
    rejected += [row for path in options.rejected for row in read_table(path)]
    write_table(options.seeds, [row.dump() for row in seeds], FUNCTION_COLUMNS)
    write_table(options.rejects, sorted(rejected, key=lambda row: row["id"]), REJECTED_COLUMNS)
    write_json(options.funnel, funnel.dump())


if __name__ == "__main__":
    run_command(main)
