"""DS-1000: from the authors' format to programs, what an answer becomes, and the environment that they run in."""

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from selfalign.benchmarks.ds1000 import DS1000, STOP, enclosing_function, fit_code
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.outputs import Known
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.references import fit_sandbox, read_references, run_references
from selfalign.benchmarks.tasks import Task, read_tasks
from selfalign.benchmarks.verification import verify_completions
from selfalign.records.files import read_jsonl, write_jsonl
from selfalign.sandbox import SandboxSettings

CONTEXT = '''import io
import tokenize


def generate_test_case(test_case_id):
    numbers = [[3, 1, 2], [5, 4]][test_case_id - 1]
    return numbers, sorted(numbers)


def exec_test(result, ans):
    try:
        assert result == tuple(ans)
        return 1
    except AssertionError:
        pass
    return int(result == ans)


exec_context = r"""
numbers = test_input
[insert]
"""


def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    for i in range(2):
        test_input, expected_result = generate_test_case(i + 1)
        test_env = {"test_input": test_input}
        exec(code, test_env)
        assert exec_test(test_env["result"], expected_result)
'''
USES_SORTED = """

def test_string(solution: str):
    tokens = [token.string for token in tokenize.tokenize(io.BytesIO(solution.encode()).readline)]
    assert "sorted" in tokens
"""
STATEMENT = {
    "prompt": "Problem:\nSort the numbers.\n\nA:\n<code>\nnumbers = [3, 1, 2]\n</code>\n"
    "result = ... # put solution in this variable\nBEGIN SOLUTION\n<code>\n",
    "reference_code": "result = sorted(numbers)",
    "code_context": CONTEXT + USES_SORTED,
    "metadata": {"problem_id": 0, "library": "Numpy", "perturbation_type": "Origin", "test_case_cnt": 2},
}
FUNCTION = {
    "prompt": "Problem:\nSort the numbers.\n\nA:\n<code>\nexample = [3, 1, 2]\ndef f(numbers=example):\n"
    "    # return the solution in this function\n    # result = f(numbers)\n    ### BEGIN SOLUTION",
    "reference_code": "    result = sorted(numbers)\n\n    return result\n",
    "code_context": CONTEXT.replace("[insert]\n", "def f(numbers):\n[insert]\nresult = f(numbers)\n"),
    "metadata": {"problem_id": 1, "library": "Pandas", "perturbation_type": "Surface", "test_case_cnt": 2},
}
PLOT = {
    "prompt": "import math\n\nnumbers = [3, 1]\n\n# draw the numbers in order\n# SOLUTION START\n",
    "reference_code": "result = sorted(numbers)",
    "code_context": CONTEXT,
    "metadata": {"problem_id": 2, "library": "Matplotlib", "perturbation_type": "Semantic", "test_case_cnt": 2},
}
MISSING = {
    **STATEMENT,
    "code_context": "import torch_of_nobody\n" + CONTEXT,
    "metadata": {**STATEMENT["metadata"], "problem_id": 3, "library": "Pytorch"},
}
ROWS = [STATEMENT, FUNCTION, PLOT, MISSING]


def task_of(row: dict) -> Task:
    (task,) = DS1000().read_tasks(row, "ds")
    return task


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    """Return the prepared rows, with their references beside them."""
    folder = tmp_path_factory.mktemp("ds1000")
    write_jsonl(folder / "source.jsonl", ROWS)
    path = folder / "ds.jsonl"
    assert prepare_benchmark("ds1000", folder / "source.jsonl", {}, path, folder / "ds.source.json") == len(ROWS)
    run_references(
        benchmark=path,
        sandbox=SandboxSettings(),
        workers=1,
        label="references",
        output=folder / "ds.references.jsonl",
        stats=folder / "ds.references.json",
    )
    return path


