"""Extract the top-level functions with docstrings of one part of a corpus."""

import argparse
import time

from selfalign.matching.funnels import Funnel
from selfalign.records.commands import run_command
from selfalign.records.files import write_json, write_table
from selfalign.seeds.extraction import extract_functions
from selfalign.seeds.part import FUNCTION_COLUMNS
from selfalign.seeds.sources import list_folder, list_packages


def main() -> None:
    """Parse the command line and extract one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--packages", nargs="+", metavar="NAME", help="installed packages; stdlib is Python's own")
    source.add_argument("--folder", help="folder of source code; every .py file below it")
    parser.add_argument("--licence", default="unknown", help="licence of the folder's code")
    parser.add_argument("--part", type=int, default=0, help="which part, from 0")
    parser.add_argument("--parts", type=int, default=1, help="how many parts")
    parser.add_argument("--label", help="name in progress lines and statistics")
    parser.add_argument("--output", required=True, help="functions (Parquet)")
    parser.add_argument("--stats", required=True, help="statistics and funnel (JSON)")
    options = parser.parse_args()
    if not 0 <= options.part < options.parts:
        raise ValueError(f"--part {options.part}: with --parts {options.parts} it must be 0 to {options.parts - 1}")
    start, cpu = time.perf_counter(), time.process_time()
    files = list_packages(options.packages) if options.packages else list_folder(options.folder, options.licence)
    label = options.label or f"functions {options.part}/{options.parts}"
    result = extract_functions(files[options.part :: options.parts], label)
    funnel = Funnel(len(result.functions) + len(result.dropped))
    funnel.add("extract", len(result.functions), result.dropped)
    write_table(options.output, [row.dump() for row in result.functions], FUNCTION_COLUMNS)
    stats = {
        "stage": "extract_functions",
        "label": label,
        "rows": len(result.functions),
        "wall_s": round(time.perf_counter() - start, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "files": dict(sorted(result.files.items())),
    }
    write_json(options.stats, stats | funnel.dump())


if __name__ == "__main__":
    run_command(main)
