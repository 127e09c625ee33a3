"""What tests are worth: mutants, marks, agreement, truth and what is selected and told by them, in the real sandbox."""

import ast
import json
from dataclasses import replace

import pytest
from conftest import ROOT
from generation_runs import instructions, options
from selection_rows import EMPTY, candidate, fenced

from selfalign.benchmarks.instructions import take_instructions
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.references import run_references
from selfalign.benchmarks.truth import verify_truth
from selfalign.generation.stages import Settings as GenerationSettings
from selfalign.generation.suites import generate_tests
from selfalign.prompts.documents import code_blocks, parse_independent_tests
from selfalign.quality.agreement import consensus, redefines
from selfalign.quality.coverage import WholeCoverage, mark_code
from selfalign.quality.measuring import Measures, measure_tests
from selfalign.quality.mutants import mutants
from selfalign.records.files import read_json, read_jsonl, write_jsonl
from selfalign.records.rows import Quality, Response, Verdict
from selfalign.reporting.quality import CONSENSUS, read_quality
from selfalign.reporting.quality_section import confusion_rows, quality_rows, quality_section
from selfalign.sandbox import SandboxSettings
from selfalign.selection.card import data_card
from selfalign.selection.pairs import Settings, select_pairs

MUTANTS = {  # code to what its mutants have in its place
    "x = a < b": {"x = a <= b", "x = a >= b"},
    "x = a == b and c": {"x = a != b and c", "x = a == b or c"},
    "x = a + 1": {"x = a - 1", "x = a + 2"},
    "x = not a": {"x = a"},
    "x = -a": {"x = a"},
    "def f():\n    'Doc.'\n    return 2": {
        'def f():\n    """Doc."""\n    return', 'def f():\n    """Doc."""\n    return 3',
    },
    "x = sorted(a, reverse=True)": {"x = sorted(a, reverse=False)"},
    "x = 'n' if min(a) else ''": {
        "x = 'n' if not min(a) else ''", "x = '' if min(a) else ''", "x = 'n' if max(a) else ''",
        "x = 'n' if min(a) else 'mutated'",
    },
    "while a:\n    a -= f(a)\n    break": {
        "while not a:\n    a -= f(a)\n    break", "while a:\n    a += f(a)\n    break", "while a:\n    pass\n    break",
        "while a:\n    a -= f(a)\n    continue",
    },
    "x = [y for y in a if y]": {"x = [y for y in a if not y]"},
    "def f(a: int=b) -> 'x':\n    assert a == 1": set(),
    "x = '%s' % a": {"x = '' % a"},
    "def f(:": set(),
}  # fmt: skip


@pytest.mark.parametrize("code", MUTANTS)
def test_mutants(code):
    found = list(mutants(code, 100, 1))
    assert len(found) == len(set(found))
    assert set(found) == MUTANTS[code]


def test_mutants_are_drawn_by_the_seed_and_the_code_alone():
    code = "def f(a, b):\n    return a + b * 2 - 3 if a < b else a // 4"
    every = list(mutants(code, 100, 1))
    assert list(mutants(code, 3, 1)) == every[:3]
    assert set(mutants(code, 100, 2)) == set(every)
    assert list(mutants(code, 3, 2)) != every[:3]
    assert all(ast.parse(mutant) for mutant in every)


