"""ClassEval: three strategies, methods found in answers, classes put together, and test classes that run alone."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from tiny_model import make_model

from selfalign.benchmarks.asking import AskSettings
from selfalign.benchmarks.classeval import contract, find_method, separate_tests
from selfalign.benchmarks.completions import answer_id, complete_benchmark
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.tasks import Task, read_tasks
from selfalign.engines.models import write_model
from selfalign.records.files import read_json, read_jsonl, write_jsonl

SKELETON = '''import math


class Shape:
    """
    A square with holes.
    """

    def __init__(self, side):
        """
        :param side: int
        """
        self.side = side

    @staticmethod
    def half(x):
        """
        Return the half.
        >>> Shape.half(2)
        1.0
        """

    def area(self):
        """
        Return the area.
        """
'''
CONSTRUCTOR = '''class Shape:
    def __init__(self, side):
        """
        :param side: int
        """
        self.side = side

'''
SOLUTION = """import math


class Shape:
    def __init__(self, side):
        self.side = side

    @staticmethod
    def half(x):
        return x / 2

    def area(self):
        return math.prod([self.side, self.side])
"""
TESTS = """import os
import unittest


class ShapeTestHalf(unittest.TestCase):
    def setUp(self):
        with open(os.path.join(os.path.dirname(__file__), "half.txt"), "w") as file:
            file.write("2")

    def test_half(self):
        self.assertEqual(Shape.half(2), 1)
        self.assertEqual(Shape(1).half(3), 1.5)


class ShapeTestArea(unittest.TestCase):
    def test_area(self):
        self.assertEqual(Shape(3).area(), 9)

    def test_area_of_nothing(self):
        self.assertEqual(Shape(0).area(), 0)


class  ShapeTestMain(unittest.TestCase):
    def test_main(self):
        shape = Shape(4)
        self.assertEqual(shape.half(shape.area()), 8)
"""
METHODS = [
    {
        "method_name": "half",
        "method_description": '@staticmethod\n    def half(x):\n        """\n        Return the half.\n        """',
    },
    {"method_name": "area", "method_description": 'def area(self):\n    """\n    Return the area.\n    """'},
]
ROW = {
    "task_id": "Shapes_1",
    "skeleton": SKELETON,
    "test": TESTS,
    "solution_code": SOLUTION,
    "import_statement": ["import math"],
    "class_description": '    """\n    A square with holes.\n    """\n',
    "class_name": "Shape",
    "test_classes": ["ShapeTestHalf", "ShapeTestArea", " ShapeTestMain"],
    "class_constructor": CONSTRUCTOR,
    "fields": ["self.side"],
    "methods_info": METHODS,
}
HALF = '    @staticmethod\n    def half(x):\n        """\n        Return the half.\n        """\n'
AREA = '    def area(self):\n        """\n        Return the area.\n        """\n'


def task_of(strategy: str) -> Task:
    """Return the one task under a strategy."""
    (task,) = KINDS["classeval"].read_tasks(ROW, "classeval", strategy=strategy)
    return task


def question(strategy: str, texts: list[str], *, completes_prompt: bool):
    """Return the next question about the one task."""
    return KINDS["classeval"].wording(task_of(strategy), texts, completes_prompt=completes_prompt)


# What is asked


def test_a_whole_class_is_asked_from_its_skeleton():
    task = task_of("holistic")
    asked = question("holistic", [], completes_prompt=False)
    for words in (asked.instruction, asked.prompt):
        assert SKELETON.strip() in words
        assert "prod" not in words
        assert "assertEqual" not in words
    assert asked.prompt.endswith("```python\nimport math\nclass Shape:\n")
    assert asked.prefix == "import math\nclass Shape:\n"
    assert question("holistic", ["x"], completes_prompt=False) is None
    assert (task.metrics["class"], len(task.metrics["method"])) == (
        [["ShapeTestHalf", "ShapeTestArea", "ShapeTestMain"]],
        3,
    )


OPENING = f'import math\nclass Shape:\n    """\n    A square with holes.\n    """\n{CONSTRUCTOR.partition(chr(10))[2]}'
TEXTS = [
    # strategy, answers so far, whether they complete the prompt, what the next question holds beside the opening
    ("incremental", [], True, HALF),
    ("incremental", ["        return 7\n"], True, f"{HALF}        return 7\n\n{AREA}"),
    ("incremental", ["```python\ndef half(x):\n    return 8\n```"], False,
     f"    @staticmethod\n    def half(x):\n        return 8\n\n{AREA}"),
    ("incremental", ["No."], False, AREA),
    ("compositional", [], True, f"    def area(self):\n        pass\n\n{HALF}"),
    ("compositional", ["        return 7\n"], True, f"    @staticmethod\n    def half(x):\n        pass\n\n{AREA}"),
]  # fmt: skip


@pytest.mark.parametrize(("strategy", "texts", "completes", "rest"), TEXTS)
def test_methods_are_asked_one_by_one(strategy, texts, completes, rest):
    asked = question(strategy, texts, completes_prompt=completes)
    assert asked.prompt == f"{OPENING.rstrip()}\n\n{rest}"
    assert asked.prompt.endswith(asked.prefix)
    assert f"```python\n{asked.prompt}```" in asked.instruction
    assert f"`{['half', 'area'][len(texts)]}`" in asked.instruction
    assert question(strategy, ["x", "y"], completes_prompt=completes) is None


CONTRACTS = [
    (
        "as in a class",
        'def f(self):\n        """\n        Add.\n        """',
        'def f(self):\n        """\n        Add.\n',
    ),
    ("as a function", 'def f(self):\n    """\n    Add.\n    """', 'def f(self):\n        """\n        Add.\n'),
    ("typographic quotes", "def f(self):\n        “”“\n        Add.\n        ”“”", 'def f(self):\n        """\n'),
    ("indented otherwise", 'def f(self):\n         """\n        Add.\n        """', 'def f(self):\n        """\n'),
    ("not closed", 'def f(self):\n        """\n        Add.', 'def f(self):\n        """\n        Add.\n'),
    ("types", 'def f(self, x: int) -> dict:\n    """Add."""', 'def f(self, x: int) -> dict:\n        """Add."""\n'),
    ("a decorator", '@staticmethod\n    def f():\n        """Add."""', "@staticmethod\n    def f():\n"),
]


