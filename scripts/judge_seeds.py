"""Let a model judge the docstrings of one part's filtered functions."""

import argparse
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.records.files import file_digest, read_table
from selfalign.records.rows import Function, load_rows
from selfalign.seeds.filters import parse_filters
from selfalign.seeds.judge import judge_functions


def main() -> None:
    """Parse the command line and judge one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--input", type=Path, required=True, help="functions of one part that the filters kept (Parquet)"
    )
    parser.add_argument("--filters", required=True, help="ordered list of filters, docstring_judge among them (JSON)")
    parser.add_argument("--model", type=Path, required=True, help="model.json of the judge")
    parser.add_argument("--engine", required=True, help="engine settings (JSON)")
    parser.add_argument("--prompts", type=Path, required=True, help="the judge's header and worked examples")
    parser.add_argument("--run-seed", type=int, required=True, help="the config's seed")
    parser.add_argument("--label", required=True, help="name in progress lines and statistics")
    parser.add_argument("--kept", type=Path, required=True, help="functions that pass (Parquet)")
    parser.add_argument("--rejected", type=Path, required=True, help="the others, with stage and reason (Parquet)")
    parser.add_argument("--stats", type=Path, required=True, help="counts by reason, times and tokens (JSON)")
    options = parser.parse_args()
    settings = parse_filters(options.filters).judge
    if settings is None:
        raise ValueError("--filters: docstring_judge is not in the list; add it, or leave this step out")
    judge_functions(
        list(load_rows(Function, read_table(options.input), str(options.input))),
        settings,
        model=options.model,
        engine=options.engine,
        prompts=options.prompts,
        run_seed=options.run_seed,
        label=options.label,
        inputs=file_digest(options.input),
        kept=options.kept,
        rejected=options.rejected,
        stats=options.stats,
    )


if __name__ == "__main__":
    run_command(main)
