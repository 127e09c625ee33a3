"""Benchmarks' files fetched from where they are published; here from a server of the test's own."""

import functools
import http.server
import json
import threading

import pytest

from selfalign.benchmarks.downloads import Source, fetch
from selfalign.benchmarks.kinds import KINDS
from selfalign.benchmarks.preparation import prepare_benchmark
from selfalign.records.files import file_digest, read_json

ROW = {
    "task_id": "t-1",
    "category": "function",
    "difficulty": "easy",
    "instruction": "Write `one()`.",
    "entry_point": "one",
    "canonical_solution": "def one():\n    return 1",
    "tests": "assert one() == 1",
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve a folder on loopback; return the folder and its address."""
    folder = tmp_path / "published"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_published_file_is_fetched_once_and_its_digest_recorded(server, tmp_path, monkeypatch):
    folder, address = server
    (folder / "tasks.jsonl").write_text(json.dumps(ROW) + "\n")
    monkeypatch.setattr(KINDS["demo"], "source", Source(url=f"{address}/tasks.jsonl"), raising=False)
    for _ in range(2):
        assert prepare_benchmark("demo", None, {}, tmp_path / "demo.jsonl", tmp_path / "source.json") == 1
        (folder / "tasks.jsonl").unlink(missing_ok=True)
    cached = fetch(KINDS["demo"].source, "demo")
    assert read_json(tmp_path / "source.json")["files"] == {"tasks.jsonl": file_digest(cached)}


def test_a_file_that_is_not_there_is_one_clear_error_and_nothing_is_kept(server, tmp_path):
    _, address = server
    with pytest.raises(ValueError, match=r"kind x: .*/none.jsonl cannot be fetched \(.*404.*\); fetch it on a machine"):
        fetch(Source(url=f"{address}/none.jsonl"), "x")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_broken_download_is_not_kept(server, tmp_path, monkeypatch):
    folder, address = server
    (folder / "torn.jsonl").write_text("{}\n")
    send_header = http.server.SimpleHTTPRequestHandler.send_header

    def more(self, name, value):
        send_header(self, name, "100" if name == "Content-Length" else value)

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "send_header", more)
    with pytest.raises(ValueError, match=r"torn.jsonl cannot be fetched \(only 3 of 100 bytes came\)"):
        fetch(Source(url=f"{address}/torn.jsonl"), "x")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_hub_that_cannot_be_reached_is_one_clear_error(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="kind x: the hub's dataset nobody/nothing cannot be fetched"):
        fetch(Source(hub="nobody/nothing", files=("*.jsonl",)), "x")


def test_a_kind_without_a_published_file_asks_for_a_path():
    with pytest.raises(ValueError, match="kind demo: no published file is known; set the benchmark's path"):
        fetch(None, "demo")
