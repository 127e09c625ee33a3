"""The vLLM engine (its CPU build) with the demo model, against the transformers engine: run by `make test-vllm`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from generation_runs import command, kill_after, options, run_shards, same

from selfalign.engines.models import fetch_model
from selfalign.engines.port import Completion, EngineSettings, Request, open_engine
from selfalign.engines.vllm_process import QUIET
from selfalign.generation import stages
from selfalign.generation.responses import generate_responses
from selfalign.prompts.documents import load_prompts, render_document, response_example, shot_example, stop_strings
from selfalign.records.files import read_json, read_jsonl
from selfalign.records.rows import Response

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


def test_rows_in_shards(vllm, model, tmp_path, monkeypatch):
    rows = run_shards(vllm, 14, tmp_path, model, monkeypatch)
    for shards in (2, 7):
        rate = same(rows[1], rows[shards])
        print(f"rows alike in 1 and {shards} shards: {rate:.1%} of {len(rows[1])}")
        assert rate >= 0.9


def alive(pids: list[int]) -> list[int]:
    """Return which of the processes are still there."""
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_two_engines_in_one_job_killed_and_run_again(vllm, model, tmp_path, monkeypatch):
    """In the run that is killed the scheduler of vLLM has its own process, as on GPUs."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    settings = {"kind": "vllm", "data_parallel_size": 2, "batch_size": 4, "max_model_len": 1024, "kv_cache_gb": 1}
    line = command(model, json.dumps(settings), tmp_path, 30, 100)
    seen: list[int] = []
    find = lambda pid: seen.extend(child.pid for child in psutil.Process(pid).children(recursive=True))  # noqa: E731
    stored = kill_after(line, 10, tmp_path / ".rows.jsonl.partial", find)
    assert 10 <= stored < 60
    assert len(seen) >= 4, "two engines with a scheduler each"
    deadline = time.monotonic() + 60
    while alive(seen):
        assert time.monotonic() < deadline, f"left behind after a kill: {alive(seen)}"
        time.sleep(0.2)
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING")
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"resuming after {stored} rows" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instructions.jsonl", "rows.json", "rows.jsonl"]
    rows = {row["id"]: row for row in read_jsonl(tmp_path / "rows.jsonl")}
    assert len(rows) == 60
    assert {Response.load(row).finish_reason for row in rows.values()} == {"stop", "length"}
    stats = read_json(tmp_path / "rows.json")
    assert (stats["engine"], stats["rows"]) == ("vllm", 60)
    assert 0.5 * stats["prompt_tokens"] < stats["cached_prompt_tokens"] < stats["prompt_tokens"]
    assert stats["cpu_s"] > 2, "the time of vLLM's own processes counts"
    (tmp_path / "alone").mkdir()
    monkeypatch.setattr("selfalign.generation.stages.open_engine", lambda *_: vllm)
    generate_responses(
        tmp_path / "instructions.jsonl",
        stages.Settings(top_p=1.0, **options(model, "{}", tmp_path / "alone", 100)),
    )
    rate = same({row["id"]: row for row in read_jsonl(tmp_path / "alone/rows.jsonl")}, rows)
    print(f"rows alike of one engine, and of two that were killed: {rate:.1%} of 60; {stats}")
    assert rate >= 0.9


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    """Return the URL of vLLM's own server with the demo model."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    log = tmp_path_factory.mktemp("served") / "vllm.log"
    options = ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "32", "--enforce-eager"]
    # Without a seed's trouble on the CPU, and without the sampling settings that a checkpoint may bring.
    options += ["--no-enable-chunked-prefill", "--generation-config", "vllm", "--served-model-name", "demo"]
    environment = QUIET | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as file:
        # What `vllm serve` runs; that command itself does not find the version of the CPU build.
        line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", ROOT / "resources/demo-base"]
        line += ["--host", "127.0.0.1", "--port", port]
        process = subprocess.Popen(
            [*map(str, line), *options], stdout=file, stderr=file, env=os.environ | environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, f"vllm serve ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"vllm serve does not start: {log.read_text()}"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_server_of_vllm_gives_the_same(served, vllm, tmp_path):
    fetch_model("served:demo", tmp_path / "model.json", ROOT)
    engine = open_engine(tmp_path / "model.json", EngineSettings(kind="openai", url=served, concurrency=16))
    asked = requests(0.7, n=2)
    long = Request(id="long", prompt="x = 1\n" * 1000, max_tokens=500, seeds=(1,))
    got, wanted = run(engine, [*asked, long]), run(vllm, [*asked, long])
    assert got.pop(("long", 0)).finish_reason == wanted.pop(("long", 0)).finish_reason == "prompt too long"
    alike = sum(got[key] == wanted[key] for key in wanted)
    print(f"completions of a server like those in process: {alike} of {len(wanted)}")
    assert alike >= 0.9 * len(wanted)


def test_a_client_of_vllm_killed_and_run_again(served, tmp_path):
    fetch_model("served:demo", tmp_path / "served.json", ROOT)
    settings = json.dumps({"kind": "openai", "url": served, "concurrency": 4})
    (tmp_path / "whole").mkdir()
    line = command(tmp_path / "served.json", settings, tmp_path, 20)
    whole = command(tmp_path / "served.json", settings, tmp_path / "whole", 20)
    stored = kill_after(line, 8, tmp_path / ".rows.jsonl.partial")
    assert 8 <= stored < 40
    for one in (line, whole):
        result = subprocess.run(one, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    rows, others = ({row["id"]: row for row in read_jsonl(tmp_path / f"{at}rows.jsonl")} for at in ("", "whole/"))
    rate = same(rows, others)
    print(f"rows alike of a server, killed and unbroken: {rate:.1%} of {len(rows)}")
    assert rate >= 0.9


WRONG = [
    ({"vllm": {"enforce_eagre": True}}, "enforce_eagre is no engine argument .* did you mean enforce_eager?"),
    ({"vllm": {"quantization": "fp7"}}, "vLLM cannot load this model: .*Unknown quantization method: fp7"),
    ({"batch_invariant": True}, "batch_invariant is for GPUs"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_wrong_arguments_are_one_clear_error(changes, message, model):
    with pytest.raises(ValueError, match=message):
        open_engine(model, EngineSettings(kind="vllm", **changes))


def test_a_process_that_dies_is_one_clear_error(vllm):
    """The last test: it takes the engine of the others with it."""
    groups = vllm.complete(requests(0.7, n=20))
    next(groups)
    assert 0 < sum(process.samples for process in vllm._processes) < 3 * 32 + 20, "of 160, not all are there at once"
    vllm._processes[0].process.kill()
    with pytest.raises(ValueError, match=r"was ended by signal 9 \(out of memory\?\); .* Finished rows are kept"):
        list(groups)
