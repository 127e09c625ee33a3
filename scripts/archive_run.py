"""Pack a finished run into one file: config, provenance, rows, scores, report, logs, and digests of everything."""

import argparse
from pathlib import Path

from selfalign.archiving.archive import archive_run, summarize
from selfalign.records.commands import print_lines, run_command
from selfalign.reporting.artifacts import read_provenance
from selfalign.reporting.repository import describe_code

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write the archive and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="the folder that holds the run's artifacts")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository; default: the one of this script")
    parser.add_argument("--include-models", action="store_true", help="with the weights of trained models")
    parser.add_argument("--output", type=Path, required=True, help="the archive, .tar.zst")
    options = parser.parse_args()
    manifest, others = archive_run(
        options.results,
        options.output,
        root=options.root,
        locks=sorted(options.root.glob("envs/*.lock")),
        include_models=options.include_models,
    )
    if others:
        print_lines(
            [
                f"{len(others):,} files below {options.results} are not of this run and were left out, such as "
                f"{', '.join(others[:3])}"
            ]
        )
    print_lines(describe_code(read_provenance(options.results / "provenance.json") or {}))
    print_lines([summarize(manifest, options.output)])


if __name__ == "__main__":
    run_command(main)
