"""Break runs of the whole workflow in every way that a machine can, and see that they end with the same artifacts.

First an unbroken run of a config (the tests' small one); then, each in a folder of its own:

kills         kill -9 of Snakemake and all its jobs at random moments, and the same command again, to its end; further
              runs until there were --kills of them
full disk     a file system that is too small, grown each time the run has failed
read-only     a file system that turns read-only in the middle, and is writable again
two at once   the same command a second time while the first is at work
damage        one bit of one artifact of each stage, after the run has ended
clock         the first half with a clock that is a day ahead, or behind, the rest with the right one
slow disk     a file system that reads and writes some hundred kB a second

After each the artifacts are compared with those of the unbroken run by their digests, without recorded times; a further
run must have nothing to do. Exit code 1 says that something differed. Needs root (to mount), bindfs and faketime.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import ROOT, describe_machine

sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from conftest import SMALL, checkout, workflow_command  # noqa: E402

from selfalign.archiving.files import compare_entries, folder_entries  # noqa: E402
from selfalign.records.commands import run_command  # noqa: E402
from selfalign.records.files import write_json  # noqa: E402

LONGEST_S = 25.0  # until a kill
KB_PER_S = 300  # of the slow disk
FREE_MB = (0.2, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)  # of the full disk
DAMAGED = (
    "benchmarks/demo.jsonl",
    "corpora/packages/functions/00000.parquet",
    "corpora/packages/filtered/00001.parquet",
    "corpora/packages/seeds.parquet",
    "generations/self/concepts/00000.jsonl",
    "generations/self/instructions/00001.jsonl",
    "generations/self/responses/00000.jsonl",
    "generations/self/verdicts/00001.jsonl",
    "datasets/verified/pairs.jsonl",
    "models/aligned/model.safetensors",
    "scores/base/demo/completions.jsonl",
    "scores/control/demo/verdicts.jsonl",
    "scores/aligned/demo/scores.json",
)


class Campaign:
    """Runs of one config, each in a folder of its own, and the entries of the unbroken one."""

    def __init__(self, root: Path, config: str):
        self.root, self.config = root, config
        self.expected: dict[str, dict] = {}

    def folder(self, name: str) -> Path:
        """Return a new folder with what a run needs."""
        return checkout(self.root / name)

    def start(self, folder: Path, *before: str) -> subprocess.Popen:
        """Start the run of a folder, in a process group of its own; what it prints is in screen.txt."""
        with open(folder / "screen.txt", "ab") as screen:
            command = [*before, *workflow_command(config=self.config)]
            return subprocess.Popen(command, cwd=folder, stdout=screen, stderr=screen, start_new_session=True)

    def finish(self, folder: Path, *before: str) -> int:
        """Run to the end; return the exit code."""
        return self.start(folder, *before).wait()

    def errors(self, folder: Path) -> list[str]:
        """Return the errors on the screen so far, each once."""
        text = (folder / "screen.txt").read_text(errors="replace")
        found = [line[:160] for line in text.splitlines() if line.startswith("error: ")]
        tracebacks = ["a traceback"] * ("Traceback (most recent call last)" in text)
        return list(dict.fromkeys(found)) + tracebacks

    def outcome(self, folder: Path) -> dict:
        """Compare a finished run with the unbroken one; say whether a further one has nothing to do."""
        before = (folder / "screen.txt").stat().st_size
        code = self.finish(folder)
        screen = (folder / "screen.txt").read_bytes()[before:]
        if not (folder / "results/run_config.yaml").exists():
            raise ValueError(f"{folder}: the run did not end: {screen[-2000:].decode(errors='replace')}")
        idle = code == 0 and b"Nothing to be done" in screen
        found = compare_entries(self.expected, folder_entries(folder / "results", self.expected.values()))
        return {
            "same": found.same,
            "compared": len(found.identical) + len(found.recorded),
            "different": [*found.different, *found.missing],
            "nothing_to_do": idle,
        }


def at_work(group: int) -> str:
    """Return the name of the command that a run's process group is at, or what stands for none."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.getpgid(int(entry.name)) == group:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if match := re.search(r"scripts/(\w+)\.py\0", command):
                    return match[1]
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return "between jobs"


