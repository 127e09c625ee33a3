"""HumanEval+, MBPP+, MBPP and EvoEval: rows to tasks, what is right, and verdicts on right, wrong and lying answers."""

import ast
import gzip
import json
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from selfalign.benchmarks.completions import answer_id
from selfalign.benchmarks.evalplus import convert
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.programs import Answer, without_main
from selfalign.benchmarks.references import read_references, run_references
from selfalign.benchmarks.tasks import Task, read_tasks
from selfalign.benchmarks.values import encode
from selfalign.benchmarks.verification import verify_completions
from selfalign.records.files import read_json, read_jsonl, write_jsonl
from selfalign.sandbox import SandboxSettings

sys.path.append(str(ROOT / "bench"))

from benchmark_evalplus import mutants

# --- Problems of our own in the benchmarks' formats ------------------------------------------------------------------

HUMANEVAL_LIKE = {
    "task_id": "HumanEval/900",
    "prompt": '\nfrom typing import List\n\n\ndef halves(xs: List[int]):\n    """Halve each number.\n    """\n',
    "entry_point": "halves",
    "canonical_solution": "    return [x / 2 for x in xs]\n",
    "base_input": [[[2, 4]]],
    "plus_input": [[[1, 3]], [[]], [[7] * 400]],
    "atol": 0,
}
MBPP_LIKE = {
    "task_id": "Mbpp/901",
    "prompt": '"""\nWrite a function to count the vowels of a word.\nassert vowels("ab") == 1\n"""\n',
    "entry_point": "vowels",
    "canonical_solution": "\ndef vowels(word):\n    return sum(letter in 'aeiou' for letter in word)\n",
    "base_input": [["ab"]],
    "plus_input": [["AEIOU"], ["banana"]],
    "atol": 0,
}
PLAIN_MBPP = {
    "task_id": 500,
    "text": "Write a function to add one.",
    "code": "import math\r\ndef helper(x):\r\n  return x\r\ndef add_one(x):\r\n  return helper(x) + 1",
    "test_setup_code": "zero = int(0)",
    "test_list": ["assert add_one(zero) == 1", "assert add_one(2)==3 "],
    "challenge_test_list": ["assert add_one(-1) == 0"],
}
EVOEVAL_LIKE = {
    "task_id": "EvoEval/900",
    "prompt": 'import math\n\ndef spread(xs):\n    """Largest less smallest."""\n',
    "entry_point": "spread",
    "canonical_solution": "    return math.fsum([max(xs), -min(xs)])",
    "inputs": ["[1.5, 2.0]", "[0.1] * 3 + [0.3]", "[float('inf'), 1.0]"],
    "contract": "",
    "parent": "HumanEval/9",
}


def prepared(folder: Path, kind: str, rows: list[dict], name: str = "problems.jsonl", **options) -> list[Task]:
    write_jsonl(folder / name, rows)
    prepare_benchmark(kind, folder / name, options, folder / f"{kind}.jsonl", folder / "source.json")
    return read_tasks(folder / f"{kind}.jsonl")


def verdicts_on(folder: Path, kind: str, answers: dict[str, list[str]]) -> dict[str, dict]:
    """Return the verdict rows of solutions to the prepared tasks, by answer and check, and left out tasks."""
    benchmark, references = folder / f"{kind}.jsonl", folder / "references.jsonl"
    shared = {"benchmark": benchmark, "sandbox": SandboxSettings(), "workers": 2, "label": kind}
    run_references(**shared, output=references, stats=folder / "references.json")
    rows = [
        Answer(
            id=answer_id(task, k), task=task, k=k, texts=[code], finish_reasons=["stop"], code=code, drop=None
        ).dump()
        for task, codes in answers.items()
        for k, code in enumerate(codes)
    ]
    write_jsonl(folder / "completions.jsonl", rows)
    verify_completions(
        **shared,
        references=references,
        completions=folder / "completions.jsonl",
        output=folder / "verdicts.jsonl",
        stats=folder / "verdicts.json",
    )
    return {row["id"]: row for row in read_jsonl(folder / "verdicts.jsonl")}


# --- Rows to tasks ---------------------------------------------------------------------------------------------------


