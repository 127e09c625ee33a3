"""The three generation commands: real functions in, rows out, whatever happens in between."""

import ast
import hashlib
import inspect
import json
import os
import runpy
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
from tiny_model import make_model

from selfalign.engines.models import write_model
from selfalign.engines.port import Completion, Usage
from selfalign.generation.methods.properties import draw_properties, load_weights
from selfalign.prompts.documents import load_prompts
from selfalign.records.files import read_json, read_jsonl, read_table, write_jsonl, write_table
from selfalign.records.rows import Concepts, Function, Instruction, Response

ROOT = Path(__file__).parent.parent
PROMPTS = ROOT / "resources/prompts/demo.yaml"
COLUMNS = {name: "int64" if name == "line" else "string" for name in Function.__dataclass_fields__}


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """Return the model.json of a tiny random Llama."""
    folder = make_model(tmp_path_factory.mktemp("model"), num_key_value_heads=2, max_position_embeddings=1024)
    write_model(folder / "model.json", folder)
    return folder / "model.json"


@pytest.fixture(scope="session")
def seeds(tmp_path_factory) -> Path:
    """Return a Parquet file with the short functions of two modules of the standard library."""
    rows = []
    for module in (textwrap, inspect):
        source = Path(module.__file__).read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            code = ast.get_source_segment(source, node)
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and len(code) < 500:
                row = {
                    "id": hashlib.sha256(code.encode()).hexdigest()[:16],
                    "code": code,
                    "name": node.name,
                    "docstring": ast.get_docstring(node),
                    "path": Path(module.__file__).name,
                    "line": node.lineno,
                    "package": "stdlib",
                    "version": "3",
                    "imports": "",
                    "licence": "PSF-2.0",
                }
                rows.append(row)
    assert len(rows) > 15
    path = tmp_path_factory.mktemp("seeds") / "seeds.parquet"
    write_table(path, rows, COLUMNS)
    return path


