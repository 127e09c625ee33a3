"""Measure the selection of seeds: memory, CPU time and disk of scripts/select_seeds.py as the corpus grows.

A corpus of any size is made from real functions. Its first pass are the functions as they are; in each further pass
half of the words (all but keywords, of three letters or more) get a suffix of that pass. So each pass has the
duplicates and near-duplicates of the real functions among themselves and hardly any with the other passes, and every
function is as long and as hard to match as a real one. All functions count as kept by the filters: a real corpus, most
of which the filters drop, needs less.

Memory is read ten times a second: the peak of the largest process as the kernel keeps it (VmHWM), and the sum over the
command and its worker processes (RSS, so that pages which they share count several times). Disk is what the temporary
files take, those without a name included. The line through the peaks at the two largest sizes tells what a
function costs: in a small run, what does not grow with the corpus hides it.

The benchmarks are all whose files are in the folder that SELFALIGN_BENCHDATA names, else the demo's.
"""

import argparse
import itertools
import json
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from keyword import iskeyword
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import pyarrow.parquet  # noqa: E402
from measuring import describe_machine  # noqa: E402
from seeds_decontamination import read_tasks  # noqa: E402

from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_json, read_jsonl, write_json, write_jsonl, write_table  # noqa: E402
from selfalign.records.progress import Progress  # noqa: E402
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS  # noqa: E402

PART = 20_000  # functions of a part
INTERVAL_S = 0.1  # between two looks at the memory
PAPER = 5_359_051  # functions of the paper's corpus
TARGET_GB = 4  # of memory for that corpus
FILTERS = [{"name": "benchmarks"}, {"name": "near_duplicates", "threshold": 0.5}]
WORD = re.compile(r"\b[^\W\d]\w{2,}")


class Renamed(dict):
    """What becomes of each word in one pass."""

    def __init__(self, number: int):
        self.number = number

    def __missing__(self, word: str) -> str:
        other = not iskeyword(word) and blake2b(f"{self.number} {word}".encode(), digest_size=1).digest()[0] & 1
        self[word] = f"{word}_{self.number}" if other else word
        return self[word]

    def new(self, match: re.Match) -> str:
        """Return what stands in this pass for a word that was found."""
        return self[match[0]]


def make_functions(paths: list[str], count: int) -> Iterator[dict]:
    """Yield so many functions, made from those of some files as the module says.

    Raises:
        ValueError: the files hold no functions.
    """
    made = 0
    for number in itertools.count():
        words, before = Renamed(number), made
        for path in paths:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(1000, columns=list(FUNCTION_COLUMNS)):
                    for row in batch.to_pylist():
                        if made == count:
                            return
                        if number:
                            row["id"] = blake2b(f"{number} {row['id']}".encode(), digest_size=8).hexdigest()
                            row["code"] = WORD.sub(words.new, row["code"])
                        made += 1
                        yield row
        if made == before:
            raise ValueError(f"{', '.join(paths)}: no functions in them; give parts of a corpus")


def write_corpus(folder: Path, paths: list[str], count: int) -> list[str]:
    """Write the parts of a corpus; return the options of select_seeds that say where they are."""
    functions = make_functions(paths, count)
    parts = 0
    progress = Progress(f"making {count:,}", count, unit="functions")
    while part := list(itertools.islice(functions, PART)):
        write_table(folder / f"filtered/{parts:05}.parquet", part, FUNCTION_COLUMNS)
        write_table(folder / f"filtered/{parts:05}.rejected.parquet", [], REJECTED_COLUMNS)
        for step in ("functions", "filtered"):
            stage = {"stage": step, "input": len(part), "kept": len(part), "dropped": {}}
            write_json(folder / f"{step}/{parts:05}.json", {"stages": [stage]})
        parts += 1
        progress.add(len(part))
    return ["--corpus", str(folder), "--parts", str(parts)]


def tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [root]
    for process in found:
        try:
            for task in os.listdir(f"/proc/{process}/task"):
                found += map(int, Path(f"/proc/{process}/task/{task}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return found


def memory_kb(process: int, field: str) -> int:
    """Return a field of a process's memory in kB: VmRSS, or VmHWM, its peak; 0 where the process has just ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def unnamed_bytes(process: int) -> int:
    """Return the size of the files that a process has open and that have no name."""
    sizes = {}
    try:
        for descriptor in os.listdir(f"/proc/{process}/fd"):
            found = os.stat(f"/proc/{process}/fd/{descriptor}")
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                sizes[found.st_dev, found.st_ino] = found.st_size
    except (FileNotFoundError, ProcessLookupError):  # closed since, or the process has ended: the next look counts
        return 0
    return sum(sizes.values())


def temporary_bytes(folder: Path) -> int:
    """Return the size of the files in a folder that have a temporary name, or lie in a folder that has one."""
    total = 0
    for place, _, names in os.walk(folder):
        hidden = any(part.startswith(".") for part in Path(place).relative_to(folder).parts)
        for name in names:
            if hidden or name.startswith("."):
                try:
                    total += os.stat(os.path.join(place, name)).st_size
                except FileNotFoundError:  # removed since the folder was listed
                    continue
    return total


def measure(command: list[str], output: Path) -> dict[str, float]:
    """Run a command and watch it.

    Args:
        output: The folder in which it writes.

    Returns:
        CPU and wall seconds, peak memory of the largest process and of all processes (MB), temporary files (MB).

    Raises:
        ValueError: the command failed; its own words stand before.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command)
    largest = together = disk = 0
    while process.poll() is None:
        processes = tree(process.pid)
        largest = max(largest, *(memory_kb(one, "VmHWM") for one in processes))
        together = max(together, sum(memory_kb(one, "VmRSS") for one in processes))
        disk = max(disk, temporary_bytes(output) + sum(map(unnamed_bytes, processes)))
        time.sleep(INTERVAL_S)
    if process.returncode:
        raise ValueError(f"{command[1]} ended with code {process.returncode}; what it said stands above")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu_s": round(cpu_s, 1),
        "wall_s": round(time.monotonic() - start, 1),
        "largest_process_mb": round(largest / 1000, 1),
        "all_processes_mb": round(together / 1000, 1),
        "temporary_files_mb": round(disk / 1e6, 1),
    }