def test_humaneval_plus_becomes_tasks(tmp_path):
    (task,) = prepared(tmp_path, "evalplus", [HUMANEVAL_LIKE])
    assert (task.id, task.kind, task.entry_point) == ("HumanEval/900", "evalplus", "halves")
    assert task.prompt == task.prefix == HUMANEVAL_LIKE["prompt"].lstrip()
    assert task.instruction.startswith("Complete the Python function `halves`.")
    assert task.prompt.strip() in task.instruction
    assert task.metrics == {"plus": [["base", "plus"]], "base": [["base"]]}
    assert next(iter(task.metrics)) == "plus", "what tables show"
    assert [(check.name, check.driver, len(check.inputs)) for check in task.checks] == [
        ("base", "call", 1),
        ("plus", "call", 3),
    ]
    assert "\ndef " in task.stop
    code, drop = KINDS["evalplus"].build_code(task, ["    return xs"], completes_prompt=True)
    assert (code, drop) == (task.prompt + "    return xs", None)
    code, _ = KINDS["evalplus"].build_code(task, ["```python\ndef halves(xs: List): ...\n```"], completes_prompt=False)
    assert code.startswith("from typing import List\n")


def test_mbpp_plus_becomes_tasks(tmp_path):
    (task,) = prepared(tmp_path, "evalplus", [MBPP_LIKE], dataset="mbpp")
    assert task.prompt == task.prefix == MBPP_LIKE["prompt"]
    assert task.instruction == (
        "Write a function to count the vowels of a word.\n\nThe Python code has to pass:\n\n"
        '```python\nassert vowels("ab") == 1\n```'
    )
    assert task.canonical_solution == MBPP_LIKE["prompt"] + MBPP_LIKE["canonical_solution"]
    assert '\n"""' in task.stop
    code, _ = KINDS["evalplus"].build_code(task, ["def vowels(w):\n    return 1"], completes_prompt=True)
    ast.parse(code)


def test_mbpp_becomes_tasks_of_a_split(tmp_path):
    rows = [PLAIN_MBPP | {"task_id": number} for number in (10, 11, 510, 511, 600, 601)]
    assert [task.id for task in prepared(tmp_path, "mbpp", rows)] == ["Mbpp/11", "Mbpp/510"]
    for split, count in {"prompt": 1, "train": 1, "validation": 2, "all": 6}.items():
        assert len(prepared(tmp_path, "mbpp", rows, split=split)) == count
    (task,) = prepared(tmp_path, "mbpp", [PLAIN_MBPP])
    assert task.entry_point == "add_one"
    assert "assert add_one(2)==3\n```" in task.instruction
    assert task.prompt == '"""\nWrite a function to add one.\nassert add_one(zero) == 1\nassert add_one(2)==3\n"""\n'
    assert "challenge" not in task.checks[0].tests
    found = verdicts_on(tmp_path, "mbpp", {task.id: [task.canonical_solution, "def add_one(x):\n    return 1"]})
    assert [row["verdict"] for row in found.values()] == ["passed", "assertion"]


def test_evoeval_becomes_tasks(tmp_path):
    (task,) = prepared(tmp_path, "evoeval", [EVOEVAL_LIKE], name="EvoEval_tool_use.jsonl")
    assert (task.data["subset"], task.entry_point) == ("tool_use", "spread")
    assert task.prompt in task.canonical_solution
    assert task.checks[0].inputs == ["[[1.5, 2.0]]", "[[0.1] * 3 + [0.3]]", "[[float('inf'), 1.0]]"]
    (task,) = prepared(tmp_path, "evoeval", [EVOEVAL_LIKE], name="mine.jsonl", subset="subtle")
    assert task.data["subset"] == "subtle"


BAD = [
    # kind, rows, file name, options, message
    ("evalplus", [HUMANEVAL_LIKE], "p.jsonl", {"dataset": "mbpp"}, r"row 1: HumanEval/900 is not a task of mbpp"),
    ("evalplus", [HUMANEVAL_LIKE | {"task_id": "X/1"}], "p.jsonl", {}, r"row 1: X/1 is not a task of HumanEval\+ or"),
    ("evalplus", [MBPP_LIKE | {"prompt": "vowels"}], "p.jsonl", {}, r"row 1: its prompt is not a docstring of"),
    ("evalplus", [MBPP_LIKE, {"task_id": "Mbpp/1"}], "p.jsonl", {}, r"row 2: no field 'entry_point'; is this a file"),
    ("evalplus", [HUMANEVAL_LIKE | {"base_input": 1}], "p.jsonl", {}, r"row 1: a field has the wrong type"),
    ("evalplus", [HUMANEVAL_LIKE | {"canonical_solution": "  ("}], "p.jsonl", {}, r"row 1: solution and tests are not"),
    ("mbpp", [PLAIN_MBPP], "p.jsonl", {"split": "tests"}, r"row 1: no split 'tests'; there are all, prompt, test"),
    ("mbpp", [PLAIN_MBPP | {"test_list": ["assert True"]}], "p.jsonl", {}, r"row 1: its tests call no function"),
    ("mbpp", [PLAIN_MBPP], "p.jsonl", {"split": "train"}, r"no tasks in it; correct the benchmark's options"),
    ("evoeval", [EVOEVAL_LIKE], "p.jsonl", {}, r"row 1: no subset None; set options: {subset: difficult or creative"),
    ("evoeval", [EVOEVAL_LIKE], "EvoEval_easy.jsonl", {}, r"row 1: no subset 'easy'; set options"),
    ("evoeval", [EVOEVAL_LIKE | {"inputs": ["1", "[2"]}], "EvoEval_subtle.jsonl", {}, r"row 1: its input 1 is not"),
    ("evoeval", [EVOEVAL_LIKE], "p.jsonl", {"part": 1}, r"evoeval has no option part; it has subset"),
]


