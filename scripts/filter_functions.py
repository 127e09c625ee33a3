"""Filter the functions of one part, each by itself; the filters that compare functions run in select_seeds."""

import argparse

from selfalign.languages import LANGUAGES
from selfalign.records.commands import run_command
from selfalign.records.files import read_table, write_json, write_table
from selfalign.records.rows import Function, load_rows
from selfalign.seeds.filters import parse_filters
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS, filter_part


def main() -> None:
    """Parse the command line and filter one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="functions of one part (Parquet)")
    parser.add_argument("--filters", required=True, help="ordered list of filters (JSON)")
    parser.add_argument("--language", choices=LANGUAGES, default="python", help="of the functions (default: python)")
    parser.add_argument("--label", help="name in progress lines")
    parser.add_argument("--kept", required=True, help="functions that pass (Parquet)")
    parser.add_argument("--rejected", required=True, help="the others, with stage and reason (Parquet)")
    parser.add_argument("--funnel", required=True, help="counts by filter and reason (JSON)")
    options = parser.parse_args()
    filters = parse_filters(options.filters, options.language).rows
    rows = read_table(options.input)
    functions = load_rows(Function, rows, options.input)
    kept, rejected, funnel = filter_part(
        functions, filters, label=options.label or "filters", total=len(rows), language=options.language
    )
    write_table(options.kept, [row.dump() for row in kept], FUNCTION_COLUMNS)
    write_table(options.rejected, rejected, REJECTED_COLUMNS)
    write_json(options.funnel, funnel.dump())


if __name__ == "__main__":
    run_command(main)