def project(runs: list[dict], functions: int) -> dict[str, dict[str, float]]:
    """Return what a million functions cost between the two largest runs, and what so many functions need."""
    small, large = sorted(runs, key=lambda run: run["functions"])[-2:]
    found = {}
    for name in ("cpu_s", "largest_process_mb", "all_processes_mb", "temporary_files_mb"):
        slope = (large[name] - small[name]) / (large["functions"] - small["functions"])
        total = large[name] + slope * (functions - large["functions"])
        found[name] = {"per_million": round(1e6 * slope, 1), "projected": round(total, 1)}
    return found


def main() -> None:
    """Measure and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", nargs="+", required=True, help="real functions (Parquet)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[60_000, 250_000, 1_000_000], help="functions of a run")
    parser.add_argument("--processes", nargs="+", type=int, default=[1], help="of a run (default 1)")
    parser.add_argument("--folder", help="where the corpora are made and removed (default: that of temporary files)")
    parser.add_argument("--output", required=True, help="JSON file for every run's figures")
    options = parser.parse_args()
    if min(*options.sizes, *options.processes, 1) < 1:
        raise ValueError("--sizes and --processes must be at least 1")
    results: dict = {"machine": describe_machine(), "target_gb": TARGET_GB, "runs": []}
    print("| functions | processes | CPU s | µs per function | largest process, MB | all, MB | temporary files, MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="selection-") as name:
        folder = Path(name)
        if data := os.environ.get("SELFALIGN_BENCHDATA"):
            tasks = read_tasks(Path(data))
        else:
            rows = read_jsonl(ROOT / "resources/demo/benchmark.jsonl")
            tasks = [{"id": row["task_id"], "benchmark": "demo", "prompt": None} | row for row in rows]
        results["tasks"] = write_jsonl(folder / "tasks.jsonl", tasks)
        for size in options.sizes:
            parts = folder / "parts"
            corpus = write_corpus(parts, options.functions, size)
            for processes in options.processes:
                output = folder / "output"
                command = [sys.executable, str(ROOT / "scripts/select_seeds.py"), *corpus]
                command += ["--benchmarks", str(folder / "tasks.jsonl"), "--filters", json.dumps(FILTERS)]
                command += ["--processes", str(processes)]
                for option, file in (
                    ("seeds", "seeds.parquet"),
                    ("rejects", "rejected.parquet"),
                    ("contamination", "contamination.jsonl"),
                    ("funnel", "funnel.json"),
                ):
                    command += [f"--{option}", str(output / file)]
                run = {"functions": size, "processes": processes} | measure(command, output)
                run["funnel"] = read_json(output / "funnel.json")["stages"]
                results["runs"].append(run)
                write_json(options.output, results)  # a large run takes long: what was measured stays
                print(
                    f"| {size:,} | {processes} | {run['cpu_s']} | {run['cpu_s'] * 1e6 / size:.0f} | "
                    f"{run['largest_process_mb']:,.0f} | {run['all_processes_mb']:,.0f} | "
                    f"{run['temporary_files_mb']:,.0f} |",
                    flush=True,
                )
                shutil.rmtree(output)
            shutil.rmtree(parts)
    if len(set(options.sizes)) > 1:
        results["projection"] = {
            str(processes): project([run for run in results["runs"] if run["processes"] == processes], PAPER)
            for processes in options.processes
        }
        write_json(options.output, results)
        for processes, row in results["projection"].items():
            memory, seconds = row["all_processes_mb"], row["cpu_s"]
            print(
                f"\n{processes} processes, {PAPER:,} functions: {memory['projected'] / 1000:.2f} GB of memory "
                f"({memory['per_million']:.0f} bytes a function; target {TARGET_GB} GB), "
                f"{row['temporary_files_mb']['projected'] / 1000:.1f} GB of temporary files, "
                f"{seconds['projected'] / 60:.0f} CPU minutes"
            )


if __name__ == "__main__":
    run_command(main)
