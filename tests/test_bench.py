"""The benchmarks of the sandbox: their clocks miss nothing, their arithmetic is right, their commands run for real."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import hostile_programs  # noqa: E402
import peers  # noqa: E402
import sandbox_speed  # noqa: E402


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a benchmark's command."""
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


# --- Clocks -----------------------------------------------------------------------------------------------------

BURN = """
import os, subprocess, sys, time
read_end, write_end = os.pipe()
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))
def child(seconds, orphan=False, stay_s=0):
    pid = os.fork()
    if pid == 0:
        if not orphan or os.fork() == 0:
            os.setsid()
            burn(seconds)
            os.close(write_end)
            time.sleep(stay_s)
        os._exit(0)
    if not stay_s:
        os.waitpid(pid, 0)
def wait():
    os.close(write_end)
    os.read(read_end, 1)  # its end comes when all have burned
"""
# Each burns 0.3 CPU seconds.
LOADS = {
    "the process itself": "burn(0.3)",
    "children": "child(0.2); child(0.1)",
    "left behind by its parent": "child(0.3, orphan=True)",
    "many short ones left behind": "for _ in range(50): child(0.006, orphan=True)",
    "children that still live": "child(0.15, stay_s=1); child(0.15, stay_s=1)",
    "in a process namespace": (
        "subprocess.run(['bwrap', '--unshare-pid', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc',"
        " sys.executable, '-I', '-S', '-c', OWN + 'child(0.1); child(0.2, orphan=True); wait()'], check=True)"
    ),
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("kind", sandbox_speed.CLOCKS)
def test_clock_catches_all(kind, load):
    try:
        clock = sandbox_speed.open_clock(kind)
    except OSError as error:
        pytest.skip(f"this user may not make control groups: {error}")
    code = (
        f"OWN = {BURN!r}\nexec(OWN)\nsys.stdin.readline()\n{LOADS[load]}\nwait()\nprint(flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        clock.add(process.pid)
        before = clock.read()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "\n"
        found = clock.read() - before
    finally:
        process.kill()
        process.communicate()
        clock.close()
    assert 0.27 <= found <= 0.6


def test_clock_leaves_nothing_behind():
    """A control group goes with its processes, also with those that would stay."""
    try:
        clock = sandbox_speed.CgroupClock()
    except OSError as error:
        pytest.skip(f"this user may not make control groups: {error}")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    clock.add(process.pid)
    clock.close()
    assert process.wait(5) == -9
    assert not clock.folder.exists()


# --- Speed ------------------------------------------------------------------------------------------------------


def figures(**cpu_ms: float) -> dict:
    """Return one round's figures."""
    return {name: {"cpu_ms": value, "per_s": 1.0, "accepted": 1} for name, value in cpu_ms.items()}


def test_ratios_are_taken_within_a_round():
    """A round on a busy machine changes both sides: the ratio of medians would be 2 here, and 1 is never seen."""
    rounds = [figures(python=10, fork=5), figures(python=20, fork=8), figures(python=4, fork=4)]
    ratios = sandbox_speed.find_ratios(rounds)
    assert ratios == {"python": {"fork": {"median": 0.5, "min": 0.4, "max": 1.0}}}


def test_scaling_is_taken_within_a_round():
    rounds = [{"c": {"per_s": one}, "c x2": {"per_s": two}} for one, two in ((100, 190), (50, 100), (200, 300))]
    assert sandbox_speed.find_scaling(rounds) == {"c x2": {"median": 1.9, "min": 1.5, "max": 2.0}}


TARGETS = [
    ({"python": 4.0, "evalplus": 5.2, "fork": 1.7}, {("python", "evalplus"): False, ("python", "fork"): False}),
    ({"python": 4.0, "evalplus": 5.4, "fork": 1.9}, {("python", "evalplus"): True, ("python", "fork"): True}),
    ({"c": 2.0, "bwrap": 8.1, "original": 7.9}, {("c", "bwrap"): True, ("c", "original"): False}),
]


@pytest.mark.parametrize(("cpu_ms", "expected"), TARGETS)
def test_targets(cpu_ms, expected, monkeypatch):
    monkeypatch.setattr(
        sandbox_speed, "TARGETS", (("python", "evalplus", 1.35), ("python", "fork", 0.45), *sandbox_speed.TARGETS[4:])
    )
    rows = sandbox_speed.check_targets(sandbox_speed.find_ratios([figures(**cpu_ms)]))
    assert {(row["ours"], row["peer"]): row["met"] for row in rows if row["met"] is not None} == expected


def test_choose_leaves_out_what_would_mislead():
    """What fails is over early, and what computes long measures itself."""
    programs = [
        {"id": "right", "code": "x = 1\n", "tests": "assert x == 1\n"},
        {"id": "wrong", "code": "x = 1\n", "tests": "assert x == 2\n"},
        {"id": "long", "code": "x = sum(range(20_000_000))\n", "tests": "assert x > 1\n"},
    ]
    kept, left = sandbox_speed.choose(programs, 3)
    assert kept == programs[:1]
    assert left == {"assertion": 1, "over 0.2 s": 1}


def test_what_one_method_rejects_no_method_is_measured_on():
    """A class whose instances pickle by name passes as __main__, and not where the bare fork executes it."""
    programs = [
        {"id": "both", "code": "x = 1\n", "tests": "assert x == 1\n"},
        {
            "id": "one",
            "code": "import pickle\nclass A: pass\n",
            "tests": "assert type(pickle.loads(pickle.dumps(A()))) is A\n",
        },
    ]
    kept, counts = sandbox_speed.keep_accepted(programs, ["python", "fork", "evalplus"], "none/python")
    assert kept == programs[:1]
    assert counts == {f"rejected by {peers.METHODS['fork'].title}": 1}


def test_speed_command(tmp_path):
    """The methods that need no packages judge the same programs; a missing environment is said, not hidden."""
    output = tmp_path / "speed.json"
    methods = ["python", "process", "bwrap", "fork", "evalplus"]
    done = run("sandbox_speed.py", "--output", output, "--rounds", 2, "--programs", 20, "--peers-python", "none/python",
               "--methods", *methods)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert set(found) == {"clock", "date", "left_out", "machine", "sections", "source", "targets"}
    section = found["sections"]["programs"]
    assert "evalplus: there is no none/python; bench/README.md" in section["unavailable"]["evalplus"]
    assert [sorted(figures) for figures in section["rounds"]] == [sorted(methods[:-1])] * 2
    for figures in section["rounds"]:
        assert {row["accepted"] for row in figures.values()} == {section["programs"]}
        # To start Python and import its libraries anew costs several times a fork.
        assert 0 < figures["fork"]["cpu_ms"] < figures["process"]["cpu_ms"]
    for method in methods[:-1]:
        assert f"| {peers.METHODS[method].title} |" in done.stdout
    assert "target: fork / python >= 0.45: " in done.stdout
    assert "target: evalplus / python >= 1.3: None (not measured)" in done.stdout


def test_speed_command_refuses_another_python(tmp_path):
    """CPU times of two Python versions say nothing about sandboxes."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho '2.7.18 (default)'\n")
    fake.chmod(0o755)
    done = run("sandbox_speed.py", "--output", tmp_path / "speed.json", "--peers-python", fake)
    assert done.returncode == 1
    assert f"error: {fake} is Python 2.7.18, this is " in done.stderr
    assert not (tmp_path / "speed.json").exists()


PROGRAMS = [
    {"id": "joined", "code": "def f():\n    return 1\nassert f() == 1", "tests": ""},
    {"id": "apart", "code": "def f():\n    return 1", "tests": "assert f() == 1"},
    {"id": "wrong", "code": "def f():\n    return 2", "tests": "assert f() == 1"},
    {"id": "syntax", "code": "def f(:\n", "tests": ""},
    {"id": "noise", "code": "import os\nos.write(1, b'start\\nend\\n[]\\n')\nassert True == 1", "tests": ""},
]


@pytest.mark.parametrize("method", ["python", "process", "process-packages", "bwrap", "fork"])
def test_methods_tell_right_from_wrong(method):
    """Every method that runs here judges for real, and a program's output is no answer."""
    verdicts = peers.judge(method, PROGRAMS, peers_python="none", limit_s=60)
    passed = {name for name, verdict, _ in verdicts if verdict in peers.ACCEPTED}
    assert len(verdicts) == len(PROGRAMS)
    assert passed == {"joined", "apart", "noise"}


def test_no_folder_is_left_behind():
    prefix = f"left-behind-{os.getpid()}-"
    program = {"id": "leak", "code": f"import tempfile\ntempfile.mkdtemp(prefix={prefix!r})\n", "tests": ""}
    assert peers.judge("fork", [program], peers_python="none", limit_s=60) == [["leak", "pass", ""]]
    assert list(Path(tempfile.gettempdir()).glob(f"{prefix}*")) == []


def test_a_method_that_hangs_is_ended():
    program = {"id": "hang", "code": "import time\ntime.sleep(60)", "tests": ""}
    start = time.monotonic()
    with pytest.raises(peers.PeerFailed, match="fork: ended with code -9"):
        peers.judge("fork", [program], peers_python="none", limit_s=1)
    assert time.monotonic() - start < 20


# --- Hostile programs -------------------------------------------------------------------------------------------

CLASSES = [
    (["pass"], "pass", "right"),
    (["pass"], "fail", "false fail"),
    (["pass"], "exception", "false fail"),
    (["exit"], "pass", "false pass"),
    (["exit"], "fail", "right"),
    (["exit"], "exit", "right"),
    (["exit"], "assert", "other reason"),
    (["exit"], "lost", "lost or hung"),
    (["pass", "exception"], "fail", "right"),
    (["pass", "exception"], "pass", "right"),
    (["pass", "exception"], "assert", "other reason"),
]


@pytest.mark.parametrize(("right", "word", "expected"), CLASSES)
def test_classify(right, word, expected):
    assert hostile_programs.classify(right, word) == expected


def test_every_verdict_has_a_word():
    from selfalign.sandbox import VERDICTS

    assert set(hostile_programs.OUR_WORDS) == set(VERDICTS)


BAD_ROWS = [
    ([{"name": "a", "code": ""}], "row 1: expected the fields name, code, right (and note), found name, code"),
    ([{"name": "a", "code": "", "right": ["passed"]}], "row 1: right must list some of assert, exception, exit, "),
    ([{"name": "a", "code": "", "right": []}], "row 1: right must list some of "),
    ([{"name": "a", "code": "", "right": ["pass"]}] * 2, "row 2: there is a program 'a' already"),
    ([], "no programs in it"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_hostile_command_refuses_bad_rows(rows, message, tmp_path):
    path = tmp_path / "programs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"programs\.jsonl") as caught:
        hostile_programs.read_programs(str(path))
    assert message in str(caught.value)


# name: (right verdicts, code, class of one process per program)
HOSTILE = {
    "correct": (["pass"], "def f():\n    return 1\nassert f() == 1\n", "right"),
    "wrong": (["assert"], "assert 1 == 2\n", "right"),
    "untested": (["no_tests"], "x = 1\n", "false pass"),
    "left early": (["exit"], "import os\nos._exit(0)\nassert 1 == 2\n", "false pass"),
    "kills all": (["exception"], "import os\nos.kill(-1, 9)\nassert 1 == 2\n", "lost or hung"),
    "reads a host file": (["exception"], "assert 'topsecret' in open('/etc/host_secret').read()\n", "false pass"),
    "sees the host's environment": (["exception"], "import os\nassert os.environ['HOST_SECRET']\n", "false pass"),
    # Right as far as the net holds: no network, no other files, a limit on processes.
    "in the net": (
        ["pass"],
        "import os, resource, socket\n"
        "assert [name for _, name in socket.if_nameindex()] == ['lo']\n"
        "assert not os.path.exists('/home') and not os.access('/usr', os.W_OK) and os.getuid() != 0\n"
        "assert 0 < resource.getrlimit(resource.RLIMIT_NPROC)[1] <= 256\n"
        "assert 0 < resource.getrlimit(resource.RLIMIT_AS)[1] <= 3 << 30\n",
        "right",
    ),
}


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit of util-linux")
def test_hostile_command(tmp_path):
    """Ours is right about all, for root and for an ordinary user; one process per program is caught by the net."""
    path, output, table = (tmp_path / name for name in ("programs.jsonl", "verdicts.json", "table.md"))
    rows = ({"name": name, "right": right, "code": code} for name, (right, code, _) in HOSTILE.items())
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("hostile_programs.py", path, "--output", output, "--table", table, "--systems", "python", "process")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert found["not_run"] == {}
    process = peers.METHODS["process"].title
    ours = set(found["systems"]) - {process}
    assert len(ours) == (2 if os.geteuid() == 0 else 1)
    for system in ours:
        assert found["systems"][system]["counts"] == dict.fromkeys(hostile_programs.CLASSES, 0) | {"right": 8}
    classes = {name: row["class"] for name, row in found["systems"][process]["programs"].items()}
    assert classes == {name: expected for name, (_, _, expected) in HOSTILE.items()}
    assert "| left early | exit | exit |" in table.read_text()
    assert "**pass: false pass**" in table.read_text()