SIGN = "def sign(x):\n    if x > 0:\n        return 1\n    return -1 if x else 0\n"
COVERED = {  # code, what runs it, marks that run, marks in all
    "whole": (SIGN, "sign(1), sign(-1), sign(0)", 8, 8),
    "one way": (SIGN, "sign(1)", 4, 8),
    "never called": (SIGN, "", 1, 8),
    "comprehension": ("def f(xs):\n    return [x for x in xs if x]\n", "f([1])", 3, 4),
    "comprehension, both": ("def f(xs):\n    return [x for x in xs if x]\n", "f([0, 1])", 4, 4),
    "a loop without end": ("def f():\n    while True:\n        return 1\n", "f()", 3, 3),
    "printing and catching output": (
        "def f():\n    print('@ran 99', end='')\n    return 1\n",
        "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    f()",
        3, 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COVERED)
def test_marks(name, capsys):
    code, calls, ran, whole = COVERED[name]
    marked, marks = mark_code(code)
    exec(compile(f"{marked}\n{calls}", "program", "exec"), {"__name__": "program"})
    told = WholeCoverage(marks=marks, collect_kb=1)(capsys.readouterr().out)
    assert len(marks) == whole
    assert told == ("" if ran == whole else f"ran {ran} of {whole}")


def test_marks_of_what_does_not_compile():
    with pytest.raises(ValueError, match="lines cannot be marked"):
        mark_code("def f(:")


def test_consensus_and_suites_that_test_themselves():
    assert consensus(["110", "110", "111", "000"]) == [(2, 2.8284), (2, 2.8284), (1, 3.0), (1, 0.0)]
    assert redefines("def f(x): return 1\nassert f(0)", "def f(x): return x")
    assert not redefines("def g(x): return 1\nassert f(0)", "def f(x): return x")
    assert not redefines("def f(:", "def f(x): return x")


PARSED = {
    fenced("assert f(1)"): None,
    "assert f(1)": "no code in tests",
    f"### Response\n{fenced('def f(x): return x')}\n### Tests\n{fenced('assert f(1)')}": "malformed tests",
    f"{fenced('def f(x): return x')}\n</response>\n<tests>\n{fenced('assert f(1)')}": "malformed tests",
    fenced("### Tests of f\nassert f(1)"): None,
}


@pytest.mark.parametrize("text", PARSED)
def test_parse_independent_tests(text):
    assert parse_independent_tests(f"\n{text}\n\n") == (text, PARSED[text])


GOOD, BAD = "def double(x):\n    return x * 2", "def double(x):\n    return x + 2"
OWN = "assert double(3) == 6"
WEAK = "assert double(2) == 4"  # which BAD passes, too
CASE = "import unittest\n\nclass Case(unittest.TestCase):\n    def test(self):\n        self.assertEqual(double(3), 6)"
COMMON = {"shots": [], "seed": 1, "finish_reason": "stop", "text": "raw"}


def write_shard(folder, responses: dict[str, tuple[str, str, bool]], suites: dict[str, str], truth: dict[str, bool]):
    """Write the files of a shard; return the options of measure_tests."""
    seen = {"detail": "", "cpu_s": 0.1, "wall_s": 0.1, "max_rss_mb": 9.0, "assertions": 1, "core": "c"}
    write_jsonl(
        folder / "responses.jsonl",
        [
            Response(
                id=name, parent=name.rpartition("-")[0], response=fenced(code), tests=fenced(tests), drop=None, **COMMON
            ).dump()
            for name, (code, tests, _) in responses.items()
        ],
    )
    write_jsonl(
        folder / "verdicts.jsonl",
        [
            Verdict(id=name, verdict="passed" if passed else "assertion", **seen).dump()
            for name, (_, _, passed) in responses.items()
        ],
    )
    write_jsonl(
        folder / "tests.jsonl",
        [
            {"id": name, "parent": name.rpartition("-")[0], "tests": fenced(tests), "drop": None, **COMMON}
            for name, tests in suites.items()
        ],
    )
    write_jsonl(
        folder / "truth.jsonl",
        [
            Verdict(id=f"{name}/{check}", verdict="passed" if right or check == "a" else "assertion", **seen).dump()
            for name, right in truth.items()
            for check in ("a", "b")
        ],
    )
    return {
        "responses": [folder / "responses.jsonl"],
        "verdicts": [folder / "verdicts.jsonl"],
        "tests": folder / "tests.jsonl",
        "truth": folder / "truth.jsonl",
        "run_seed": 7,
        "sandbox": SandboxSettings(),
        "workers": 1,
        "label": "quality test",
        "output": folder / "quality.jsonl",
        "stats": folder / "quality.json",
    }


def test_measure_tests(tmp_path):
    responses = {
        "s-i0-r0": (GOOD, OWN, True),
        "s-i0-r1": (BAD, WEAK, True),  # a false pass
        "s-i0-r2": (GOOD, CASE, True),
        "s-i0-r3": (BAD, OWN, False),
        "s-i1-r0": ("def f(:", OWN, False),
    }
    suites = {"s-i0-t0": "assert double(5) == 10", "s-i0-t1": "assert double(5) == 11", "s-i0-t2": f"{GOOD}\n{OWN}"}
    arguments = write_shard(tmp_path, responses, suites, {"s-i0-r0": True, "s-i0-r1": False})
    measure_tests(measures=Measures(cross_execute=True, mutants=9, coverage=True), **arguments)
    rows = {row["id"]: Quality.load(row) for row in read_jsonl(arguments["output"])}
    assert list(rows) == list(responses)
    assert [row.others for row in rows.values()] == ["-111", "0-00", "11-1", "010-", "-"]
    assert [row.independent for row in rows.values()] == ["10.", "00.", "10.", "00.", ""]
    assert [row.consensus for row in rows.values()] == [2, 2, 2, 2, 1]
    assert [row.truth for row in rows.values()] == [True, False, None, None, None]
    good, bad, case, failed, _ = rows.values()
    assert (good.agreement, good.independent_agreement) == (4 / 5, 1 / 2)
    assert (bad.agreement, failed.agreement, rows["s-i1-r0"].agreement) == (0, 1 / 5, None)
    # x // 2, x * 3, return: all are seen by both; coverage is whole, through unittest's cases too
    assert (good.mutants, good.killed, good.mutation_score) == (3, 3, 1.0)
    assert (bad.mutants, bad.killed) == (3, 3)  # x - 2, x + 3, return
    assert (case.killed, case.marks, case.covered) == (3, 2, 2)
    assert (failed.mutants, failed.marks, failed.mutation_score, failed.coverage) == (None, None, None, None)
    stats = read_json(arguments["stats"])
    assert (stats["stage"], stats["rows"], stats["programs"]) == ("quality", 5, 12 + 8 + 9 + 3)

    measure_tests(measures=Measures(), **arguments | {"tests": None, "truth": None})
    rows = [Quality.load(row) for row in read_jsonl(arguments["output"])]
    assert [row for row in rows if row != Quality(id=row.id, passed=row.passed)] == []

    write_jsonl(tmp_path / "verdicts.jsonl", [])
    with pytest.raises(ValueError, match=r"responses.jsonl: response s-i0-r0 has no verdict in .*verdicts.jsonl"):
        measure_tests(measures=Measures(), **arguments)


def test_truth_of_a_benchmark(tmp_path):
    tasks = list(read_jsonl(ROOT / "resources/demo/benchmark.jsonl"))[:3]
    write_jsonl(tmp_path / "own.jsonl", tasks)
    benchmark, references = tmp_path / "demo.jsonl", tmp_path / "references.jsonl"
    prepare_benchmark("demo", tmp_path / "own.jsonl", {}, benchmark, tmp_path / "source.json")
    common = {"workers": 1, "label": "test", "stats": tmp_path / "stats.json"}
    run_references(benchmark=benchmark, sandbox=SandboxSettings(), output=references, **common)
    found = []
    for shard in range(2):
        take_instructions(benchmark, shard, 2, 2, 7, "test", tmp_path / "i.jsonl", tmp_path / "stats.json")
        found += read_jsonl(tmp_path / "i.jsonl")
    assert len(found) == 2  # drawn
    take_instructions(benchmark, 0, 1, None, 7, "test", tmp_path / "i.jsonl", tmp_path / "stats.json")
    asked = list(read_jsonl(tmp_path / "i.jsonl"))
    assert [(row["id"], row["parent"]) for row in asked] == [(f"{t['task_id']}-i0", t["task_id"]) for t in tasks]
    wrong = f"def {tasks[1]['entry_point']}(xs):\n    return xs"
    codes = [tasks[0]["canonical_solution"], wrong, tasks[2]["canonical_solution"]]
    responses = {f"{row['id']}-r0": (code, "assert True", True) for row, code in zip(asked, codes, strict=True)}
    arguments = write_shard(tmp_path, responses, {}, {})
    truth = {"benchmark": benchmark, "references": references, "responses": arguments["responses"], **common}
    verify_truth(sandbox=SandboxSettings(), output=tmp_path / "truth.jsonl", **truth)
    verdicts = {row["id"]: row["verdict"] for row in read_jsonl(tmp_path / "truth.jsonl")}
    assert verdicts == dict(
        zip([f"{name}/tests" for name in responses], ["passed", "assertion", "passed"], strict=True)
    )
    measure_tests(measures=Measures(), **arguments)
    assert [row["truth"] for row in read_jsonl(arguments["output"])] == [True, False, True]
    write_shard(tmp_path, {"other-i0-r0": (GOOD, OWN, True)}, {}, {})
    with pytest.raises(ValueError, match="other-i0 is no task of"):
        verify_truth(sandbox=SandboxSettings(), output=tmp_path / "truth.jsonl", **truth)


def test_generate_tests(tmp_path):
    model = tmp_path / "model.json"
    base = {"name_or_path": str(ROOT / "resources/demo-base"), "revision": None, "digest": "d", "chat_template": False}
    model.write_text(json.dumps(base | {"trained_from": None}))
    write_jsonl(tmp_path / "instructions.jsonl", [*instructions(2), instructions(3)[2] | {"drop": "empty"}])
    asked = options(model, '{"kind": "transformers"}', tmp_path, 60) | {"top_p": 1.0, "samples": 2}
    generate_tests(tmp_path / "instructions.jsonl", GenerationSettings(**asked))
    rows = list(read_jsonl(tmp_path / "rows.jsonl"))
    assert [row["id"] for row in rows] == [f"{n:016x}-c0-i0-t{k}" for n in range(2) for k in range(2)]
    for row in rows:
        assert row["drop"] or "assert" in code_blocks(row["tests"])
    lacking = tmp_path / "prompts.yaml"
    prompts = (ROOT / "resources/prompts/demo.yaml").read_text()
    lacking.write_text(prompts.replace("  tests: Python tasks with their tests.\n", ""))
    with pytest.raises(ValueError, match=r"prompts.yaml: headers: tests is missing, which this"):
        generate_tests(tmp_path / "instructions.jsonl", GenerationSettings(**asked | {"prompts": lacking}))


def measured(row, **fields):
    return replace(row, quality=Quality(id=row.id, passed=True, **fields))


SELECTED = {  # setting; quality or pass rate of the responses of an instruction; stage; reasons
    "agreement": ({"min_agreement": 0.5}, [{"others": "-10"}, {"others": "-00"}, {"others": "-"}], "agreement",
                  {"agreement below 0.5": 1, "agreement unknown": 1}),
    "mutants": ({"min_mutation_score": 0.8}, [{"mutants": 5, "killed": 4}, {"mutants": 5, "killed": 3}, {"mutants": 0}],
                "mutation_score", {"mutation score below 0.8": 1, "mutation score unknown": 1}),
    "coverage": ({"min_coverage": 1.0}, [{"marks": 3, "covered": 3}, {"marks": 3, "covered": 2}, {}], "coverage",
                 {"coverage below 1": 1, "coverage unknown": 1}),
    "consensus": ({"consensus": True}, [{"independent": "11", "agreement_score": 2.0},
                                        {"independent": "10", "agreement_score": 1.4},
                                        {"independent": "10", "agreement_score": 1.4}], "consensus",
                  {"another consensus set is better": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", SELECTED)
def test_selection_by_quality(name):
    settings, qualities, stage, reasons = SELECTED[name]
    rows = [measured(candidate(0, sample=k), **quality) for k, quality in enumerate(qualities)]
    selection = select_pairs(rows, Settings(**settings), EMPTY, 7)
    (found,) = [one for one in selection.funnel.stages if one["stage"] == stage]
    assert found["dropped"] == reasons
    assert [row.id for row in selection.kept] == [rows[0].id]
    (key,) = settings
    assert f"| {key} |" in data_card("d", selection, Settings(**settings), 0)
    with pytest.raises(ValueError, match="its quality was not measured"):
        select_pairs([replace(row, quality=None) for row in rows], Settings(**settings), EMPTY, 7)


def test_selection_by_difficulty():
    rows = [candidate(number, pass_rate=rate) for number, rate in enumerate([0.1, 0.25, 0.75, 1.0])]
    selection = select_pairs(rows, Settings(pass_rate=(0.25, 0.75)), EMPTY, 7)
    assert [row.pass_rate for row in selection.kept] == [0.25, 0.75]
    assert {row["id"]: row["reason"] for row in selection.rejected} == {rows[0].id: "too hard", rows[3].id: "too easy"}
    with pytest.raises(ValueError, match=r"pass_rate is \[1, 0\]; it must be two shares"):
        Settings(pass_rate=(1, 0))


def test_without_the_new_keys_funnel_and_card_are_as_before():
    selection = select_pairs([candidate(0)], Settings(), EMPTY, 7)
    stages = [stage["stage"] for stage in selection.funnel.stages]
    assert not {"difficulty", "agreement", "mutation_score", "coverage", "consensus"} & set(stages)
    card = data_card("d", selection, Settings(), 0)
    assert not [key for key in ("pass_rate |", "min_", "consensus") if f"| {key}" in card]


def test_report(tmp_path):
    """Two tasks: of one, a wrong response passes its own tests; of the other, a right one fails them."""
    rows = [
        Quality(id="a-i0-r0", passed=True, independent="11", consensus=1, agreement_score=2.0, truth=True),
        Quality(id="a-i0-r1", passed=True, independent="10", consensus=1, agreement_score=1.0, truth=False),
        Quality(id="b-i0-r0", passed=True, independent="11", consensus=1, agreement_score=2.0, truth=True),
        Quality(id="b-i0-r1", passed=False, independent="11", consensus=1, agreement_score=2.0, truth=True),
    ]
    write_jsonl(tmp_path / "quality.jsonl", (row.dump() for row in rows))
    write_jsonl(
        tmp_path / "tests.jsonl",
        [
            {"id": f"a-i0-t{k}", "parent": "a-i0", "tests": "", "drop": drop, **COMMON}
            for k, drop in enumerate([None, "x"])
        ],
    )
    found = read_quality([tmp_path / "quality.jsonl"], [tmp_path / "tests.jsonl"])
    assert found.confusion == {(True, True): 2, (True, False): 1, (False, True): 1}
    shares = [(share.part, share.of) for share in found.rates.values()]
    assert shares == [(1, 3), (1, 1), (1, 3)]
    assert all(share.interval[0] <= share.part / share.of <= share.interval[1] for share in found.rates.values())
    kept = {(row.measure, row.least): (row.kept, row.right.part) for row in found.kept}
    assert kept["independent_agreement", 0.5] == (3, 2)
    assert kept["independent_agreement", 0.75] == (2, 2)
    assert kept[CONSENSUS, None] == (2, 2)
    assert ("coverage", 0.5) not in kept  # which was not measured
    page = quality_section({"judged": found}, {})
    assert "33 %" in page
    assert "Test suites written from the instruction alone" in page
    assert ("judged", "true", "false", 1) in confusion_rows({"judged": found})
    assert quality_rows({"judged": found})[0][:6] == ("judged", "all that passed their own tests", None, 3, 3, 2)
    blind = [replace(row, truth=None) for row in rows]
    write_jsonl(tmp_path / "quality.jsonl", (row.dump() for row in blind))
    found = read_quality([tmp_path / "quality.jsonl"], [])
    assert (found.confusion, found.rates, found.kept[0].right) == ({}, {}, None)
    assert quality_section({"blind": found}, {})
    assert quality_section({}, {}) is None
