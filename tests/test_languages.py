"""JavaScript through the stages that know of languages: prompts, responses, verdicts, pairs, and a benchmark."""

from pathlib import Path

import pytest
from commands import run

from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.programs import Answer
from selfalign.benchmarks.tasks import language_of, read_tasks
from selfalign.demo.benchmark import benchmark_rows
from selfalign.generation.responses import response_job
from selfalign.languages import LANGUAGES
from selfalign.prompts import documents
from selfalign.records.files import read_json, read_jsonl, write_jsonl, write_table
from selfalign.records.rows import Concepts, Function, Instruction
from selfalign.sandbox import Program, Sandbox, SandboxSettings
from selfalign.seeds.part import FUNCTION_COLUMNS

ROOT = Path(__file__).parent.parent
PATH = ROOT / "resources/prompts/demo-javascript.yaml"
BENCHMARK = ROOT / "resources/demo/benchmark-javascript.jsonl"
PROMPTS = documents.load_prompts(PATH)


def fenced(code: str, fence: str = "javascript") -> str:
    return f"```{fence}\n{code}\n```"


def test_documents_name_the_language() -> None:
    assert PROMPTS.language == "javascript"
    assert documents.concepts_example("f()", language="javascript") == (
        "### Snippet\n```javascript\nf()\n```\n### Concepts\n"
    )
    asked = documents.instruction_example("function", "easy", ("a", "b"), language="javascript")
    assert asked.startswith("### Properties\ncategory: function\nlanguage: JavaScript\ndifficulty: easy\n")


@pytest.mark.parametrize("tags", documents.STYLES)
def test_examples_are_of_all_kinds_and_read_back(tags: str) -> None:
    shots = documents.load_prompts(PATH, tags).shots
    assert len({shot.id for shot in shots}) == len({shot.snippet for shot in shots}) == len(shots) >= 12
    assert len({(shot.category, shot.difficulty) for shot in shots}) == 9
    assert all("/**" in shot.snippet for shot in shots)


def test_examples_pass_in_the_sandbox_and_fail_without_results() -> None:
    programs = []
    for shot in PROMPTS.shots:
        code, tests = (documents.code_blocks(text, "javascript") for text in (shot.response, shot.tests))
        programs.append(Program(id=f"{shot.id} passed", code=code, tests=tests))
        programs.append(Program(id=f"{shot.id} without results", code=code.replace("return ", "void "), tests=tests))
    for verdict in Sandbox(SandboxSettings(), workers=2, language="javascript").run(programs):
        assert verdict.passed == verdict.id.endswith(" passed"), verdict


BLOCKS = [
    ("```js\na\n```\ntext\n```javascript\nb\n```", "a\n\nb\n"),
    ("```mjs\na\n```", "a\n"),
    ("```json\n{}\n```\n```jsx\n<a/>\n```\n```python\na\n```\n```\nb\n```", ""),
]


@pytest.mark.parametrize(("text", "expected"), BLOCKS)
def test_code_blocks(text: str, expected: str) -> None:
    assert documents.code_blocks(text, "javascript") == expected


def test_a_prompt_file_of_an_unknown_language_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(PATH.read_text().replace("language: javascript", "language: cobol", 1))
    with pytest.raises(ValueError, match="language is 'cobol'; known are python, javascript"):
        documents.load_prompts(path)


# completion: what becomes of it with `select: passed`
COMPLETIONS = {
    "right": ("const f = (x) => 2 * x;", "assert.deepStrictEqual(f(2), 4);", "kept"),
    "wrong": ("const f = (x) => x;", "assert.deepStrictEqual(f(2), 4);", "assertion"),
    "placeholder": ("// TODO: more\nconst f = (x) => 3 * x;", "assert.deepStrictEqual(f(2), 6);", "placeholder"),
    "no tests": ("const f = (x) => x;", "f(2);", "no_tests"),
    "other language": ("f = lambda x: x", "assert f(2) == 2", "no code in response"),
    "copied": (next(read_jsonl(BENCHMARK))["canonical_solution"], "assert.ok(1);", "demo-javascript: solution"),
}


def write_generation(folder: Path) -> None:
    """Write a seed, concepts, and instructions with one recorded completion each."""
    seed = Function(
        id="0" * 16, code="const f = (x) => x", name="f", imports="", docstring="Give it back.", package="p",
        version="1", path="a.js", line=1, licence="MIT",
    )  # fmt: skip
    write_table(folder / "seeds.parquet", [seed.dump()], FUNCTION_COLUMNS)
    common = {"shots": [], "seed": 1, "finish_reason": "stop", "drop": None}
    concepts = Concepts(id=f"{seed.id}-c0", parent=seed.id, text="a", concepts=["a"], **common)
    instructions, responses = [], []
    for number, (name, (code, tests, _)) in enumerate(COMPLETIONS.items()):
        row = Instruction(
            id=f"{concepts.id}-i{number}", parent=concepts.id, category="function", difficulty="easy", concepts=["a"],
            instruction=f"Write {name} number {number}", **common,
        )  # fmt: skip
        instructions.append(row)
        fence = "python" if name == "other language" else "js"
        text = f"{fenced(code, fence)}\n</response>\n<tests>\n{fenced(tests, fence)}\n"
        job = response_job(row, [0], "xml", "javascript")
        made = {"id": job.ids[0], "parent": row.id, "shots": [], "seed": 1, "finish_reason": "stop"}
        responses.append(job.make(made, text, None))
    for kind, rows in (("concepts", [concepts]), ("instructions", instructions), ("responses", responses)):
        write_jsonl(folder / kind / "00000.jsonl", (row.dump() for row in rows))


