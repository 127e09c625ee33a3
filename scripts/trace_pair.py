"""Lead a training pair, or any row before it, back to its source code, and on to the models that learnt from it."""

import argparse
from pathlib import Path

from selfalign.archiving.reading import open_run
from selfalign.archiving.trace import trace, wanted
from selfalign.archiving.trace_text import render
from selfalign.records.commands import print_lines, run_command
from selfalign.records.files import write_json

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Find the row and print where it comes from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("id", help="of a pair, response, instruction, concepts or seed")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder or archive of the run")
    parser.add_argument("--dataset", help="look into this dataset and its generation only")
    parser.add_argument("--prompts", action="store_true", help="with the whole prompts, as the model got them")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository; default: the one of this script")
    parser.add_argument("--output", type=Path, help="write everything as JSON, too")
    options = parser.parse_args()
    with open_run(options.results, wanted) as (folder, manifest):
        inputs = manifest["inputs"] if manifest else {}
        found = trace(folder, options.id, root=options.root, inputs=inputs, dataset=options.dataset)
    print_lines(render(found, prompts=options.prompts))
    if options.output:
        write_json(options.output, found.dump())


if __name__ == "__main__":
    run_command(main, makes=False)
