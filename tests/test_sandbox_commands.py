"""The sandbox's commands: verdict files, resume after a kill, the doctor and what it says where something lacks."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from selfalign.sandbox.build import core_file
from selfalign.sandbox.host import explain
from selfalign.sandbox.settings import SOURCE_LIMIT

SCRIPTS = Path(__file__).parent.parent / "scripts"
TIMES = ("cpu_s", "wall_s", "max_rss_mb")
CORE = "c" if core_file() else "python"


def run(script: str, *options: object, **settings) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPTS / script, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **settings)


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steady(path: Path) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in read_rows(path)]


def response(name: str, response: str, tests: str, drop: str | None = None) -> dict:
    row = {"id": name, "parent": "p", "shots": [], "seed": 1, "finish_reason": "stop", "text": "", "drop": drop}
    return row | {"response": response, "tests": tests}


RESPONSES = [
    response(
        "good",
        "Install nothing:\n\n```bash\npip install numpy\n```\n\n```python\ndef f(x):\n    return 2 * x\n```\nDone.",
        "```python\nassert f(2) == 4\n```",
    ),
    response("dropped", "nothing", "", "no tests section"),
    response("wrong", "```python\ndef f(x):\n    return x\n```", "```python\nassert f(2) == 4, 'twice'\n```"),
    response("blocks", "```python\nx = 1\n```\nand\n```python\ny = 2\n```", "```python\nassert x + y == 3\n```"),
    response("untested", "```python\nx = 1\n```", "```python\nprint(x)\n```"),
]


def test_verify_responses(tmp_path):
    responses = write_rows(tmp_path / "responses.jsonl", RESPONSES)
    output, stats = tmp_path / "out" / "verdicts.jsonl", tmp_path / "out" / "verdicts.json"
    options = ["--responses", responses, "--sandbox", '{"cpu_s": 2}', "--workers", 2, "--label", "self/00000"]
    options += ["--output", output, "--stats", stats]
    done = run("verify_responses.py", *options)
    assert done.returncode == 0, done.stderr
    assert steady(output) == [
        {"id": "good", "verdict": "passed", "detail": "", "assertions": 1, "core": CORE},
        {
            "id": "wrong",
            "verdict": "assertion",
            "detail": "AssertionError: twice (line 3)",
            "assertions": 1,
            "core": CORE,
        },
        {"id": "blocks", "verdict": "passed", "detail": "", "assertions": 1, "core": CORE},
        {"id": "untested", "verdict": "no_tests", "detail": "", "assertions": 0, "core": CORE},
    ]
    assert list(read_rows(output)[0]) == [
        "id",
        "verdict",
        "detail",
        "cpu_s",
        "wall_s",
        "max_rss_mb",
        "assertions",
        "core",
    ]
    found = json.loads(stats.read_text())
    assert {key: found[key] for key in ("stage", "label", "rows", "distinct", "verdicts", "workers")} == {
        "stage": "verdicts",
        "label": "self/00000",
        "rows": 4,
        "distinct": 4,
        "verdicts": {"passed": 2, "assertion": 1, "no_tests": 1},
        "workers": 2,
    }
    assert sorted(path.name for path in output.parent.iterdir()) == ["verdicts.json", "verdicts.jsonl"]
    assert "[self/00000] 4/4 programs" in done.stderr
    first = steady(output)
    assert run("verify_responses.py", *options).returncode == 0
    assert steady(output) == first


def test_no_responses_left(tmp_path):
    """A shard whose responses were all dropped gives an empty file, not an error."""
    responses = write_rows(tmp_path / "responses.jsonl", [RESPONSES[1]])
    options = ["--responses", responses, "--sandbox", "{}", "--workers", 1, "--label", "x"]
    done = run("verify_responses.py", *options, "--output", tmp_path / "v.jsonl", "--stats", tmp_path / "v.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "v.jsonl").read_text() == ""


BAD_ROWS = [
    (['{"id": "a"}'], "row 1: expected the fields id and code (and tests), found id"),
    (['{"id": "a", "code": "", "extra": 1}'], "row 1: expected the fields id and code (and tests), found code, extra"),
    (['{"id": "a", "code": ""}', '{"id": "b", "code": null}'], "row 2: id, code and tests must be strings, code is"),
    (['{"id": 7, "code": ""}'], "row 1: id, code and tests must be strings, id is int"),
    (['{"id": "a", "code": ""}', "", '{"id": "b", "code"'], "row 3: not valid JSON"),
    (["[]"], "row 1: expected a JSON object, found list"),
    ([json.dumps({"id": "a", "code": "#" * (SOURCE_LIMIT + 1)})], "row 1: program 'a' has 1,048,577 characters, and"),
    (['{"id": "\\ud800", "code": ""}'], "row 1: the id '\\ud800' holds half a character"),
    (['{"id": "a", "code": ""}', '{"id": "a", "code": "x"}'], "1 ids stand for several programs, the first is 'a'"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS, ids=[message for _, message in BAD_ROWS])
def test_bad_programs(tmp_path, rows, message):
    programs = tmp_path / "programs.jsonl"
    programs.write_text("\n".join(rows) + "\n")
    done = run("verify_programs.py", programs, tmp_path / "verdicts.jsonl")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["programs.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sandbox", "{"], "error: sandbox settings: the settings are not valid JSON"),
        (["--sandbox", '{"cpus": 1}'], "error: sandbox settings: unknown setting 'cpus'; did you mean cpu_s?"),
        (["--sandbox", '{"packages": ["nothing"]}'], "error: sandbox settings: package 'nothing' is not installed"),
        (["--workers", "0"], "error: sandbox: workers must be at least 1, found 0"),
    ],
)
def test_bad_options(tmp_path, options, message):
    programs = write_rows(tmp_path / "programs.jsonl", [{"id": "a", "code": "assert 1 == 1"}])
    done = run("verify_programs.py", programs, tmp_path / "verdicts.jsonl", *options)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "verdicts.jsonl").exists()


def test_missing_file(tmp_path):
    done = run("verify_programs.py", tmp_path / "none.jsonl", tmp_path / "verdicts.jsonl")
    assert done.returncode == 1
    assert "none.jsonl: no such file" in done.stderr


def descendants(pid: int) -> set[int]:
    """Return the processes below a process, which is all that a command has started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {pid}