@pytest.mark.parametrize(("kind", "rows", "name", "options", "message"), BAD, ids=[case[-1][:40] for case in BAD])
def test_bad_files_and_options_are_named(tmp_path, kind, rows, name, options, message):
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, kind, rows, name, **options)


@pytest.mark.parametrize(
    ("kind", "options", "url"),
    [
        ("evalplus", {"dataset": "humaneval"}, "/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl"),
        ("evalplus", {"dataset": "mbpp"}, "/mbppplus_release/releases/download/v0.2.0/MbppPlus.jsonl.gz"),
        ("evoeval", {"subset": "tool_use"}, "/evoeval_release/releases/download/v0.1.0/EvoEval_tool_use.jsonl.gz"),
        ("mbpp", {"split": "test"}, "/google-research/raw/master/mbpp/mbpp.jsonl"),
    ],
)
def test_what_is_fetched_follows_from_the_options(kind, options, url):
    assert url in KINDS[kind].published(**options).url


@pytest.mark.parametrize(
    ("kind", "message"), [("evalplus", "no data set None; set options"), ("evoeval", "no subset None; set options")]
)
def test_without_a_file_the_options_have_to_say_which(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message):
        prepare_benchmark(kind, None, {}, tmp_path / "x.jsonl", tmp_path / "source.json")


def test_the_schema_lists_every_kind():
    schema = yaml.safe_load((ROOT / "rules/schemas/config.schema.yaml").read_text())
    assert set(schema["$defs"]["benchmark"]["properties"]["kind"]["enum"]) == set(KINDS)


@pytest.mark.parametrize(
    ("task", "arguments", "expected"),
    [
        ("HumanEval/2", [[1]], [[1]]),
        ("Mbpp/1", [[1]], [[1]]),
        ("Mbpp/2", [[1], [2]], [(1,), (2,)]),
        ("Mbpp/63", [[[1], [2]]], [[(1,), (2,)]]),
        ("Mbpp/75", [[[1]], 2], [[(1,)], 2]),
        ("Mbpp/307", [[1], 2, 3], [(1,), 2, 3]),
        ("Mbpp/106", [[1], [2]], [[1], (2,)]),
        ("Mbpp/259", [[[1]]], (((1,),),)),
        ("Mbpp/722", [{"a": [1]}, 2], [{"a": (1,)}, 2]),
        ("Mbpp/115", [[[1, 1], [], True]], [[{1}, {}, {}]]),
        ("Mbpp/124", ["1", "2j"], [1.0, 2j]),
        ("Mbpp/252", ["(1+2j)"], [1 + 2j]),
    ],
)
def test_inputs_get_their_types_back(task, arguments, expected):
    [found] = convert(task, [arguments])
    assert repr(found) == repr(expected)


