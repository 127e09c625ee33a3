"""Tell what the pilots of a generation yielded, which style of tags works better, and project its full run."""

import argparse
import json
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.records.files import read_table, write_json, write_text
from selfalign.reporting.pilot import read_pilot, report_pilots
from selfalign.reporting.pilot_text import pilot_text


def main() -> None:
    """Read the pilots, one of each style of tags, and write what they tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="the folder that holds the run's artifacts")
    parser.add_argument("--generation", required=True, help="name of the generation that the full run is of")
    parser.add_argument("--settings", required=True, help="its entry in the config, as JSON")
    parser.add_argument("--pilots", nargs="+", required=True, help="TAGS=NAME: name of the pilot of each style")
    parser.add_argument("--seeds", type=Path, required=True, help="seeds of the corpus (Parquet)")
    parser.add_argument("--gpus", type=int, required=True, help="GPUs of one job of the engine")
    parser.add_argument("--run-seed", type=int, required=True, help="the run's seed")
    parser.add_argument("--text", type=Path, required=True, help="text file to write")
    parser.add_argument("--data", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    settings = json.loads(options.settings)
    pilots = []
    for pair in options.pilots:
        tags, _, name = pair.partition("=")
        pilots.append(read_pilot(options.results, name, settings | {"shards": 1, "tags": tags}))
    report = report_pilots(
        pilots,
        generation=options.generation,
        settings=settings,
        corpus_seeds=len(read_table(options.seeds)),
        gpus=options.gpus,
        run_seed=options.run_seed,
    )
    write_json(options.data, report)
    write_text(options.text, pilot_text(report))


if __name__ == "__main__":
    run_command(main)
