"""Extract the top-level functions with docstrings of one part of a corpus, or a random snippet of each file."""

import argparse
import resource
import time
from collections.abc import Iterator
from functools import partial

from selfalign.languages import LANGUAGES
from selfalign.matching.funnels import Funnel
from selfalign.records.commands import run_command
from selfalign.records.files import write_json, write_table
from selfalign.records.progress import Progress
from selfalign.records.rows import Function
from selfalign.seeds import extraction as python_extraction
from selfalign.seeds import javascript_extraction
from selfalign.seeds.extraction import Extraction, extract_functions
from selfalign.seeds.part import FUNCTION_COLUMNS
from selfalign.seeds.snippets import extract_snippet
from selfalign.seeds.sources import load_source

UNITS = ("functions", "snippets")
EXTRACTORS = {"python": python_extraction.extract_source, "javascript": javascript_extraction.extract_source}


def main() -> None:
    """Parse the command line and extract one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source", required=True, metavar="JSON", help='the source, such as {"kind": "folder", "path": "code"}'
    )
    parser.add_argument("--language", choices=LANGUAGES, default="python", help="of the functions (default: python)")
    parser.add_argument("--part", type=int, default=0, help="which part, from 0")
    parser.add_argument("--parts", type=int, default=1, help="how many parts")
    parser.add_argument("--label", help="name in progress lines and statistics")
    parser.add_argument("--output", required=True, help="functions (Parquet)")
    parser.add_argument("--stats", required=True, help="statistics and funnel (JSON)")
    parser.add_argument("--unit", choices=UNITS, default="functions", help="what is extracted (default: functions)")
    parser.add_argument("--run-seed", type=int, default=0, help="draws the snippets")
    options = parser.parse_args()
    if not 0 <= options.part < options.parts:
        raise ValueError(f"--part {options.part}: with --parts {options.parts} it must be 0 to {options.parts - 1}")
    start, cpu = time.perf_counter(), time.process_time()
    source = load_source(options.source).open(LANGUAGES[options.language].suffixes)
    units = source.part(options.part, options.parts)
    label = options.label or f"functions {options.part}/{options.parts}"
    extraction = Extraction()
    extract = EXTRACTORS[options.language]
    if options.unit == "snippets":
        extract = partial(extract_snippet, run_seed=options.run_seed)

    def functions() -> Iterator[Function]:
        progress = Progress(label, len(units), unit=source.unit)
        for unit in units:
            yield from extract_functions(source.read(unit), extraction, extract)
            progress.add()

    write_table(options.output, (row.dump() for row in functions()), FUNCTION_COLUMNS)
    funnel = Funnel(extraction.kept + extraction.dropped.total())
    funnel.add("extract", extraction.kept, extraction.dropped.elements())
    stats = {
        "stage": "extract_functions",
        "label": label,
        "rows": extraction.kept,
        "wall_s": round(time.perf_counter() - start, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "files": dict(sorted(extraction.files.items())),
    }
    write_json(options.stats, stats | funnel.dump())


if __name__ == "__main__":
    run_command(main)