# --- What is right ---------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
EVALPLUS_RULES = [
    # task, entry point, tolerance, arguments, found, expected, right outputs before, right
    ("HumanEval/1", "f", 0, [], 1, True, [], True),
    ("HumanEval/1", "f", 0, [], 1.0, 1, [], True),
    ("HumanEval/1", "f", 0, [], (1,), [1], [], False),
    ("HumanEval/1", "f", 0, [], 1.0, 1.0 + 9e-7, [], True),
    ("HumanEval/1", "f", 0, [], 1.0, 1.0 + 2e-6, [], False),
    ("HumanEval/1", "f", 0, [], [1.0, 2.0], [1.0, 2.0 + 9e-7], [], True),
    ("HumanEval/1", "f", 0, [], [1.0], [1.0 + 9e-7, 2.0], [], False),
    ("HumanEval/1", "f", 0, [], [1, 2.0], [1, 2.0 + 9e-7], [], False),  # not all are floats
    ("HumanEval/1", "f", 0, [], [1, 2.0], [1, 2.0 + 9e-7], [1, 2.5], True),  # but a float came before
    ("HumanEval/1", "f", 0, [], [1, 2.0], [1, 2.0 + 9e-7], [[1, 2.5], "x", []], False),
    ("HumanEval/1", "f", 0, [], 10**9 + 50, 10**9, [0.5], True),
    ("HumanEval/1", "f", 0, [], 10**9 + 50, 10**9, [], False),
    ("HumanEval/1", "f", 0, [], "x", 1.0, [], False),
    ("HumanEval/1", "f", 0, [], None, 1.0, [], False),
    ("HumanEval/1", "f", 0, [], INF, INF, [], True),
    ("HumanEval/1", "f", 0, [], NAN, NAN, [], False),
    ("HumanEval/1", "f", 1e-4, [], 1.00005, 1.0, [], True),
    ("HumanEval/1", "f", 1e-4, [], 1, 1.00005, [], False),  # another type
    ("HumanEval/1", "f", 1e-4, [], [[1.0, 2.0]], [[1.00005, 2.0]], [], True),
    ("Mbpp/124", "f", 1e-4, [], 1 + 1e-5j, 1 + 0j, [], True),
    ("HumanEval/32", "find_zero", 1e-4, [[-6, 2]], 3.00001, 1.0, [], True),  # -6 + 2 x
    ("HumanEval/32", "find_zero", 1e-4, [[-6, 2]], 3.1, 3.1, [], False),
    ("Mbpp/164", "are_equivalent", 0, [1, 2], False, True, [], True),
    ("Mbpp/295", "sum_div", 0, [1], 0, 1, [], True),
    ("Mbpp/295", "sum_div", 0, [8], 6, 7, [], False),
    ("Mbpp/581", "surface_Area", 0, [4, 3], 48, 33, [], False),
    ("Mbpp/581", "surface_Area", 0, [4, 3], 45, 33, [], True),
    ("Mbpp/558", "digit_distance_nums", 0, [1, 256], 12, 6, [], True),
    ("Mbpp/558", "digit_distance_nums", 0, [1, 256], 11, 6, [], False),
    ("HumanEval/1", "sum_div", 0, [1], 0, 1, [], False),  # these rules are MBPP's
    ("Mbpp/434", "text_match_three", 0, ["a"], re.compile("a"), re.compile("b"), [], True),
    ("Mbpp/434", "text_match_three", 0, ["a"], None, re.compile("b"), [], False),
    ("Mbpp/434", "text_match_three", 0, ["a"], True, None, [], False),
    ("Mbpp/434", "text_match_three", 0, ["a"], False, None, [], True),
]


@pytest.mark.parametrize(
    ("task", "entry_point", "atol", "arguments", "found", "expected", "before", "right"), EVALPLUS_RULES
)
def test_rules_of_evalplus(task, entry_point, atol, arguments, found, expected, before, right):
    row = HUMANEVAL_LIKE | {"task_id": task, "entry_point": entry_point, "atol": atol, "prompt": MBPP_LIKE["prompt"]}
    (task,) = KINDS["evalplus"].read_tasks(row | {"base_input": [], "plus_input": []}, "x", dataset=None)
    assert KINDS["evalplus"].is_right(task, arguments, found, expected, list(map(encode, before))) is right


