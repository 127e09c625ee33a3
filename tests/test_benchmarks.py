"""Benchmarks: files to tasks, questions, answers to programs, verdicts, scores; through the real commands."""

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from math import comb
from pathlib import Path

import pytest
from completion_server import KEY, CompletionServer, say_late, status
from conftest import ROOT
from scipy.stats import binomtest
from tiny_model import make_model, make_tokenizer

from selfalign.benchmarks.asking import AskSettings, Question, asker, way_of_asking
from selfalign.benchmarks.benchmark import Wording
from selfalign.benchmarks.completions import answer_id, complete_benchmark
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.outputs import Known, cpu_limit
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.benchmarks.programs import Answer, code_before, find_code
from selfalign.benchmarks.references import run_references
from selfalign.benchmarks.scoring import score_benchmark
from selfalign.benchmarks.statistics import interval_of_mean, paired_difference, pass_at_k, permutation_test
from selfalign.benchmarks.tasks import Check, Task, read_tasks
from selfalign.benchmarks.verification import verify_completions
from selfalign.engines.models import fetch_model, read_model, write_model
from selfalign.prompts.chat import SYSTEM_PROMPT, chat_template
from selfalign.prompts.documents import chat_document, load_prompts
from selfalign.records.files import read_json, read_jsonl, write_jsonl
from selfalign.records.rows import Verdict
from selfalign.records.settings import load_settings
from selfalign.sandbox import SandboxSettings

PROMPTS = ROOT / "resources/prompts/demo.yaml"
HUMANEVAL_LIKE = {
    "task_id": "HumanEval/1",
    "prompt": "from typing import List\n\n\ndef half(x):\n    return x / 2\n\n\n"
    'def halves(xs: List[int]):\n    """Halve."""\n',
    "entry_point": "halves",
    "canonical_solution": "    return [half(x) for x in xs]\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([2, 4]) == [half(2), 2.0]\n\n",
}
DEMO_LIKE = {
    "task_id": "demo-1",
    "category": "function",
    "difficulty": "easy",
    "operations": ["double"],
    "instruction": "Write a function `double(xs)` that doubles each number.",
    "entry_point": "double",
    "canonical_solution": "def double(xs):\n    return [2 * x for x in xs]",
    "tests": "assert double([1, 2]) == [2, 4]\nassert double([]) == []",
}


def demo_rows() -> list[dict]:
    """Return three tasks: a function, a class and a program."""
    return [
        DEMO_LIKE,
        {
            **DEMO_LIKE,
            "task_id": "demo-2",
            "category": "class",
            "difficulty": "hard",
            "entry_point": "Total",
            "canonical_solution": "class Total:\n    def __init__(self, xs):\n        self.xs = xs\n\n"
            "    def result(self):\n        return sum(self.xs)",
            "tests": "assert Total([1, 2]).result() == 3",
        },
        {
            **DEMO_LIKE,
            "task_id": "demo-3",
            "category": "program",
            "entry_point": "main",
            "canonical_solution": "def main(xs):\n    return max(xs)",
            "tests": "assert main([1, 3, 2]) == 3",
        },
    ]


@pytest.fixture
def demo(tmp_path) -> Path:
    """Return the prepared rows of the three tasks."""
    write_jsonl(tmp_path / "source.jsonl", demo_rows())
    path = tmp_path / "benchmarks/demo.jsonl"
    assert prepare_benchmark("demo", tmp_path / "source.jsonl", {}, path, source_of(path)) == 3
    run_references(
        benchmark=path,
        sandbox=SandboxSettings(),
        workers=1,
        label="references",
        output=references_of(path),
        stats=tmp_path / "benchmarks/references.json",
    )
    return path


def source_of(benchmark: Path) -> Path:
    return benchmark.with_suffix(".source.json")


