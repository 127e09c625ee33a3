"""EvalPerf: functions timed beside reference solutions of known speed, from the files' format to scores."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from selfalign.benchmarks.completions import answer_id
from selfalign.benchmarks.evalperf import place
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.measuring import measure_completions, read_measurements
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.references import run_references
from selfalign.benchmarks.scoring import score_benchmark
from selfalign.benchmarks.tasks import read_tasks
from selfalign.benchmarks.verification import verify_completions
from selfalign.records.files import read_json, write_jsonl
from selfalign.sandbox import SandboxSettings

PROMPT = 'def total(n: int) -> int:\n    """Sum the whole numbers below n."""\n'
SLOW = "def total(n):\n    return sum([sum([1 for _ in range(k)]) for k in range(n)])\n"
MIDDLE = "def total(n):\n    found = 0\n    for k in range(n):\n        found += k\n    return found\n"
FAST = "def total(n):\n    return n * (n - 1) // 2\n"
WRONG = "def total(n):\n    return n\n"
PLUS = {
    "task_id": "HumanEval/900",
    "prompt": PROMPT,
    "entry_point": "total",
    "canonical_solution": "    return n * (n - 1) // 2\n",
    "base_input": [[3], [0]],
    "plus_input": [[10]],
    "atol": 0,
}
MBPP = {
    **PLUS,
    "task_id": "Mbpp/900",
    "prompt": '"""\nWrite a function to sum the numbers below n.\nassert total(3) == 3\n"""\n',
    "canonical_solution": FAST,
}
PERF = {"task_id": "HumanEval/900", "entry_point": "total", "reference": [SLOW, MIDDLE, FAST], "scores": [20, 60, 100],
        "pe_input": json.dumps([[1500]])}  # fmt: skip


def folder(tmp_path: Path, *, parquet: bool = False, **changes) -> Path:
    """Write the three files; return their folder."""
    found = tmp_path / "evalperf"
    found.mkdir()
    write_jsonl(found / "HumanEvalPlus.jsonl", [PLUS])
    write_jsonl(found / "MbppPlus.jsonl", [MBPP])
    rows = [PERF | changes]
    if parquet:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), found / "evalperf-test.parquet")
    else:
        write_jsonl(found / "EvalPerf.jsonl", rows)
    return found


def prepare(path: Path, tmp_path: Path, **options) -> Path:
    """Return the prepared tasks."""
    prepare_benchmark("evalperf", path, options, tmp_path / "perf.jsonl", tmp_path / "source.json")
    return tmp_path / "perf.jsonl"


@pytest.mark.parametrize("parquet", [False, True])
def test_functions_are_scored_by_the_references_that_they_keep_up_with(tmp_path, parquet):
    benchmark = prepare(folder(tmp_path, parquet=parquet), tmp_path, min_correct=3)
    common = {"benchmark": benchmark, "sandbox": SandboxSettings(), "workers": 1, "label": "x"}
    references, stats = tmp_path / "references.jsonl", tmp_path / "stats.json"
    run_references(**common, output=references, stats=stats)
    rows = [
        Answer(
            id=answer_id("HumanEval/900", k), task="HumanEval/900", k=k, texts=[""], finish_reasons=["stop"], code=code,
            drop=None,
        ).dump()
        for k, code in enumerate((SLOW, MIDDLE, FAST, FAST, WRONG))
    ]  # fmt: skip
    completions, verdicts, measured = (tmp_path / name for name in ("c.jsonl", "v.jsonl", "m.jsonl"))
    write_jsonl(completions, rows)
    verify_completions(**common, references=references, completions=completions, output=verdicts, stats=stats)
    measure_completions(**common, completions=completions, verdicts=verdicts, output=measured, stats=stats)
    times = {key: value["time"] for key, value in read_measurements(measured).items()}
    assert times["HumanEval/900#0"] > 5 * times["HumanEval/900#1"] > 10 * times["HumanEval/900#2"] >= 0
    assert times["HumanEval/900-s0"] == times["HumanEval/900#0"], "the same code is measured once"
    assert "HumanEval/900-s4" not in times, "it is wrong"
    score_benchmark(
        model="m",
        benchmark=benchmark,
        source=tmp_path / "source.json",
        references=references,
        completions=completions,
        verdicts=verdicts,
        measurements=measured,
        output=tmp_path / "s.json",
    )
    scores = read_json(tmp_path / "s.json")
    assert scores["pass@1"] == 0.8
    assert scores["extra"]["dps"]["value"] == pytest.approx((0.2 + 0.6 + 1.0 + 1.0) / 4)
    assert scores["extra"]["dps_norm"]["per_task"] == {"HumanEval/900": pytest.approx((1 + 2 + 3 + 3) / 12)}


def test_too_few_right_functions_are_not_scored(tmp_path):
    (task,) = read_tasks(prepare(folder(tmp_path), tmp_path))
    answer = Answer(id="a", task=task.id, k=0, texts=[""], finish_reasons=["stop"], code=FAST, drop=None)
    scores = KINDS["evalperf"].extra_scores([task], {task.id: [answer]}, {"a": {"time": 1.0}})
    assert scores["dps"] == {"value": None, "tasks": 0, "per_task": {}}


PLACES = [
    # time of a function, times of the references from slow to fast, number of the reference that it keeps up with
    (0.5, [4.0, 2.0, 1.0], 2),
    (1.04, [4.0, 2.0, 1.0], 2),
    (1.2, [4.0, 2.0, 1.0], 1),
    (3.0, [4.0, None, 1.0], 0),
    (9.0, [4.0, 2.0, 1.0], -1),
]


@pytest.mark.parametrize(("time", "references", "number"), PLACES)
def test_the_fastest_reference_counts(time, references, number):
    assert place(time, [None if one is None else {"time": one} for one in references]) == number


def test_wrong_folders_and_rows_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"0 files HumanEvalPlus.*; evalperf needs a folder with one of each"):
        prepare(tmp_path / "none", tmp_path)
    path = folder(tmp_path, scores=[1])
    with pytest.raises(ValueError, match="3 reference solutions and 1 scores"):
        prepare(path, tmp_path)
    write_jsonl(path / "EvalPerf.jsonl", [PERF | {"task_id": "HumanEval/901"}])
    with pytest.raises(ValueError, match="row 1: HumanEval/901 is in neither file of EvalPlus"):
        prepare(path, tmp_path)


@pytest.mark.parametrize("printed", ["", '\x1e{"seconds": [], "work": [1]}', '\x1e{"seconds": [1], "work": [0]}', "1"])
def test_times_that_are_none_are_errors(tmp_path, printed):
    (task,) = read_tasks(prepare(folder(tmp_path), tmp_path))
    with pytest.raises(ValueError, match="printed"):
        KINDS["evalperf"].read_measurement(task, FAST, printed)
