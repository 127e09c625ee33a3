"""Join the filtered parts of a corpus into seeds: no duplicates, nothing of the run's benchmarks."""

import argparse
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.records.files import read_json, write_json
from selfalign.seeds.corpus import select_seeds
from selfalign.seeds.filters import parse_filters


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
    parser.add_argument("--processes", type=int, default=1, help="processes that read parts at once (default 1)")
    parser.add_argument("--seeds", type=Path, required=True, help="seeds, sorted by id (Parquet)")
    parser.add_argument(
        "--rejects", type=Path, required=True, help="every rejected function, with stage and reason (Parquet)"
    )
    parser.add_argument(
        "--contamination", type=Path, required=True, help="every match with a benchmark task (JSON lines)"
    )
    parser.add_argument("--funnel", required=True, help="counts from the first function to the last seed (JSON)")
    options = parser.parse_args()
    corpus_filters = parse_filters(options.filters).corpus
    funnel = select_seeds(
        kept=options.kept,
        rejected=options.rejected,
        funnels={path: read_json(path) for path in options.funnels},
        filters=corpus_filters,
        benchmarks=options.benchmarks,
        seeds=options.seeds,
        rejects=options.rejects,
        contamination=options.contamination,
        processes=options.processes,
    )
    write_json(options.funnel, funnel.dump())


if __name__ == "__main__":
    run_command(main)