def judge(benchmark: Path, folder: Path, answers: list[tuple[int, str, bool]]) -> list[tuple[str, str]]:
    """Return verdict and detail of answers to tasks; each says whether it completes the prompt."""
    tasks, rows = read_tasks(benchmark), []
    for number, (index, text, completes) in enumerate(answers):
        task = tasks[index]
        code, drop = KINDS["ds1000"].build_code(task, [text], completes_prompt=completes)
        rows.append(
            Answer(
                id=f"{task.id}-s{number}", task=task.id, k=number, texts=[text], finish_reasons=["stop"], code=code,
                drop=drop,
            ).dump()
        )  # fmt: skip
    write_jsonl(folder / "completions.jsonl", rows)
    verify_completions(
        benchmark=benchmark,
        references=benchmark.with_name("ds.references.jsonl"),
        completions=folder / "completions.jsonl",
        sandbox=SandboxSettings(),
        workers=1,
        label="verdicts",
        output=folder / "verdicts.jsonl",
        stats=folder / "verdicts.json",
    )
    found = {
        row["id"].rpartition("/")[0]: (row["verdict"], row["detail"]) for row in read_jsonl(folder / "verdicts.jsonl")
    }
    return [found.get(row["id"], (row["drop"], "")) for row in rows]


def test_problems_become_tasks(benchmark):
    statement, function, plot, _ = read_tasks(benchmark)
    assert [task.id for task in read_tasks(benchmark)] == [f"DS-1000/{number}" for number in range(4)]
    assert statement.groups == {"library": "Numpy", "perturbation": "Origin"}
    assert [task.prefix for task in (statement, function, plot)] == ["", "def f(numbers):\n", ""]
    assert [task.prompt for task in (statement, function, plot)] == [row["prompt"] for row in ROWS[:3]]
    assert function.canonical_solution == "def f(numbers):\n" + FUNCTION["reference_code"]
    assert statement.checks[0].cpu_s == 120
    for task in (statement, function, plot):
        assert task.instruction.count("```") == 2, "one closed block"
        assert not re.search("<code>|BEGIN SOLUTION|SOLUTION START", task.instruction)
    assert statement.instruction.endswith("```\nresult = ... # put solution in this variable")
    assert function.instruction.endswith("    # result = f(numbers)\n```")
    assert "do not show" in plot.instruction


def test_references_pass_and_what_needs_a_missing_package_is_left_out_by_name(benchmark):
    references = read_references(benchmark.with_name("ds.references.jsonl"))
    assert {name for name, row in references.items() if row.left_out} == {"DS-1000/3"}
    assert "No module named 'torch_of_nobody'" in references["DS-1000/3"].left_out


ANSWERS = [
    # task, text, completes the prompt, verdict
    (0, "result = sorted(numbers)\n</code>\nmore prose", True, "passed"),
    (0, "```python\nresult = sorted(numbers)\n```\nDone.", True, "passed"),
    (0, "<code>result = sorted(numbers)\n# SOLUTION END\n1 / 0", True, "passed"),
    (0, "result = sorted(numbers)\nEND SOLUTION\n1 / 0", True, "passed"),
    (0, "result = tuple(sorted(numbers))", True, "passed"),  # the check's first try raises for the others
    (0, "numbers.sort()\nresult = numbers", True, "assertion"),  # it was asked to use sorted
    (0, "result = [1, 2, 3]; sorted", True, "assertion"),  # right for the first input only
    (0, "result = sorted(", True, "exception"),
    (0, "raise SystemExit", True, "early_exit"),
    (0, "test_input = sorted", True, "exception"),
    (0, " \n", True, "no code"),
    (0, "Here:\n```python\nresult = sorted(numbers)\n```\n", False, "passed"),
    (0, "<code>\nresult = sorted(numbers)\n</code>", False, "passed"),
    (0, "I cannot.", False, "no code"),
    (1, "\n    return sorted(numbers)\n</code>", True, "passed"),
    (1, "\nreturn sorted(numbers)\n</code>", True, "exception"),  # as the authors: not indented
    (1, "\n    return numbers", True, "assertion"),
    (1, "```python\ndef f(numbers):\n    return sorted(numbers)\n```", False, "passed"),
    (1, "```python\nimport math\n\ndef f(xs=None):\n    text = '''a'''\n    return sorted(xs)\n```", False, "passed"),
    (1, "```python\nreturn sorted(numbers)\n```", False, "passed"),
    (1, "```python\n    return sorted(numbers)\n```", False, "passed"),
    (1, "```python\ndef g(xs):\n    return sorted(xs)\n```", False, "assertion"),
    (1, "```python\ndef f(xs):\n    return xs\n```", False, "assertion"),
    (2, "result = sorted(numbers)\n# SOLUTION END\n", True, "passed"),
    (2, "result = numbers", True, "assertion"),
    (3, "result = sorted(numbers)", True, None),  # left out
]