def kill_at_random(campaign: Campaign, kills: int, seed: int) -> dict:
    """Kill runs at random moments until there were enough kills; compare each that has ended."""
    generator, killed, outcomes = random.Random(seed), Counter(), []
    while sum(killed.values()) < kills:
        folder = campaign.folder(f"kills-{len(outcomes)}")
        ended = False
        while not ended:
            process = campaign.start(folder)
            wait = generator.uniform(0.5, LONGEST_S) if sum(killed.values()) < kills else None
            try:
                code = process.wait(wait)
            except subprocess.TimeoutExpired:
                killed[at_work(process.pid)] += 1
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                continue
            if code:
                raise ValueError(f"{folder}: a run failed: {campaign.errors(folder)}")
            ended = True
        outcomes.append(campaign.outcome(folder) | {"errors": campaign.errors(folder)})
        shutil.rmtree(folder)
    return {
        "kills": sum(killed.values()),
        "runs": len(outcomes),
        "at": dict(killed.most_common()),
        "same": all(one["same"] for one in outcomes),
        "compared": min(one["compared"] for one in outcomes),
        "different": sorted({path for one in outcomes for path in one["different"]}),
        "nothing_to_do": all(one["nothing_to_do"] for one in outcomes),
        "errors": sorted({error for one in outcomes for error in one["errors"]}),
    }


