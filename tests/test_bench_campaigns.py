"""The campaigns of bench/: each command is run for real at a small scale, and each check meets what it must find."""

import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from selfalign.records.rows import Verdict

BENCH = Path(__file__).parent.parent / "bench"
sys.path.append(str(BENCH))

import flakes  # noqa: E402
import recorded_verdicts  # noqa: E402
import soak  # noqa: E402
from test_sandbox import CORES  # noqa: E402


def run(script: str, *options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCH / script, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("script", ["recorded_verdicts.py", "soak.py", "flakes.py"])
def test_help(script):
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert "--output" in done.stdout
    assert "Exit" in done.stdout or "exit" in done.stdout


# --- recorded_verdicts ----------------------------------------------------------------------------------------------


def problem(task: str, entry_point: str, solution: str, base: list, plus: list, atol: float = 0) -> dict:
    prompt = f'"""\nWrite a function.\nassert {entry_point}\n"""\n'
    fields = {
        "task_id": task,
        "entry_point": entry_point,
        "prompt": prompt,
        "canonical_solution": solution,
        "atol": atol,
    }
    return fields | {"base_input": base, "plus_input": plus}


PROBLEMS = {
    "humaneval_plus/HumanEvalPlus.jsonl.gz": [
        problem("HumanEval/900", "half", "def half(x):\n    return x / 2\n", [[1]], [[3], [5]]),
        problem("HumanEval/32", "same", "def same(x):\n    return x\n", [[1]], [[1]]),
    ],
    "mbpp_plus/MbppPlus.jsonl.gz": [
        problem("Mbpp/900", "sum", "def sum(xs):\n    return len(xs)\n", [[[1, 2]]], []),
        problem(
            "Mbpp/2", "similar_elements", "def similar_elements(a, b):\n    return a + b\n", [[[1], [2]]], [[[], []]]
        ),
        problem("Mbpp/901", "slow", "def slow(x):\n    return x\n", [[1]], [[2]]),
        problem("Mbpp/902", "size", "def size(x):\n    return len(x)\n", [["x"]], [["x" * 100_000], ["y"]]),
    ],
}
HALF, LENGTH = (
    "def half(x):\n    return x * 0.5 + 1e-8\n",
    "def sum(xs):\n    n = 0\n    for _ in xs: n += 1\n    return n\n",
)
SIMILAR, SLOW = "def similar_elements(a, b):\n    return {b}\n", "def slow(x):\n    while x == 2: pass\n    return x\n"
# task, solution, base and plus as recorded, then as run again
ROWS = [
    ("HumanEval/900", HALF, "pass", "pass", "pass", "pass"),  # within 1e-6, since a float is expected
    ("HumanEval/900", "def half(x):\n    return x // 2\n", "fail", "fail", None, None),
    ("HumanEval/900", "def half(x):\n    return 0.5 if x == 1 else 0\n", "pass", "fail", None, None),
    ("HumanEval/900", "def half(x):\n    return x / 2\n", "fail", "pass", "pass", "pass"),  # an unsteady record
    ("HumanEval/32", "def same(x):\n    return x\n", "fail", "fail", None, None),  # left out
    ("Mbpp/900", LENGTH, "pass", "pass", None, None),  # named like a builtin; no plus inputs
    ("Mbpp/2", SIMILAR.format(b="b + a + b"), "pass", "pass", None, None),  # as sets
    ("Mbpp/2", SIMILAR.format(b="list(b) + list(a)"), "pass", "pass", None, None),
    ("Mbpp/2", SIMILAR.format(b="b"), "fail", "pass", None, None),
    ("Mbpp/901", SLOW, "pass", "fail", None, None),  # a second of CPU time for one input
    ("Mbpp/902", "def size(x):\n    return len(x)\n", "pass", "pass", None, None),  # a program of 130,000 characters
    ("Mbpp/902", "def size(x):\n    return 1\n", "pass", "fail", None, None),
]
EDITS = [
    ("1_double", "def double(x):\n    return 2 * x\n", "OK"),
    ("1_double", "def double(x):\n    return x\n", "Exception"),
    ("1_double", "def double(x) return\n", "SyntaxError"),
    ("78_model", "import vllm\n", "OK"),  # a package that is not at hand
    ("47_merge_sort", "x = 1\n", "OK"),  # left out
]


def write_zipped(path: Path, rows: list[dict]) -> str:
    """Write JSON lines and return the MD5 digest of what was zipped."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else gzip.compress(data))
    return hashlib.md5(data).hexdigest()


def write_benchdata(folder: Path, rows: list[tuple]) -> Path:
    digests = {}
    for name, problems in PROBLEMS.items():
        key = write_zipped(folder / name, problems)
        digests |= {fields["task_id"]: key for fields in problems}
    verdicts = [
        {
            "model": "model",
            "task_id": task,
            "dataset": "X",
            "dataset_md5": digests.get(task, "0"),
            "solution": solution,
            "recorded_base": base,
            "recorded_plus": plus,
            "rerun_base": base_again,
            "rerun_plus": plus_again,
        }
        for task, solution, base, plus, base_again, plus_again in rows
    ]
    write_zipped(folder / "verdicts" / "evalplus_verdicts.jsonl.xz", verdicts)
    tests = "assert double(2) == 4\n"
    problems = [
        {
            "full_name": name,
            "before": "x = 1\n",
            "after": after,
            "tests": tests,
            "instruction_descriptive": "Double it.",
            "instruction_lazy": "double",
            "taxonomy": {"change_kind": "adaptive"},
        }
        for name, after in {"1_double": EDITS[0][1], "47_merge_sort": EDITS[0][1], "78_model": "import vllm\n"}.items()
    ]
    write_zipped(folder / "canitedit" / "canitedit.jsonl.gz", problems)
    edits = [
        {"model": "m", "full_name": name, "instr_kind": "lazy", "code": code, "status": status}
        for name, code, status in EDITS
    ]
    write_zipped(folder / "verdicts" / "canitedit_verdicts.jsonl.xz", edits)
    return folder


@pytest.mark.parametrize("core", CORES)
def test_recorded_verdicts(tmp_path, core):
    """Verdicts of the two oracles, what is left out, and what counts as an unsteady record."""
    folder = write_benchdata(tmp_path / "data", ROWS)
    done = run("recorded_verdicts.py", folder, "--output", tmp_path / "out.json", "--workers", 2, "--core", core)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["disagreements"] == []
    assert {name: (count["steady"], count["agreement"]) for name, count in found["sets"].items()} == {
        "HumanEval+ base": (3, 1.0),
        "HumanEval+ plus": (4, 1.0),
        "MBPP+ base": (7, 1.0),
        "MBPP+ plus": (7, 1.0),
        "CanItEdit": (3, 1.0),
    }
    [unsteady] = found["unsteady_records"]
    assert (unsteady["task"], unsteady["set"], unsteady["verdict"]) == ("HumanEval/900", "HumanEval+ base", "passed")
    assert found["references_that_fail"].keys() == {"78_model-descriptive", "78_model-lazy"}


@pytest.mark.parametrize(
    ("row", "said", "counted"),
    [
        (
            ("HumanEval/900", HALF, "fail", "pass", None, None),
            "recorded failed, here passed : NOT EXPLAINED",
            "HumanEval+ base: 0 of 1 steady records agree (0.00 %); all records 0 of 1, reruns 0 of 0",
        ),
        (
            ("Mbpp/2", SIMILAR.format(b="b"), "fail", "fail", "fail", "fail"),
            "recorded failed, here passed : NOT EXPLAINED",
            "MBPP+ plus: 0 of 1 steady records agree (0.00 %); all records 0 of 1, reruns 0 of 1",
        ),
        (
            ("Mbpp/2", SIMILAR.format(b="b"), "pass", "pass", None, None),
            "recorded passed, here wrong_output",
            "MBPP+ base: 0 of 1 steady records agree (0.00 %); all records 0 of 1, reruns 0 of 0",
        ),
    ],
)
def test_a_record_that_disagrees(tmp_path, row, said, counted):
    folder = write_benchdata(tmp_path / "data", [row])
    done = run("recorded_verdicts.py", folder, "--output", tmp_path / "out.json", "--sets", "evalplus")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert said in done.stdout
    assert counted in done.stdout
    assert len(json.loads((tmp_path / "out.json").read_text())["disagreements"]) == 1


def test_a_known_reason_explains_one_verdict_only(monkeypatch):
    monkeypatch.setattr(recorded_verdicts, "EXPLAINED", {("S", "t", "m", "exception"): "why"})
    monkeypatch.setattr(recorded_verdicts, "GATE", 0.0)
    record = recorded_verdicts.Record(set="S", task="t", model="m-7b", program="p", recorded=True, rerun=None)
    verdict = Verdict(id="p", verdict="exception", detail="", cpu_s=0, wall_s=0, max_rss_mb=0, assertions=0, core="c")
    reasons = [
        recorded_verdicts.compare([item], {"p": found})["disagreements"][0]["reason"]
        for item, found in (
            (record, verdict),
            (record, replace(verdict, verdict="killed")),
            (replace(record, model="x"), verdict),
            (replace(record, task="u"), verdict),
        )
    ]
    assert reasons == ["why", None, None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "mbpp_plus/MbppPlus.jsonl.gz").unlink(), "row 6: no problem file with MD5"),
        (lambda folder: (folder / "verdicts/evalplus_verdicts.jsonl.xz").unlink(), "no such file; BENCHDATA must be"),
        (lambda folder: (folder / "verdicts/evalplus_verdicts.jsonl.xz").write_bytes(b"x"), "row 1: corrupt"),
    ],
)
def test_bad_benchdata(tmp_path, change, message):
    folder = write_benchdata(tmp_path / "data", ROWS)
    change(folder)
    done = run("recorded_verdicts.py", folder, "--output", tmp_path / "out.json")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


if benchdata := os.environ.get("SELFALIGN_BENCHDATA"):

    def test_recorded_verdicts_of_others(tmp_path):
        done = run("recorded_verdicts.py", benchdata, "--output", tmp_path / "out.json", "--every", 120)
        found = json.loads((tmp_path / "out.json").read_text())
        assert [row for row in found["disagreements"] if row["reason"] is None] == []
        assert set(found["sets"]) == {
            "HumanEval+ base",
            "HumanEval+ plus",
            "MBPP+ base",
            "MBPP+ plus",
            "CanItEdit",
        }, done.stderr


# --- soak -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", CORES)
def test_soak(tmp_path, core):
    done = run("soak.py", "--programs", 60, "--core", core, "--output", tmp_path / "out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["programs"], found["cores"], found["wrong_verdicts"], found["left_behind"]) == (60, [core], [], [])
    assert [sample["programs"] for sample in found["samples"]] == list(range(3, 61, 3))
    assert found["end"]["processes"] == 1
    for sample in found["samples"]:
        assert sample["workers"] == 2
        assert sample["server_rss_mb"] > 5 < sample["supervisor_rss_mb"]
        assert sample["server_mounts"] > 5 < sample["supervisor_mounts"]
        assert sample["server_descriptors"] > 2 < sample["supervisor_descriptors"]


def test_soak_has_hostile_programs():
    drawn = list(soak.draw_programs(2000))
    hostile = [truth for truth in drawn if truth.verdicts != soak.PASSED]
    assert 0.03 < len(hostile) / len(drawn) < 0.07
    assert len({truth.name for truth in hostile}) > 40
    assert drawn == list(soak.draw_programs(2000))


SAMPLE = {
    "processes": 7,
    "processes_per_worker": 3.0,
    "zombies": 0,
    "supervisor_rss_mb": 30.0,
    "server_rss_mb": 13.0,
    "supervisor_mounts": 20,
    "server_mounts": 13,
    "supervisor_descriptors": 6,
    "server_descriptors": 6,
    "temporary_files": 0,
}
END = SAMPLE | {"processes": 1, "processes_per_worker": None, "server_mounts": None, "server_descriptors": None}


@pytest.mark.parametrize(
    ("last", "end", "said"),
    [
        ({}, {}, None),
        ({"processes_per_worker": None, "server_mounts": None}, {}, None),  # both workers are being replaced
        ({"supervisor_rss_mb": 45.0}, {}, None),
        ({"supervisor_rss_mb": 47.0}, {}, "supervisor_rss_mb grew from 30.0 to 47.0"),
        ({"server_rss_mb": 40.0}, {}, "server_rss_mb grew"),
        ({"processes_per_worker": 3.5}, {}, "processes_per_worker did not stay the same"),
        ({"server_mounts": 14}, {}, "server_mounts did not stay the same"),
        ({"supervisor_mounts": 21}, {}, "supervisor_mounts did not stay the same"),
        ({"server_descriptors": 7}, {}, "server_descriptors did not stay the same"),
        ({"supervisor_descriptors": 7}, {}, "supervisor_descriptors did not stay the same"),
        ({"zombies": 1}, {}, "zombies: [0, 1, 0]"),
        ({}, {"zombies": 1}, "zombies: [0, 0, 1]"),
        ({"temporary_files": 1}, {}, "temporary_files: [0, 1, 0]"),
        ({}, {"processes": 2}, "1 processes live on"),
    ],
)
def test_leaks_are_found(last, end, said):
    found = soak.find_leaks([SAMPLE, SAMPLE | last], END | end)
    assert len(found) == (said is not None)
    if said:
        assert said in found[0]


def test_processes_are_seen():
    """A child and a zombie of ours are listed with their state, and are gone when they are."""
    before = {process.pid for process in soak.list_processes()}
    waits = "import sys, time; print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE)
    child.stdout.readline()  # while it starts it has files open
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 30
    while Path(f"/proc/{zombie.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = {process.pid: process for process in soak.list_processes() if process.pid not in before}
    assert found.keys() == {child.pid, zombie.pid}
    assert found[zombie.pid].state == "Z"
    assert found[child.pid].state != "Z"
    assert found[child.pid].descriptors == 3
    assert found[child.pid].depth == 0
    child.kill()
    child.wait()
    child.stdout.close()
    zombie.wait()
    assert {process.pid for process in soak.list_processes()} == before


def test_soak_of_too_few_programs(tmp_path):
    done = run("soak.py", "--programs", 5, "--output", tmp_path / "out.json")
    assert (done.returncode, done.stderr) == (1, "error: --programs must be at least 20, found 5\n")


# --- flakes ---------------------------------------------------------------------------------------------------------


def test_flakes(tmp_path):
    options = ["--oversubscription", 1, "--repeats", 1, "--copies", 1, "--tasks", 2, "--output", tmp_path / "out.json"]
    done = run("flakes.py", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["flakes"] == []
    assert found["flake_rate"]["count"] == len(flakes.build_corpus(1, 2)) > 40
    assert found["wrong_verdicts"]["hits"] == 0
    assert found["wall_limit_fails_correct_runs"]["count"] > 30
    assert len(found["load_average_1_min"]) == 1


def test_flakes_are_found():
    corpus = flakes.build_corpus(2, 4)
    assert {truth.verdict for truth in corpus} == {"passed", "assertion", "exception", "timeout_cpu", "timeout_wall"}
    assert len({truth.id for truth in corpus}) == len({(truth.code, truth.tests) for truth in corpus}) == len(corpus)
    row = {"detail": "", "cpu_s": 0.1, "wall_s": 0.2}
    right = {truth.id: row | {"verdict": truth.verdict} for truth in corpus}
    wavering = right | {corpus[0].id: row | {"verdict": "timeout_wall"}}
    assert flakes.find_flakes(corpus, [right, right]) == []
    [flake] = flakes.find_flakes(corpus, [right, wavering])
    assert (flake["program"], flake["right"]) == (corpus[0].id, corpus[0].verdict)


def test_wall_limit():
    corpus = {truth.id: truth for truth in flakes.build_corpus(1, 1)}
    assert flakes.ends_in_time(corpus["demo/000"])
    assert not flakes.ends_in_time(corpus["endless 0"])


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 10), (5, 10), (10, 10), (0, 1000), (3, 7)])
def test_wilson_interval(hits, count):
    """The ends are the shares p from which the found share is 1.96 standard errors, sqrt(p (1 - p) / n), away."""
    low, high = flakes.wilson_interval(hits, count)
    assert low == 0 if hits == 0 else 0 < low < hits / count
    assert high == 1 if hits == count else hits / count < high < 1
    for end in {low, high} - {0.0, 1.0}:
        assert abs(hits / count - end) == pytest.approx(1.959964 * (end * (1 - end) / count) ** 0.5)


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (2, 1), (-1, 1)])
def test_no_share(hits, count):
    with pytest.raises(ValueError, match="a share needs at least one case"):
        flakes.wilson_interval(hits, count)


def test_busy_processes_end():
    before = {process.pid for process in soak.list_processes()}
    with flakes.busy_processes(2):
        assert len({process.pid for process in soak.list_processes()} - before) == 2
    assert {process.pid for process in soak.list_processes()} == before
