"""Measure what Snakemake itself takes with many shards: to plan a run, to see that nothing is to do, and to go on.

For each number of shards (parts of the corpus and shards of the generation alike) a run is planned that makes one
dataset: `snakemake --dry-run` from nothing; then every file that it plans is made, empty, with the records that
Snakemake keeps of finished jobs; then `snakemake` with nothing to do, and `--dry-run` with one changed setting that
reruns all responses. Last, what one job costs on a cluster, where each starts Snakemake anew to plan itself.
Each command runs in turns, --rounds times. Figures are CPU-seconds, wall seconds and the largest memory (MB).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import yaml
from measuring import ROOT, describe_machine, spread

sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import write_json  # noqa: E402

DATASET = "results/datasets/verified/pairs.jsonl"
REPORT = "results/provenance.json"  # needs all artifacts


def write_config(folder: Path, shards: int, top_p: float = 0.95) -> None:
    """Write the config of a run with so many parts and shards."""
    config = {
        "run": "scale",
        "seed": 1,
        "corpora": {"code": {"source": {"kind": "python-packages", "packages": ["stdlib"]}, "parts": shards}},
        "generations": {
            "self": {
                "corpus": "code",
                "generator": "base",
                "prompts": "resources/prompts/demo.yaml",
                "shards": shards,
                "top_p": top_p,
            }
        },
        "datasets": {"verified": {"generation": "self"}},
        "models": {"base": {"pretrained": str(ROOT / "resources/demo-base")}},
        "benchmarks": {},
        "evaluate": [],
        "engine": {"kind": "openai", "url": "http://127.0.0.1:1/v1"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def snakemake(folder: Path, *options: str) -> dict:
    """Run Snakemake in a folder; return its CPU-seconds, wall seconds, largest memory and what it printed.

    Raises:
        ValueError: it failed.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-s", str(ROOT / "Snakefile")]
    command += ["--workflow-profile", str(ROOT / "profiles/default"), "--configfile", str(folder / "config.yaml")]
    command += ["--directory", str(folder), *options]
    with tempfile.TemporaryFile("w+") as output:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise ValueError(f"{' '.join(command)}: exit code {process.returncode}: {text[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"cpu_s": cpu, "wall_s": wall, "memory_mb": usage.ru_maxrss / 1024, "text": text}


def finish(folder: Path) -> int:
    """Make every file that a run plans, empty, and record its job as finished; return how many jobs there are."""
    from snakemake.common import async_run
    from snakemake.settings.types import ExecutionSettings
    from workflow_plans import open_workflow

    with open_workflow(folder, folder / "config.yaml", ROOT, (DATASET, REPORT)) as (workflow, plan):
        plan.execute_workflow(executor="dryrun", execution_settings=ExecutionSettings(lock=False))
        inner = workflow._workflow
        jobs = [job for level in inner.dag.toposorted() for job in level]

        async def record() -> None:
            for job in jobs:
                for file in job.output:
                    path = folder / str(file)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("{}\n")
                await inner.persistence.finished(job)

        async_run(record())
    return len(jobs)


def longest_command(text: str) -> int:
    """Return the length of the longest command that `--printshellcmds` printed."""
    return max((len(line) for line in text.splitlines() if "$SCRIPTS" in line), default=0)


def measure(shards: int, rounds: int) -> dict:
    """Measure a run of so many shards."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        write_config(folder, shards)
        targets = [DATASET, REPORT]
        found: dict[str, list[dict]] = {}

        def run(label: str, *options: str) -> str:
            usage = snakemake(folder, *options)
            text = usage.pop("text")
            found.setdefault(label, []).append(usage)
            return text

        command = 0
        for _ in range(rounds):
            text = run("plan", *targets, "--dry-run", "--printshellcmds", "--quiet", "host")
            command = longest_command(text)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # it holds the run's lock for as long as it lives
            jobs = pool.submit(finish, folder).result()
        for _ in range(rounds):
            text = run("nothing to do", *targets)
            if "Nothing to be done" not in text:
                raise ValueError(f"with {shards} shards: something was to do after all jobs had been recorded: {text}")
        write_config(folder, shards, top_p=0.9)
        for _ in range(rounds):
            job = ["--target-jobs", f"generate_concepts:generation=self,shard={shards - 1:05}"]
            run("in each job of a cluster", "--dry-run", "--allowed-rules", "generate_concepts", *job)
            text = run("all generation anew", "--dry-run", *targets)
            if f"generate_responses {shards}" not in " ".join(text.split()):
                raise ValueError(f"with {shards} shards: a changed setting did not rerun the responses: {text}")
        metadata = sum(path.stat().st_size for path in (folder / ".snakemake/metadata").rglob("*") if path.is_file())
    keys = ("cpu_s", "wall_s", "memory_mb")
    return {
        "shards": shards,
        "jobs": jobs,
        "longest_command": command,
        "records_mb": metadata / 1e6,
        "runs": {label: {key: spread([one[key] for one in runs]) for key in keys} for label, runs in found.items()},
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 1000, 5000], help="numbers of shards")
    parser.add_argument("--rounds", type=int, default=3, help="times that each command runs (default 3)")
    parser.add_argument("--output", type=Path, help="JSON to write (default: only shown)")
    options = parser.parse_args()
    results = {"machine": describe_machine(), "measured": []}
    print("| shards | jobs | command | CPU s | wall s | memory, MB |\n|---|---|---|---|---|---|", flush=True)
    for shards in options.shards:
        row = measure(shards, options.rounds)
        results["measured"].append(row)
        for label, usage in row["runs"].items():
            cells = [f"{usage[key]['median']:.1f}" for key in ("cpu_s", "wall_s", "memory_mb")]
            print(f"| {shards:,} | {row['jobs']:,} | {label} | {' | '.join(cells)} |", flush=True)
        print(json.dumps({key: value for key, value in row.items() if key != "runs"}), file=sys.stderr)
        if options.output:
            write_json(options.output, results)


if __name__ == "__main__":
    run_command(main)