@contextmanager
def mounted(folder: Path, *command: str) -> Iterator[None]:
    """Mount something at a folder for a while."""
    subprocess.run([*command, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_the_disk(campaign: Campaign) -> dict:
    """Let a run meet a full disk, give it more, and so on."""
    folder = campaign.root / "full"
    folder.mkdir()
    with mounted(folder, "mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs"):
        checkout(folder)
        used = shutil.disk_usage(folder).used
        failures = 0
        for free in FREE_MB:
            size = used + int(free * 1e6)
            subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
            try:
                code = campaign.finish(folder)
            except OSError:  # not even the screen can be written
                code = 1
            failures += code != 0
            if code == 0:
                break
        return {"failures": failures, "errors": campaign.errors(folder)} | campaign.outcome(folder)


def _stop_in_the_middle(campaign: Campaign, folder: Path, *before: str) -> bool:
    """Run, and kill the run when the responses are being made; return whether it failed before."""
    process = campaign.start(folder, *before)
    while process.poll() is None:
        if at_work(process.pid) == "generate_responses":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
        if "Complete log(s)" in (folder / "screen.txt").read_text():  # libfaketime may keep what has failed from ending
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.1)
    return True


def turn_read_only(campaign: Campaign) -> dict:
    """Run on a file system that cannot be written, in the middle."""
    folder = campaign.folder("read-only")
    _stop_in_the_middle(campaign, folder)
    screen = folder / "screen.txt"
    with mounted(folder, "mount", "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        command = workflow_command(config=campaign.config)
        failed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    with open(screen, "a") as file:
        file.write(failed.stdout + failed.stderr)
    errors = campaign.errors(folder)
    code = campaign.finish(folder)
    return {"failures": int(failed.returncode != 0) + int(code != 0), "errors": errors} | campaign.outcome(folder)


def run_two_at_once(campaign: Campaign) -> dict:
    """Start the same command while a run is at work."""
    folder = campaign.folder("two")
    process = campaign.start(folder)
    while at_work(process.pid) != "generate_concepts":
        time.sleep(0.1)
    second = campaign.finish(folder)
    errors = campaign.errors(folder)
    code = process.wait()
    return {"failures": int(second != 0) + int(code != 0), "errors": errors} | campaign.outcome(folder)


def damage(campaign: Campaign) -> dict:
    """Change one bit of an artifact of each stage of a finished run."""
    folder = campaign.folder("damage")
    if campaign.finish(folder):
        raise ValueError(f"{folder}: the run failed: {campaign.errors(folder)}")
    failures = 0
    for name in DAMAGED:
        path = folder / "results" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    while campaign.finish(folder) and failures < len(DAMAGED):
        failures += 1
    return {"failures": failures, "errors": campaign.errors(folder)} | campaign.outcome(folder)


def skew_the_clock(campaign: Campaign, days: int) -> dict:
    """Run the first half with a wrong clock."""
    folder = campaign.folder(f"clock{days}")
    failures = int(_stop_in_the_middle(campaign, folder, "faketime", "-f", f"{days:+}d"))
    failures += campaign.finish(folder) != 0
    return {"failures": failures, "errors": campaign.errors(folder)} | campaign.outcome(folder)


def slow_the_disk(campaign: Campaign) -> dict:
    """Run with results on a slow file system."""
    folder = campaign.folder("slow")
    behind, results = campaign.root / "behind", folder / "results"
    behind.mkdir()
    results.mkdir()
    options = [f"--read-rate={KB_PER_S}k", f"--write-rate={KB_PER_S}k", str(behind)]
    with mounted(results, "bindfs", *options):
        code = campaign.finish(folder)
        return {"failures": int(code != 0), "errors": campaign.errors(folder)} | campaign.outcome(folder)


def main() -> None:
    """Run the campaign and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills in all (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills (default 1)")
    parser.add_argument("--faults", nargs="+", default=[], help="only these of the list above, dashes for spaces")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where runs are made")
    parser.add_argument("--output", type=Path, help="JSON to write (default: only shown)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="faults-") as name:
        campaign = Campaign(Path(name), SMALL)
        faults: dict[str, Callable[[], dict]] = {
            "kills": lambda: kill_at_random(campaign, options.kills, options.seed),
            "full-disk": lambda: fill_the_disk(campaign),
            "read-only": lambda: turn_read_only(campaign),
            "two-at-once": lambda: run_two_at_once(campaign),
            "damage": lambda: damage(campaign),
            "clock-ahead": lambda: skew_the_clock(campaign, 1),
            "clock-behind": lambda: skew_the_clock(campaign, -1),
            "slow-disk": lambda: slow_the_disk(campaign),
        }
        if unknown := set(options.faults) - faults.keys():
            raise ValueError(f"unknown faults {', '.join(sorted(unknown))}; known are {', '.join(faults)}")
        start = time.monotonic()
        unbroken = campaign.folder("unbroken")
        if campaign.finish(unbroken):
            raise ValueError(f"the unbroken run failed: {campaign.errors(unbroken)}")
        results = {"machine": describe_machine(), "unbroken_s": round(time.monotonic() - start, 1), "faults": {}}
        campaign.expected = folder_entries(unbroken / "results")
        print("| fault | s | kills or failed runs | files as unbroken | else | next run |\n|---|---|---|---|---|---|")
        print(f"| none | {results['unbroken_s']} | 0 | {len(campaign.expected)} | – | – |", flush=True)
        for fault, run in faults.items():
            if options.faults and fault not in options.faults:
                continue
            start = time.monotonic()
            row = run()
            row["wall_s"] = round(time.monotonic() - start, 1)
            results["faults"][fault] = row
            shown = "nothing to do" if row["nothing_to_do"] else "**has jobs**"
            broken = row.get("kills", row.get("failures"))
            differing = ", ".join(row["different"]) or "–"
            print(f"| {fault} | {row['wall_s']} | {broken} | {row['compared']} | {differing} | {shown} |", flush=True)
            for error in row["errors"]:
                print(f"  {fault}: {error}", file=sys.stderr, flush=True)
            if options.output:
                write_json(options.output, results)
    if not all(row["same"] and row["nothing_to_do"] for row in results["faults"].values()):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
