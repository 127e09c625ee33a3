"""CanItEdit: two questions for each problem, tests behind the program, and the lines that these run."""

import gzip
import json
import lzma
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from selfalign.benchmarks.canitedit import CanItEdit, whole_percent
from selfalign.benchmarks.completions import answer_id
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.line_coverage import RAN, instrument
from selfalign.benchmarks.measuring import Measurement, measure_completions
from selfalign.benchmarks.outputs import OutputCollection
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.scoring import score_benchmark
from selfalign.benchmarks.tasks import Check, Task, read_tasks
from selfalign.records.files import read_json, read_jsonl, write_jsonl
from selfalign.sandbox import Program, Sandbox, SandboxSettings

ROW = {
    "id": 1,
    "full_name": "1_area",
    "before": "def area(a, b):\n    return a + b\n",
    "after": "def area(a, b):\n    return a * b\n",
    "tests": "if True:  # pragma: no cover\n    assert area(2, 3) == 6\n    assert area(0, 3) == 0\n",
    "instruction_descriptive": "Let `area` return the product of its arguments.",
    "instruction_lazy": "fix area",
    "taxonomy": {"change_kind": "corrective", "libraries": [], "topic": "Math"},
}
EXCESS = (
    "def area(a, b):\n    return a * b\n\n\ndef unused(a):\n    b = a\n    return b\n"  # 5 lines, of which 2 never run
)
WRONG = "def area(a, b):\n    return a * b + 1\n"


def run(script: str, *options: object) -> None:
    """Run a command, which has to succeed."""
    command = [sys.executable, ROOT / f"scripts/{script}.py", *options]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def tasks_of(row: dict) -> list[Task]:
    """Return the tasks of one problem."""
    return KINDS["canitedit"].read_tasks(row, "canitedit")


def answer(task: str, k: int, code: str) -> dict:
    """Return the row of an answer."""
    return Answer(
        id=answer_id(task, k), task=task, k=k, texts=[code], finish_reasons=["stop"], code=code,
        drop=None if code else "no code",
    ).dump()  # fmt: skip


def test_a_problem_is_two_tasks_with_two_ways_of_asking():
    descriptive, lazy = tasks_of(ROW)
    assert [task.id for task in (descriptive, lazy)] == ["1_area-descriptive", "1_area-lazy"]
    assert descriptive.groups == {"instruction": "descriptive", "change": "corrective"}
    assert lazy.groups == {"instruction": "lazy", "change": "corrective"}
    for task, other in ((descriptive, lazy), (lazy, descriptive)):
        words = ROW[f"instruction_{task.groups['instruction']}"]
        for asked in (task.instruction, task.prompt):
            assert words in asked
            assert f"```python\n{ROW['before']}```" in asked
            assert ROW[f"instruction_{other.groups['instruction']}"] not in asked
            assert "a * b" not in asked, "the solution is in the question"
            assert "== 6" not in asked
        assert task.prompt.endswith("```python\n")
        assert task.stop == ["\n```"]


ANSWERS = [
    ("a whole program goes on where the prompt ends", ROW["after"], True, ROW["after"]),
    ("a block in an answer", f"Here:\n```python\n{ROW['after']}```\nIt multiplies now.", False, ROW["after"]),
    (
        "a block that was cut off",
        "```python\ndef area(a, b):\n    return a *",
        False,
        "def area(a, b):\n    return a *\n",
    ),
    ("an empty answer", " \n", True, ""),
    ("a refusal", "I cannot.", False, ""),
]


