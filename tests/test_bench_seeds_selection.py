"""The benchmarks of selection and near-duplicates: what they make and measure is what they say."""

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from selfalign.records.files import write_table
from selfalign.records.rows import Function
from selfalign.seeds.part import FUNCTION_COLUMNS

BENCH = Path(__file__).parent.parent / "bench"
sys.path.append(str(BENCH))

import near_duplicates_peers as peers  # noqa: E402
import seeds_near_duplicates  # noqa: E402
import seeds_selection  # noqa: E402

CODES = [
    f'def {name}(values, limit):\n    """Return {what} of the values below a limit."""\n'
    f"    chosen = [value for value in values if value < limit]\n    return {call}(chosen) if chosen else None\n"
    for name, what, call in (("largest", "the top", "max"), ("total", "the sum", "sum"), ("order", "a list", "sorted"))
]  # fmt: skip
CODES += [CODES[0], CODES[0].replace("below", "under")]  # a copy and a near-duplicate


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def part(tmp_path) -> Path:
    path = tmp_path / "part.parquet"
    rows = [
        Function(id=f"{number:016x}", code=code, name="f", imports="", docstring="Doc.", package="p", version="",
                 path="m.py", line=number, licence="MIT").dump()
        for number, code in enumerate(CODES)
    ]  # fmt: skip
    write_table(path, rows, FUNCTION_COLUMNS)
    return path


def similarity(a: str, b: str) -> float:
    first, second = peers.ngrams(a), peers.ngrams(b)
    return len(first & second) / len(first | second)


def test_each_pass_is_like_the_real_functions_and_unlike_the_others(part):
    made = [row["code"] for row in seeds_selection.make_functions([str(part)], 18)]
    ids = [row["id"] for row in seeds_selection.make_functions([str(part)], 18)]
    assert len(made) == len(set(ids)) == 18
    assert made[:5] == CODES
    passes = [made[0:5], made[5:10], made[10:15]]
    for codes in passes:
        assert codes[3] == codes[0]
        assert similarity(codes[4], codes[0]) == similarity(CODES[4], CODES[0]) > 0.5
        assert [len(code.split()) for code in codes] == [len(code.split()) for code in CODES]
        for code in codes:
            ast.parse(code)
    assert max(similarity(a, b) for one, two in itertools.combinations(passes, 2) for a in one for b in two) < 0.3
    assert made[15:] != made[:3]


LOAD = """
import os, subprocess, sys, tempfile, time
held = bytearray(os.urandom(1)) * 120_000_000
unnamed = tempfile.TemporaryFile()
unnamed.write(b"x" * 5_000_000)
unnamed.flush()
os.makedirs(sys.argv[1] + "/.hidden")
open(sys.argv[1] + "/.hidden/a", "wb").write(b"x" * 3_000_000)
open(sys.argv[1] + "/seen", "wb").write(b"x" * 9_000_000)
end = time.process_time() + 0.3
while time.process_time() < end: pass
subprocess.run([sys.executable, "-c", "import time; held = bytearray(b'x') * 60_000_000; time.sleep(0.8)"])
time.sleep(0.3)
"""


def test_memory_of_all_processes_and_temporary_files_are_measured(tmp_path):
    found = seeds_selection.measure([sys.executable, "-c", LOAD, str(tmp_path)], tmp_path)
    assert 120 < found["largest_process_mb"] < 160
    assert 180 < found["all_processes_mb"] < 240
    assert found["temporary_files_mb"] == 8.0
    assert 0.3 <= found["cpu_s"] < 3
    with pytest.raises(ValueError, match="ended with code 3"):
        seeds_selection.measure([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def test_a_projection_is_the_line_through_the_two_largest_runs():
    names = ("cpu_s", "largest_process_mb", "all_processes_mb", "temporary_files_mb")
    runs = [{"functions": size, **dict.fromkeys(names, value)} for size, value in ((3e6, 90), (1e6, 99), (2e6, 70))]
    assert seeds_selection.project(runs, 5_000_000)["cpu_s"] == {"per_million": 20.0, "projected": 130.0}


def test_the_selection_is_measured_for_real(part, tmp_path):
    output = tmp_path / "found.json"
    done = run("seeds_selection.py", "--functions", part, "--sizes", 50, 100, "--processes", 1, "--output", output,
               "--folder", tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert [run["functions"] for run in found["runs"]] == [50, 100]
    for one in found["runs"]:
        stages = {stage["stage"]: stage for stage in one["funnel"]}
        assert stages["exact_duplicates"]["dropped"] == {"exact duplicate": one["functions"] // 5}
        assert stages["near_duplicates"]["dropped"]["near-duplicate"] >= one["functions"] // 5
        assert 50 < one["largest_process_mb"] <= 2000
    assert set(found["projection"]["1"]) == {"cpu_s", "largest_process_mb", "all_processes_mb", "temporary_files_mb"}
    assert "| 100 | 1 | " in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"found.json", "part.parquet"}


def test_near_duplicates_are_measured_for_real_and_missing_peers_are_named(part, tmp_path):
    output = tmp_path / "found.json"
    done = run("seeds_near_duplicates.py", "--functions", part, "--rounds", 2, "--output", output,
               "--peers-python", "none/python")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "without gaoya, rensa: there is no none/python; bench/README.md says how" in done.stderr
    found = json.loads(output.read_text())
    assert set(found["quality"]) == {"ours", "original", "original, batched"}
    assert len(found["rounds"]) == 2
    assert found["quality"]["ours"] == {"dropped": found["dropped_by_exact_clusters"], "recall": 1.0, "wrong": 0.0}
    assert found["quality"]["ours"]["dropped"] >= 2


def test_a_peer_that_fails_is_an_error():
    with pytest.raises(ValueError, match=r"(?s)rensa ended with code 1: .*No module named 'rensa'"):
        seeds_near_duplicates.run_method("rensa", {"a": "a b"}, sys.executable)


def test_recall_and_wrong_drops_are_those_of_pairs_and_clusters():
    exact = {"b": "a", "d": "c"}
    found = seeds_near_duplicates.quality({"b": "a", "e": "a"}, [("a", "b"), ("c", "d")], exact)
    assert found == {"dropped": 2, "recall": 0.5, "wrong": 0.5}