def test_answers_get_the_verdicts_of_the_authors_tests(benchmark, tmp_path):
    found = judge(benchmark, tmp_path, [answer[:3] for answer in ANSWERS])
    wrong = [(answer, verdict) for answer, verdict in zip(ANSWERS, found, strict=True) if answer[3] != verdict[0]]
    assert wrong == []


def test_solutions_continue_the_function_that_the_context_begins():
    cases = [
        ("\nx = test_input\n[insert]\n", ""),
        ("\ndef f(a, b=(1, 2)):\n[insert]\nresult = f(1)\n", "def f(a, b=(1, 2)):\n"),
        ("\nx = 1\ndef f(a):\n    b = 2\n[insert]\n", "def f(a):\n    b = 2\n"),
        ("\ndef load():\n    return 1\nx = load()\n[insert]\n", ""),
        ("\nfor x in test_input:\n    print(x)\n[insert]\n", ""),
    ]
    assert [enclosing_function(context) for context, _ in cases] == [prefix for _, prefix in cases]


def test_code_that_does_not_parse_stays_as_it_is():
    assert fit_code("def f(:\n", "def f(x):\n") == "def f(:\n"


BAD_ROWS = [
    ({"prompt": ""}, "a field has the wrong type (prompt is ''"),
    ({"code_context": "x = 1"}, "row 1: code_context sets no exec_context"),
    ({"code_context": CONTEXT.replace("[insert]\n", "")}, "row 1: exec_context has 0 places [insert]"),
    ({"code_context": CONTEXT.replace("test_execution", "run_it")}, "row 1: code_context has no function test_exec"),
    ({"code_context": "exec_context = ("}, "row 1: solution and tests are not valid Python"),
    ({"metadata": {}}, "row 1: no field 'library'; is this a file of the kind ds1000?"),
    ({"reference_code": "result ="}, "row 1: solution and tests are not valid Python"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ROWS, ids=[message[-30:] for _, message in BAD_ROWS])
def test_bad_rows_are_one_clear_error(tmp_path, change, message):
    write_jsonl(tmp_path / "source.jsonl", [{**STATEMENT, **change}])
    with pytest.raises(ValueError) as error:  # noqa: PT011
        prepare_benchmark("ds1000", tmp_path / "source.jsonl", {}, tmp_path / "ds.jsonl", tmp_path / "source.json")
    assert message in str(error.value)
    assert str(tmp_path / "source.jsonl") in str(error.value)


@pytest.mark.parametrize(("given", "found"), [(1024, 4096), (8192, 8192)])
def test_a_benchmark_gets_at_least_the_limits_that_it_needs(given, found):
    settings = fit_sandbox(SandboxSettings(memory_mb=given, cpu_s=7), [task_of(STATEMENT)])
    assert (settings.memory_mb, settings.cpu_s) == (found, 7)
    demo = replace(task_of(STATEMENT), kind="demo")
    assert fit_sandbox(SandboxSettings(memory_mb=given), [demo]).memory_mb == given


# The environment

RULES = ["run_references", "verify_completions"]  # those that run in the environment of a benchmark


def imports_of(path: Path, seen: set[Path]) -> set[str]:
    """Return the modules beyond ours that importing a file imports."""
    if path in seen:
        return set()
    seen.add(path)
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        names, folder = [], ROOT / "scripts"
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module}." if node.module else ""
            names = [node.module or "", *(f"{base}{alias.name}" for alias in node.names)]
            folder = path.parent if node.level else folder
        for name in filter(None, names):
            if folder == ROOT / "scripts" and name.partition(".")[0] != "selfalign":
                found.add(name.partition(".")[0])
            for module in (folder / f"{name.replace('.', '/')}.py", folder / name.replace(".", "/") / "__init__.py"):
                if module.is_file():
                    found |= imports_of(module, seen)
    return found


