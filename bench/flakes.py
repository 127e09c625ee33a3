"""Judge programs of known verdict again and again on an overloaded machine, and count the verdicts that waver.

With `--oversubscription 5`, five busy processes for each core compete with five workers for each core. Each repeat is
a run of scripts/verify_programs.py in other surroundings: time zone, locale, working folder, environment, hash seed.
A program is a flake when any of its verdicts is not the right one; exit code 1 says that there was one. The usual way
is measured beside: the same programs under the same load, each in a plain process with the CPU limit as its limit of
wall-clock time, how sandboxes without a CPU limit do it.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import test_sandbox  # noqa: E402

from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_jsonl, write_json, write_jsonl  # noqa: E402

CPU_S = 1.0
SETTINGS = {"cpu_s": CPU_S, "wall_factor": 3.0, "memory_mb": 256}
Z = 1.959964  # of the normal distribution, for 95 %

# For each repeat, one after the other and then from the first again. None of them may reach a program.
SURROUNDINGS = (
    {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
    {"TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "4242", "PYTHONUTF8": "0"},
    {"TZ": "Pacific/Kiritimati", "LANG": "de_DE.ISO-8859-1", "PYTHONHASHSEED": "random"}
    | {f"SURROUNDING_{number}": "x" * 100 for number in range(200)},
)

SPIN = """import time


def spin(cpu_s):
    start = time.CLOCK()
    while time.CLOCK() - start < cpu_s:
        sum(range(1000))
    return True


"""
# name: (right verdict, program), to be formatted with the parts and numbers that `build_corpus` gives.
PATTERNS = {
    "half of the limit": ("passed", "{spin}assert spin({half}) is True  # {n}\n"),
    "half of the limit, wrong": ("assertion", "{spin}assert spin({half}) is None  # {n}\n"),
    "twice the limit": ("timeout_cpu", "{spin}assert spin({twice}) is True  # {n}\n"),
    "endless": ("timeout_cpu", "n = {n}\nwhile True:\n    n += 1\n"),
    "sleep of 1 s": ("passed", "import time\ntime.sleep(1)\nassert time is not None  # {n}\n"),
    "endless sleep": ("timeout_wall", "import time\ntime.sleep(3600 + {n})\nassert time is not None\n"),
    "threads": (
        "passed",
        "{spin_of_thread}from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool:\n    done = list(pool.map(spin, [{half} / 4] * 4))\n"
        "assert done == [True] * 4  # {n}\n",
    ),
    "threads that sleep": (
        "passed",
        "import threading, time\nthreads = [threading.Thread(target=time.sleep, args=(0.5,)) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n[thread.join() for thread in threads]\n"
        "assert not any(thread.is_alive() for thread in threads)  # {n}\n",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A program and the verdict that is right for it."""

    id: str
    code: str
    tests: str
    verdict: str


def build_corpus(copies: int, tasks: int) -> list[Truth]:
    """Return the copies of each pattern, the correct programs of tests/test_sandbox.py and tasks of the demo benchmark.

    Half of the tasks are answered by a function that is right, half by one that raises.
    """
    parts = {"spin": SPIN.replace("CLOCK", "process_time"), "spin_of_thread": SPIN.replace("CLOCK", "thread_time")}
    parts |= {"half": CPU_S / 2, "twice": 2 * CPU_S}
    corpus = []
    for name, (verdict, code) in PATTERNS.items():
        for n in range(copies):  # programs of the same text would be run once
            corpus.append(Truth(id=f"{name} {n}", code=code.format(n=n, **parts), tests="", verdict=verdict))
    corpus += [Truth(id=name, code=code, tests="", verdict="passed") for name, code in test_sandbox.CORRECT.items()]
    for number, row in enumerate(read_jsonl(ROOT / "resources" / "demo" / "benchmark.jsonl")):
        if number == tasks:
            break
        right = number % 2 == 0
        code = f"{row['canonical_solution']}\n" if right else "raise LookupError\n"
        verdict = "passed" if right else "exception"
        corpus.append(Truth(id=row["task_id"], code=code, tests=row["tests"], verdict=verdict))
    return corpus


# --- Load -----------------------------------------------------------------------------------------------------------

BUSY = """import os, time
parent = os.getppid()
while os.getppid() == parent:
    stop = time.monotonic() + 0.2
    while time.monotonic() < stop:
        sum(range(10_000))
"""


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep processes busy; they end with the block, and with this command should it be killed."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", BUSY]))
            stack.callback(process.kill)
        yield


