"""Measure what a verdict costs: CPU time per program of this sandbox, of its peers and of a bare fork.

All methods run in turns, in an order that moves on by one from round to round, each in a process of its own, on the
same programs. User and system time of that process and of all that it starts are counted from the moment when it takes
the first program that is no warm-up to its last verdict: interpreter, imports, workers and their preload are not. What
the kernel does in threads of its own, such as taking namespaces down, counts for nobody. Wall times are recorded, too,
but on a machine with other work they say little.
"""

import argparse
import contextlib
import ctypes
import datetime
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import peers  # noqa: E402
from measuring import describe_machine, spread  # noqa: E402

from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import write_json  # noqa: E402
from selfalign.records.progress import Progress  # noqa: E402
from selfalign.sandbox import Program, Sandbox, SandboxSettings  # noqa: E402

LONG_S = 0.2  # of CPU time: programs above it measure themselves, not the sandbox
WARMUPS = 3  # programs for each worker
METHOD_LIMIT_S = 1800.0  # wall seconds after which a method counts as broken
PR_SET_CHILD_SUBREAPER = 36

OURS = ("c", "python")
# Ours, a peer, and how many times our CPU time the peer's has to be at least.
TARGETS = (
    ("python", "evalplus", 1.3),
    ("python", "original", 2.5),
    ("python", "fork", 0.45),
    ("c", "evalplus", 2.0),
    ("c", "original", 4.0),
    ("c", "bwrap", 4.0),
    ("c", "fork", 0.65),
)

NUMPY_PROGRAM = """import numpy as np


def total(n):
    return int(np.arange(n).sum())


def norm(values):
    return float(np.sqrt((np.asarray(values, dtype=float) ** 2).sum()))


assert total({n}) == {n} * ({n} - 1) // 2
assert abs(norm([3.0 * {n}, 4.0 * {n}]) - 5.0 * {n}) < 1e-9
"""


# --- Clocks -----------------------------------------------------------------------------------------------------


class CgroupClock:
    """CPU time of a process and all that it ever starts, from a control group of their own.

    Raises:
        OSError: there is no version 2 hierarchy in which this user may make groups.
    """

    name = "control group (version 2, cpu.stat)"

    def __init__(self):
        with open("/proc/self/mounts") as file:
            mounts = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
        if not mounts:
            raise FileNotFoundError("no cgroup2 is mounted")
        with open("/proc/self/cgroup") as file:
            own = next(line.strip().split(":", 2)[2] for line in file if line.startswith("0::"))
        self.folder = Path(f"{mounts[0]}{own}", f"bench-{os.getpid()}-{time.monotonic_ns()}")
        self.folder.mkdir()

    def add(self, pid: int) -> None:
        """Count a process from now on."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def read(self) -> float:
        """Return CPU seconds so far."""
        words = (self.folder / "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6

    def close(self) -> None:
        """End what is left of the group and remove it."""
        (self.folder / "cgroup.kill").write_text("1")
        while (self.folder / "cgroup.procs").read_text():
            time.sleep(0.01)
        self.folder.rmdir()


class TreeClock:
    """CPU time of a process and all that it ever starts, from what parents are told of their children, and from /proc.

    What leaves its parent behind becomes a child of this process and is waited for here: bubblewrap, for one, ends
    before its own child does. A reading is exact to the kernel's clock tick (10 ms) for each process that lives.
    """

    name = "process tree (getrusage and /proc)"

    def __init__(self):
        self._adopt(True)
        self.tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self.root = 0

    def add(self, pid: int) -> None:
        """Count a process, a child of this one, from now on."""
        self.root = pid

    def read(self) -> float:
        """Return CPU seconds so far."""
        self._wait_for_orphans()
        children: dict[int, list[int]] = {}
        ticks: dict[int, int] = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()  # a process's name may hold anything
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile, and its parent counts it
            children.setdefault(int(fields[1]), []).append(int(name))
            ticks[int(name)] = sum(map(int, fields[11:15]))  # user, system, and both of children waited for
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds, waiting = usage.ru_utime + usage.ru_stime, list(children.get(os.getpid(), ()))
        while waiting:
            pid = waiting.pop()
            seconds += ticks[pid] * self.tick_s
            waiting += children.get(pid, ())
        return seconds

    def close(self) -> None:
        """Leave no dead orphans, and adopt no more."""
        self._wait_for_orphans()
        self._adopt(False)

    def _adopt(self, wanted: bool) -> None:
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")

    def _wait_for_orphans(self) -> None:
        """Wait for dead orphans, because this process is then told of their time to the microsecond."""
        with contextlib.suppress(ChildProcessError):  # there is no child at all
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid != self.root:
                os.waitpid(found.si_pid, 0)


CLOCKS = {"cgroup": CgroupClock, "tree": TreeClock}


def open_clock(name: str | None = None) -> CgroupClock | TreeClock:
    """Open the named clock, or the best that this user may have."""
    if name is not None:
        return CLOCKS[name]()
    try:
        return CgroupClock()
    except OSError:
        return TreeClock()


# --- Programs ---------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> Iterator[dict]:
    """Yield the rows of a benchmark's own file.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        wanted = "/".join(path.parts[-2:])
        raise ValueError(f"{path}: no such file; let SELFALIGN_BENCHDATA name a folder that has {wanted}")
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        yield from (json.loads(line) for line in file)


