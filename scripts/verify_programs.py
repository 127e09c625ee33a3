"""Run programs with their tests in the sandbox: rows {"id", "code"} in, one verdict row for each out."""

import argparse
import json
import os

from selfalign.records.commands import run_command
from selfalign.sandbox import SandboxSettings, read_programs, source_key, verify


def main() -> None:
    """Judge a file of programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", help="JSON lines with id, code and, if you like, tests")
    parser.add_argument("verdicts", help="JSON lines with id, verdict, detail, cpu_s, wall_s, max_rss_mb, assertions")
    parser.add_argument("--sandbox", type=json.loads, default={}, help="sandbox settings as JSON (default: {})")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="default: every core")
    parser.add_argument("--stats", help="JSON file with counts and times")
    options = parser.parse_args()
    key = source_key(options.programs)
    verify(
        list(read_programs(options.programs)),
        SandboxSettings.load(options.sandbox),
        workers=options.workers,
        output=options.verdicts,
        stats=options.stats,
        label="programs",
        key=key,
    )


if __name__ == "__main__":
    run_command(main)