MAZE = "[[[0, 0], [1, 0]], (0, 0), (1, 1)]"
PATH = "[[[1, 1], [0, 1]], (0, 0), (1, 1)]"
EVOEVAL_RULES = [
    # subset, task, arguments, found, expected, right
    ("subtle", 1, "[]", 1, 1, True),
    ("subtle", 1, "[]", 1, 1.0, False),
    ("subtle", 1, "[]", True, 1, False),
    ("subtle", 1, "[]", 1.0 + 9e-6, 1.0, True),
    ("subtle", 1, "[]", 1.0 + 3e-5, 1.0, False),
    ("subtle", 1, "[]", NAN, NAN, True),
    ("subtle", 1, "[]", [1.0 + 9e-6, 2.0], [1.0, 2.0], True),
    ("subtle", 1, "[]", [], [1.0], False),
    ("subtle", 1, "[]", [1.0], [1.0, 1.0], False),
    ("subtle", 1, "[]", 1.0, [1.0], False),
    ("subtle", 1, "[]", [1, "a"], [1, "b"], False),
    ("subtle", 1, "[]", [1, 2.0 + 9e-6], [1, 2.0], True),
    ("subtle", 1, "[]", (1, 2), [1, 2], False),
    ("subtle", 1, "[]", {"a": 1.0}, {"a": 1.0 + 9e-6}, True),
    ("subtle", 1, "[]", {"a": 1, "b": 2}, {"a": 1}, False),
    ("subtle", 1, "[]", {1, 2}, {2, 1}, True),
    ("subtle", 1, "[]", "ab", "ab", True),
    ("difficult", 10, "['Ab']", "AbA", "Aba", True),
    ("difficult", 10, "['Ab']", "AbbA", "Aba", False),
    ("difficult", 10, "['Ab']", "abA", "Aba", False),
    ("creative", 10, "['Ab']", "AbA", "Aba", False),
    ("difficult", 32, "[[-6, 2], (0, 5)]", 3.001, 3.0, True),
    ("difficult", 32, "[[-6, 2], (0, 2)]", 3.0, 3.0, False),
    ("difficult", 32, "[[-6, 2], (0, 2)]", None, None, True),
    ("difficult", 32, "[[-6, 2], (0, 5)]", None, 3.0, False),
    ("subtle", 32, "[[-6, 2, 0, 1]]", 3.0, 9.0, False),
    ("subtle", 32, "[[-8, 0, 1]]", 2.0, 9.0, True),  # -8 + x³
    ("creative", 26, MAZE, ["right", "down"], ["right", "down"], True),
    ("creative", 26, MAZE, ["down", "right"], ["right", "down"], False),
    ("creative", 26, MAZE, ["right"], ["right", "down"], False),
    ("creative", 26, MAZE, ["down", "right"], [], False),
    ("creative", 30, PATH, [(0, 0), (0, 1), (1, 1)], [(0, 0), (0, 1), (1, 1)], True),
    ("creative", 30, PATH, [(0, 0), (1, 1)], [(0, 0), (0, 1), (1, 1)], False),
    ("creative", 30, PATH, [(0, 0), (1, 0), (1, 1)], [(0, 0), (0, 1), (1, 1)], False),
    ("creative", 30, PATH, [], [], True),
    ("creative", 69, "[[2, 2, 4], 8]", (1, 2), (0, 2), True),
    ("creative", 69, "[[2, 2, 4], 8]", (2, 1), (0, 2), False),
    ("creative", 69, "[[2, 2, 4], 8]", [1, 2], (0, 2), False),
    ("creative", 69, "[[2, 2, 4], 9]", "No magic today", "No magic today", True),
]


@pytest.mark.parametrize(("subset", "number", "arguments", "found", "expected", "right"), EVOEVAL_RULES)
def test_rules_of_evoeval(subset, number, arguments, found, expected, right):
    (task,) = KINDS["evoeval"].read_tasks(EVOEVAL_LIKE | {"task_id": f"EvoEval/{number}"}, "x", subset=subset)
    assert KINDS["evoeval"].is_right(task, arguments, found, expected, []) is right


def test_a_solution_runs_as_the_authors_run_it():
    code = 'from __future__ import annotations\nx = 1\nif __name__ == "__main__":\n    x = 2\n'
    space: dict = {}
    exec(without_main(code), space)
    assert space["x"] == 1
    assert without_main("x = 1\n") == "x = 1\n"


# --- Verdicts: made-up problems, through the sandbox -----------------------------------------------------------------

