"""The same rows however the work is cut, and after a kill: transformers and openai (vLLM: test_vllm.py)."""

import json
import subprocess
from pathlib import Path

import pytest
from completion_server import KEY, CompletionServer, wait
from generation_runs import command, kill_after, run_shards, same

from selfalign.engines.models import fetch_model
from selfalign.engines.port import EngineSettings, open_engine
from selfalign.records.files import read_jsonl

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return the model.json of the demo model."""
    path = tmp_path_factory.mktemp("model") / "model.json"
    fetch_model("resources/demo-base", path, ROOT)
    return path


@pytest.fixture(scope="module")
def local(model):
    """Return the transformers engine on the demo model."""
    return open_engine(model, EngineSettings(batch_size=16))


def test_rows_do_not_depend_on_the_number_of_shards(local, model, tmp_path, monkeypatch):
    rows = run_shards(local, 14, tmp_path, model, monkeypatch)
    assert len({row["text"] for row in rows[1].values()}) > 14
    # Only the last bit of a sum could differ between batches, and here it never decides.
    assert same(rows[1], rows[2]) == same(rows[1], rows[7]) == 1


def test_nor_do_those_of_a_server_nor_on_a_kill(local, model, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    fetch_model("served:demo", tmp_path / "served.json", ROOT)
    with CompletionServer(local, "demo", lambda *_: wait(0.05)) as server:
        settings = {"kind": "openai", "url": server.base, "api_key_env": "TEST_KEY", "concurrency": 3}
        engine = open_engine(tmp_path / "served.json", EngineSettings(**settings))
        rows = run_shards(engine, 7, tmp_path, model, monkeypatch, 40)
        assert same(rows[1], rows[2]) == same(rows[1], rows[7]) == 1
        line = command(tmp_path / "served.json", json.dumps(settings), tmp_path, 7, 40)
        before = len(server.asked)
        stored = kill_after(line, 4, tmp_path / ".rows.jsonl.partial")
        assert 4 <= stored < 14
        result = subprocess.run(line, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "resuming after " in result.stderr
    assert len(server.asked) - before <= 14 + 2 * 3, "only the instructions in flight are asked again"
    assert same(rows[1], {row["id"]: row for row in read_jsonl(tmp_path / "rows.jsonl")}) == 1
    assert not list(tmp_path.glob("*.partial"))