def references_of(benchmark: Path) -> Path:
    return benchmark.with_suffix(".references.jsonl")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return the model.json of a tiny random model without a chat template."""
    folder = tmp_path_factory.mktemp("model")
    make_model(folder, max_position_embeddings=2048)
    write_model(folder / "model.json", folder)
    return folder / "model.json"


def run(script: str, *options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / f"scripts/{script}.py", *options]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def answers_of(tasks: list[Task], write: callable) -> list[dict]:
    """Return answer rows with the text that `write` gives for each task."""
    rows = []
    for task in tasks:
        text = write(task)
        code, drop = KINDS[task.kind].build_code(task, [text], completes_prompt=False)
        rows.append(
            Answer(
                id=answer_id(task.id, 0), task=task.id, k=0, texts=[text], finish_reasons=["stop"], code=code, drop=drop
            ).dump()
        )
    return rows


# Statistics

PASS_AT_K = [
    # samples, passed, k, expected
    (1, 0, 1, 0.0),
    (1, 1, 1, 1.0),
    (10, 3, 1, 0.3),
    (5, 2, 2, 0.7),
    (10, 3, 5, 11 / 12),
    (10, 6, 5, 1.0),
    (200, 1, 100, 0.5),
    (200, 20, 10, 1 - comb(180, 10) / comb(200, 10)),
    (100_000, 1, 1, 1e-5),
]


@pytest.mark.parametrize(("samples", "passed", "k", "expected"), PASS_AT_K)
def test_pass_at_k_of_known_values(samples, passed, k, expected):
    assert pass_at_k(samples, passed, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_is_the_mean_over_all_choices():
    for samples, k in itertools.product(range(1, 7), range(1, 7)):
        for passed in range(samples + 1) if k <= samples else ():
            draws = list(itertools.combinations([True] * passed + [False] * (samples - passed), k))
            assert pass_at_k(samples, passed, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(("samples", "passed", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0), (3, -1, 1)])
def test_pass_at_k_refuses_impossible_numbers(samples, passed, k):
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at_k(samples, passed, k)


def test_interval_is_that_of_the_normal_approximation_and_repeats():
    low, high = interval_of_mean([1.0] * 120 + [0.0] * 280)  # 30 % of 400 tasks
    error = 1.96 * (0.3 * 0.7 / 400) ** 0.5
    assert (low, high) == pytest.approx((0.3 - error, 0.3 + error), abs=0.005)
    assert interval_of_mean([1.0] * 120 + [0.0] * 280) == (low, high)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1.0])
def test_interval_of_equal_values_without_bounds_has_no_width_and_holds_the_mean(value):
    values = [value] * 7
    low, high = interval_of_mean(values)
    assert low <= sum(values) / 7 <= high
    assert high - low < 1e-12


@pytest.mark.parametrize("tasks", [1, 10, 160])
def test_interval_where_all_or_none_pass_is_that_of_clopper_and_pearson(tasks):
    for passed in (0, tasks):
        exact = binomtest(passed, tasks).proportion_ci(method="exact")
        found = interval_of_mean([float(passed > 0)] * tasks, bounds=(0, 1))
        assert found == pytest.approx((exact.low, exact.high))


def test_interval_of_equal_values_reaches_towards_both_bounds():
    low, high = interval_of_mean([25.0] * 10, bounds=(0, 100))
    assert 0 < 25 - low < high - 25 < 75
    assert (high - 25) / (25 - low) == pytest.approx(3)
    assert interval_of_mean([0.0, 1.0] * 5, bounds=(0, 1)) == interval_of_mean([0.0, 1.0] * 5)


def test_paired_difference_sees_what_the_tasks_share():
    ones = {f"t{n}": float(n < 60) for n in range(100)}
    twos = {f"t{n}": float(n < 50) for n in range(100)}
    a, b = ({"model": name, "benchmark": "demo", "per_task": scores} for name, scores in (("a", ones), ("b", twos)))
    found = paired_difference(a, b)
    assert found["difference"] == pytest.approx(0.1)
    assert found["tasks"] == 100
    low, high = found["interval"]
    assert 0.03 < low < 0.1 < high < 0.17  # 10 of 100 tasks differ, all one way: about 1.96 x 0.03
    separate = interval_of_mean(list(ones.values()))
    assert high - low < separate[1] - separate[0]
    assert paired_difference(b, a)["difference"] == -found["difference"]
    same = paired_difference(a, a)  # none of 100 tasks differs, so that few of any others do
    assert same["interval"] == pytest.approx([-0.0362, 0.0362], abs=1e-4)
    assert (same["difference"], same["p"], same["tasks"]) == (0.0, 1.0, 100)
    with pytest.raises(ValueError, match="a on demo and b on demo: 1 tasks"):
        paired_difference(a, {**b, "per_task": {**twos, "t100": 1.0}})


MCNEMAR = [
    # tasks that only a passes, that only b passes, exact two-sided p: the binomial test at 1/2
    (10, 0, 2 / 2**10),
    (5, 5, 1.0),
    (8, 2, 2 * sum(comb(10, n) for n in (0, 1, 2)) / 2**10),
    (1, 0, 1.0),
    (0, 0, 1.0),
]


@pytest.mark.parametrize(("only_a", "only_b", "exact"), MCNEMAR)
def test_permutation_test_is_that_of_mcnemar_for_passes_and_failures(only_a, only_b, exact):
    differences = [1.0] * only_a + [-1.0] * only_b + [0.0] * 50
    assert permutation_test(differences) == pytest.approx(exact, abs=0.02)
    assert permutation_test(differences) == permutation_test([-value for value in differences])


# From text to programs

CODE = "def f(x):\n    return x + 1\n"
ANSWERS = [
    ("one block", f"Here it is.\n\n```python\n{CODE}```\nDone.", CODE),
    ("unclosed block", f"```python\n{CODE}", CODE),
    ("several blocks", f"```python\nimport math\n```\nand\n```py\n{CODE}```", f"import math\n\n{CODE}"),
    ("other languages are left out", f"```bash\npip install x\n```\n```python\n{CODE}```", CODE),
    ("a block of no language", f"```\n{CODE}```", CODE),
    ("a block of no language, unclosed", f"Sure:\n```\n{CODE}", CODE),
    ("plain code", CODE, CODE),
    ("plain code after prose", f"The function:\n\n{CODE}", CODE),
    ("plain code before prose", f"{CODE}\nThis adds one to x.", CODE + "\n"),
    ("a decorated class", "@dataclass\nclass A:\n    x: int", "@dataclass\nclass A:\n    x: int\n"),
    ("prose only", "I cannot do that.", ""),
    ("code that does not parse", "def f(x:\n  return", ""),
    ("nothing", "", ""),
    ("an empty block", "```python\n```", "\n"),
]


@pytest.mark.parametrize(("text", "code"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS])
def test_code_is_found_in_answers(text, code):
    assert find_code(text) == code


def humaneval_task() -> Task:
    (task,) = KINDS["humaneval"].read_tasks(HUMANEVAL_LIKE, "humaneval")
    return task


def demo_task() -> Task:
    (task,) = KINDS["demo"].read_tasks(DEMO_LIKE, "demo")
    return task


def wording(task: Task) -> Wording:
    return KINDS[task.kind].wording(task, [], completes_prompt=False)


def build_program(task: Task, text: str, *, completes_prompt: bool) -> tuple[str, str | None]:
    """Return the whole program of an answer, "" for one without code, and the drop reason."""
    benchmark = KINDS[task.kind]
    code, drop = benchmark.build_code(task, [text], completes_prompt=completes_prompt)
    if drop:
        return code, drop
    return "\n\n".join(benchmark.build_program(task, task.checks[0], code, Known())), None


SOLUTION = "def halves(xs):\n    return [x / 2 for x in xs]"
PROGRAMS = [
    ("completion", "    return [half(x) for x in xs]", True, True),
    (
        "completion with a second function",
        "    return g(xs)\n\ndef g(xs):\n    return [x / 2 for x in xs]\n",
        True,
        True,
    ),
    ("completion that is wrong", "    return xs", True, False),
    ("answer without the imports and helpers", f"```python\n{SOLUTION}\n```", False, True),
    ("answer with a helper of its own", f"```python\ndef half(x):\n    return x / 2\n\n{SOLUTION}\n```", False, True),
    ("answer with a future import", f"```python\nfrom __future__ import annotations\n{SOLUTION}\n```", False, True),
    ("answer in a second block", f"```python\nimport math\n```\n```python\n{SOLUTION}\n```", False, True),
    ("answer that is wrong", "```python\ndef halves(xs):\n    return xs\n```", False, False),
]


@pytest.mark.parametrize(
    ("text", "completes", "passes"), [case[1:] for case in PROGRAMS], ids=[case[0] for case in PROGRAMS]
)
def test_programs_hold_all_that_the_tests_need(text, completes, passes):
    program, drop = build_program(humaneval_task(), text, completes_prompt=completes)
    assert drop is None
    assert program.endswith("check(halves)\n")
    if passes:
        exec(compile(program, "program", "exec"), {})
    else:
        with pytest.raises(AssertionError):
            exec(compile(program, "program", "exec"), {})


@pytest.mark.parametrize(("text", "completes"), [("No.", False), ("```python\n\n```", False), (" \n", True)])
def test_answers_without_code_are_dropped(text, completes):
    assert build_program(humaneval_task(), text, completes_prompt=completes) == ("", "no code")


def test_code_before_the_function_is_imports_and_helpers():
    prompt = HUMANEVAL_LIKE["prompt"]
    assert code_before(prompt, "halves") == prompt[: prompt.index("def halves")]
    assert code_before(prompt, "other") == ""


# Files


def test_humaneval_becomes_tasks(tmp_path):
    with gzip.open(tmp_path / "HumanEval.jsonl.gz", "wt") as file:
        file.write(json.dumps(HUMANEVAL_LIKE) + "\n\n")
    result = run(
        "prepare_benchmark", "--kind", "humaneval", "--path", tmp_path / "HumanEval.jsonl.gz",
        "--output", tmp_path / "he.jsonl", "--source", tmp_path / "he.source.json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (task,) = read_tasks(tmp_path / "he.jsonl")
    assert (task.id, task.benchmark, task.groups) == ("HumanEval/1", "he", {"category": "function"})
    assert task.prompt in task.canonical_solution
    assert task.prompt.strip() in task.instruction
    assert "\ndef " in task.stop
    exec(f"{task.canonical_solution}\n{task.checks[0].tests}", {})


def source(tmp_path: Path, *lines: str | dict) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def missing(tmp_path):
    return tmp_path / "nowhere.jsonl"


def torn_gzip(tmp_path):
    path = tmp_path / "torn.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(DEMO_LIKE).encode() * 100)[:-40])
    return path


BAD_FILES = [
    (missing, "nowhere.jsonl: no such benchmark file; correct the benchmark's path in the config"),
    (torn_gzip, "torn.jsonl.gz: corrupt after row 0"),
    (source, "tasks.jsonl: no tasks in it"),
    (lambda tmp_path: source(tmp_path, DEMO_LIKE, '{"task_id": '), "tasks.jsonl, row 2: not a row of JSON lines"),
    (lambda tmp_path: source(tmp_path, DEMO_LIKE, "[1]"), "row 2: not a row of JSON lines (a JSON object was"),
    (lambda tmp_path: source(tmp_path, DEMO_LIKE, DEMO_LIKE), "row 2: the task demo-1 is there twice"),
    (lambda tmp_path: source(tmp_path, HUMANEVAL_LIKE), "row 1: no field 'instruction'; is this a file of the kind"),
    (lambda tmp_path: source(tmp_path, {**DEMO_LIKE, "tests": 3}), "row 1: a field has the wrong type (tests is 3"),
    (lambda tmp_path: source(tmp_path, {**DEMO_LIKE, "tests": "assert ("}), "row 1: solution and tests are not valid"),
]


@pytest.mark.parametrize(("make", "message"), BAD_FILES, ids=[message[-40:] for _, message in BAD_FILES])
def test_bad_files_are_one_clear_error(tmp_path, make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        prepare_benchmark("demo", make(tmp_path), {}, tmp_path / "out.jsonl", tmp_path / "source.json")
    assert message in str(error.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_command_prints_an_error_and_no_traceback(tmp_path):
    result = run(
        "prepare_benchmark", "--kind", "demo", "--path", tmp_path / "no", "--output", tmp_path / "out.jsonl",
        "--source", tmp_path / "source.json",
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'no'}: no such benchmark file")
    assert result.stderr.count("\n") == 1


# Questions


def ask_demo(settings: AskSettings, model) -> Question:
    return asker(settings, model, benchmark="demo", run_seed=1)(demo_task(), wording(demo_task()))


def test_base_and_aligned_models_get_the_same_text_by_chat(model, tmp_path):
    make_model(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat_template(SYSTEM_PROMPT, adds_bos=False)
    tokenizer.save_pretrained(tmp_path)
    write_model(tmp_path / "model.json", tmp_path)
    aligned, base = read_model(tmp_path / "model.json"), read_model(model)
    assert (aligned.chat_template, base.chat_template) == (True, False)
    for system in (None, "Be brief."):
        settings = AskSettings(prompt="chat", system_prompt=system)
        system = system or SYSTEM_PROMPT
        questions = [ask_demo(settings, asked) for asked in (base, aligned)]
        assert questions[0] == questions[1]
        assert questions[0].prompt == chat_document(system, DEMO_LIKE["instruction"])
        assert questions[0].stop == ("### Instruction", "</response>")


def test_a_template_of_another_make_can_be_passed_over(tmp_path):
    make_model(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}<{{ message.content }}>{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    write_model(tmp_path / "model.json", tmp_path)
    foreign = read_model(tmp_path / "model.json")
    for own, prompt in (
        (True, f"<{DEMO_LIKE['instruction']}>"),
        (False, chat_document(SYSTEM_PROMPT, DEMO_LIKE["instruction"])),
    ):
        assert ask_demo(AskSettings(prompt="chat", own_template=own), foreign).prompt == prompt
    assert way_of_asking(AskSettings(), foreign) == "chat"


def test_a_model_without_a_template_goes_on_with_the_code_unless_told_otherwise(model):
    described = read_model(model)
    assert [way_of_asking(AskSettings(prompt=prompt), described) for prompt in ("auto", "chat", "completion")] == [
        "completion",
        "chat",
        "completion",
    ]


@pytest.mark.parametrize(
    ("tags", "end", "stops"),
    [
        ("xml", "\n</instruction>\n<response>\n", ("</response>", "## Example")),
        ("headings", "\n\n### Response\n", ("\n### Tests\n", "\n## Example")),
    ],
)
def test_few_shot_is_an_open_response_document(model, tags, end, stops):
    settings = AskSettings(prompt="few-shot", prompts=str(PROMPTS), shots=2, shot_sets=3, tags=tags)
    ask = asker(settings, read_model(model), benchmark="demo", run_seed=1)
    questions = [ask(replace(demo_task(), id=f"demo-{number}"), wording(demo_task())) for number in range(40)]
    prompts = load_prompts(PROMPTS)
    for question in questions:
        assert question.prompt.startswith(prompts.headers["response"])
        assert question.prompt.endswith(f"{DEMO_LIKE['instruction']}{end}")
        assert question.prompt.count(stops[0]) == 2
        assert question.stop == stops
    assert len({question.prompt[: question.shared] for question in questions}) == 3
    assert ask(demo_task(), wording(demo_task())) == ask_demo(settings, read_model(model))


def test_completion_is_the_code_and_its_stops(model):
    ask = asker(AskSettings(prompt="completion"), read_model(model), benchmark="humaneval", run_seed=1)
    question = ask(humaneval_task(), wording(humaneval_task()))
    assert question.prompt == HUMANEVAL_LIKE["prompt"]
    assert question.stop == ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(")
    with pytest.raises(ValueError, match="demo-1 has no code to complete; ask demo by chat or few-shot"):
        ask(demo_task(), wording(demo_task()))


BAD_SETTINGS = [
    ({"promt": "chat"}, "unknown setting 'promt'; did you mean prompt?"),
    ({"prompt": "words"}, "not one of auto, chat, few-shot, completion"),
    ({"prompt": "few-shot"}, "prompts names a prompt file"),
    ({"prompts": "x.yaml"}, "prompts names a prompt file"),
    ({"samples": 3}, "3 samples at temperature 0"),
    ({"samples": 0}, "samples is 0"),
    ({"temperature": -1}, "temperature is -1"),
    ({"top_p": 0}, "top_p is 0"),
    ({"stop": "x"}, "stop is 'x', which is not a list of strings or null"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=r"^benchmark: ") as error:
        load_settings(AskSettings, json.dumps(settings), "benchmark")
    assert message in str(error.value)


# From questions to scores, by the real commands


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt": "chat", "max_tokens": 24, "samples": 3, "temperature": 0.8},
        {"prompt": "few-shot", "prompts": str(PROMPTS), "max_tokens": 24},
    ],
    ids=lambda settings: settings["prompt"],
)
def test_commands_lead_from_tasks_to_scores(demo, model, tmp_path, settings):
    folder = tmp_path / "scores/tiny/demo"
    rows, verdicts = folder / "completions.jsonl", folder / "verdicts.jsonl"
    engine = '{"batch_size": 2}'
    steps = [
        ["complete_benchmark", "--model", model, "--engine", engine, "--benchmark", demo, "--settings",
         json.dumps(settings), "--run-seed", 5, "--output", rows, "--stats", folder / "completions.json"],
        ["verify_completions", "--benchmark", demo, "--references", references_of(demo), "--completions", rows,
         "--sandbox", "{}", "--workers", 1, "--output", verdicts, "--stats", folder / "verdicts.json"],
        ["score_benchmark", "--benchmark", demo, "--source", source_of(demo), "--references", references_of(demo),
         "--completions", rows, "--verdicts", verdicts, "--output", folder / "scores.json"],
    ]  # fmt: skip
    for step in steps:
        result = run(*step)
        assert result.returncode == 0, result.stderr
    names = {"completions.json", "completions.jsonl", "scores.json", "verdicts.json", "verdicts.jsonl"}
    assert {path.name for path in folder.iterdir()} == names
    answers = [Answer.load(row) for row in read_jsonl(rows)]
    samples = settings.get("samples", 1)
    assert [answer.id for answer in answers] == [f"demo-{n}-s{k}" for n in (1, 2, 3) for k in range(samples)]
    assert len({answer.texts[0] for answer in answers}) > 1
    stats = read_json(folder / "completions.json")
    assert stats["rows"] == 3 * samples
    assert 0 < stats["completion_tokens"] <= settings["max_tokens"] * 3 * samples
    scores = read_json(folder / "scores.json")
    assert (scores["model"], scores["benchmark"], scores["tasks"], scores["samples"]) == ("tiny", "demo", 3, samples)
    assert scores["pass@1"] == 0.0, "a random model solved a task"
    assert sum(scores["verdicts"].values()) == 3 * samples


def test_killed_completions_go_on_to_the_same_answers(demo, model, tmp_path, capfd):
    settings = AskSettings(prompt="chat", max_tokens=100, samples=5, temperature=0.8)

    def complete(folder: Path) -> bytes:
        complete_benchmark(
            model=model,
            engine='{"batch_size": 2}',
            benchmark=demo,
            settings=settings,
            run_seed=5,
            label="test",
            output=folder / "completions.jsonl",
            stats=folder / "completions.json",
        )
        assert {path.name for path in folder.iterdir()} == {"completions.jsonl", "completions.json"}
        return (folder / "completions.jsonl").read_bytes()

    unbroken = complete(tmp_path / "unbroken")
    killed = tmp_path / "killed"
    command = [sys.executable, ROOT / "scripts/complete_benchmark.py", "--model", model, "--benchmark", demo,
               "--engine", '{"batch_size": 2}', "--settings", json.dumps(asdict(settings)), "--run-seed", "5",
               "--output", killed / "completions.jsonl", "--stats", killed / "completions.json"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    side = killed / ".completions.jsonl.partial"
    while not side.exists() or side.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, "it ended before a row was stored"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "completions.jsonl").exists()
    capfd.readouterr()
    assert complete(killed) == unbroken
    assert "resuming after" in capfd.readouterr().err


def test_a_request_without_an_answer_of_the_server_is_no_failed_answer(demo, tmp_path, monkeypatch):
    """One that it refuses is."""
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.02)
    fetch_model("served:tiny", tmp_path / "model.json", ROOT)
    faults = [status(400, "filtered", error="content_filter"), status(500, "it crashes on this one")]
    seeds: list[int] = []  # the order in which requests came first

    def plan(_: int, asked: dict):
        if asked["seed"] not in seeds:
            seeds.append(asked["seed"])
        at = seeds.index(asked["seed"])
        return faults[at] if at < len(faults) else say_late("pass", 0.1)

    def complete() -> list[Answer]:
        complete_benchmark(
            model=tmp_path / "model.json",
            engine=json.dumps({"kind": "openai", "url": server.base, "api_key_env": "TEST_KEY", "patience": 5}),
            benchmark=demo,
            settings=AskSettings(prompt="few-shot", prompts=str(PROMPTS), max_tokens=5),
            run_seed=5,
            label="test",
            output=tmp_path / "completions.jsonl",
            stats=tmp_path / "completions.json",
        )
        return [Answer.load(row) for row in read_jsonl(tmp_path / "completions.jsonl")]

    with CompletionServer(None, "tiny", plan) as server:
        with pytest.raises(ValueError, match=r"test: the server left 1 of 3 requests without an answer .*: run again"):
            complete()
        assert not (tmp_path / "completions.jsonl").exists()
        faults[1] = say_late("mended", 0)
        before = len(server.asked)
        answers = complete()
        assert len(server.asked) == before + 1, "finished rows are kept"
    assert sorted((answer.texts[0], answer.drop) for answer in answers)[0] == ("", "content_filter")
    assert {answer.texts[0] for answer in answers} == {"", "mended", "pass"}


VERDICT = Verdict(id="", verdict="passed", detail="", cpu_s=0.1, wall_s=0.1, max_rss_mb=9.0, assertions=1, core="c")


def test_scores_count_what_was_dropped_as_failed(demo, tmp_path):
    tasks = read_tasks(demo)
    answer = Answer(id="", task="", k=0, texts=[""], finish_reasons=["stop"], code="x", drop=None)
    outcomes = {"demo-1": ("passed", "passed"), "demo-2": ("passed", "no code"), "demo-3": ("assertion", "timeout_cpu")}
    rows, verdicts = [], []
    for task, found in outcomes.items():
        for k, outcome in enumerate(found):
            drop = outcome if outcome == "no code" else None
            rows.append(replace(answer, id=answer_id(task, k), task=task, k=k, drop=drop).dump())
            if drop is None:
                verdicts.append(replace(VERDICT, id=f"{answer_id(task, k)}/tests", verdict=outcome).dump())
    write_jsonl(tmp_path / "c.jsonl", rows)
    write_jsonl(tmp_path / "v.jsonl", reversed(verdicts))

    def score():
        score_benchmark(
            model="m",
            benchmark=demo,
            source=source_of(demo),
            references=references_of(demo),
            completions=tmp_path / "c.jsonl",
            verdicts=tmp_path / "v.jsonl",
            output=tmp_path / "s.json",
        )
        return read_json(tmp_path / "s.json")

    scores = score()
    low, high = scores.pop("interval")
    assert 0 <= low < 0.5 < high <= 1
    metric, groups, source = scores.pop("metrics"), scores.pop("groups"), scores.pop("source")
    assert metric["pass"]["pass@1"] == 0.5
    assert source["files"].keys() == {"source.jsonl"}
    assert scores == {
        "model": "m",
        "benchmark": "demo",
        "metric": "pass",
        "tasks": 3,
        "units": 3,
        "left_out": {},
        "samples": 2,
        "pass@1": 0.5,
        "extra": {},
        "verdicts": {"assertion": 1, "no code": 1, "passed": 3, "timeout_cpu": 1},
        "per_task": {"demo-1": 1.0, "demo-2": 0.5, "demo-3": 0.0},
    }
    assert {name: (group["tasks"], group["pass@1"]) for name, group in groups["category"].items()} == {
        "function": (1, 1.0),
        "class": (1, 0.5),
        "program": (1, 0.0),
    }
    assert {name: (group["tasks"], group["pass@1"]) for name, group in groups["difficulty"].items()} == {
        "easy": (2, 0.5),
        "hard": (1, 0.5),
    }
    assert len(tasks) == 3
    write_jsonl(tmp_path / "v.jsonl", verdicts[:-1])
    with pytest.raises(ValueError, match=r"v.jsonl: no verdict on demo-3-s1/tests; delete it and run again"):
        score()
    write_jsonl(tmp_path / "c.jsonl", rows[:-1])
    with pytest.raises(ValueError, match=r"c.jsonl: 1 answers to demo-3, but 2 to other tasks"):
        score()


def test_answers_to_another_benchmark_are_refused(demo, tmp_path):
    rows = answers_of([replace(read_tasks(demo)[0], id="other-1")], lambda task: task.canonical_solution)
    write_jsonl(tmp_path / "c.jsonl", rows)
    with pytest.raises(ValueError, match=r"c.jsonl, row 1: other-1 is not in"):
        verify_completions(
            benchmark=demo,
            references=references_of(demo),
            completions=tmp_path / "c.jsonl",
            sandbox=SandboxSettings(),
            workers=1,
            label="x",
            output=tmp_path / "v.jsonl",
            stats=tmp_path / "v.json",
        )


# Whole benchmarks: reference solutions pass, broken ones do not

WHOLE = [("demo", ROOT / "resources/demo/benchmark.jsonl")]
if "SELFALIGN_BENCHDATA" in os.environ:
    WHOLE.append(("humaneval", Path(os.environ["SELFALIGN_BENCHDATA"], "humaneval/HumanEval.jsonl.gz")))


def broken(task: Task) -> str:
    """Return a solution of which every function gives nothing back."""
    import ast

    class NoReturn(ast.NodeTransformer):
        def visit_Return(self, node):
            return ast.Return(ast.Constant(...))

    return ast.unparse(NoReturn().visit(ast.parse(task.canonical_solution)))


@pytest.mark.parametrize(("kind", "path"), WHOLE, ids=[kind for kind, _ in WHOLE])
def test_reference_solutions_pass_and_broken_ones_do_not(kind, path, tmp_path):
    benchmark = tmp_path / f"{kind}.jsonl"
    source, references = source_of(benchmark), references_of(benchmark)
    steps = [
        ["prepare_benchmark", "--kind", kind, "--path", path, "--output", benchmark, "--source", source],
        ["run_references", "--benchmark", benchmark, "--workers", 2, "--output", references,
         "--stats", tmp_path / "references.json"],
    ]  # fmt: skip
    for step in steps:
        result = run(*step)
        assert result.returncode == 0, result.stderr
    assert read_json(tmp_path / "references.json")["left_out"] == {}
    tasks = read_tasks(benchmark)
    found = {}
    for name, write in (("right", lambda task: task.canonical_solution), ("wrong", broken)):
        folder = tmp_path / name / kind
        rows = answers_of(tasks, lambda task: f"Here:\n```python\n{write(task)}\n```")  # noqa: B023
        write_jsonl(folder / "completions.jsonl", rows)
        options = ["--benchmark", benchmark, "--references", references, "--completions", folder / "completions.jsonl"]
        result = run(
            "verify_completions", *options, "--sandbox", "{}", "--workers", 2,
            "--output", folder / "verdicts.jsonl", "--stats", folder / "verdicts.json",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        result = run(
            "score_benchmark", *options, "--source", source, "--verdicts", folder / "verdicts.jsonl",
            "--output", folder / "scores.json",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        found[name] = read_json(folder / "scores.json")
    assert found["right"]["pass@1"] == 1.0, [task for task, passed in found["right"]["per_task"].items() if not passed]
    assert found["wrong"]["pass@1"] == 0.0, [task for task, passed in found["wrong"]["per_task"].items() if passed]
    assert found["right"]["tasks"] == len(tasks) > 50
    assert found["right"]["model"] == "right"
    assert paired_difference(found["right"], found["wrong"])["interval"] == pytest.approx([0.9, 1], abs=0.1)


LIMITS = [
    # check, what the reference solution took, the sandbox's limit, CPU seconds for a program
    (Check(tests="assert True", cpu_s=7.0), Known(cpu_s=100.0), 4.0, 7.0),
    (Check(tests="assert True"), Known(cpu_s=0.1), 4.0, 4.0),
    (Check(tests="assert True"), Known(cpu_s=3.0), 4.0, 12.0),
    (Check(driver="call", inputs=[[1]] * 10), Known(cpu_s=0.1), 4.0, 10.0),
    (Check(driver="call", inputs=[[1]] * 10), Known(cpu_s=2.0, slow={"3": 2.0}), 4.0, 17.0),
    (Check(driver="call", inputs=[[1]] * 900), Known(cpu_s=0.1), 4.0, 60.0),
    # Each input has four times the reference's time, so all of them together have it too (Mbpp/599, 27 s)
    (Check(driver="call", inputs=[[1]] * 10), Known(cpu_s=27.0, slow={str(n): 2.7 for n in range(10)}), 4.0, 108.0),
]


@pytest.mark.parametrize(("check", "known", "least", "limit"), LIMITS)
def test_time_limits_follow_the_reference_solution(check, known, least, limit):
    assert cpu_limit(check, known, least) == pytest.approx(limit)