@pytest.mark.parametrize(
    ("text", "completes", "code"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
def test_answers_become_programs(text, completes, code):
    found = KINDS["canitedit"].build_code(tasks_of(ROW)[0], [text], completes_prompt=completes)
    assert found == (code, None if code else "no code")


BAD_ROWS = [
    ({**ROW, "instruction_lazy": ""}, "row 2: a field has the wrong type (instruction_lazy is ''"),
    ({key: value for key, value in ROW.items() if key != "tests"}, "row 2: no field 'tests'; is this a file of the"),
    ({**ROW, "taxonomy": "none"}, "row 2: a field has the wrong type"),
    ({**ROW, "after": "def area(:"}, "row 2: solution and tests are not valid Python"),
    (ROW, "row 2: the task 1_area-descriptive is there twice"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS, ids=[message[7:40] for _, message in BAD_ROWS])
def test_bad_rows_are_one_clear_error(tmp_path, row, message):
    write_jsonl(tmp_path / "edits.jsonl", [ROW, row])
    with pytest.raises(ValueError) as error:  # noqa: PT011
        prepare_benchmark("canitedit", tmp_path / "edits.jsonl", {}, tmp_path / "b.jsonl", tmp_path / "b.json")
    assert f"edits.jsonl, {message}" in str(error.value)


# Lines

COVERAGE = [
    # what, program, lines that count, lines that run
    ("plain", "x = 1\ny = x\n", {1, 2}, {1, 2}),
    ("docstrings are none", '"""Doc."""\n\n\ndef f():\n    """Doc."""\n    return 1\n\n\nf()\n', {4, 6, 9}, {4, 6, 9}),
    ("a branch not taken", "if 1 > 2:\n    x = 1\nelse:\n    x = 2\n", {1, 2, 4}, {1, 4}),
    ("elif", "x = 2\nif x == 1:\n    y = 1\nelif x == 2:\n    y = 2\nelse:\n    y = 3\n",
     {1, 2, 3, 4, 5, 7}, {1, 2, 4, 5}),
    ("a call over lines", "x = max(\n    1,\n    2,\n)\n", {1}, {1}),
    ("a header over lines", "def f(\n    a,\n    b,\n):\n    return a\n", {1, 5}, {1}),
    ("decorators", "import functools\n\n\n@functools.cache\ndef f():\n    return 1\n", {1, 4, 5, 6}, {1, 4, 5}),
    ("handlers are passed in order", "try:\n    [][0]\nexcept KeyError:\n    x = 1\nexcept IndexError:\n    x = 2\n",
     {1, 2, 3, 4, 5, 6}, {1, 2, 3, 5, 6}),
    ("finally", "try:\n    x = 1\nfinally:\n    x = 2\n", {1, 2, 4}, {1, 2, 4}),
    ("match", "match 2:\n    case 1:\n        x = 1\n    case 2:\n        x = 2\n    case _:\n        x = 3\n",
     {1, 2, 3, 4, 5, 6, 7}, {1, 2, 4, 5}),
    ("a function never called", "def f():\n    x = 1\n    return x\n", {1, 2, 3}, {1}),
    ("code behind a return", "def f():\n    return 1\n    x = 1\n\n\nf()\n", {1, 2, 6}, {1, 2, 6}),
    ("global names", "x = 1\n\n\ndef f():\n    global x\n    x = 2\n\n\nf()\n", {1, 4, 6, 9}, {1, 4, 6, 9}),
    ("a loop that is left", "for x in (1, 2):\n    if x:\n        break\n    y = 1\n", {1, 2, 3, 4}, {1, 2, 3}),
    ("one line, two statements", "x = 1; y = 2\n", {1}, {1}),
    ("future imports", "from __future__ import annotations\n\nx = 1\n", {1, 3}, {1, 3}),
    ("a block that is not to count", "x = 1\nif x:  # pragma: no cover\n    y = 1\nz = 1\n", {1, 4}, {1, 4}),
    ("a line that is not to count", "x = 1\ny = 1  # pragma: no cover\n", {1}, {1}),
    ("abstract methods", "import abc\n\n\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def f(self):\n        pass\n",
     {1, 4}, {1, 4}),
    ("a class", "class A:\n    b = 1\n\n    def f(self):\n        return 1\n", {1, 2, 4, 5}, {1, 2, 4}),
    ("coroutines", "import asyncio\n\n\nasync def f():\n    return 1\n\n\nasyncio.run(f())\n",
     {1, 4, 5, 8}, {1, 4, 5, 8}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "lines", "ran"), [case[1:] for case in COVERAGE], ids=[case[0] for case in COVERAGE]
)
def test_lines_count_and_run(source, lines, ran):
    marked, found = instrument(source)
    assert found == lines
    space = {"__name__": "marked"}
    exec(compile(marked, "marked", "exec"), space)
    assert space[RAN] == ran


def test_lines_of_a_second_part_are_counted_on():
    code, lines = instrument("x = 1\ny = 2\n")
    more, others = instrument("if x:\n    z = 1\nelse:\n    z = 2\n", before=2)
    assert (lines, others) == ({1, 2}, {3, 4, 6})
    space = {}
    exec(f"{code}\n{more}", space)
    assert space[RAN] == {1, 2, 3, 4}


@pytest.mark.parametrize("source", ["x = (", "\0", f"x = {'-' * 50_000}1"])
def test_what_cannot_be_marked_is_a_value_error(source):
    with pytest.raises(ValueError, match=r"marked|null"):
        instrument(source)


@pytest.mark.parametrize(
    ("part", "whole", "percent"), [(0, 5, 0), (5, 5, 100), (999, 1000, 99), (1, 1000, 1), (2, 3, 67), (1, 2, 50)]
)
def test_percent_is_whole_as_coverage_prints_it(part, whole, percent):
    assert whole_percent(part, whole) == percent


def test_excess_code_is_the_mean_over_tasks_of_medians_over_answers():
    first, second = tasks_of(ROW)
    third = replace(first, id="none-passed")
    answers = {task.id: [Answer.load(answer(task.id, k, "x = 1")) for k in range(4)] for task in (first, second, third)}
    ran = {first.id: (10, 8, 5), second.id: (9,)}
    measured = {answer_id(task, k): {"lines": 10, "ran": n} for task, found in ran.items() for k, n in enumerate(found)}
    score = CanItEdit().extra_scores([first, second, third], answers, measured)["ExcessCode"]
    assert (score["value"], score["tasks"], score["unit"]) == (15.0, 2, "%")  # medians 80 and 90
    assert score["interval"] == [10.0, 20.0]
    none = CanItEdit().extra_scores([third], answers, measured)["ExcessCode"]
    assert (none["value"], none["tasks"]) == (None, 0)


# From files to scores, by the real commands


@pytest.fixture(scope="module")
def edits(tmp_path_factory) -> Path:
    """Return the prepared rows of one problem, with its references."""
    folder = tmp_path_factory.mktemp("edits")
    write_jsonl(folder / "edits.jsonl", [ROW])
    path = folder / "canitedit.jsonl"
    run("prepare_benchmark", "--kind", "canitedit", "--path", folder / "edits.jsonl", "--output", path,
        "--source", folder / "canitedit.source.json")  # fmt: skip
    run("run_references", "--benchmark", path, "--output", folder / "canitedit.references.jsonl",
        "--stats", folder / "references.json")  # fmt: skip
    assert read_json(folder / "references.json")["left_out"] == {}
    return path


def test_commands_lead_to_pass_and_excess_code(edits, tmp_path):
    folder = tmp_path / "tiny/canitedit"
    codes = {"descriptive": [ROW["after"], EXCESS, WRONG], "lazy": [EXCESS, EXCESS, ""]}
    rows = [answer(f"1_area-{kind}", k, code) for kind, found in codes.items() for k, code in enumerate(found)]
    write_jsonl(folder / "completions.jsonl", rows)
    common = ["--benchmark", edits, "--completions", folder / "completions.jsonl"]
    references = ["--references", edits.with_suffix(".references.jsonl")]
    run("verify_completions", *common, *references, "--output", folder / "verdicts.jsonl",
        "--stats", folder / "verdicts.json")  # fmt: skip
    common += ["--verdicts", folder / "verdicts.jsonl"]
    run("measure_completions", *common, "--output", folder / "measurements.jsonl",
        "--stats", folder / "measurements.json")  # fmt: skip
    measured = [Measurement.load(row) for row in read_jsonl(folder / "measurements.jsonl")]
    assert {row.id: (row.values, row.detail) for row in measured} == {
        "1_area-descriptive-s0": ({"lines": 2, "ran": 2}, ""),
        "1_area-descriptive-s1": ({"lines": 5, "ran": 3}, ""),
        "1_area-lazy-s0": ({"lines": 5, "ran": 3}, ""),
        "1_area-lazy-s1": ({"lines": 5, "ran": 3}, ""),
    }
    assert read_json(folder / "measurements.json")["failed"] == 0
    scores = folder / "scores.json"
    options = {
        "benchmark": edits,
        "source": edits.with_suffix(".source.json"),
        "references": edits.with_suffix(".references.jsonl"),
        "completions": folder / "completions.jsonl",
        "verdicts": folder / "verdicts.jsonl",
        "output": scores,
    }
    with pytest.raises(ValueError, match="canitedit scores measurements, too; run measure_completions"):
        score_benchmark(model="tiny", **options)
    score_benchmark(model="tiny", measurements=folder / "measurements.jsonl", **options)
    found = read_json(scores)
    assert found["pass@1"] == pytest.approx(4 / 6)
    assert found["extra"]["ExcessCode"]["value"] == 30.0  # medians 80 (100 and 60) and 60
    groups = found["groups"]
    assert {kind: group["extra"]["ExcessCode"]["value"] for kind, group in groups["instruction"].items()} == {
        "descriptive": 20.0,
        "lazy": 40.0,
    }
    assert groups["change"]["corrective"]["pass@1"] == found["pass@1"]


SEEN = "'_lines_that_ran' in globals()"
HOSTILE = {
    "it looks at its own lines": f"def area(a, b):\n    return a * b\n\n\nassert not {SEEN}\n",
    "it leaves": f"import os\n\n\ndef area(a, b):\n    if {SEEN}:\n        os._exit(0)\n    return a * b\n",
    "it prints lines of its own": "def area(a, b):\n    print('\\x1e[1, 2, 3, 4, 5]')\n    return a * b\n",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_measuring_can_fail_and_says_why(edits, tmp_path, code, capsys):
    write_jsonl(tmp_path / "c.jsonl", [answer("1_area-lazy", 0, code)])
    verdict = {"id": "1_area-lazy-s0/tests", "verdict": "passed", "detail": "", "cpu_s": 0.1, "wall_s": 0.1}
    write_jsonl(tmp_path / "v.jsonl", [{**verdict, "max_rss_mb": 9.0, "assertions": 2, "core": "c"}])

    measure_completions(
        benchmark=edits, completions=tmp_path / "c.jsonl", verdicts=tmp_path / "v.jsonl", sandbox=SandboxSettings(),
        workers=1, label="m", output=tmp_path / "m.jsonl", stats=tmp_path / "m.json",
    )  # fmt: skip
    (row,) = (Measurement.load(row) for row in read_jsonl(tmp_path / "m.jsonl"))
    if "print(" in code:
        assert row.values == {"lines": 3, "ran": 3}
    else:
        assert row.values is None
        assert row.detail
        assert "1 of 1 solutions could not be measured, the first is 1_area-lazy-s0" in capsys.readouterr().out


def test_tests_may_look_at_the_source_of_a_class():
    code = "class A:\n    b = 1\n\n\nclass B:\n    b = 2\n"
    tests = f"import inspect\n\nassert inspect.getsource(B) == {code[-19:]!r}\n"
    task = replace(tasks_of(ROW)[0], checks=[Check(tests=tests)])
    program, measured = KINDS["canitedit"].measure_program(task, code)
    printed: dict[str, str] = {}
    compare = OutputCollection(printed=printed, id="a")
    programs = [Program(id="a", code=program, tests=measured, compare=compare)]
    assert [row.verdict for row in Sandbox(SandboxSettings(), 1).run(programs)] == ["passed"]
    assert KINDS["canitedit"].read_measurement(task, code, printed["a"]) == {"lines": 6, "ran": 6}


def test_a_kind_that_measures_nothing_is_refused(tmp_path):
    path = ROOT / "resources/demo/benchmark.jsonl"
    prepare_benchmark("demo", path, {}, tmp_path / "demo.jsonl", tmp_path / "demo.json")
    with pytest.raises(ValueError, match="kind demo measure nothing; leave this step out"):
        measure_completions(
            benchmark=tmp_path / "demo.jsonl", completions=tmp_path / "c.jsonl", verdicts=tmp_path / "v.jsonl",
            sandbox=SandboxSettings(), workers=1, label="m", output=tmp_path / "m.jsonl", stats=tmp_path / "m.json",
        )  # fmt: skip


# The published file and verdicts

DATA = os.environ.get("SELFALIGN_BENCHDATA")
# Their tests catch the false assertions that they stand on, or assert wall-clock time.
UNLIKE = {"8_vector_lib", "6_locked_box", "67_test_invariants", "47_merge_sort", "60_unique_number"}


@pytest.mark.skipif(DATA is None, reason="SELFALIGN_BENCHDATA names no folder of benchmarks")
def test_recorded_verdicts_are_ours(tmp_path):
    with gzip.open(Path(DATA, "canitedit/canitedit.jsonl.gz"), "rt") as file:
        plain = [row for row in map(json.loads, file) if not row["taxonomy"]["libraries"]]
    small = [row for row in plain if row["full_name"] not in UNLIKE][::4]
    write_jsonl(tmp_path / "edits.jsonl", small)
    benchmark = tmp_path / "canitedit.jsonl"
    prepare_benchmark("canitedit", tmp_path / "edits.jsonl", {}, benchmark, tmp_path / "source.json")
    run("run_references", "--benchmark", benchmark, "--workers", 2, "--output", tmp_path / "references.jsonl",
        "--stats", tmp_path / "references.json")  # fmt: skip
    assert read_json(tmp_path / "references.json")["left_out"] == {}
    rows, recorded = [], {}
    tasks = {task.id for task in read_tasks(benchmark)}
    with lzma.open(Path(DATA, "verdicts/canitedit_verdicts.jsonl.xz"), "rt") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            task = f"{row['full_name']}-{row['instr_kind']}"
            if task in tasks and number % 10 == 0:
                rows.append(answer(task, number, row["code"]))
                recorded[rows[-1]["id"]] = row["status"] == "OK"
    write_jsonl(tmp_path / "c.jsonl", rows)
    run("verify_completions", "--benchmark", benchmark, "--references", tmp_path / "references.jsonl",
        "--completions", tmp_path / "c.jsonl", "--workers", 2, "--output", tmp_path / "v.jsonl",
        "--stats", tmp_path / "v.json")  # fmt: skip
    found = {row["id"].removesuffix("/tests"): row["verdict"] == "passed" for row in read_jsonl(tmp_path / "v.jsonl")}
    assert found == recorded
    assert min(Counter(found.values()).values()) > 50