def test_from_completions_to_pairs(tmp_path: Path) -> None:
    write_generation(tmp_path)
    done = run(
        "verify_responses", "--responses", tmp_path / "responses/00000.jsonl", "--language", "javascript",
        "--sandbox", "{}", "--workers", 2, "--label", "js", "--output", tmp_path / "verdicts/00000.jsonl",
        "--stats", tmp_path / "verdicts/00000.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tasks = tmp_path / "demo-javascript.jsonl"
    prepared = ("--kind", "demo", "--path", BENCHMARK, "--output", tasks, "--source", tmp_path / "source.json")
    assert run("prepare_benchmark", *prepared).returncode == 0
    done = run(
        "select_pairs", "--seeds", tmp_path / "seeds.parquet", "--generation", tmp_path, "--shards", 1,
        "--language", "javascript", "--benchmarks", tasks, "--settings", '{"near_duplicate_threshold": 1.0}',
        "--run-seed", 1, "--output", tmp_path / "dataset",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {row["id"]: row["reason"] for row in read_jsonl(tmp_path / "dataset/rejected.jsonl")}
    found |= {row["id"]: "kept" for row in read_jsonl(tmp_path / "dataset/pairs.jsonl")}
    expected = {f"{'0' * 16}-c0-i{number}-r0": reason for number, (_, _, reason) in enumerate(COMPLETIONS.values())}
    assert found == expected


def test_the_benchmark_file_is_what_its_command_writes() -> None:
    assert list(read_jsonl(BENCHMARK)) == benchmark_rows(1, 80, "javascript")


def test_a_benchmark_is_scored(tmp_path: Path) -> None:
    rows = list(read_jsonl(BENCHMARK))[:4]
    write_jsonl(tmp_path / "own.jsonl", rows)
    tasks, references = tmp_path / "demo-javascript.jsonl", tmp_path / "references.jsonl"
    answers, verdicts, scores = (tmp_path / f"{name}.jsonl" for name in ("answers", "verdicts", "scores"))
    common = ("--benchmark", tasks)
    done = [
        run("prepare_benchmark", "--kind", "demo", "--path", tmp_path / "own.jsonl", "--output", tasks, "--source",
            tmp_path / "source.json"),
        run("run_references", *common, "--output", references, "--stats", tmp_path / "references.json"),
    ]  # fmt: skip
    read = read_tasks(tasks)
    assert language_of(read) == "javascript"
    texts = [
        f"Here it is:\n{fenced(read[0].canonical_solution, 'js')}\nDone.",
        fenced(read[1].canonical_solution, ""),
        fenced(f"function {read[2].entry_point}(xs) {{ return null; }}"),
        "I cannot.",
    ]
    written = []
    for task, text in zip(read, texts, strict=True):
        code, drop = KINDS["demo"].build_code(task, [text], completes_prompt=False)
        written.append(
            Answer(id=f"{task.id}-s0", task=task.id, k=0, texts=[text], finish_reasons=["stop"], code=code, drop=drop)
        )
    write_jsonl(answers, (answer.dump() for answer in written))
    common += ("--references", references, "--completions", answers)
    done.append(run("verify_completions", *common, "--output", verdicts, "--stats", tmp_path / "verdicts.json"))
    common += ("--verdicts", verdicts, "--source", tmp_path / "source.json", "--output", scores)
    done.append(run("score_benchmark", *common))
    assert [one.returncode for one in done] == [0, 0, 0, 0], [one.stderr for one in done]
    assert read_json(scores)["per_task"] == {task.id: float(number < 2) for number, task in enumerate(read)}
    assert {row["core"] for row in read_jsonl(verdicts)} == {"node"}
    rows[0]["language"] = "cobol"
    write_jsonl(tmp_path / "own.jsonl", rows)
    refused = run("prepare_benchmark", "--kind", "demo", "--path", tmp_path / "own.jsonl", "--output", tasks,
                  "--source", tmp_path / "source.json")  # fmt: skip
    assert f"row 1: language is 'cobol'; known are {', '.join(LANGUAGES)}" in refused.stderr


def test_node_that_is_not_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="JavaScript needs Node, which is not installed; run make setup again"):
        Sandbox(SandboxSettings(), language="javascript")