def still_running(pids: Iterable[int]) -> set[int]:
    deadline = time.monotonic() + 10
    while (left := {pid for pid in pids if Path(f"/proc/{pid}").exists()}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def start_batch(tmp_path: Path) -> tuple[subprocess.Popen, Path, Path]:
    """Start a batch that takes a while, and return when it has some verdicts: process, programs, output."""
    code = "import time\ntime.sleep(0.1)\nassert {n} % 2 == 0, {n}\n"
    rows = [{"id": f"p{n}", "code": code.format(n=n)} for n in range(16)]
    programs, output = write_rows(tmp_path / "programs.jsonl", rows), tmp_path / "verdicts.jsonl"
    command = [sys.executable, SCRIPTS / "verify_programs.py", programs, output, "--workers", "2"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"TMPDIR": str(scratch)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, start_new_session=True, text=True)
    side = tmp_path / ".verdicts.jsonl.partial"
    while not side.exists() or side.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.02)
    return process, programs, output


@pytest.mark.parametrize(
    ("number", "stop"),
    [
        (signal.SIGKILL, os.kill),
        (signal.SIGKILL, os.killpg),
        (signal.SIGTERM, os.kill),
        (signal.SIGTERM, os.killpg),
        (signal.SIGINT, os.killpg),
    ],
)
def test_stopped_and_run_again(tmp_path, number, stop):
    """Nothing stays behind, finished verdicts are kept and not repeated, and the result is whole."""
    process, programs, output = start_batch(tmp_path)
    started = descendants(process.pid)
    stop(process.pid, number)
    said = process.communicate(timeout=30)[1]
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 1
        error = f"error: programs: stopped by {number.name}; the verdicts so far are kept: run the same command again"
        assert said.splitlines()[-1].startswith(error)
        assert "Traceback" not in said
    assert len(started) >= 4
    assert not still_running(started)
    assert os.listdir(tmp_path / "scratch") == []
    assert not output.exists()
    side = tmp_path / ".verdicts.jsonl.partial"
    kept = [{key: value for key, value in row.items() if key != "program"} for row in read_rows(side)[1:]]
    assert 4 <= len(kept) < 16

    done = run("verify_programs.py", programs, output, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert f"resuming after {len(kept)} programs" in done.stderr
    found = {row["id"]: row for row in read_rows(output)}
    assert [found[row["id"]] for row in kept] == kept  # with their times: they did not run again
    assert [row["verdict"] for row in read_rows(output)] == ["passed", "assertion"] * 8
    assert not side.exists()


def test_finished_but_not_written(tmp_path):
    """Killed between the last verdict and the output: the next run writes it without a sandbox, which may be gone."""
    programs = write_rows(tmp_path / "programs.jsonl", [{"id": n, "code": f"assert {n} < 2"} for n in "0123"])
    output, side = tmp_path / "verdicts.jsonl", tmp_path / ".verdicts.jsonl.partial"
    blocked = tmp_path / "verdicts.jsonl"
    blocked.mkdir()  # the output cannot appear
    assert run("verify_programs.py", programs, output).returncode != 0
    assert len(read_rows(side)) == 5
    blocked.rmdir()
    done = run("verify_programs.py", programs, output, env=os.environ | {"PATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert [row["verdict"] for row in read_rows(output)] == ["passed", "passed", "assertion", "assertion"]


def test_large_batch_in_little_memory(tmp_path):
    """90 MB of programs, most of them the same: far less is held, and each verdict stands for all its ids."""
    filler = "#" * 30_000
    programs, output, stats = tmp_path / "programs.jsonl", tmp_path / "verdicts.jsonl", tmp_path / "verdicts.json"
    rows = ({"id": str(n), "code": f"{filler}\nassert {n % 3} < 2\n"} for n in range(3000))
    with open(programs, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    command = [sys.executable, SCRIPTS / "verify_programs.py", programs, output, "--stats", stats]
    # A process counts the memory of the one that it was forked from: this one may be large, the one between is not.
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", measure, *command], capture_output=True, text=True, check=True)
    assert programs.stat().st_size > 90e6
    assert int(done.stdout) < 60 * 1024  # KiB
    assert [row["verdict"] for row in read_rows(output)] == ["passed", "passed", "assertion"] * 1000
    found = json.loads(stats.read_text())
    assert (found["rows"], found["distinct"]) == (3000, 3)
    assert found["verdicts"] == {"passed": 2000, "assertion": 1000}


# A bubblewrap that leaves an option out; the canaries have to notice.
WEAK_BWRAP = """#!/bin/sh
for argument; do
    shift
    [ "$argument" = "{option}" ] && continue
    set -- "$@" "$argument"
done
exec {bwrap} "$@"
"""


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("--unshare-net", "the sandbox starts, but it does not hold on this machine (network: expected passed, found"),
        ("--setenv", "the sandbox cannot start: "),  # its value is taken for the command
    ],
)
def test_a_broken_host_says_so_first(option, error):
    # A folder that other users may read, as pytest's own are not, and not below /tmp, which root's launcher covers.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        weak = Path(folder, "bwrap")
        weak.write_text(WEAK_BWRAP.format(option=option, bwrap=shutil.which("bwrap")))
        weak.chmod(0o755)
        programs = write_rows(Path(folder, "programs.jsonl"), [{"id": "a", "code": "assert 1 == 1"}])
        environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
        done = run("verify_programs.py", programs, Path(folder, "verdicts.jsonl"), env=environment)
        assert not Path(folder, "verdicts.jsonl").exists()
        assert read_rows(Path(folder, ".verdicts.jsonl.partial"))[1:] == []
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {error}")
    assert done.stderr.count("\n") == 1


def check(tmp_path: Path, *options: str, python: str = sys.executable, scripts: Path = SCRIPTS, **settings):
    command = [python, scripts / "check_sandbox.py", "--output", tmp_path / "sandbox.json", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd="/", **settings)


CANARIES = {
    "correct": "passed",
    "cpu": "timeout_cpu",
    "ctypes": "passed",
    "disk": "passed",
    "environment": "passed",
    "exit": "early_exit",
    "forged_status": "early_exit",
    "fork": "exception",
    "host_file": "passed",
    "host_write": "passed",
    "memory": "memory",
    "network": "passed",
    "output": "output_limit",
    "polite_exit": "early_exit",
    "privileges": "passed",
    "signal": "passed",
    "threads": "exception",
    "wall": "timeout_wall",
    "wrong": "assertion",
}
JAVASCRIPT_CANARIES = {
    "correct": "passed",
    "cpu": "timeout_cpu",
    "environment": "passed",
    "exit": "early_exit",
    "host_file": "passed",
    "memory": "memory",
    "network": "passed",
    "output": "output_limit",
    "wall": "timeout_wall",
    "wrong": "assertion",
}


def test_check_sandbox(tmp_path):
    done = check(tmp_path, "--languages", "javascript", "python")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "sandbox.json").read_text())
    assert found["canaries"] == {"python": CANARIES, "javascript": JAVASCRIPT_CANARIES}
    assert set(found) == {"bwrap", "kernel", "machine", "user", "isolation", "core", "remedy", "canaries", "partition"}
    assert found["core"] == CORE
    assert f"its core is {CORE}" in done.stderr
    assert (found["remedy"] is None) == (CORE == "c")
    assert ("run make setup again" in done.stderr) == (CORE == "python")