LIAR = """
class Liar(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __repr__(self): return "1"
    def __len__(self): raise SystemExit(0)
    def __iter__(self): raise KeyboardInterrupt
"""
FAKE = '"\\x1e" + \'{"outputs": [1, 0, 3], "seconds": [0, 0, 0]}\\n\''
WORDS = [
    # what it is, code, passes base and plus
    ("right", "def vowels(w):\n    return sum(w.count(c) for c in 'aeiou')", (True, True)),
    ("right with base only", "def vowels(w):\n    return 1", (True, False)),
    ("right and of another type", "def vowels(w):\n    return float(sum(c in 'aeiou' for c in w))", (True, True)),
    ("numpy's number", "import numpy\ndef vowels(w):\n    return numpy.int64(sum(c in 'aeiou' for c in w))",
     (True, True)),
    ("prints", "import sys\ndef vowels(w):\n    print(w * 99, file=sys.stderr)\n    print(w)\n"
     "    return sum(c in 'aeiou' for c in w)", (True, True)),
    ("replaces standard output", "import io, sys\ndef vowels(w):\n    sys.stdout = None\n"
     "    return sum(c in 'aeiou' for c in w)", (True, True)),
    ("main is not run", "def vowels(w):\n    return sum(c in 'aeiou' for c in w)\nif __name__ == '__main__':\n"
     "    raise SystemExit(vowels(input()))", (True, True)),
    ("names of builtins", "def sum(w):\n    n = 0\n    for c in w:\n        n += c in 'aeiou'\n    return n\n"
     "len = list = json = decode = None\ndef vowels(w):\n    return sum(w)", (True, True)),
    ("slow on one input", "def vowels(w):\n    while w == 'banana': pass\n    return sum(c in 'aeiou' for c in w)",
     (True, False)),
    ("changes its text", "def vowels(w):\n    return 'aeiou'", (False, False)),
    ("raises", "def vowels(w):\n    return 1 // (w == 'ab')", (True, False)),
    ("does not compile", "def vowels(w) return 1", (False, False)),
    ("has no such function", "def count(w):\n    return 1", (False, False)),
    ("empty", "", (False, False)),
    ("an array", "import numpy\ndef vowels(w):\n    return numpy.array([1])", (False, False)),
    ("equal to everything", f"{LIAR}def vowels(w):\n    return Liar(7)", (False, False)),
    ("a type that is equal to everything", "class Meta(type):\n    def __eq__(self, other): return True\n"
     "    __hash__ = type.__hash__\nclass Value(metaclass=Meta):\n    __eq__ = lambda self, other: True\n"
     "def vowels(w):\n    return Value()", (False, False)),
    ("raises in __repr__ and __len__", "class Bad(list):\n    def __repr__(self): 1 / 0\n"
     "    def __len__(self): 1 / 0\n    def __iter__(self): 1 / 0\ndef vowels(w):\n    return Bad()", (False, False)),
    ("raises for every attribute", "class Bad:\n    def __getattribute__(self, name): raise SystemExit(0)\n"
     "def vowels(w):\n    return Bad()", (False, False)),
    ("holds itself", "def vowels(w):\n    x = []\n    x.append(x)\n    return x", (False, False)),
    ("very deep", "def vowels(w):\n    x = []\n    for _ in range(100000): x = [x]\n    return x", (False, False)),
    ("prints an answer", f"print({FAKE}, flush=True)\ndef vowels(w):\n    return 7", (False, False)),
    ("writes an answer and exits", f"import os\nos.write(1, ({FAKE}).encode())\nos._exit(0)", (False, False)),
    ("writes an answer and exits when called", f"import os\ndef vowels(w):\n    os.write(1, ({FAKE}).encode())\n"
     "    os._exit(0)", (False, False)),
    ("writes an answer at exit", f"import atexit, os\natexit.register(os.write, 1, ({FAKE}).encode())\n"
     "def vowels(w):\n    return 7", (False, False)),
    ("patches json", "import json\njson.dumps = lambda *a, **k: '{\"outputs\": [true, true], \"seconds\": [0, 0]}'\n"
     "def vowels(w):\n    return 7", (False, False)),
    ("patches builtins", "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.type = lambda *a: bool\n"
     "builtins.len = lambda *a: 1\ndef vowels(w):\n    return 7", (False, False)),
    ("closes standard output", "import os\nos.close(1)\ndef vowels(w):\n    return 1", (False, False)),
    ("what no value is sent as", "import json\nd = json.dumps\njson.dumps = lambda x, *a, **k: d(x, *a, **k)"
     ".replace('7', '{\"r\": ' + '9' * 400 + '}')\ndef vowels(w):\n    return 7", (False, False)),
    ("unknown kinds of values", "import json\nd = json.dumps\njson.dumps = lambda x, *a, **k: d(x, *a, **k)"
     ".replace('7', '{\"d\": 3, \"h\": [[]]}')\ndef vowels(w):\n    return 7", (False, False)),
    ("a digest of nothing", "import json\nd = json.dumps\njson.dumps = lambda x, *a, **k: d(x, *a, **k)"
     ".replace('7', '{\"h\": null}')\ndef vowels(w):\n    return 7", (False, False)),
]  # fmt: skip


def test_verdicts_on_right_wrong_and_lying_solutions(tmp_path):
    (task,) = prepared(tmp_path, "evalplus", [MBPP_LIKE])
    found = verdicts_on(tmp_path, "evalplus", {task.id: [code for _, code, _ in WORDS]})
    passed = {
        name: tuple(found[f"{answer_id(task.id, k)}/{check}"]["verdict"] == "passed" for check in ("base", "plus"))
        for k, (name, _, _) in enumerate(WORDS)
    }
    assert passed == {name: right for name, _, right in WORDS}
    assert not [row for row in found.values() if row["verdict"] == "sandbox_error"]


