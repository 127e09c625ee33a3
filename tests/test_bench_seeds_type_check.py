"""The benchmark of the type check: its command runs for real and counts what it says."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from selfalign.records.files import write_table
from selfalign.records.rows import Function
from selfalign.seeds.part import FUNCTION_COLUMNS
from selfalign.seeds.type_check import find_tool

BENCH = Path(__file__).parent.parent / "bench/seeds_type_check.py"
# Code, and whether ty and Pyright find an error. The last one has an undefined name, so that only the speed sees it
CODES = [
    ("def f(x):\n    return x + 1", False, False),
    ("def f(x: int):\n    return x.nothing", True, True),
    ("def f(x):\n    # type: (Later) -> int\n    return 1", False, True),
    ("def f(x, y=[]):\n    return y.nothing", True, False),
    ("def f(x):\n    return helper(x)", True, True),
]


@pytest.fixture
def command(tmp_path):
    """Return how to run the benchmark; basedpyright stands in for Pyright, which is not in the lock."""
    (tmp_path / "pyright").symlink_to(find_tool("basedpyright"))
    rows = [
        Function(
            id=f"{number:016x}",
            code=code,
            name="f",
            imports="",
            docstring="Doc.",
            package="pkg",
            version="1",
            path="mod.py",
            line=1,
            licence="MIT",
        )
        for number, (code, _, _) in enumerate(CODES)
    ]
    write_table(tmp_path / "functions.parquet", [row.dump() for row in rows], FUNCTION_COLUMNS)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(*options: str) -> subprocess.CompletedProcess:
        arguments = [sys.executable, BENCH, tmp_path / "functions.parquet", *options]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=300)

    return run


def test_the_command_counts_verdicts_and_time_of_each_method(command, tmp_path):
    output = tmp_path / "results.json"
    options = ["--count", "5", "--agreement", "4", "--rounds", "1", "--output", str(output)]
    result = command("--checkers", "ty", "ty+basedpyright", *options)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    fields = ("both_keep", "both_refuse", "kept_wrongly", "lost", "agreement_percent")
    found = {name: [row[field] for field in fields] for name, row in results["agreement"]["checkers"].items()}
    assert found == {"pyright": [2, 2, 0, 0, 100], "ty": [1, 1, 1, 1, 50], "ty+basedpyright": [1, 2, 0, 1, 75]}
    methods = results["speed"]["methods"]
    fields = ("kept", "kept_wrongly", "lost")
    assert {name: [row[field] for field in fields] for name, row in methods.items()} == {
        "original": [2, 0, 0],
        "ty": [2, 1, 1],
        "ty+basedpyright": [1, 0, 1],
    }
    assert methods["ty"]["reasons"] == {"type error": 2, "undefined name": 1}
    assert methods["original"]["times_original"]["median"] == 1
    assert methods["ty"]["per_cpu_s"]["median"] > methods["ty+basedpyright"]["per_cpu_s"]["median"] > 0
    assert results["target"].keys() == {"ty", "ty+basedpyright"}


@pytest.mark.parametrize("part", [1, 3, 5])
def test_the_original_can_have_a_part_of_the_functions(command, tmp_path, part):
    output = tmp_path / "results.json"
    options = ["--count", "5", "--original", str(part), "--agreement", "0", "--rounds", "1", "--output", str(output)]
    result = command("--checkers", "ty", *options)
    assert result.returncode == 0, result.stderr
    speed = json.loads(output.read_text())["speed"]
    codes = list(CODES)
    random.Random(1).shuffle(codes)  # as the command draws them
    original, ty = speed["methods"]["original"], speed["methods"]["ty"]
    assert (speed["functions"], speed["of_original"]) == (5, part)
    assert original["kept"] == sum(not pyright for _, _, pyright in codes[:part])
    assert ty["kept"] == 2
    assert ty["kept_wrongly"] == sum(pyright and not ty for _, ty, pyright in codes[:part])
    assert ty["lost"] == sum(ty and not pyright for _, ty, pyright in codes[:part])


ERRORS = [
    (
        ["--checkers", "ty", "--count", "5", "--agreement", "0", "--original", "6"],
        "--original is 6; it must be from 1 to 5",
    ),
    (["--checkers", "ty+mypy"], "unknown checker 'mypy'"),
    (["--checkers", "ty", "--count", "6"], "the files hold 5 functions; give more, or ask for fewer"),
]


@pytest.mark.parametrize(("options", "message"), ERRORS)
def test_wrong_options_are_said_before_any_work(command, options, message):
    result = command(*options)
    assert result.returncode != 0
    assert message in result.stderr