@pytest.mark.parametrize(("given", "begin"), [case[1:] for case in CONTRACTS], ids=[case[0] for case in CONTRACTS])
def test_contracts_stand_in_a_class(given, begin):
    found = contract({"method_name": "f", "method_description": given})
    assert found.startswith(f"    {begin}")
    (method,) = ast.parse(f"class A:\n{found}        return 1\n").body[0].body
    assert method.name == "f"
    assert ast.get_docstring(method) == "Add."


FOUND = [
    ("alone", "def f(x):\n    return 1", "    def f(x):\n        return 1\n"),
    ("indented", "    def f(x):\n        return 1", "    def f(x):\n        return 1\n"),
    ("in a class", "class A:\n    def g(x):\n        pass\n\n    def f(x):\n        return 1\n\n    h = 1\n",
     "    def f(x):\n        return 1\n"),
    ("decorated", "@staticmethod\ndef f(x):\n    return 1", "    @staticmethod\n    def f(x):\n        return 1\n"),
    ("before what is broken", "def f(x):\n    return 1\n\ndef g(", "    def f(x):\n        return 1\n"),
    ("cut off", "def f(x):\n    y = 1\n    return (y +", "    def f(x):\n        y = 1\n"),
    ("a header over lines", "def f(\n    x,\n):\n    return 1", "    def f(\n        x,\n    ):\n        return 1\n"),
    ("another", "def g(x):\n    return 1", ""),
    ("no code", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("code", "method"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_methods_are_found_in_answers(code, method):
    assert find_method(code, "f") == method


def test_test_classes_stand_alone_and_keep_what_they_need():
    names = ["ShapeTestHalf", "ShapeTestArea", "ShapeTestMain"]
    found = separate_tests(TESTS, names)
    assert list(found) == names
    for name, code in found.items():
        assert [node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef)] == [name]
        assert "import unittest" in code
    base = "class Base(unittest.TestCase):\n    def make(self):\n        return Shape(1)\n"
    other = "class A(unittest.TestCase):\n    def test_a(self):\n        Base.make(self)\n"
    alone = separate_tests(f"{base}{other}{TESTS}", ["Base", "A", *names])
    assert list(alone) == ["A", *names], "Base has no tests"
    assert base in alone["A"]
    assert base not in alone["ShapeTestArea"]


# Files


def source(tmp_path: Path, content: object) -> Path:
    """Write the benchmark's file."""
    path = tmp_path / "classes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


BAD = [
    ("[{", {}, "classes.json: not JSON"),
    ({"a": 1}, {}, "classes.json: not a JSON array of objects; is this a file of the kind classeval?"),
    ([1], {}, "classes.json: not a JSON array of objects"),
    ([], {}, "classes.json: no tasks in it"),
    ([ROW], {"strategy": "parts"}, "no strategy 'parts'; the option strategy is one of holistic, incremental, comp"),
    ([ROW], {"strategie": "x"}, "classeval has no option strategie; it has strategy"),
    ([ROW, {**ROW, "test_classes": ["Other"]}], {}, "row 2: the tests have no class Other"),
    ([{**ROW, "methods_info": [{"method_name": "f", "method_description": "f(x)"}]}], {}, "description of f does not"),
    ([{"task_id": "a"}], {}, "row 1: no field 'class_name'"),
]


@pytest.mark.parametrize(("content", "options", "message"), BAD, ids=[message[:30] for *_, message in BAD])
def test_bad_files_are_one_clear_error(tmp_path, content, options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        prepare_benchmark("classeval", source(tmp_path, content), options, tmp_path / "b.jsonl", tmp_path / "s.json")
    assert message in str(error.value)


# From answers to scores, by the real commands


def run(script: str, *options: object) -> None:
    """Run a command, which has to succeed."""
    command = [sys.executable, ROOT / f"scripts/{script}.py", *options]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def answered(task: Task, k: int, texts: list[str], *, completes_prompt: bool) -> dict:
    """Return the row of an answer."""
    code, drop = KINDS["classeval"].build_code(task, texts, completes_prompt=completes_prompt)
    reasons = ["stop"] * len(texts)
    name = answer_id(task.id, k)
    return Answer(id=name, task=task.id, k=k, texts=texts, finish_reasons=reasons, code=code, drop=drop).dump()


def fenced(code: str) -> str:
    return f"Here:\n```python\n{code}\n```\n"


BODY = SOLUTION.partition("class Shape:\n")[2]
WRONG = SOLUTION.replace("x / 2", "x // 2")
RIGHT_HALF, WRONG_HALF, RIGHT_AREA = "        return x / 2\n", "        return 0\n", "        return self.side**2\n"
SCORED = [
    # strategy, whether the texts complete the prompt, answers with the class's and the methods' passes
    ("holistic", False, [([fenced(SOLUTION)], 1, 3), ([fenced(WRONG)], 0, 2), (["No."], 0, 0)]),
    ("holistic", True, [([BODY], 1, 3), ([BODY.replace("self.side, ", "")], 0, 1), ([" "], 0, 0)]),
    ("incremental", True, [([RIGHT_HALF, RIGHT_AREA], 1, 3), ([WRONG_HALF, RIGHT_AREA], 0, 1), (["", ""], 0, 0)]),
    ("compositional", False, [
        ([fenced("def half(x):\n    return x / 2"), fenced("def area(self):\n    return self.side**2")], 1, 3),
        (["No.", fenced("def area(self):\n    return self.side**2")], 0, 1),
        (["No.", "No."], 0, 0),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("strategy", "completes", "answers"), SCORED, ids=[f"{case[0]}-{case[1]}" for case in SCORED])
def test_commands_lead_to_scores_of_classes_and_methods(tmp_path, strategy, completes, answers):
    benchmark = tmp_path / "classes.jsonl"
    run("prepare_benchmark", "--kind", "classeval", "--path", source(tmp_path, [ROW]), "--options",
        json.dumps({"strategy": strategy}), "--output", benchmark, "--source", tmp_path / "source.json")  # fmt: skip
    assert read_json(tmp_path / "source.json")["options"] == {"strategy": strategy}
    references = tmp_path / "references.jsonl"
    run("run_references", "--benchmark", benchmark, "--output", references, "--stats", tmp_path / "r.json")
    assert read_json(tmp_path / "r.json")["left_out"] == {}
    (task,) = read_tasks(benchmark)
    folder = tmp_path / "tiny/classes"
    rows = [answered(task, k, texts, completes_prompt=completes) for k, (texts, *_) in enumerate(answers)]
    assert [row["drop"] for row in rows] == [None, None, "no code"]
    write_jsonl(folder / "completions.jsonl", rows)
    common = ["--benchmark", benchmark, "--references", references, "--completions", folder / "completions.jsonl"]
    run("verify_completions", *common, "--output", folder / "verdicts.jsonl", "--stats", folder / "verdicts.json")
    run("score_benchmark", *common, "--source", tmp_path / "source.json", "--verdicts", folder / "verdicts.jsonl",
        "--output", folder / "scores.json")  # fmt: skip
    passed = {}
    for row in read_jsonl(folder / "verdicts.jsonl"):
        passed.setdefault(row["id"].partition("/")[0], []).append(row["verdict"] == "passed")
    assert [sum(found) for found in passed.values()] == [methods for *_, methods in answers[:2]]
    metrics = read_json(folder / "scores.json")["metrics"]
    assert metrics["class"]["pass@1"] == pytest.approx(sum(whole for _, whole, _ in answers) / 3)
    assert metrics["method"]["units"] == 3
    assert metrics["method"]["pass@1"] == pytest.approx(sum(methods for *_, methods in answers) / 9)


@pytest.mark.parametrize("strategy", ["holistic", "incremental", "compositional"])
def test_a_model_is_asked_for_every_method(tmp_path, strategy):
    make_model(tmp_path / "model", max_position_embeddings=2048)
    write_model(tmp_path / "model/model.json", tmp_path / "model")
    benchmark = tmp_path / "classes.jsonl"
    prepare_benchmark("classeval", source(tmp_path, [ROW]), {"strategy": strategy}, benchmark, tmp_path / "s.json")
    complete_benchmark(
        model=tmp_path / "model/model.json", engine='{"batch_size": 2}', benchmark=benchmark,
        settings=AskSettings(samples=2, temperature=0.8, max_tokens=8), run_seed=1, label="test",
        output=tmp_path / "c.jsonl", stats=tmp_path / "c.json",
    )  # fmt: skip
    answers = [Answer.load(row) for row in read_jsonl(tmp_path / "c.jsonl")]
    assert [answer.id for answer in answers] == ["Shapes_1-s0", "Shapes_1-s1"]
    for answer in answers:
        assert len(answer.texts) == (1 if strategy == "holistic" else 2)
        assert answer.code.startswith("import math\nclass Shape:\n")


# The published file

DATA = os.environ.get("SELFALIGN_BENCHDATA")


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # in docstrings of the data
@pytest.mark.skipif(DATA is None, reason="SELFALIGN_BENCHDATA names no folder of benchmarks")
def test_published_classes_pass_and_broken_ones_do_not(tmp_path):
    path = Path(DATA, "classeval/ClassEval_data.json.gz")
    options = {"strategy": "compositional"}
    prepare_benchmark("classeval", path, options, tmp_path / "all.jsonl", tmp_path / "source.json")
    tasks = read_tasks(tmp_path / "all.jsonl")
    assert (len(tasks), sum(len(task.data["methods"]) for task in tasks)) == (100, 410)
    assert sum(len(task.checks) for task in tasks) == 501
    for task in tasks:  # contracts and constructors, from which classes are put together, are code
        texts = [fenced(f"def {name}(self):\n    return 1") for name in task.data["methods"]]
        code, drop = KINDS["classeval"].build_code(task, texts, completes_prompt=False)
        assert drop is None
        ast.parse(code)
        ast.parse(task.data["imports"] + task.data["constructor"] + "\n" + "".join(
            f"{given}        return 1\n" for given in task.data["methods"].values()
        ))  # fmt: skip
    small = [task for task in tasks if task.id in {"ClassEval_17", "ClassEval_25", "ClassEval_45", "ClassEval_97"}]
    write_jsonl(tmp_path / "small.jsonl", (task.dump() for task in small))
    run("run_references", "--benchmark", tmp_path / "small.jsonl", "--workers", 2, "--output", tmp_path / "r.jsonl",
        "--stats", tmp_path / "r.json")  # fmt: skip
    assert read_json(tmp_path / "r.json")["left_out"] == {}
    rows = []
    possible = [task for task in small if task.id != "ClassEval_25"]  # its tests call a method that no skeleton names
    for task in possible:
        right = [fenced(task.canonical_solution)] * len(task.data["methods"])
        rows.append(answered(task, 0, right, completes_prompt=False))
        rows.append(answered(task, 1, [fenced("No code"), *right[1:]], completes_prompt=False))
    write_jsonl(tmp_path / "c.jsonl", rows)
    run("verify_completions", "--benchmark", tmp_path / "small.jsonl", "--references", tmp_path / "r.jsonl",
        "--completions", tmp_path / "c.jsonl", "--workers", 2, "--output", tmp_path / "v.jsonl",
        "--stats", tmp_path / "v.json")  # fmt: skip
    failed = {row["id"].partition("/")[0] for row in read_jsonl(tmp_path / "v.jsonl") if row["verdict"] != "passed"}
    assert failed == {answer_id(task.id, 1) for task in possible}
