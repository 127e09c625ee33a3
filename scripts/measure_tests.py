"""Measure what the tests of one shard's responses are worth: agreement with other tests, mutants killed, code run."""

import argparse
from pathlib import Path

from selfalign.quality.measuring import Measures, measure_tests
from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings
from selfalign.sandbox import SandboxSettings


def main() -> None:
    """Measure one shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=Path, nargs="+", required=True, help="response rows, one file each round")
    parser.add_argument("--verdicts", type=Path, nargs="+", required=True, help="their verdicts with their own tests")
    parser.add_argument("--tests", type=Path, help="test suites that were written from the instructions alone")
    parser.add_argument("--truth", type=Path, help="verdicts with a benchmark's checks, from verify_truth")
    parser.add_argument("--measures", required=True, help="what to measure, as JSON: cross_execute, mutants, coverage")
    parser.add_argument("--run-seed", type=int, required=True, help="the config's seed")
    parser.add_argument("--sandbox", required=True, help="sandbox settings as JSON")
    parser.add_argument("--workers", type=int, required=True, help="programs that run at the same time")
    parser.add_argument("--label", required=True, help="name of the shard in progress lines and stats")
    parser.add_argument("--output", type=Path, required=True, help="quality rows (JSON lines)")
    parser.add_argument("--stats", type=Path, required=True, help="JSON file with counts and times")
    options = vars(parser.parse_args())
    sandbox = load_settings(SandboxSettings, options.pop("sandbox"), "sandbox settings")
    measures = load_settings(Measures, options.pop("measures"), "measures")
    measure_tests(sandbox=sandbox, measures=measures, **options)


if __name__ == "__main__":
    run_command(main)