FLOATS = [
    ("right", "def halves(xs):\n    return [x / 2 for x in xs]", True),
    ("within the tolerance", "def halves(xs):\n    return [x * 0.5 + 1e-8 for x in xs]", True),
    ("beyond it", "def halves(xs):\n    return [x * 0.5 + 1e-5 for x in xs]", False),
    ("numpy's numbers", "import numpy\ndef halves(xs):\n    return [numpy.float64(x) / 2 for x in xs]", True),
    ("an array", "import numpy\ndef halves(xs):\n    return numpy.array(xs) / 2", False),
    ("a tuple", "def halves(xs):\n    return tuple(x / 2 for x in xs)", False),
    ("a generator", "def halves(xs):\n    return (x / 2 for x in xs)", False),
    ("whole numbers", "def halves(xs):\n    return [x // 2 for x in xs]", False),
]
SETS = [
    ("other order", "def Diff(a, b):\n    return sorted(set(b) ^ set(a), reverse=True)", True),
    ("twice", "def Diff(a, b):\n    return 2 * list(set(b) ^ set(a))", True),
    ("a generator", "def Diff(a, b):\n    return (x for x in set(b) ^ set(a))", True),
    ("a filter, and a function named set", "def set(x):\n    return x\ndef Diff(a, b):\n"
     "    return filter(lambda x: (x in a) != (x in b), a + b)", True),
    ("one missing", "def Diff(a, b):\n    return list(set(b) ^ set(a))[1:]", False),
    ("a number", "def Diff(a, b):\n    return 1", False),
    ("lists in a list", "def Diff(a, b):\n    return [[]]", False),
]  # fmt: skip
LONG = [
    ("right", "def count(n):\n    return list(range(n))", True),
    ("floats", "def count(n):\n    return [float(x) for x in range(n)]", True),
    ("one is wrong", "def count(n):\n    return [*range(n - 1), 0]", False),
]
ONE_EACH = {
    "HumanEval/900": (HUMANEVAL_LIKE, FLOATS),
    "Mbpp/769": (
        MBPP_LIKE
        | {
            "task_id": "Mbpp/769",
            "entry_point": "Diff",
            "canonical_solution": "def Diff(a, b):\n    return [x for x in a + b if (x in a) != (x in b)]\n",
            "base_input": [[[1, 2], [2, 3]]],
            "plus_input": [[[1, 2, 3], [4]], [[0], [0, *range(2000)]]],
        },
        SETS,
    ),
    "Mbpp/902": (
        MBPP_LIKE
        | {
            "task_id": "Mbpp/902",
            "entry_point": "count",
            "canonical_solution": "def count(n):\n    return list(range(n))\n",
            "base_input": [[5]],
            "plus_input": [[3000], [100_000]],
        },
        LONG,
    ),
}


def test_verdicts_by_the_rules_of_evalplus(tmp_path):
    prepared(tmp_path, "evalplus", [row for row, _ in ONE_EACH.values()])
    answers = {task: [code for _, code, _ in cases] for task, (_, cases) in ONE_EACH.items()}
    found = verdicts_on(tmp_path, "evalplus", answers)
    for task, (_, cases) in ONE_EACH.items():
        passed = {
            name: found[f"{answer_id(task, k)}/plus"]["verdict"] == "passed" for k, (name, *_) in enumerate(cases)
        }
        assert passed == {name: right for name, _, right in cases}
    sizes = {name: len(json.dumps(row.checks)) for name, row in read_references(tmp_path / "references.jsonl").items()}
    assert sizes["Mbpp/902"] < 1000, "long outputs are kept as digests"


TYPED = [
    ("right", "def spread(xs):\n    return max(xs) - min(xs)", True),
    ("near", "def spread(xs):\n    return (max(xs) - min(xs)) * (1 + 1e-6)", True),
    ("a whole number", "def spread(xs):\n    return 0", False),
    ("nothing", "def spread(xs):\n    return []", False),
]
TYPED_LONG = [
    ("right", "def count(n):\n    return [*range(n)]", True),
    ("floats", "def count(n):\n    return [float(x) for x in range(n)]", False),
    ("truth values", "def count(n):\n    return [False, True, *range(2, n)]", False),
]


def test_verdicts_by_the_rules_of_evoeval(tmp_path):
    count = {"prompt": "def count(n):\n", "entry_point": "count", "canonical_solution": "    return list(range(n))"}
    rows = [EVOEVAL_LIKE, EVOEVAL_LIKE | count | {"task_id": "EvoEval/901", "inputs": ["10**3", "2"]}]
    prepared(tmp_path, "evoeval", rows, name="EvoEval_combine.jsonl")
    cases = {"EvoEval/900": TYPED, "EvoEval/901": TYPED_LONG}
    found = verdicts_on(tmp_path, "evoeval", {task: [code for _, code, _ in each] for task, each in cases.items()})
    for task, each in cases.items():
        passed = {
            name: found[f"{answer_id(task, k)}/tests"]["verdict"] == "passed" for k, (name, *_) in enumerate(each)
        }
        assert passed == {name: right for name, _, right in each}


# --- Some of the real problems: reference solutions pass, mutated ones mostly do not ---------------------------------

REAL = {
    # kind and file: every how many problems
    ("evalplus", "humaneval_plus/HumanEvalPlus.jsonl.gz"): 16,
    ("evalplus", "mbpp_plus/MbppPlus.jsonl.gz"): 37,
    ("mbpp", "mbpp/mbpp.jsonl.gz"): 37,
    ("evoeval", "evoeval/EvoEval_difficult.jsonl.gz"): 10,
    ("evoeval", "evoeval/EvoEval_creative.jsonl.gz"): 10,
}

