"""Judge very many programs in one sandbox, and watch whether anything stays behind or a verdict is wrong.

Nineteen of twenty programs are correct ones (the tasks of the demo benchmark, the correct programs of
tests/test_sandbox.py, and HumanEval where the environment variable SELFALIGN_BENCHDATA names a folder that holds it),
one is hostile (those of tests/test_sandbox.py that end quickly). The verdict of each is known. Twenty times through the
run, between two programs, the processes are looked at. Exit code 1 says that something was left behind or a verdict
was wrong. Run it as root or as the user who owns the workers: others may not look at them.
"""

import argparse
import errno
import gzip
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import test_sandbox  # noqa: E402

from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import read_jsonl, write_json  # noqa: E402
from selfalign.sandbox import Program, Sandbox  # noqa: E402

HOSTILE_SHARE = 0.05
SAMPLES = 20
QUIET_S = 60.0  # how long to wait for the other workers' programs to end before a sample
GROWTH_MB = 16.0  # resident memory that the supervisor or the workers may gain from the first to the last sample
PIPES_PER_WORKER = 3  # descriptors of the supervisor: requests, verdicts, errors
# What has to be the same at every sample.
STEADY = (
    "processes_per_worker",
    "supervisor_mounts",
    "server_mounts",
    "supervisor_descriptors",
    "server_descriptors",
)
SLOW = {"memory bit by bit"}  # 0.3 CPU seconds, a hundred times the others
SEED = 3407
CORES = ("python", "c")  # in the order in which the table of tests/test_sandbox.py gives verdicts that differ
PASSED = dict.fromkeys(CORES, "passed")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A program and the verdict that is right for it, by the sandbox's core."""

    name: str
    code: str
    tests: str
    verdicts: dict[str, str]


def correct_programs() -> list[Truth]:
    """Return the programs that pass."""
    truths = [Truth(name=name, code=code, tests="", verdicts=PASSED) for name, code in test_sandbox.CORRECT.items()]
    for row in read_jsonl(ROOT / "resources" / "demo" / "benchmark.jsonl"):
        code, tests = row["canonical_solution"] + "\n", row["tests"]
        truths.append(Truth(name=row["task_id"], code=code, tests=tests, verdicts=PASSED))
    if benchdata := os.environ.get("SELFALIGN_BENCHDATA"):
        with gzip.open(Path(benchdata) / "humaneval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
            for row in map(json.loads, file):
                code, tests = row["prompt"] + row["canonical_solution"], f"{row['test']}\ncheck({row['entry_point']})\n"
                truths.append(Truth(name=row["task_id"], code=code, tests=tests, verdicts=PASSED))
    return truths


def hostile_programs() -> list[Truth]:
    """Return the hostile programs that do not run into a time limit."""
    truths = []
    for line, cases in test_sandbox.HOSTILE.items():
        for name, (expected, code) in cases.items():
            verdicts = dict(zip(CORES, (expected, expected) if isinstance(expected, str) else expected, strict=True))
            if name not in SLOW and not any(verdict.startswith("timeout") for verdict in verdicts.values()):
                truths.append(Truth(name=f"{line}: {name}", code=code, tests="", verdicts=verdicts))
    return truths


def draw_programs(count: int) -> Iterator[Truth]:
    """Yield programs in an order that is the same on every run."""
    generator = random.Random(SEED)
    correct, hostile = correct_programs(), hostile_programs()
    for _ in range(count):
        yield generator.choice(hostile if generator.random() < HOSTILE_SHARE else correct)


# --- What to look at ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process of this command.

    Attributes:
        depth: Pid namespaces between it and this command: 0 for ours, 1 for a worker's, 2 for a program's.
        descriptors: How many it has open; like `mounts`, None where this user may not look.
        mounts: How many there are in its mount namespace.
    """

    pid: int
    parent: int
    state: str
    depth: int
    rss_mb: float
    descriptors: int | None
    mounts: int | None


def look_at(pid: int, own_depth: int) -> Process:
    """Read what the kernel says of a process.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    try:
        descriptors = len(os.listdir(folder / "fd"))
        mounts = (folder / "mountinfo").read_bytes().count(b"\n")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL):  # not ours to see, or a zombie
            raise
        descriptors = mounts = None
    return Process(
        pid=pid,
        parent=int(status["PPid"]),
        state=status["State"].split()[0],
        depth=len(status["NSpid"].split()) - own_depth,
        rss_mb=int(status.get("VmRSS", "0").split()[0]) / 1024,
        descriptors=descriptors,
        mounts=mounts,
    )


