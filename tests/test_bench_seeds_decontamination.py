"""The benchmark of decontamination: what its ways look for and find, and its command for real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selfalign.records.files import write_table
from selfalign.seeds.part import FUNCTION_COLUMNS

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import seeds_decontamination as bench  # noqa: E402

SOLUTION = '''def spread(points, width=2):
    """Return how far apart the points are, in units of the width."""
    low, high = min(points), max(points)
    return (high - low) / width if points else None
'''
TASK = {"benchmark": "b", "id": "1", "instruction": "Write spread.", "prompt": None, "entry_point": "spread"} | {
    "canonical_solution": SOLUTION
}


def test_the_loop_looks_for_docstrings_solutions_and_tasks_in_words():
    words = TASK | {"instruction": "Say how far apart points lie, in widths."}
    docstring = "Return how far apart the points are, in units of the width."
    assert bench.needles([words]) == [docstring, SOLUTION.strip(), words["instruction"]]
    assert bench.needles([TASK]) == [docstring, SOLUTION.strip()]  # an instruction too short to tell
    assert bench.needles([words | {"prompt": SOLUTION}]) == [docstring, SOLUTION.strip()]


def test_each_way_finds_the_plants_that_it_can():
    ways = {"ours": bench.ours([TASK]), "exact": bench.ours([TASK], exact=True), "loop": bench.substring([TASK])}
    found = bench.found_plants([TASK, TASK | {"entry_point": ""}], ways)  # the second one has nothing to plant
    assert found == {
        "verbatim": dict.fromkeys(ways, "1 of 1"),
        "reformatted": dict.fromkeys(ways, "1 of 1"),
        "renamed": {"ours": "1 of 1", "exact": "0 of 1", "loop": "0 of 1"},
        "inside a longer file": dict.fromkeys(ways, "1 of 1"),
    }
    assert [way([SOLUTION, "def f(x):\n    return x\n", SOLUTION]) for way in ways.values()] == [2, 2, 2]


@pytest.mark.skipif("SELFALIGN_BENCHDATA" not in os.environ, reason="SELFALIGN_BENCHDATA names no folder")
def test_the_command_measures_all_ways_on_the_same_functions(tmp_path):
    rows = [dict.fromkeys(FUNCTION_COLUMNS, "") | {"id": str(number), "line": 1} for number in range(2)]
    rows[0]["code"] = "def f(x):\n    return x\n"
    rows[1]["code"] = bench.rename(bench.read_tasks(Path(os.environ["SELFALIGN_BENCHDATA"]))[0]["canonical_solution"])
    write_table(tmp_path / "functions.parquet", rows, FUNCTION_COLUMNS)
    command = [sys.executable, BENCH / "seeds_decontamination.py", "--functions", tmp_path / "functions.parquet"]
    options = ["--rounds", 1, "--tasks", 3, "--output", tmp_path / "out.json"]
    run = subprocess.run(list(map(str, [*command, *options])), capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["functions"] == 2
    methods = found["tasks"]["3"]["methods"]
    assert {name: row["matches"] for name, row in methods.items()} == {"ours": 1, "ours, exact": 0, "substring": 0}
    assert all(row["cpu_us"]["median"] > 0 for row in methods.values())
