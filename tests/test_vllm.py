"""The vLLM engine (its CPU build) with the demo model, against the transformers engine: run by `make test-vllm`."""

import subprocess
import sys
from pathlib import Path

import pytest

from selfalign.engines.models import fetch_model
from selfalign.engines.port import Completion, EngineSettings, Request, open_engine
from selfalign.prompts.documents import load_prompts, render_document, response_example, shot_example, stop_strings
from selfalign.records.files import read_json, read_jsonl, write_jsonl
from selfalign.records.rows import Instruction, Response

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parent.parent
PROMPTS = ROOT / "resources/prompts/demo.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return the model.json of the demo model."""
    path = tmp_path_factory.mktemp("model") / "model.json"
    fetch_model("resources/demo-base", path, ROOT)
    return path


@pytest.fixture(scope="module")
def vllm(model):
    """Return the vLLM engine, opened once."""
    return open_engine(model, EngineSettings(kind="vllm", batch_size=32, max_model_len=1024))


def requests(temperature: float, n: int = 1, **changes) -> list[Request]:
    """Return requests for responses to the instructions of the worked examples, behind two other ones."""
    prompts = load_prompts(PROMPTS)
    header, shots = prompts.headers["response"], prompts.shots
    first = [shot_example("response", shot) for shot in shots[:2]]
    return [
        Request(
            **{
                "id": shot.id,
                "prompt": render_document(header, [*first, response_example(shot.instruction)]),
                "shared": len(render_document(header, first)),
                "n": n,
                "temperature": temperature,
                "max_tokens": 200,
                "stop": stop_strings("response"),
                "seeds": tuple(7919 * number + k for k in range(n)),
                **changes,
            }
        )
        for number, shot in enumerate(shots[2:])
    ]


def run(engine, asked: list[Request], done=()) -> dict[tuple[str, int], Completion]:
    """Return the completions by request and sample."""
    return {(one.id, one.k): one for group in engine.complete(asked, done) for one in group}


def test_greedy_completions_are_those_of_the_transformers_engine(model, vllm):
    asked = requests(0.0)
    assert len(asked) >= 8
    got, wanted = run(vllm, asked), run(open_engine(model, EngineSettings()), asked)
    same = sum(got[key] == wanted[key] for key in wanted)
    print(f"greedy completions alike: {same} of {len(wanted)}")
    assert got.keys() == wanted.keys()
    assert same >= 0.9 * len(wanted)  # rounding may turn a near tie


def test_stop_strings_limits_and_refusals(vllm):
    asked = [
        *requests(0.7)[:4],
        *requests(0.7, max_tokens=5, id="short")[:1],
        *requests(0.7, max_tokens=1000, id="long")[:1],
    ]
    got = run(vllm, asked, done={asked[3].id})
    assert set(got) == {(one.id, 0) for one in asked} - {(asked[3].id, 0)}
    assert all(stop not in one.text for one in got.values() for stop in stop_strings("response"))
    assert "stop" in {one.finish_reason for one in got.values()}
    short, long = got["short", 0], got["long", 0]
    assert (short.finish_reason, short.completion_tokens) == ("length", 5)
    assert (long.finish_reason, long.text, long.completion_tokens) == ("prompt too long", "", 0)


def test_seeds_decide_and_the_shared_prefix_is_read_once(vllm):
    asked = requests(0.7, n=3)
    before = vllm.usage.prompt_tokens, vllm.usage.cached_prompt_tokens
    first = run(vllm, asked)
    again = run(vllm, asked)
    same = sum(again[key].text == first[key].text for key in first)
    print(f"sampled completions alike: {same} of {len(first)}")
    assert same >= 0.9 * len(first)  # the second time more is in the cache, which rounds differently
    assert len({first[asked[0].id, k].text for k in range(3)}) > 1
    prompts = vllm.usage.prompt_tokens - before[0]
    assert prompts == sum(one.prompt_tokens for one in [*first.values(), *again.values()])
    assert vllm.usage.cached_prompt_tokens - before[1] > 0.5 * prompts


def test_the_command_runs_with_it(model, tmp_path):
    rows = [
        Instruction(
            id=f"{number:016x}-c0-i0",
            parent=f"{number:016x}-c0",
            shots=[],
            seed=1,
            finish_reason="stop",
            category="function",
            difficulty="easy",
            concepts=["list comprehension"],
            instruction=shot.instruction,
            drop=None,
        )
        for number, shot in enumerate(load_prompts(PROMPTS).shots)
    ]
    write_jsonl(tmp_path / "instructions.jsonl", (row.dump() for row in rows))
    options = {
        "instructions": tmp_path / "instructions.jsonl",
        "model": model,
        "engine": '{"kind": "vllm", "batch_size": 32}',
        "prompts": PROMPTS,
        "shots": 2,
        "shot-sets": 2,
        "temperature": 0.7,
        "max-tokens": 200,
        "samples": 2,
        "run-seed": 3407,
        "label": "responses test/00000",
        "output": tmp_path / "out/rows.jsonl",
        "stats": tmp_path / "out/rows.json",
    }
    line = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    result = subprocess.run(
        [sys.executable, ROOT / "scripts/generate_responses.py", *line], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rows.json", "rows.jsonl"]
    found = [Response.load(row) for row in read_jsonl(tmp_path / "out/rows.jsonl")]
    assert [row.id for row in found] == [f"{row.id}-r{k}" for row in rows for k in range(2)]
    assert sum(row.drop is None for row in found) >= len(found) / 2
    stats = read_json(tmp_path / "out/rows.json")
    assert (stats["engine"], stats["rows"]) == ("vllm", len(found))
    assert 0 < stats["cached_prompt_tokens"] < stats["prompt_tokens"]
    print(f"tokens per second: {stats['tokens_per_s']}; screen: {result.stderr!r}")
