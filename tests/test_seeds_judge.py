"""The judge of docstrings: its examples, its answers, and that no function is lost however a run ends."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from completion_server import KEY, CompletionServer, say_late, status
from transformers import AutoModelForCausalLM, AutoTokenizer

import selfalign.seeds.judge as judge_module
from selfalign.engines.models import fetch_model
from selfalign.engines.port import TOO_LONG, Completion, Usage
from selfalign.prompts.documents import render_document
from selfalign.records.files import read_json, read_table, write_table
from selfalign.records.rows import Function
from selfalign.seeds.docstrings import docstring_fault
from selfalign.seeds.filters import DocstringJudge
from selfalign.seeds.judge import judge_example, judge_functions, load_judge_prompts, read_answer
from selfalign.seeds.part import FUNCTION_COLUMNS, REJECTED_COLUMNS

ROOT = Path(__file__).parents[1]
PROMPTS = ROOT / "resources/prompts/seed_judge.yaml"


def function(number: int, code: str = "") -> Function:
    code = code or f'def f{number}(x):\n    """Add {number} to x."""\n    return x + {number}'
    return Function(id=f"{number:016x}", code=code, name=f"f{number}", imports="", docstring="Doc.", package="p",
                    version="1", path="m.py", line=number + 1, licence="MIT")  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.json"
    fetch_model("resources/demo-base", path, ROOT)
    return path


def judge(folder: Path, functions: list[Function], model: Path, settings: DocstringJudge, **engine) -> dict:
    """Judge functions into a folder; return id to reason, None for the kept ones."""
    judge_functions(
        functions,
        settings,
        model=model,
        engine=json.dumps({"batch_size": 4} | engine),
        prompts=PROMPTS,
        run_seed=7,
        label="judge",
        inputs="here",
        kept=folder / "kept.parquet",
        rejected=folder / "rejected.parquet",
        stats=folder / "stats.json",
    )
    kept = {row["id"]: None for row in read_table(folder / "kept.parquet")}
    return kept | {row["id"]: row["reason"] for row in read_table(folder / "rejected.parquet")}


def test_the_examples_are_sound():
    header, shots = load_judge_prompts(PROMPTS)
    assert header
    assert 8 <= len(shots) == len({shot.id for shot in shots})
    first = [shot.answer for shot in shots[: DocstringJudge(model="m").shots]]
    assert first.count("Yes") == first.count("No")
    for shot in shots:
        [definition] = ast.parse(shot.code).body
        exec(shot.code, {})
        assert "\n" not in shot.reason
        fault = docstring_fault(ast.get_docstring(definition), definition.name, [], 3, 400)
        assert shot.answer == "No" or fault is None, shot.id


ANSWERS = [
    ("Yes", True),
    ("yes. It says", True),
    (" No, it", False),
    ("**Yes**", True),
    ("Yesterday", None),
    ("", None),
    ("It says yes", None),
]


@pytest.mark.parametrize(("text", "answer"), ANSWERS)
def test_reading_an_answer(text, answer):
    assert read_answer(text) is answer


FILES = [
    ("header: a", "expected the keys header and shots"),
    ("header: a\nshots: [{id: b, code: c, answer: Yes, reason: d}]", "example 1: answer is True.*in quotes"),
    ("header: a\nshots: [{id: b, code: c, answer: 'Maybe', reason: d}]", "example 1: answer is 'Maybe'"),
    ("header: a\nshots: [{id: b}]", "example 1: .*missing"),
    ("header: [", "cannot be read as a prompt file"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_a_wrong_prompt_file_is_one_clear_error(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"p.yaml.*{message}"):
        load_judge_prompts(tmp_path / "p.yaml")


class Scripted:
    """An engine that says what it is told, one list of texts for each request."""

    def __init__(self, texts: list[list[str]]):
        self.texts, self.usage = texts, Usage()

    def complete(self, requests, done=()):
        for request, texts in zip(requests, self.texts, strict=True):
            reason = TOO_LONG if texts == [""] else "length"
            yield [
                Completion(id=request.id, k=k, text=text, finish_reason=reason, prompt_tokens=1, completion_tokens=1)
                for k, text in enumerate(texts)
            ]


OUTCOMES = [
    # threshold, answers, reason
    (0.5, ["Yes"], None),
    (0.5, ["No"], "judge: no"),
    (0.5, ["def f"], "judge: no answer"),
    (0.5, [""], "judge: prompt too long"),
    (0.5, ["Yes", "No"], None),
    (0.6, ["Yes", "No"], "judge: no"),
    (0.5, ["Yes", "No", "well"], "judge: no"),
    (0.3, ["Yes", "No", "well"], None),
    (1.0, ["Yes", "Yes"], None),
]


@pytest.mark.parametrize(("threshold", "texts", "reason"), OUTCOMES)
def test_what_becomes_of_a_function(tmp_path, model, monkeypatch, threshold, texts, reason):
    monkeypatch.setattr(judge_module, "open_engine", lambda *arguments: Scripted([texts]))
    settings = DocstringJudge(model="base", threshold=threshold, samples=len(texts))
    row = function(1)
    assert judge(tmp_path, [row], model, settings) == {row.id: reason}
    rejected = read_table(tmp_path / "rejected.parquet")
    assert [(row["stage"], row["detail"]) for row in rejected] == ([("docstring_judge", texts[0])] if reason else [])


def test_a_real_model_judges_every_function_and_a_stopped_run_ends_the_same(tmp_path, model, monkeypatch):
    settings = DocstringJudge(model="base", shots=1)
    long = function(9, "def f(x):\n    return [" + "x, " * 2000 + "]")
    functions = [*(function(number) for number in range(6)), long]
    whole = judge(tmp_path / "whole", functions, model, settings, batch_size=1)
    assert list(map(len, (whole, set(whole)))) == [7, 7]
    assert whole[long.id] == "judge: prompt too long"
    assert set(whole.values()) <= {None, "judge: no", "judge: no answer", "judge: prompt too long"}
    stats = read_json(tmp_path / "whole/stats.json")
    assert (stats["stage"], stats["rows"], stats["stages"][0]["input"]) == ("judge_seeds", 7, 7)
    assert stats["prompt_tokens"] > 0

    opened = judge_module.open_engine
    asked = []

    def fragile(*arguments):
        engine = opened(*arguments)
        complete = engine.complete

        def stop_after_two(requests, done=()):
            for number, group in enumerate(complete(requests, done)):
                asked.extend(completion.id for completion in group)
                yield group
                if number == 1 and len(asked) == 2:
                    raise KeyboardInterrupt

        engine.complete = stop_after_two
        return engine

    monkeypatch.setattr(judge_module, "open_engine", fragile)
    with pytest.raises(KeyboardInterrupt):
        judge(tmp_path / "again", functions, model, settings, batch_size=1)
    assert not (tmp_path / "again/kept.parquet").exists()
    assert judge(tmp_path / "again", functions, model, settings, batch_size=1) == whole
    assert len(asked) == len(set(asked)) == 7  # nothing was asked twice
    for name in ("kept.parquet", "rejected.parquet"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert [path.name for path in sorted((tmp_path / "again").iterdir())] == [
        "kept.parquet",
        "rejected.parquet",
        "stats.json",
    ]


def test_a_function_without_an_answer_of_the_server_is_not_rejected(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.02)
    fetch_model("served:judge", tmp_path / "model.json", ROOT)
    down = [status(500, "it crashes on this one")]

    def plan(_: int, asked: dict):
        return down[0] if down and "def f2(" in asked["prompt"] else say_late("Yes", 0.1)

    settings = DocstringJudge(model="base", shots=1)
    with CompletionServer(None, "judge", plan) as server:
        engine = {"kind": "openai", "url": server.base, "api_key_env": "TEST_KEY", "patience": 5}
        functions = [function(number) for number in range(4)]
        arguments = (tmp_path, functions, tmp_path / "model.json", settings)
        with pytest.raises(ValueError, match=f"judge: the server left 1 of 4 .*{functions[2].id}.*: run again"):
            judge(*arguments, **engine)
        assert not (tmp_path / "rejected.parquet").exists()
        before = len(server.asked)
        down.clear()
        assert judge(*arguments, **engine) == dict.fromkeys(row.id for row in functions)
        assert len(server.asked) == before + 1


def command(folder: Path, model: Path, filters: object, **replaced: object) -> subprocess.CompletedProcess:
    options = {"input": folder / "in.parquet", "filters": json.dumps(filters), "model": model, "engine": "{}",
               "prompts": PROMPTS, "run-seed": 1, "label": "judge", "kept": folder / "k.parquet",
               "rejected": folder / "r.parquet", "stats": folder / "s.json"} | replaced  # fmt: skip
    listed = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return subprocess.run(
        [sys.executable, ROOT / "scripts/judge_seeds.py", *listed], capture_output=True, text=True, check=False
    )


def test_the_command_and_its_errors(tmp_path, model):
    write_table(tmp_path / "in.parquet", [function(1).dump()], FUNCTION_COLUMNS)
    settings = {"name": "docstring_judge", "model": "base", "shots": 2}
    result = command(tmp_path, model, [settings])
    assert result.returncode == 0, result.stderr
    kept, rejected = read_table(tmp_path / "k.parquet"), read_table(tmp_path / "r.parquet")
    assert [row["id"] for row in [*kept, *rejected]] == [function(1).id]
    assert set(rejected[0] if rejected else REJECTED_COLUMNS) == set(REJECTED_COLUMNS)
    for filters, message in (
        ([{"name": "size"}], "docstring_judge is not in the list"),
        ([settings | {"shots": 99}], "shots is 99, but .* has 10 examples"),
    ):
        result = command(tmp_path, model, filters)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        assert result.stderr.startswith("error: ")
        assert re.search(message, result.stderr), result.stderr


CLEAR = [
    ("double", "twice a number", "2 * x"),
    ("last", "the last item of a list", "x[-1]"),
    ("absolute", "a number without its sign", "abs(x)"),
    ("words", "the words of a text", "x.split()"),
]
VAGUE = [("process", "x + 1"), ("handle", "x.strip()"), ("run", "sorted(x)"), ("go", "x[0]")]
SHORT_PROMPTS = """\
header: Functions.
shots:
- {id: a, code: "def f(x):\\n    'Return x.'\\n    return x", answer: "Yes", reason: "Clear."}
- {id: b, code: "def f(x):\\n    'Do it.'\\n    return x", answer: "No", reason: "Vague."}
"""


def taught(folder: Path, prompts: Path, answers: dict[str, str]) -> Path:
    """Train the last layer of the demo's base model until it gives these answers (code to answer)."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "resources/demo-base")
    model = AutoModelForCausalLM.from_pretrained(ROOT / "resources/demo-base").eval()
    header, shots = load_judge_prompts(prompts)
    shown = [judge_example(shot.code, shot) for shot in shots]
    seen, wanted = [], []
    for code, answer in answers.items():
        asked = tokenizer(render_document(header, [*shown, judge_example(code)]))["input_ids"]
        said = tokenizer(f"{answer}\n")["input_ids"]
        with torch.no_grad():
            output = model.model(torch.tensor([asked + said])).last_hidden_state
        seen.append(output[0, len(asked) - 1 : -1])
        wanted += said
    seen, wanted = torch.cat(seen), torch.tensor(wanted)
    head = torch.nn.Parameter(model.get_output_embeddings().weight.detach().clone())
    optimizer = torch.optim.Adam([head], lr=0.01)
    for _ in range(1000):
        loss = torch.nn.functional.cross_entropy(seen @ head.T, wanted)
        if loss < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    model.config.tie_word_embeddings = False
    model.lm_head.weight = head
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_judged_corpus_runs_to_its_seeds(tmp_path):
    """The demo's base model judges for real: with a last layer that knows eight answers, and as it is, with none."""
    codes = {f'def {name}(x):\n    """Return {what}."""\n    return {value}': "Yes" for name, what, value in CLEAR} | {
        f'def {name}(x):\n    """Do the thing."""\n    return {value}': "No" for name, value in VAGUE
    }
    source = tmp_path / "source"
    source.mkdir()
    for number, code in enumerate(codes):
        (source / f"m{number}.py").write_text(code + "\n")
    (source / "copy.py").write_text(next(iter(codes)) + "\n")  # of one that stays
    (source / "long.py").write_text("def f(x):\n    'Return much.'\n    return [" + "x, " * 2000 + "]\n")
    (source / "none.py").write_text("def f(x):\n    'Return nothing.'\n    print(x)\n")
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(SHORT_PROMPTS)
    config = yaml.safe_load((ROOT / "tests/configs/small.yaml").read_text())
    config["models"]["judge"] = {"pretrained": str(taught(tmp_path / "judge", prompts, codes))}
    for name in ("judge", "base"):
        judge_filter = {"name": "docstring_judge", "model": name, "prompts": str(prompts), "shots": 2}
        filters = [{"name": "returns_value"}, judge_filter, {"name": "benchmarks"}, {"name": "near_duplicates"}]
        config["corpora"][name] = {
            "source": {"kind": "folder", "path": str(source)}, "parts": 2, "filters": filters
        }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))

    def run(corpus: str) -> subprocess.CompletedProcess:
        words = [sys.executable, "-m", "snakemake", f"results/corpora/{corpus}/seeds.parquet", "--cores", "2"]
        words += ["-s", ROOT / "Snakefile", "--directory", tmp_path, "--workflow-profile", "none"]
        words += ["--configfile", tmp_path / "config.yaml"]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = run("judge")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results/corpora/judge"
    steps = [f"filtered/{part}" for part in ("00000", "00001")] + [f"judged/{part}" for part in ("00000", "00001")]
    expected = {f"{step}.{suffix}" for step in steps for suffix in ("parquet", "rejected.parquet", "json")}
    expected |= {f"functions/{part}.{suffix}" for part in ("00000", "00001") for suffix in ("parquet", "json")}
    expected |= {"seeds.parquet", "rejected.parquet", "contamination.jsonl", "funnel.json"}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == expected
    assert {row["name"] for row in read_table(folder / "seeds.parquet")} == {name for name, _, _ in CLEAR}
    rejected = read_table(folder / "rejected.parquet")
    outcomes = {row["path"]: (row["stage"], row["reason"], row["detail"]) for row in rejected}
    copies = {row["path"] for row in read_table(folder / "seeds.parquet")} ^ {"m0.py", "copy.py", "m1.py", "m2.py"}
    [copy] = copies - {"m3.py"}
    assert outcomes.pop(copy)[:2] == ("exact_duplicates", "exact duplicate")
    assert outcomes.pop("long.py") == ("docstring_judge", "judge: prompt too long", "")
    assert outcomes.pop("none.py")[:2] == ("returns_value", "returns no value")
    assert outcomes == {f"m{number}.py": ("docstring_judge", "judge: no", "No") for number in range(4, 8)}
    stages = read_json(folder / "funnel.json")["stages"]
    assert [(stage["stage"], stage["input"], stage["kept"], stage["dropped"]) for stage in stages] == [
        ("extract", 11, 11, {}),
        ("returns_value", 11, 10, {"returns no value": 1}),
        ("docstring_judge", 10, 5, {"judge: no": 4, "judge: prompt too long": 1}),
        ("exact_duplicates", 5, 4, {"exact duplicate": 1}),
        ("benchmarks", 4, 4, {}),
        ("near_duplicates", 4, 4, {}),
    ]
    judged = [read_json(folder / f"judged/{part}.json") for part in ("00000", "00001")]
    assert sum(stats["rows"] for stats in judged) == 10
    assert all(stats["prompt_tokens"] > 0 for stats in judged)

    done = run("base")
    assert done.returncode != 0
    message = (
        "no seed is left of 11 functions; most were dropped by docstring_judge (judge: no answer 9, judge: prompt too"
    )
    assert message in done.stdout + done.stderr
    assert not (tmp_path / "results/corpora/base/seeds.parquet").exists()
    assert (tmp_path / "results/corpora/base/judged/00000.rejected.parquet").exists()


def test_the_workflow_puts_the_judge_between_filters_and_selection(tmp_path):
    config = yaml.safe_load((ROOT / "tests/configs/small.yaml").read_text())
    filters = config["corpora"]["packages"]["filters"]
    filters.insert(-2, {"name": "docstring_judge", "model": "base", "shots": 2})
    plans = {}
    for model in ("base", "aligned", "nobody"):
        filters[-3]["model"] = model
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        plan = [
            sys.executable,
            "-m",
            "snakemake",
            "-n",
            "-p",
            "--workflow-profile",
            "none",
            "-s",
            ROOT / "Snakefile",
            "--directory",
            tmp_path,
        ]
        plan += ["--configfile", tmp_path / "config.yaml"]
        plans[model] = subprocess.run(plan, capture_output=True, text=True, check=False)
    text = plans["base"].stdout + plans["base"].stderr
    assert plans["base"].returncode == 0, text
    assert "judge_seeds" in text
    [command] = [line for line in text.splitlines() if "select_seeds.py" in line]
    assert "--corpus results/corpora/packages --parts 2 --steps filtered judged " in command
    assert "an artifact is made from itself" in plans["aligned"].stderr
    assert "models has no entry 'nobody'" in plans["nobody"].stderr
