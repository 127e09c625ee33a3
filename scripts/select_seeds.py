"""Join the filtered parts of a corpus into seeds: no duplicates, nothing of the run's benchmarks."""

import argparse
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.records.files import read_json, write_json
from selfalign.records.shards import numbered
from selfalign.seeds.corpus import select_seeds
from selfalign.seeds.filters import parse_filters


def main() -> None:
    """Parse the command line and select the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    # Not lists of files: of a thousand parts they are longer than a command line may be.
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder of the corpus, with functions/ and the steps"
    )
    parser.add_argument("--parts", type=int, required=True, help="parts of the corpus")
    parser.add_argument(
        "--steps", nargs="+", default=["filtered"], help="folders of the filters in their order (default: filtered)"
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

    def files(folders: list[str], suffix: str) -> list[str]:
        return [
            str(options.corpus / folder / f"{part}{suffix}") for folder in folders for part in numbered(options.parts)
        ]

    corpus_filters = parse_filters(options.filters).corpus
    funnel = select_seeds(
        kept=files(options.steps[-1:], ".parquet"),
        rejected=files(options.steps, ".rejected.parquet"),
        funnels={path: read_json(path) for path in files(["functions", *options.steps], ".json")},
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
