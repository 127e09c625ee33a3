"""Measure the selection of pairs: memory and CPU time of scripts/select_pairs.py as the responses grow in number.

The rows are those of a finished run, again and again: with each pass the ids are others, and half of the words of
instructions and responses get another spelling, so that rows are like those of their own pass and unlike the rest.
Decontamination is against the demo's tasks. From the two largest runs follows what the paper's 2.5 million responses
(238 thousand instructions, 10 responses each) need.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from measuring import ROOT, describe_machine
from seeds_selection import WORD, Renamed, measure, project

sys.path.insert(0, str(ROOT / "scripts"))

from selfalign.records.commands import run_command
from selfalign.records.files import read_jsonl, read_table, write_json, write_jsonl, write_table
from selfalign.records.shards import KINDS
from selfalign.seeds.part import FUNCTION_COLUMNS

PAPER = 2_500_000
RENAMED = ("instruction", "response", "tests", "text")


def change(row: dict, number: int, words: Renamed) -> dict:
    """Return a row of a pass: other ids, other words."""
    row = dict(row)
    for key in ("id", "parent"):
        if key in row:
            seed, dash, rest = row[key].partition("-")
            row[key] = blake2b(f"{number} {seed}".encode(), digest_size=8).hexdigest() + dash + rest
    for key in RENAMED:
        if number and row.get(key):
            row[key] = WORD.sub(words.new, row[key])
    return row


def passes(rows: list[dict], count: int) -> Iterator[tuple[int, list[dict]]]:
    """Yield number and rows of each pass."""
    for number in range(count):
        words = Renamed(number)
        yield number, [change(row, number, words) for row in rows]


def main() -> None:
    """Measure and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="results folder of a finished run")
    parser.add_argument("--generation", default="self", help="which of its generations (default self)")
    parser.add_argument("--corpus", default="stdlib", help="the generation's corpus (default stdlib)")
    parser.add_argument("--passes", type=int, nargs="+", default=[3, 10, 30], help="times that its rows are taken")
    parser.add_argument("--output", required=True, help="JSON file for every run's figures")
    options = parser.parse_args()
    generation = options.results / "generations" / options.generation
    rows = {
        kind: [row for path in sorted((generation / kind).glob("*.jsonl")) for row in read_jsonl(path)]
        for kind in KINDS
    }
    seeds = read_table(options.results / "corpora" / options.corpus / "seeds.parquet")
    results = {"machine": describe_machine(), "runs": []}
    print("| responses | pairs | CPU s | µs per response | memory, MB |\n|---|---|---|---|---|", flush=True)
    for count in options.passes:
        with tempfile.TemporaryDirectory(prefix="pairs-") as name:
            folder = Path(name)
            write_table(
                folder / "seeds.parquet",
                (row for _, found in passes(seeds, count) for row in found),
                FUNCTION_COLUMNS,
            )
            for kind in KINDS:
                for number, found in passes(rows[kind], count):
                    write_jsonl(folder / kind / f"{number:05}.jsonl", found)
            tasks = ({"id": row["task_id"], "benchmark": "demo", "prompt": None} | row
                     for row in read_jsonl(ROOT / "resources/demo/benchmark.jsonl"))  # fmt: skip
            write_jsonl(folder / "tasks.jsonl", tasks)
            command = [sys.executable, str(ROOT / "scripts/select_pairs.py"), "--seeds", str(folder / "seeds.parquet")]
            command += [
                "--generation",
                str(folder),
                "--shards",
                str(count),
                "--benchmarks",
                str(folder / "tasks.jsonl"),
            ]
            command += ["--settings", json.dumps({}), "--run-seed", "1", "--output", str(folder / "out")]
            run = {"functions": count * len(rows["responses"])} | measure(command, folder / "out")
            run["pairs"] = sum(1 for _ in read_jsonl(folder / "out/pairs.jsonl"))
            results["runs"].append(run)
            per_row = run["cpu_s"] * 1e6 / run["functions"]
            print(
                f"| {run['functions']:,} | {run['pairs']:,} | {run['cpu_s']} | {per_row:.0f} | "
                f"{run['largest_process_mb']:,.0f} |",
                flush=True,
            )
            write_json(options.output, results)
    if len(options.passes) > 1:
        results["projected"] = project(results["runs"], PAPER)
        write_json(options.output, results)
        print(json.dumps(results["projected"], indent=1))


if __name__ == "__main__":
    run_command(main)
