"""Run programs with their tests in the sandbox: rows {"id", "code", "tests"} in, one verdict row for each out.

A run that was stopped goes on with the same command, after what it has finished. The exit status is 0 when every
program has its verdict, 1 after anything else, with one line that says what.
"""

import argparse
import os

from selfalign.languages import LANGUAGES
from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings
from selfalign.sandbox import ProgramFile, SandboxSettings, source_key, verify


def main() -> None:
    """Judge a file of programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="JSON lines with id, code and, if you like, tests")
    parser.add_argument(
        "verdicts", help="JSON lines with id, verdict, detail, cpu_s, wall_s, max_rss_mb, assertions and core"
    )
    parser.add_argument("--sandbox", default="{}", help="sandbox settings as JSON (default: {})")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="default: every core")
    parser.add_argument("--core", choices=("c", "python"), help="default: c where it was built, else python")
    parser.add_argument("--language", choices=LANGUAGES, default="python", help="of all programs (default: python)")
    parser.add_argument("--label", default="programs", help="name in the progress lines (default: programs)")
    parser.add_argument("--stats", help="JSON file with counts and times")
    options = parser.parse_args()
    verify(
        ProgramFile(options.programs),
        load_settings(SandboxSettings, options.sandbox, "sandbox settings"),
        workers=options.workers,
        output=options.verdicts,
        stats=options.stats,
        label=options.label,
        key=source_key(options.programs),
        core=options.core,
        language=options.language,
    )


if __name__ == "__main__":
    run_command(main)