def options(model: Path, folder: Path, /, **changes) -> list[str]:
    """Return the options that the three commands share, writing out.jsonl and out.json in a folder."""
    values = {
        "model": model,
        "engine": '{"batch_size": 8}',
        "prompts": PROMPTS,
        "shots": 1,
        "shot_sets": 2,
        "temperature": 0.7,
        "max_tokens": 20,
        "samples": 1,
        "run_seed": 3407,
        "label": "stage test/00000",
        "output": folder / "out.jsonl",
        "stats": folder / "out.json",
        **changes,
    }
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def command(monkeypatch, name: str, *arguments: object) -> int:
    """Run a command of scripts/ in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")
    return caught.value.code


def write_instructions(path: Path, count: int) -> Path:
    """Write instruction rows, every third of them dropped upstream."""
    rows = [
        Instruction(
            id=f"{number:016x}-c0-i0",
            parent=f"{number:016x}-c0",
            shots=["demo-01"],
            seed=number,
            finish_reason="stop",
            category="function",
            difficulty="easy",
            concepts=["sum"],
            instruction=f"Write a Python function `add_{number}(xs)` that adds {number} to each value.",
            drop="length" if number % 3 == 2 else None,
        )
        for number in range(count)
    ]
    write_jsonl(path, (row.dump() for row in rows))
    return path


def test_shards_part_the_seeds_and_every_seed_has_its_row(model, seeds, tmp_path, monkeypatch, capsys):
    rows = {}
    for shards in (1, 3):
        for shard in range(shards):
            folder = tmp_path / f"{shards}-{shard}"
            arguments = ["--seeds", seeds, "--shard", shard, "--shards", shards, *options(model, folder, samples=2)]
            assert command(monkeypatch, "generate_concepts", *arguments) == 0
            assert sorted(path.name for path in folder.iterdir()) == ["out.json", "out.jsonl"]
            found = [Concepts.load(row) for row in read_jsonl(folder / "out.jsonl")]
            assert [row.id for row in found] == sorted(row.id for row in found)
            rows[shards, shard] = {row.id: row for row in found}
            stats = read_json(folder / "out.json")
            assert (stats["rows"], stats["stage"], stats["engine"]) == (len(found), "concepts", "transformers")
            assert stats["dropped"] == dict(Counter(row.drop for row in found if row.drop))
            assert stats["completion_tokens"] <= 20 * len(found)
            assert 0 < stats["cached_prompt_tokens"] < stats["prompt_tokens"]
            assert min(stats["cpu_s"], stats["wall_s"], stats["tokens_per_s"]) > 0
    parts = [rows[3, shard] for shard in range(3)]
    assert {key for part in parts for key in part} == set(rows[1, 0])
    assert max(map(len, parts)) - min(map(len, parts)) <= 2
    # Also the texts do not depend on the shard: only the last bit of a sum could, and here it never decides.
    assert {key: row for part in parts for key, row in part.items()} == rows[1, 0]
    progress = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[stage test/00000] ")]
    assert len(progress) >= 4


def test_fewer_seeds_are_drawn_from_among_those_of_more(model, seeds, tmp_path, monkeypatch):
    drawn = {}
    for count, shards, run_seed in ((4, 1, 3407), (7, 2, 3407), (999, 1, 3407), (4, 1, 3408)):
        rows = []
        for shard in range(shards):
            folder = tmp_path / f"{count}-{run_seed}-{shard}"
            shared = options(model, folder, max_tokens=1, run_seed=run_seed)
            arguments = ["--seeds", seeds, "--shard", shard, "--shards", shards, "--draw", count, *shared]
            assert command(monkeypatch, "generate_concepts", *arguments) == 0
            rows += read_jsonl(folder / "out.jsonl")
        drawn[count, run_seed] = {row["parent"] for row in rows}
        assert len(drawn[count, run_seed]) == len(rows)
    assert [len(ids) for ids in drawn.values()] == [4, 7, len(read_table(seeds)), 4]
    assert drawn[4, 3407] < drawn[7, 3407] < drawn[999, 3407]
    assert drawn[4, 3407] != drawn[4, 3408]


@pytest.mark.parametrize(
    ("tags", "end", "stop"),
    [("xml", "</instruction>\n<response>\n", "</tests>"), ("headings", "\n\n### Response\n", "\n### Instruction\n")],
)
def test_tags_mark_the_parts_that_the_model_sees(model, tmp_path, monkeypatch, tags, end, stop):
    asked = []

    def open_recorder(*_):
        class Recorder:
            usage = Usage()

            def complete(self, requests, done=()):
                for request in requests:
                    asked.append(request)
                    text = request.prompt.partition(end)[2]  # what the first worked example says
                    for one in request.stop:
                        text = text.partition(one)[0]
                    yield [Completion(id=request.id, k=0, text=text, finish_reason="stop", prompt_tokens=1,
                                      completion_tokens=1)]  # fmt: skip

        return Recorder()

    monkeypatch.setattr("selfalign.generation.stages.open_engine", open_recorder)
    instructions = write_instructions(tmp_path / "instructions.jsonl", 2)
    arguments = ["--instructions", instructions, "--tags", tags, *options(model, tmp_path)]
    assert command(monkeypatch, "generate_responses", *arguments) == 0
    assert all(request.prompt.endswith(end) and stop in request.stop for request in asked)
    rows = [Response.load(row) for row in read_jsonl(tmp_path / "out.jsonl")]
    assert len(rows) == 2
    for row in rows:
        (shot,) = [shot for shot in load_prompts(PROMPTS).shots if shot.id == row.shots[0]]
        assert (row.response, row.tests, row.drop) == (shot.response.strip(), shot.tests.strip(), None)


def judged(folder: Path, passing) -> tuple[Path, Path]:
    """Say of a folder's responses, which are no documents, that they are some, and judge them.

    Args:
        passing: Whether the response of an id passes.
    """
    responses, verdicts = folder / "out.jsonl", folder / "verdicts.jsonl"
    rows = [row | {"drop": None} for row in read_jsonl(responses)]
    write_jsonl(responses, rows)
    seen = {"detail": "", "cpu_s": 0.1, "wall_s": 0.1, "max_rss_mb": 9.0, "assertions": 1, "core": "c"}
    outcomes = {row["id"]: "passed" if passing(row["id"]) else "assertion" for row in rows}
    write_jsonl(verdicts, [{"id": key, "verdict": outcome, **seen} for key, outcome in outcomes.items()])
    return responses, verdicts


def test_rounds_go_on_where_too_few_passed_with_the_samples_of_a_plain_run(model, tmp_path, monkeypatch):
    """The third sample of an instruction is the same row in whichever round it is drawn."""
    instructions = write_instructions(tmp_path / "instructions.jsonl", 30)
    plain = options(model, tmp_path / "plain", samples=7)
    assert command(monkeypatch, "generate_responses", "--instructions", instructions, *plain) == 0
    passing = {key: hashlib.sha256(key.encode()).digest()[0] < 120 for key in ids(tmp_path / "plain/out.jsonl")}
    judged(tmp_path / "plain", passing.get)
    whole = {row["id"]: row for row in read_jsonl(tmp_path / "plain/out.jsonl")}

    found, counts, files = {}, [], []
    for number, samples in enumerate((2, 1, 4)):
        earlier = []
        if files:
            responses, verdicts = zip(*files, strict=True)
            earlier = ["--earlier-responses", *responses, "--earlier-verdicts", *verdicts, "--until-passed", 2]
        shared = options(model, tmp_path / str(number), samples=samples)
        assert command(monkeypatch, "generate_responses", "--instructions", instructions, *earlier, *shared) == 0
        files.append(judged(tmp_path / str(number), passing.get))
        rows = list(read_jsonl(files[-1][0]))
        found |= {row["id"]: row for row in rows}
        counts.append(len(rows))
    assert found == {key: whole[key] for key in found}
    assert sum(counts) == len(found)
    expected = [0, 0, 0]
    for row_id in {key.rpartition("-")[0] for key in whole}:
        passed = [passing[f"{row_id}-r{k}"] for k in range(7)]
        expected[0] += 2
        expected[1] += sum(passed[:2]) < 2
        expected[2] += 4 * (sum(passed[:3]) < 2)
    assert counts == expected
    assert 0 < expected[2] < 4 * expected[1] < 80, "some had enough after the first round, some after the second"


def ids(path: Path) -> list[str]:
    return [row["id"] for row in read_jsonl(path)]


def test_rounds_end_when_all_have_enough(model, tmp_path, monkeypatch):
    instructions = write_instructions(tmp_path / "instructions.jsonl", 3)
    shared = options(model, tmp_path / "0")
    assert command(monkeypatch, "generate_responses", "--instructions", instructions, *shared) == 0
    responses, verdicts = judged(tmp_path / "0", lambda _: True)
    earlier = ["--earlier-responses", responses, "--earlier-verdicts", verdicts]
    shared = options(model, tmp_path / "1")
    assert command(monkeypatch, "generate_responses", "--instructions", instructions, *earlier, *shared) == 0
    assert (tmp_path / "1/out.jsonl").read_text() == ""
    assert read_json(tmp_path / "1/out.json")["generated"] == 0


WRONG_ROUNDS = [
    # how many of the two verdicts and instructions are given
    (2, 2, 0, "--until-passed is 0; it must be at least 1"),
    (None, 2, 1, "--earlier-responses has 1 files and --earlier-verdicts 0"),
    (1, 2, 1, "has no verdict in the files of --earlier-verdicts"),
    (2, 4, 1, "has no response in the files of --earlier-responses"),
]


@pytest.mark.parametrize(("verdicts", "tasks", "enough", "message"), WRONG_ROUNDS)
def test_wrong_rounds_are_one_clear_error(verdicts, tasks, enough, message, model, tmp_path, monkeypatch, capsys):
    instructions = write_instructions(tmp_path / "instructions.jsonl", 2)
    shared = options(model, tmp_path / "0")
    assert command(monkeypatch, "generate_responses", "--instructions", instructions, *shared) == 0
    responses, path = judged(tmp_path / "0", lambda _: False)
    write_instructions(instructions, tasks)
    earlier = ["--earlier-responses", responses, "--until-passed", enough]
    if verdicts is not None:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:verdicts]))
        earlier += ["--earlier-verdicts", path]
    shared = options(model, tmp_path / "1")
    capsys.readouterr()
    assert command(monkeypatch, "generate_responses", "--instructions", instructions, *earlier, *shared) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_properties_are_drawn_by_weight_and_shown_to_the_model(model, tmp_path, monkeypatch):
    concepts = [
        Concepts(
            id=f"{number:016x}-c0",
            parent=f"{number:016x}",
            shots=[],
            seed=1,
            finish_reason="stop",
            text="sorting, slices",
            concepts=["sorting", "slices"],
            drop=None if number else "empty",
        ).dump()
        for number in range(12)
    ]
    write_jsonl(tmp_path / "concepts.jsonl", concepts)
    weights = '{"function": 0.5, "class": 0.25, "program": 0.25}'
    arguments = ["--concepts", tmp_path / "concepts.jsonl", *options(model, tmp_path / "a", samples=2)]
    assert command(monkeypatch, "generate_instructions", *arguments, "--category-weights", weights) == 0
    rows = [Instruction.load(row) for row in read_jsonl(tmp_path / "a/out.jsonl")]
    assert [row.id for row in rows] == [f"{number:016x}-c0-i{k}" for number in range(1, 12) for k in range(2)]
    for row in rows:
        assert (row.category, row.difficulty) == draw_properties(row.id, json.loads(weights), 3407)
        assert (row.concepts, row.parent) == (["sorting", "slices"], row.id[:-3])
        assert row.drop == {"length": "length"}.get(row.finish_reason, row.drop)
    assert len({tuple(row.shots) for row in rows}) == 2, "both sets of worked examples are used"


DRAWS = [
    ('{"function": 0.5, "class": 0.25, "program": 0.25}', [0.5, 0.25, 0.25]),
    ('{"class": 3, "function": 1}', [0.25, 0.75, 0]),
    ('{"program": 1, "class": 0}', [0, 0, 1]),
]


@pytest.mark.parametrize(("weights", "expected"), DRAWS)
def test_draws_follow_the_weights(weights, expected):
    draws = [draw_properties(f"row-{number}", load_weights(weights), 7) for number in range(6000)]
    categories, difficulties = (Counter(part) for part in zip(*draws, strict=True))
    shares = [categories[name] / 6000 for name in ("function", "class", "program")]
    assert shares == pytest.approx(expected, abs=0.02)
    assert [difficulties[name] / 6000 for name in ("easy", "medium", "hard")] == pytest.approx([1 / 3] * 3, abs=0.02)
    assert draws != [draw_properties(f"row-{number}", load_weights(weights), 8) for number in range(6000)]


def test_a_killed_stage_ends_with_the_same_rows(model, tmp_path, monkeypatch, capsys):
    instructions = write_instructions(tmp_path / "instructions.jsonl", 90)
    arguments = ["--instructions", instructions]
    # The limit is beyond what the first groups need, so that there is time to kill.
    whole = options(model, tmp_path / "whole", samples=4, max_tokens=60)
    assert command(monkeypatch, "generate_responses", *arguments, *whole) == 0
    rows = [Response.load(row) for row in read_jsonl(tmp_path / "whole/out.jsonl")]
    kept = [number for number in range(90) if number % 3 != 2]
    assert [row.id for row in rows] == [f"{number:016x}-c0-i0-r{k}" for number in kept for k in range(4)]
    assert len({row.seed for row in rows}) == len(rows)

    broken = options(model, tmp_path / "broken", samples=4, max_tokens=60)
    partial = tmp_path / "broken/.out.jsonl.partial"
    line = [sys.executable, ROOT / "scripts/generate_responses.py", *arguments, *broken]
    process = subprocess.Popen(list(map(str, line)), stderr=subprocess.DEVNULL, start_new_session=True)
    while not partial.exists() or partial.read_bytes().count(b"\n") < 20:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == [".out.jsonl.partial"]
    stored = partial.read_bytes().count(b"\n") - 1
    torn = partial.read_bytes()[:-700]  # and a group torn in the middle of a row, as by a full disk
    partial.write_bytes(torn)
    capsys.readouterr()
    assert command(monkeypatch, "generate_responses", *arguments, *broken) == 0
    assert "resuming after " in capsys.readouterr().err
    assert (tmp_path / "broken/out.jsonl").read_bytes() == (tmp_path / "whole/out.jsonl").read_bytes()
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == ["out.json", "out.jsonl"]
    # The second run repeated the torn group only.
    tokens = read_json(tmp_path / "broken/out.json")["completion_tokens"]
    assert tokens <= 60 * (len(rows) - stored + 8)

    # Other settings do not go on from old work.
    partial.write_bytes(torn)
    other = options(model, tmp_path / "broken", samples=4, max_tokens=59)
    assert command(monkeypatch, "generate_responses", *arguments, *other) == 0
    assert "resuming" not in capsys.readouterr().err


def test_no_rows_upstream_is_no_error(model, tmp_path, monkeypatch):
    (tmp_path / "none.jsonl").write_text("")
    arguments = ["--instructions", tmp_path / "none.jsonl", *options(model, tmp_path)]
    assert command(monkeypatch, "generate_responses", *arguments) == 0
    assert (tmp_path / "out.jsonl").read_text() == ""
    assert read_json(tmp_path / "out.json")["rows"] == 0


def test_long_prompts_are_dropped_with_their_reason(model, tmp_path, monkeypatch):
    instructions = write_instructions(tmp_path / "instructions.jsonl", 2)
    long = [{**row, "instruction": row["instruction"] + " Then stop." * 300} for row in read_jsonl(instructions)]
    write_jsonl(instructions, [long[0], *list(read_jsonl(instructions))[1:]])
    assert command(monkeypatch, "generate_responses", "--instructions", instructions, *options(model, tmp_path)) == 0
    rows = [Response.load(row) for row in read_jsonl(tmp_path / "out.jsonl")]
    assert [row.drop == "prompt too long" for row in rows] == [True, False]
    assert read_json(tmp_path / "out.json")["dropped"]["prompt too long"] == 1


WRONG = [
    ({"shots": 99}, "--shots is 99, but "),
    ({"samples": 0}, "--samples is 0; it must be at least 1"),
    ({"temperature": -1}, "--temperature must be at least 0"),
    ({"engine": '{"kinds": "vllm"}'}, "unknown setting 'kinds'; did you mean kind?"),
    ({"engine": '{"kind": "vllm"}'}, "make test-vllm"),
    ({"model": "nowhere/model.json"}, "nowhere/model.json: no such model file"),
    ({"prompts": ROOT / "pyproject.toml"}, "pyproject.toml: "),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_wrong_input_is_one_clear_error(changes, message, model, tmp_path, monkeypatch, capsys):
    instructions = write_instructions(tmp_path / "instructions.jsonl", 1)
    arguments = ["--instructions", instructions, *options(model, tmp_path / "out", **changes)]
    assert command(monkeypatch, "generate_responses", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out/out.jsonl").exists()


WRONG_ROWS = [
    ("{", "row 1: not valid JSON"),
    ('{"id": "a"}', "row 1: not a Instruction row"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_ROWS)
def test_a_wrong_row_is_named(text, message, model, tmp_path, monkeypatch, capsys):
    (tmp_path / "bad.jsonl").write_text(text)
    arguments = ["--instructions", tmp_path / "bad.jsonl", *options(model, tmp_path)]
    assert command(monkeypatch, "generate_responses", *arguments) == 1
    assert f"bad.jsonl, {message}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[1]", '{"class": -1}', '{"klass": 1}', '{"class": 0}', '{"class": "1"}', "{"])
def test_wrong_category_weights_are_refused(text):
    with pytest.raises(ValueError, match="--category-weights: "):
        load_weights(text)