def test_without_bubblewrap(tmp_path):
    done = check(tmp_path, env=os.environ | {"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith("error: bubblewrap (bwrap) is not installed or not on PATH")
    assert "apt-get install bubblewrap" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "sandbox.json").exists()


# Enter a user namespace of our own, in which namespaces can be switched off without touching the machine.
NAMESPACES_OFF = """
import ctypes, os, sys
inside, entered = os.pipe()
go, ready = os.pipe()
parent, ids = os.getpid(), 65534 if os.getuid() == 0 else 1
if os.fork() == 0:
    os.read(inside, 1)
    if ids == 1:
        open(f"/proc/{parent}/setgroups", "w").write("deny")
    for name, own in (("uid", os.getuid()), ("gid", os.getgid())):
        open(f"/proc/{parent}/{name}_map", "w").write(f"0 {own} {ids}")
    os.write(ready, b"x")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(entered, b"x")
os.read(go, 1)
os.wait()
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_user_namespaces_off(tmp_path):
    command = [sys.executable, "-c", NAMESPACES_OFF, sys.executable, SCRIPTS / "check_sandbox.py"]
    command += ["--output", tmp_path / "sandbox.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: the sandbox cannot start: user namespaces are switched off or used up (user.max_user_namespaces is 0)."
    )
    assert "sysctl -w user.max_user_namespaces=15000" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "sandbox.json").exists()


CLONE = "sys/kernel/unprivileged_userns_clone"
APPARMOR = "sys/kernel/apparmor_restrict_unprivileged_userns"
FILTERED = {"self/status": "Name:\tpython3\nSeccomp:\t2\n"}
DEBIAN_TEXT = "bwrap: No permissions to create new namespace, likely because the kernel does not allow"
UID_MAP = "bwrap: setting up uid map: Permission denied"
LOOPBACK = "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted"


@pytest.mark.parametrize(
    ("said", "kernel", "remedy"),
    [
        # One text, four causes: the kernel's settings tell them apart.
        (DEBIAN_TEXT, {CLONE: "0"}, "kernel.unprivileged_userns_clone=1"),
        (DEBIAN_TEXT, {CLONE: "1", APPARMOR: "1"}, "/etc/apparmor.d/bwrap"),
        (DEBIAN_TEXT, FILTERED, "seccomp=unconfined"),
        (DEBIAN_TEXT, {CLONE: "1", APPARMOR: "0", "self/status": "Seccomp:\t0\n"}, "its settings do not show why"),
        (DEBIAN_TEXT.replace("create", "creating"), {CLONE: "0"}, "kernel.unprivileged_userns_clone=1"),
        (UID_MAP, {APPARMOR: "1"}, "/etc/apparmor.d/bwrap"),
        (UID_MAP, FILTERED, "seccomp=unconfined"),
        (LOOPBACK, {APPARMOR: "1"}, "apparmor_restrict_unprivileged_userns=0"),
        (LOOPBACK, {}, "its settings do not show why"),
        ("bwrap: Failed to make / slave: Permission denied", FILTERED, "apparmor=unconfined"),
        ("bwrap: Can't set hostname to sandbox: Operation not permitted", FILTERED, "seccomp=unconfined"),
        ("bwrap: Failed to mount tmpfs: Operation not permitted", {APPARMOR: "1"}, "/etc/apparmor.d/bwrap"),
        (
            "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)",
            {"sys/user/max_user_namespaces": "0"},
            "(user.max_user_namespaces is 0). As root: sysctl -w user.max_user_namespaces=15000",
        ),
        (
            "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)",
            {"sys/user/max_user_namespaces": "9000", "sys/user/max_net_namespaces": "0"},
            "sysctl -w user.max_net_namespaces=15000",
        ),
        (
            "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)",
            {"sys/user/max_user_namespaces": "9000"},
            "switched off or used up. As root",
        ),
        (
            "bwrap: Creating new namespace failed, likely because the kernel does not support user namespaces. ",
            {},
            "CONFIG_USER_NS=y",
        ),
        ("bwrap: Creating new namespace failed: Resource temporarily unavailable", FILTERED, "ulimit -u"),
        ("bwrap: Can't fork for pid 1: Resource temporarily unavailable", {}, "Use fewer workers"),
        ("bwrap: Creating new namespace failed: Cannot allocate memory", {}, "Use fewer workers"),
        ("bwrap: --cap-add in setuid mode can be used only by root", {}, "chmod u-s"),
        ("bwrap: Unknown option --unshare-cgroup-try", {}, "this bubblewrap is too old"),
        ("bwrap: Can't find source path /root/x: Permission denied", {}, "a Python outside root's home"),
        ("bwrap: Can't find source path /usr/x: No such file or directory", {}, "make setup again"),
        ("bwrap: execvp /opt/python3: No such file or directory", {}, "make setup again"),
        ("python3: error while loading shared libraries: libpython3.so", {}, "make setup again"),
        ("launch: cannot give up root ([Errno 1] Operation not permitted)", {CLONE: "0"}, "Run as an ordinary user"),
        ("something new", {CLONE: "0", APPARMOR: "1"}, "It said: something new"),
        ("", {}, "It said: nothing"),
    ],
)
def test_explanations(tmp_path, said, kernel, remedy):
    """What bubblewrap 0.8 prints on machines that we cannot all have here, and the remedy for each."""
    for name, value in kernel.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    text = explain(said, proc=tmp_path)
    assert remedy in text
    assert said in text
    assert "\n" not in text


def system_python() -> str | None:
    """Return a Python of the system that every user can read, if it is new enough."""
    if not Path("/usr/bin/python3").exists():
        return None
    code = "import sys; sys.exit(sys.version_info < (3, 11))"
    return "/usr/bin/python3" if subprocess.run(["/usr/bin/python3", "-c", code], check=False).returncode == 0 else None


if os.geteuid() == 0 and system_python():

    def test_as_an_ordinary_user_and_another_python():
        """The suite runs as root here, which gives root up by itself; an ordinary user gets the same verdicts."""
        with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
            shutil.copytree(SCRIPTS, f"{folder}/scripts", ignore=shutil.ignore_patterns("__pycache__"))
            os.chmod(folder, 0o777)
            done = check(
                Path(folder),
                python=system_python(),
                scripts=Path(folder, "scripts"),
                user=12345,
                group=12345,
                extra_groups=[],
                env={"PATH": "/usr/bin:/bin"},
            )
            assert done.returncode == 0, done.stderr
            found = json.loads(Path(folder, "sandbox.json").read_text())
        assert found["user"] == "uid 12345"
        assert found["canaries"] == {"python": CANARIES}


if benchdata := os.environ.get("SELFALIGN_BENCHDATA"):

    def test_humaneval(tmp_path):
        """Every canonical solution passes its official tests, and a solution that returns None passes none."""
        with gzip.open(Path(benchdata) / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
            tasks = [json.loads(line) for line in file]
        rows = []
        for task in tasks:
            tests = f"{task['test']}\ncheck({task['entry_point']})\n"
            right = task["prompt"] + task["canonical_solution"]
            rows.append({"id": f"{task['task_id']} apart", "code": right, "tests": tests})
            rows.append({"id": f"{task['task_id']} joined", "code": f"{right}\n{tests}"})
            rows.append(
                {"id": f"{task['task_id']} wrong", "code": f"{task['prompt']}    return None\n", "tests": tests}
            )
        programs, output = write_rows(tmp_path / "programs.jsonl", rows), tmp_path / "verdicts.jsonl"
        done = run("verify_programs.py", programs, output, "--workers", 2)
        assert done.returncode == 0, done.stderr
        found = {row["id"]: row["verdict"] for row in read_rows(output)}
        assert len(found) == 3 * 164
        wrong = {name: verdict for name, verdict in found.items() if (verdict == "passed") == name.endswith("wrong")}
        assert wrong == {}