def judge_in_sandbox(corpus: list[Truth], folder: Path, workers: int, core: str | None, repeat: int) -> dict[str, dict]:
    """Return the verdict rows of one run by id.

    Raises:
        ValueError: the run failed; holds what it said.
    """
    programs, verdicts = folder / "programs.jsonl", folder / f"verdicts_{repeat}.jsonl"
    write_jsonl(programs, ({"id": truth.id, "code": truth.code, "tests": truth.tests} for truth in corpus))
    place = folder / f"surroundings {repeat}"
    place.mkdir()
    command = [sys.executable, ROOT / "scripts" / "verify_programs.py", programs, verdicts, "--workers", str(workers)]
    command += ["--sandbox", json.dumps(SETTINGS), "--label", f"repeat {repeat}", *(["--core", core] if core else [])]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = kept | SURROUNDINGS[repeat % len(SURROUNDINGS)]
    done = subprocess.run(command, cwd=place, env=environment, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise ValueError(
            f"repeat {repeat}: verify_programs.py failed, see above; run check_sandbox.py, then this again"
        )
    return {row["id"]: row for row in read_jsonl(verdicts)}


def ends_in_time(truth: Truth) -> bool:
    """Run a program in a plain process with a limit of wall-clock time; tell whether it ended by then."""
    with tempfile.TemporaryDirectory(prefix="flakes-") as place:
        Path(place, "program.py").write_text(f"{truth.code}\n{truth.tests}")
        try:
            subprocess.run(
                [sys.executable, "-S", "program.py"],
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=CPU_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return True


# --- What came out --------------------------------------------------------------------------------------------------


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score (Wilson 1927), which holds for 0 hits as well."""
    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"a share needs at least one case and no more hits than cases: {hits} of {count}")
    share, square = hits / count, Z * Z
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    # At the ends the terms cancel, but for rounding.
    return (centre - half if hits else 0.0), (centre + half if hits < count else 1.0)


def count_share(hits: int, count: int) -> dict:
    """Describe a share with its interval."""
    return {"hits": hits, "count": count, "share": hits / count, "interval": wilson_interval(hits, count)}


def find_flakes(corpus: list[Truth], repeats: list[dict[str, dict]]) -> list[dict]:
    """Return the programs of which any verdict is not the right one."""
    flakes = []
    for truth in corpus:
        found = [rows[truth.id] for rows in repeats]
        if any(row["verdict"] != truth.verdict for row in found):
            verdicts = [{key: row[key] for key in ("verdict", "detail", "cpu_s", "wall_s")} for row in found]
            flakes.append({"program": truth.id, "right": truth.verdict, "verdicts": verdicts})
    return flakes


def describe(title: str, share: dict) -> str:
    """Return a share as a line."""
    low, high = (100 * value for value in share["interval"])
    return f"{title}: {share['hits']} of {share['count']}, {100 * share['share']:.2f} % ({low:.2f}-{high:.2f})"


def main() -> int:
    """Load the machine, judge, compare with a limit of wall-clock time, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oversubscription", type=int, default=5, help="busy processes for each core (default: 5)")
    parser.add_argument("--repeats", type=int, default=3, help="default: 3")
    parser.add_argument("--copies", type=int, default=8, help="programs of each pattern (default: 8)")
    parser.add_argument("--tasks", type=int, default=80, help="tasks of the demo benchmark (default: 80)")
    parser.add_argument("--core", choices=("c", "python"), help="default: c where it was built, else python")
    parser.add_argument("--output", type=Path, required=True, help="JSON file: shares with intervals, every flake")
    options = parser.parse_args()
    for name in ("oversubscription", "repeats", "copies"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be 1 or more, found {getattr(options, name)}")
    cores = len(os.sched_getaffinity(0))
    count = options.oversubscription * cores
    corpus = build_corpus(options.copies, options.tasks)
    # One that sleeps as long as the limit would be cut off on any machine.
    correct = [truth for truth in corpus if truth.verdict == "passed" and not truth.id.startswith("sleep")]

    repeats: list[dict[str, dict]] = []
    late: Counter = Counter()
    loads = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flakes-") as folder, busy_processes(count):
        for repeat in range(options.repeats):
            repeats.append(judge_in_sandbox(corpus, Path(folder), count, options.core, repeat))
            loads.append(os.getloadavg()[0])
            with ThreadPoolExecutor(count) as pool:
                for truth, in_time in zip(correct, pool.map(ends_in_time, correct), strict=True):
                    late[truth.id] += not in_time

    flakes = find_flakes(corpus, repeats)
    wrong = sum(rows[truth.id]["verdict"] != truth.verdict for truth in corpus for rows in repeats)
    result = {
        "cores": cores,
        "busy_processes": count,
        "workers": count,
        "load_average_1_min": loads,
        "core": sorted({row["core"] for rows in repeats for row in rows.values()}),
        "flakes": flakes,
        "flake_rate": count_share(len(flakes), len(corpus)),
        "wrong_verdicts": count_share(wrong, len(corpus) * options.repeats),
        "wall_limit_fails_correct_programs": count_share(sum(map(bool, late.values())), len(correct)),
        "wall_limit_fails_correct_runs": count_share(late.total(), len(correct) * options.repeats),
        "wall_limit_fails": {name: number for name, number in late.items() if number},
        "wall_s": round(time.monotonic() - start, 1),
    }
    write_json(options.output, result)
    for flake in flakes:
        print(f"flake: {flake['program']}: {flake['right']} is right, found {flake['verdicts']}")
    print(f"{cores} cores, {count} busy processes, {count} workers, load {max(loads):.1f}, core {result['core']}")
    print(describe("programs with a wrong or wavering verdict", result["flake_rate"]))
    print(describe("wrong verdicts", result["wrong_verdicts"]))
    print(describe("correct programs cut off by a limit of wall time", result["wall_limit_fails_correct_programs"]))
    return int(bool(flakes))


if __name__ == "__main__":
    run_command(main)