def read_programs(benchdata: str | None) -> tuple[str, list[dict]]:
    """Return what the programs are, and the reference solutions with their tests."""
    if benchdata is None:
        rows = read_rows(ROOT / "resources/demo/benchmark.jsonl")
        return "demo benchmark", [
            {"id": row["task_id"], "code": row["canonical_solution"], "tests": row["tests"]} for row in rows
        ]
    programs = [
        {
            "id": row["task_id"],
            "code": row["prompt"] + row["canonical_solution"],
            "tests": f"{row['test']}\ncheck({row['entry_point']})\n",
        }
        for row in read_rows(Path(benchdata, "humaneval/HumanEval.jsonl.gz"))
    ]
    programs += [
        {
            "id": f"Mbpp/{row['task_id']}",
            "code": row["code"].replace("\r\n", "\n"),
            "tests": "\n".join((row["test_setup_code"], *row["test_list"])),
        }
        for row in read_rows(Path(benchdata, "mbpp/mbpp.jsonl.gz"))
    ]
    return "HumanEval and MBPP", programs


def choose(programs: list[dict], count: int) -> tuple[list[dict], dict[str, int]]:
    """Take `count` programs, evenly spread, of those that pass and are short; return them and why others were left.

    Programs that a method fails early would make it look fast, and long ones hide what it adds.
    """
    spread = [programs[index * len(programs) // count] for index in range(min(count, len(programs)))]
    left: Counter[str] = Counter()
    fit = set()
    sandbox = Sandbox(SandboxSettings(), workers=len(os.sched_getaffinity(0)))
    for verdict in sandbox.run(Program(**program) for program in spread):
        if verdict.verdict != "passed":
            left[verdict.verdict] += 1
        elif verdict.cpu_s > LONG_S:
            left[f"over {LONG_S} s"] += 1
        else:
            fit.add(verdict.id)
    return [program for program in spread if program["id"] in fit], dict(left)


def keep_accepted(programs: list[dict], methods: list[str], peers_python: str) -> tuple[list[dict], dict[str, int]]:
    """Leave out programs that a method rejects, so that all do the same work; return the others and how many each did.

    A method that cannot run here rejects none.
    """
    rejected: dict[str, set[str]] = {}
    for method in methods:
        with contextlib.suppress(peers.PeerFailed):  # said when it is measured
            verdicts = peers.judge(method, programs, peers_python=peers_python, limit_s=METHOD_LIMIT_S)
            rejected[method] = {name for name, verdict, _ in verdicts if verdict not in peers.ACCEPTED}
    out = set().union(*rejected.values())
    counts = {f"rejected by {peers.METHODS[name].title}": len(names) for name, names in rejected.items() if names}
    return [program for program in programs if program["id"] not in out], counts


# --- Measurements -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Section:
    """One comparison: contestants, each a method and its number of workers, on the same programs."""

    name: str
    contestants: list[tuple[str, int]]
    programs: list[dict]
    settings: dict = field(default_factory=dict)


def label(method: str, workers: int) -> str:
    """Name a contestant."""
    return method if workers == 1 else f"{method} x{workers}"


def measure(method: str, workers: int, section: Section, options: argparse.Namespace) -> dict:
    """Run a method once.

    Returns:
        CPU milliseconds per program, programs per second of wall time, and how many programs it accepts.

    Raises:
        PeerFailed: it cannot run here.
    """
    clock = open_clock(options.clock)
    readings = []
    first = section.programs[0]
    try:
        verdicts = peers.judge(
            method,
            section.programs,
            workers=workers,
            warmups=[first | {"id": f"warm-up {number}"} for number in range(WARMUPS * workers)],
            peers_python=options.peers_python,
            limit_s=METHOD_LIMIT_S,
            env=os.environ | {"BENCH_SANDBOX": json.dumps(section.settings)},
            started=clock.add,
            mark=lambda moment: readings.append((clock.read(), time.monotonic())),
        )
    finally:
        clock.close()
    (cpu_before, wall_before), (cpu_after, wall_after) = readings
    count = len(section.programs)
    return {
        "cpu_ms": round((cpu_after - cpu_before) * 1000 / count, 3),
        "per_s": round(count / (wall_after - wall_before), 1),
        "accepted": sum(verdict in peers.ACCEPTED for _, verdict, _ in verdicts),
    }


def run_section(section: Section, options: argparse.Namespace) -> dict:
    """Run all contestants of a section in turns."""
    unavailable: dict[str, str] = {}
    rounds: list[dict[str, dict]] = []
    before = os.getloadavg()[0]
    progress = Progress(section.name, options.rounds * len(section.contestants), unit="runs")
    for number in range(options.rounds):
        start = number % len(section.contestants)
        found = {}
        for method, workers in section.contestants[start:] + section.contestants[:start]:
            name = label(method, workers)
            if name not in unavailable:
                try:
                    found[name] = measure(method, workers, section, options)
                except peers.PeerFailed as error:
                    if number > 0:
                        raise
                    unavailable[name] = str(error)
            progress.add()
        rounds.append(found)
    return {
        "programs": len(section.programs),
        "load_average": [round(before, 2), round(os.getloadavg()[0], 2)],
        "unavailable": unavailable,
        "rounds": rounds,
        "summary": summarize(rounds),
        "ratios": find_ratios(rounds),
        "scaling": find_scaling(rounds),
    }


def summarize(rounds: list[dict[str, dict]]) -> dict[str, dict]:
    """Return each contestant's figures over all rounds."""
    return {
        name: {key: spread([found[name][key] for found in rounds]) for key in ("cpu_ms", "per_s", "accepted")}
        for name in sorted(rounds[0])
    }


def find_ratios(rounds: list[dict[str, dict]]) -> dict[str, dict[str, dict]]:
    """Return, for each of ours, how many times its CPU time the others need, compared within each round."""
    return {
        own: {
            other: spread([round(found[other]["cpu_ms"] / found[own]["cpu_ms"], 3) for found in rounds])
            for other in sorted(rounds[0])
            if other != own
        }
        for own in OURS
        if own in rounds[0]
    }


def find_scaling(rounds: list[dict[str, dict]]) -> dict[str, dict]:
    """Return how many times the programs per second of one worker several workers of a method judge, by round."""
    return {
        name: spread([round(found[name]["per_s"] / found[name.split(" ")[0]]["per_s"], 3) for found in rounds])
        for name in sorted(rounds[0])
        if " x" in name
    }


def check_targets(ratios: dict[str, dict[str, dict]]) -> list[dict]:
    """Say of each target whether the median ratio meets it; None where one of the two was not measured."""
    rows = []
    for own, other, least in TARGETS:
        found = ratios.get(own, {}).get(other)
        ratio = found["median"] if found else None
        rows.append({"ours": own, "peer": other, "at_least": least, "found": ratio, "met": found and ratio >= least})
    return rows


def describe_sandbox() -> dict:
    """Describe what the figures depend on: the machine, and who runs which bubblewrap."""
    bwrap = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True)
    user = "root" if os.geteuid() == 0 else "ordinary user"
    return describe_machine() | {"bwrap": bwrap.stdout.split()[-1], "user": user}


def check_peers_python(path: str) -> None:
    """Refuse to compare interpreters of different versions.

    Raises:
        ValueError: the peers' environment has another Python.
    """
    if not Path(path).exists():
        return  # said of each method that needs it
    found = subprocess.run([path, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True)
    if found.stdout.strip() != sys.version:
        raise ValueError(
            f"{path} is Python {found.stdout.split()[0]}, this is {platform.python_version()}: make the peers' "
            "environment with the same interpreter (see bench/README.md)"
        )


# --- Output -----------------------------------------------------------------------------------------------------


def title(contestant: str) -> str:
    """Return what tables call a contestant."""
    method, _, workers = contestant.partition(" ")
    return f"{peers.METHODS[method].title} {workers}".strip()


def draw(section: str, results: dict) -> str:
    """Return a section's table in Markdown."""
    owns = list(results["ratios"])
    lines = [
        f"{section}: {results['programs']} programs, {len(results['rounds'])} rounds, load average "
        f"{results['load_average'][0]} before, {results['load_average'][1]} after",
        "",
        "| method | CPU ms per program | programs/s (wall) | accepted |"
        + "".join(f" times {title(own)} |" for own in owns),
        "|---|---|---|---|" + "---|" * len(owns),
    ]

    def cell(value: dict, form: str) -> str:
        low, middle, high = (format(value[key], form) for key in ("min", "median", "max"))
        return middle if low == high else f"{middle} ({low}–{high})"

    for name, row in sorted(results["summary"].items(), key=lambda item: item[1]["cpu_ms"]["median"]):
        cells = [title(name), cell(row["cpu_ms"], ".2f"), cell(row["per_s"], ".0f"), cell(row["accepted"], ".0f")]
        cells += [cell(results["ratios"][own][name], ".2f") if own != name else "1" for own in owns]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        f"\n{title(name)}: {cell(row, '.2f')} times the programs/s of one" for name, row in results["scaling"].items()
    ]
    lines += [f"\nNot measured: {name}: {reason}" for name, reason in results["unavailable"].items()]
    return "\n".join(lines)


def main() -> None:
    """Measure all sections and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="JSON file for every round's figures")
    parser.add_argument("--rounds", type=int, default=5, help="how often each method runs (default 5)")
    parser.add_argument("--programs", type=int, default=300, help="programs of each run (default 300)")
    parser.add_argument("--methods", nargs="+", choices=peers.METHODS, help="only these, and no other section")
    parser.add_argument("--peers-python", default=".venv-bench/bin/python", help="interpreter with bench/peers.lock")
    parser.add_argument("--clock", choices=CLOCKS, help="where CPU time is read (default: the best that works)")
    options = parser.parse_args()
    if options.rounds < 1 or options.programs < 1:
        raise ValueError("--rounds and --programs must be at least 1")
    check_peers_python(options.peers_python)
    clock = open_clock(options.clock)
    clock.close()
    kind, all_programs = read_programs(os.environ.get("SELFALIGN_BENCHDATA"))
    programs, left = choose(all_programs, options.programs)
    methods = options.methods or [name for name in peers.METHODS if name != "process-packages"]
    programs, rejected = keep_accepted(programs, methods, options.peers_python)
    left |= rejected
    if not programs:
        raise ValueError(f"{kind}: no program passes in the sandbox ({left}); run scripts/check_sandbox.py")
    if options.methods:
        sections = [Section(name="programs", contestants=[(name, 1) for name in methods], programs=programs)]
    else:
        sizes = range(2, 2 + min(options.programs, 40))
        numpy = [{"id": str(n), "code": NUMPY_PROGRAM.format(n=n), "tests": ""} for n in sizes]
        sections = [
            Section(name="programs", contestants=[(name, 1) for name in methods], programs=programs),
            Section(
                name="numpy",
                contestants=[(name, 1) for name in (*OURS, "process-packages")],
                programs=numpy,
                settings={"packages": ["numpy"]},
            ),
            Section(name="workers", contestants=[(name, n) for name in OURS for n in (1, 2)], programs=programs),
        ]
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_sandbox(),
        "clock": clock.name,
        "source": kind,
        "left_out": left,
        "sections": {section.name: run_section(section, options) for section in sections},
    }
    results["targets"] = check_targets(results["sections"]["programs"]["ratios"])
    write_json(options.output, results)
    print(f"{json.dumps(results['machine'])}\nclock: {clock.name}; {kind}, left out: {left or 'none'}\n")
    for name, section in results["sections"].items():
        print(draw(name, section), end="\n\n")
    for row in results["targets"]:
        verdict = {None: "not measured", True: "met", False: "missed"}[row["met"]]
        print(f"target: {row['peer']} / {row['ours']} >= {row['at_least']}: {row['found']} ({verdict})")


if __name__ == "__main__":
    run_command(main)
