"""Select the training pairs of a dataset from its generation's responses and verdicts."""

import argparse
import gc
import sys
from dataclasses import replace
from pathlib import Path

from selfalign.languages import LANGUAGES
from selfalign.matching.benchmarks import load_benchmarks
from selfalign.records.commands import run_command
from selfalign.records.files import read_jsonl, write_json, write_jsonl, write_text
from selfalign.records.settings import load_settings
from selfalign.records.shards import KINDS, file_names, numbered
from selfalign.selection.candidates import load_candidates
from selfalign.selection.card import data_card
from selfalign.selection.pairs import Settings, select_pairs


def main() -> None:
    """Parse the command line and select the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=Path, required=True, help="seeds (Parquet)")
    # Not lists of files: of a thousand shards they are longer than a command line may be.
    parser.add_argument("--generation", type=Path, required=True, help="folder of concepts/, instructions/ and so on")
    parser.add_argument("--shards", type=int, required=True, help="shards of the generation")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of responses and verdicts (default 1)")
    parser.add_argument("--language", choices=LANGUAGES, default="python", help="of the code (default: python)")
    parser.add_argument("--benchmarks", type=Path, nargs="*", default=[], help="benchmark files to keep out")
    parser.add_argument("--settings", required=True, help="what becomes a pair (JSON)")
    parser.add_argument("--like", type=Path, help="take the size of this other dataset's pairs.jsonl")
    parser.add_argument("--quality", action="store_true", help="read what the tests are worth, from quality/")
    parser.add_argument("--may-be-empty", action="store_true", help="no pair at all is no error (for a pilot)")
    parser.add_argument("--run-seed", type=int, required=True, help="the run's seed")
    parser.add_argument("--output", type=Path, required=True, help="folder of the dataset")
    options = parser.parse_args()
    settings = load_settings(Settings, options.settings, "select_pairs")
    if options.like:
        settings = replace(settings, size=sum(1 for _ in read_jsonl(options.like)))
    files = {
        kind: [
            options.generation / kind / f"{name}.jsonl"
            for shard in numbered(options.shards)
            for name in file_names(kind, shard, options.rounds)
        ]
        for kind in (*KINDS, *(["quality"] if options.quality else []))
    }
    candidates = load_candidates(seeds=options.seeds, language=options.language, **files)
    index = load_benchmarks(options.benchmarks)
    gc.freeze()  # the collector, which every syntax tree wakes, need not walk the tables
    selection = select_pairs(candidates, settings, index, options.run_seed, may_be_empty=options.may_be_empty)
    if options.like and len(selection.kept) < settings.size:
        print(
            f"warning: {options.output.name} has {len(selection.kept):,} pairs and not the {settings.size:,} of "
            f"{options.like}: no more are left",
            file=sys.stderr,
        )
    write_jsonl(options.output / "preferences.jsonl", selection.preferences)
    write_jsonl(options.output / "negatives.jsonl", (row.dump() for row in selection.negatives))
    write_jsonl(options.output / "difficulty.jsonl", (row.dump() for row in selection.difficulties))
    write_jsonl(options.output / "rejected.jsonl", selection.rejected)
    write_jsonl(options.output / "contamination.jsonl", selection.contamination)
    funnels = selection.funnel.dump() | {"preferences": selection.preference_funnel.dump()["stages"]}
    write_json(options.output / "funnel.json", funnels)
    card = data_card(options.output.name, selection, settings, len(index.tasks))
    write_text(options.output / "README.md", card)
    write_jsonl(options.output / "pairs.jsonl", (row.pair().dump() for row in selection.kept))


if __name__ == "__main__":
    run_command(main)