def list_processes() -> list[Process]:
    """Return this process and all that it has started, ended ones that nobody has waited for included."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    tree = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= new
    own_depth = len(Path("/proc/self/status").read_text().split("NSpid:")[1].split("\n")[0].split())
    found = []
    for pid in sorted(tree):
        try:
            found.append(look_at(pid, own_depth))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_until_quiet() -> list[Process]:
    """Return the processes as soon as no worker has a program.

    Raises:
        ValueError: a program runs on and on.
    """
    deadline = time.monotonic() + QUIET_S
    while True:
        before = list_processes()
        if all(process.depth < 2 for process in before):
            time.sleep(0.05)  # for a server to close what it held for its last program
            processes = list_processes()
            if [process.pid for process in processes] == [process.pid for process in before]:
                return processes
        if time.monotonic() > deadline:
            raise ValueError(f"a program was still there after {QUIET_S:.0f} s, which no limit allows")
        time.sleep(0.01)


def take_sample(done: int, scratch: Path) -> dict:
    """Describe the processes between two programs, when none of them may be a program's."""
    processes = wait_until_quiet()
    own = next(process for process in processes if process.pid == os.getpid())
    workers = sum(process.parent == own.pid and process.state != "Z" for process in processes)
    servers = [process for process in processes if process.depth == 1]
    return {
        "programs": done,
        "workers": workers,  # one that has done its share is gone until there is a program for its successor
        "processes": len(processes),
        "processes_per_worker": (len(processes) - 1) / workers if workers else None,
        "zombies": sum(process.state == "Z" for process in processes),
        "supervisor_rss_mb": round(own.rss_mb, 1),
        "server_rss_mb": round(max((process.rss_mb for process in servers), default=0.0), 1),
        "supervisor_mounts": own.mounts,
        "server_mounts": max((process.mounts for process in servers if process.mounts), default=None),
        "supervisor_descriptors": own.descriptors - PIPES_PER_WORKER * workers,
        "server_descriptors": max((process.descriptors for process in servers if process.descriptors), default=None),
        "temporary_files": len(os.listdir(scratch)),
        "system_temporary_files": len(os.listdir("/tmp")),
    }


def find_leaks(samples: list[dict], end: dict) -> list[str]:
    """Return what stayed behind, as sentences; nothing is allowed to.

    Args:
        samples: From the first (workers are up, a twentieth of the programs is done) to the last.
        end: Taken when the sandbox has ended.
    """
    found = []
    for key in STEADY:
        values = [sample[key] for sample in samples if sample[key] is not None]
        if len(set(values)) > 1:
            found.append(f"{key} did not stay the same: {values}")
    for key in ("zombies", "temporary_files"):
        if any(sample[key] for sample in (*samples, end)):
            found.append(f"{key}: {[sample[key] for sample in (*samples, end)]}")
    for key in ("supervisor_rss_mb", "server_rss_mb"):
        if samples[-1][key] - samples[0][key] > GROWTH_MB:
            found.append(f"{key} grew from {samples[0][key]} to {samples[-1][key]}")
    if end["processes"] != 1:
        found.append(f"{end['processes'] - 1} processes live on after the sandbox has ended")
    return found