if benchdata := os.environ.get("SELFALIGN_BENCHDATA"):

    @pytest.mark.parametrize(("kind", "file"), REAL)
    def test_reference_solutions_pass_and_mutants_do_not(tmp_path, kind, file):
        with gzip.open(Path(benchdata, file), "rt") as source:
            rows = [json.loads(line) for line in source][:: REAL[kind, file]]
        tasks = prepared(tmp_path, kind, rows, name=Path(file).stem)
        assert len(tasks) >= 8
        answers = {
            task.id: [task.canonical_solution, *(code for _, code in list(mutants(task.canonical_solution))[:3])]
            for task in tasks
        }
        found = verdicts_on(tmp_path, kind, answers)
        assert read_json(tmp_path / "references.json")["left_out"] == {}
        wrong = {name: row for name, row in found.items() if "-s0/" in name and row["verdict"] != "passed"}
        assert wrong == {}
        mutated = [row["verdict"] == "passed" for name, row in found.items() if "-s0/" not in name]
        assert sum(mutated) / len(mutated) < 0.5


# --- The command of bench/ -------------------------------------------------------------------------------------------


def write_benchdata(folder: Path, problems: dict[str, dict]) -> None:
    """Write problem files, and as a model's solution to each the reference solution."""
    solutions = []
    for name, row in problems.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as file:
            file.write(json.dumps(row) + "\n")
        solution = row["prompt"] + row["canonical_solution"]
        solutions.append({"model": "m", "task_id": row["task_id"], "solution": solution})
    (folder / "verdicts").mkdir()
    with lzma.open(folder / "verdicts/evalplus_verdicts.jsonl.xz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in solutions)


def test_the_comparison_with_evalplus_runs_without_it(tmp_path):
    write_benchdata(tmp_path / "data", {"mbpp_plus/MbppPlus.jsonl.gz": MBPP_LIKE})
    command = [sys.executable, ROOT / "bench/benchmark_evalplus.py", tmp_path / "data", "--model", "m", "--rounds", "1",
               "--datasets", "mbpp", "--mutants", "2", "--peers-python", "none",
               "--output", tmp_path / "out.json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "evalplus is not measured: none is not there" in done.stdout
    found = read_json(tmp_path / "out.json")["datasets"]["mbpp"]
    assert found["references"]["left_out"] == {}
    assert found["compared"]["pass@1"] == {"ours": {"base": 1.0, "plus": 1.0}}
    assert found["compared"]["cpu_s"]["ours"]["median"] > 0
    assert found["mutants"]["all"]["mutants"] == 2


def test_the_comparison_leaves_out_what_has_no_reference(tmp_path):
    broken = MBPP_LIKE | {"task_id": "Mbpp/999", "canonical_solution": "\nraise MemoryError\n"}
    write_benchdata(tmp_path / "data", {"mbpp_plus/MbppPlus.jsonl.gz": MBPP_LIKE})
    with gzip.open(tmp_path / "data/mbpp_plus/MbppPlus.jsonl.gz", "at") as file:
        file.write(json.dumps(broken) + "\n")
    path = tmp_path / "data/verdicts/evalplus_verdicts.jsonl.xz"
    with lzma.open(path, "at") as file:
        file.write(json.dumps({"model": "m", "task_id": "Mbpp/999", "solution": "pass"}) + "\n")
    command = [sys.executable, ROOT / "bench/benchmark_evalplus.py", tmp_path / "data", "--model", "m", "--rounds", "1",
               "--datasets", "mbpp", "--mutants", "1", "--peers-python", "none",
               "--output", tmp_path / "out.json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, "Mbpp/999 has no reason in UNFIT"
    found = read_json(tmp_path / "out.json")["datasets"]["mbpp"]
    assert list(found["references"]["left_out"]) == ["Mbpp/999"]
    assert (found["compared"]["solutions"], found["compared"]["pass@1"]) == (1, {"ours": {"base": 1.0, "plus": 1.0}})
    assert found["mutants"]["all"]["mutants"] == 1


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        ("def f(x):\n    return x < 1", {"comparison", "off by one", "constant returned"}),
        ("def f(x):\n    x.sort()\n    return x", {"statement dropped", "constant returned"}),
        ("def f(x):\n    return x * True", {"operator", "constant returned"}),
        ("def f(x):\n    pass", set()),
    ],
)
def test_mutants_are_other_programs(code, kinds):
    found = list(mutants(code))
    assert {kind for kind, _ in found} == kinds
    assert code not in {ast.unparse(ast.parse(text)) for _, text in found}
    assert len({text for _, text in found}) == len(found)