def locked(lock: str) -> set[str]:
    """Return the packages that a lock names."""
    return {name.lower() for name in re.findall(r"^([\w.-]+)==", (ROOT / "envs" / lock).read_text(), re.MULTILINE)}


@pytest.mark.parametrize("environment", sorted({kind.environment for kind in KINDS.values()}))
def test_environments_hold_what_our_commands_import_there(environment):
    wanted: set[str] = {"packaging"}  # what the sandbox imports where it is to find packages
    for rule in RULES:
        wanted |= imports_of(ROOT / f"scripts/{rule}.py", set())
    assert wanted - sys.stdlib_module_names <= locked(f"{environment}.lock")
    assert (ROOT / f"envs/{environment}.yaml").read_text().count(f"-r {environment}.lock") == 1


def test_the_rules_take_the_environment_of_the_benchmark(tmp_path):
    write_jsonl(tmp_path / "source.jsonl", ROWS)
    config = {
        "corpora": {}, "generations": {}, "datasets": {}, "models": {"base": {"pretrained": "resources/demo-base"}},
        "benchmarks": {
            "ds": {"kind": "ds1000", "path": "source.jsonl"},
            "here": {"kind": "ds1000", "path": "source.jsonl", "environment": "core"},
        },
        "evaluate": [{"models": ["base"], "benchmarks": ["ds", "here"]}],
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))

    def snakemake(*arguments: str) -> str:
        command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--configfile", "config.json"]
        command += ["--cores", "1", *arguments]
        environment = os.environ | {"SELFALIGN_DS1000_ENV": str(tmp_path / "nowhere")}
        result = subprocess.run(
            [str(part) for part in command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in result.stdout + result.stderr
        return result.stdout + result.stderr

    for rows in ("ds", "here"):
        plan = snakemake("-n", "-p", "--quiet", "host", "--", f"results/benchmarks/{rows}.references.jsonl")
        assert f"PATH=${'ds1000' if rows == 'ds' else 'core'}$PATH python $SCRIPTS/run_references.py" in plan
    said = snakemake("results/benchmarks/ds.references.jsonl")
    assert (
        f"{tmp_path / 'nowhere/bin'} is not there, the environment of its programs; make it with envs/install.sh"
        in said
    )
    assert not (tmp_path / "results/benchmarks/ds.references.jsonl").exists()


# The real problems


@pytest.fixture(scope="module")
def real() -> list[Task]:
    if "SELFALIGN_BENCHDATA" not in os.environ:
        pytest.skip("SELFALIGN_BENCHDATA is not set")
    kind, tasks = DS1000(), []
    for _, fields in kind.rows(Path(os.environ["SELFALIGN_BENCHDATA"], "ds1000/ds1000.jsonl.gz")):
        tasks += kind.read_tasks(fields, "ds1000")
    return tasks


def test_all_real_problems_are_read(real):
    libraries = [task.groups["library"] for task in real]
    assert {name: libraries.count(name) for name in set(libraries)} == {
        "Pandas": 291, "Numpy": 220, "Matplotlib": 155, "Sklearn": 115, "Scipy": 106, "Pytorch": 68, "Tensorflow": 45,
    }  # fmt: skip
    assert sum(bool(task.prefix) for task in real) == 73
    assert sum("test_string" in task.data["calls"] for task in real) == 159
    for task in real:
        ast.parse(task.canonical_solution)
        assert task.instruction.count("```") == 2, task.id
        solution = task.canonical_solution.removeprefix(task.prefix)
        code, drop = KINDS["ds1000"].build_code(task, [f"{solution}\n</code>\nx = ("], completes_prompt=True)
        assert (code, drop) == (f"{task.canonical_solution}\n", None), task.id
        _, tests = KINDS["ds1000"].build_program(task, task.checks[0], task.canonical_solution, Known())
        assert ast.literal_eval(ast.parse(tests).body[0].value.args[0]) == solution
    assert not any(stop in task.canonical_solution for task in real for stop in STOP)


ENVIRONMENT = Path(os.environ.get("SELFALIGN_DS1000_ENV", ROOT / ".venv-ds1000")) / "bin/python"
NEED_NETWORK = {519, 539, 565, 566, 567, 577, 598, 624, 629, 650, 654, 655, 656, 661, 819}  # data sets to download
NEED_CTYPES = {837, 838}  # xgboost
NEED_TORCH = {377, 378, 379, 380}  # NumPy problems whose tests import PyTorch or TensorFlow


@pytest.mark.skipif(not ENVIRONMENT.exists(), reason="the environment ds1000 is not there")
def test_real_references_pass_in_the_environment_of_the_authors(real, tmp_path):
    """Every 25th problem and all of a few kinds; solutions that do nothing fail."""
    left_out = NEED_NETWORK | NEED_CTYPES | NEED_TORCH
    special = {15, 25, 71, 772, 862, 519, 837, 377}  # see the sandbox's `warm_up`, and what is left out
    tasks = [
        task
        for number, task in enumerate(real)
        if task.groups["library"] not in ("Pytorch", "Tensorflow") and (number % 25 == 0 or number in special)
    ]
    benchmark, completions = tmp_path / "ds.jsonl", tmp_path / "completions.jsonl"
    write_jsonl(benchmark, (task.dump() for task in tasks))
    rows = [
        Answer(
            id=f"{task.id}-s{k}", task=task.id, k=k, texts=[""], finish_reasons=["stop"], code=code, drop=None
        ).dump()
        for task in tasks
        for k, code in enumerate([task.canonical_solution, f"{task.prefix}{'    ' if task.prefix else ''}pass"])
    ]  # fmt: skip
    write_jsonl(completions, rows)
    references = tmp_path / "ds.references.jsonl"
    for command in (
        ["run_references", "--benchmark", benchmark, "--workers", 2, "--output", references,
         "--stats", tmp_path / "references.json"],
        ["verify_completions", "--benchmark", benchmark, "--references", references, "--completions", completions,
         "--sandbox", "{}", "--workers", 2, "--output", tmp_path / "verdicts.jsonl", "--stats", tmp_path / "v.json"],
    ):  # fmt: skip
        command = [str(part) for part in [ENVIRONMENT, ROOT / f"scripts/{command[0]}.py", *command[1:]]]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    found = read_references(references)
    assert {name for name, row in found.items() if row.left_out} == {
        task.id for task in tasks if int(task.id.partition("/")[2]) in left_out
    }
    verdicts = {row["id"]: row["verdict"] for row in read_jsonl(tmp_path / "verdicts.jsonl")}
    scored = [task.id for task in tasks if found[task.id].left_out is None]
    assert [name for name in scored if verdicts[f"{name}-s0/tests"] != "passed"] == []
    assert [name for name in scored if verdicts[f"{name}-s1/tests"] == "passed"] == []