def main() -> int:
    """Run, print a line for each sample and a summary, write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--workers", type=int, default=2, help="default: 2")
    parser.add_argument("--core", choices=("c", "python"), help="default: the C core where it was built")
    parser.add_argument("--output", type=Path, required=True, help="JSON file: samples, summary, wrong verdicts")
    options = parser.parse_args()
    if options.programs < SAMPLES:
        raise ValueError(f"--programs must be at least {SAMPLES}, found {options.programs}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        # Where the sandbox puts its files; the system's own folder is other programs' as well.
        scratch = Path(folder)
        tempfile.tempdir = folder
        try:
            return soak(options, scratch)
        finally:
            tempfile.tempdir = None


def soak(options: argparse.Namespace, scratch: Path) -> int:
    """Run with a scratch folder; return the exit code."""
    start = time.monotonic()
    sandbox = Sandbox(test_sandbox.SETTINGS, options.workers, options.core)
    truths: dict[str, Truth] = {}  # of the programs that are on their way
    samples: list[dict] = []
    wrong: list[dict] = []
    given = 0

    def programs() -> Iterator[Program]:
        nonlocal given
        for number, truth in enumerate(draw_programs(options.programs)):
            if number and number % (options.programs // SAMPLES) == 0 and len(samples) < SAMPLES - 1:
                samples.append(take_sample(number, scratch))
                say(samples[-1], options.programs, time.monotonic() - start)
            truths[str(number)] = truth
            given += 1
            yield Program(id=str(number), code=truth.code, tests=truth.tests)
        samples.append(take_sample(options.programs, scratch))
        say(samples[-1], options.programs, time.monotonic() - start)

    done, cpu_s, cores = 0, 0.0, set()
    for verdict in sandbox.run(programs()):
        truth = truths.pop(verdict.id)
        done, cpu_s = done + 1, cpu_s + verdict.cpu_s
        cores.add(verdict.core)
        if verdict.verdict != (right := truth.verdicts[verdict.core]):
            row = {"program": truth.name, "right": right, "verdict": verdict.verdict, "detail": verdict.detail}
            wrong.append(row | {"number": int(verdict.id), "cpu_s": verdict.cpu_s, "wall_s": verdict.wall_s})
            print(f"wrong verdict: {wrong[-1]}", flush=True)
    end = take_sample(done, scratch)
    leaks = find_leaks(samples, end)
    if done != given or truths:
        leaks.append(f"{given - done} programs have no verdict")
    summary = {
        key: {"first": samples[0][key], "last": samples[-1][key], "max": max(sample[key] or 0 for sample in samples)}
        for key in samples[0]
        if key != "programs"
    }
    result = {
        "programs": done,
        "workers": options.workers,
        "cores": sorted(cores),
        "wrong_verdicts": wrong,
        "left_behind": leaks,
        "summary": summary,
        "samples": samples,
        "end": end,
        "programs_cpu_s": round(cpu_s, 1),
        "wall_s": round(time.monotonic() - start, 1),
    }
    write_json(options.output, result)
    for key, values in summary.items():
        print(f"{key}: first {values['first']}, last {values['last']}, max {values['max']}")
    print(
        f"{done:,} programs, core {' and '.join(sorted(cores))}, {len(wrong)} wrong verdicts, left behind: "
        f"{'; '.join(leaks) or 'nothing'}"
    )
    return int(bool(wrong or leaks))


def say(sample: dict, total: int, seconds: float) -> None:
    """Print a sample as one line."""
    print(
        f"{sample['programs']:,}/{total:,} in {seconds:.0f} s: supervisor {sample['supervisor_rss_mb']} MB, largest "
        f"server {sample['server_rss_mb']} MB, {sample['processes']} processes, {sample['zombies']} zombies, "
        f"{sample['server_mounts']} mounts, {sample['supervisor_descriptors']} + {sample['server_descriptors']} "
        f"descriptors, {sample['temporary_files']} temporary files",
        flush=True,
    )


if __name__ == "__main__":
    run_command(main)
