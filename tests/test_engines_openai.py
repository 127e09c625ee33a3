"""The openai engine against a real HTTP server that answers with the transformers engine."""

import socket
from pathlib import Path

import pytest
from completion_server import KEY, CompletionServer
from tiny_model import make_model

from selfalign.engines.models import fetch_model, write_model
from selfalign.engines.port import EngineSettings, Request, open_engine

ROOT = Path(__file__).parent.parent
SOURCE = (ROOT / "scripts/selfalign/records/rows.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Return the transformers engine on a tiny random Llama."""
    folder = make_model(tmp_path_factory.mktemp("tiny"), max_position_embeddings=256)
    write_model(folder / "model.json", folder)
    return open_engine(folder / "model.json", EngineSettings(batch_size=2))


@pytest.fixture
def server(local):
    """Return a running server of that engine."""
    with CompletionServer(local, "tiny") as running:
        yield running


@pytest.fixture
def model(tmp_path) -> Path:
    """Return the model.json of a model that only the server has."""
    fetch_model("served:tiny", tmp_path / "model.json", ROOT)
    return tmp_path / "model.json"


def settings(server: CompletionServer, **changes) -> EngineSettings:
    """Return settings for the server."""
    return EngineSettings(**{"kind": "openai", "url": server.base, "api_key_env": "TEST_KEY", **changes})


def test_it_gives_what_the_model_behind_the_server_writes(server, local, model, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    requests = [
        Request(
            id=f"r{number}",
            prompt=SOURCE[40 * number : 90 + 55 * number],
            n=2,
            max_tokens=12,
            temperature=0.7,
            top_p=0.9,
            stop=("e", "never"),
            seeds=(number, 100 + number),
        )
        for number in range(5)
    ]
    long = Request(id="long", prompt=SOURCE[:4000], max_tokens=12, seeds=(1,))
    engine = open_engine(model, settings(server, concurrency=3))
    groups = list(engine.complete([*requests, long], done={"r4"}))
    wanted = {group[0].id: group for group in local.complete(requests[:4])}
    assert server.refusals == 0, "the server refused once and was asked again"
    assert len(server.asked) == 9
    got = {group[0].id: group for group in groups}
    assert set(got) == {"r0", "r1", "r2", "r3", "long"}
    assert [(one.finish_reason, one.text) for one in got.pop("long")] == [("prompt too long", "")]
    for key, group in got.items():
        assert [(one.k, one.text) for one in group] == [(one.k, one.text) for one in wanted[key]]
        assert {one.finish_reason for one in group} <= {"stop", "length"}
    completions = [completion for group in got.values() for completion in group]
    assert engine.usage.completion_tokens == sum(completion.completion_tokens for completion in completions)
    assert engine.usage.cached_prompt_tokens is None


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


WRONG = [
    ({}, {}, "the environment variable TEST_KEY holds no key; set it"),
    ({}, {"TEST_KEY": "wrong"}, "refuses the key in TEST_KEY"),
    ({"api_key_env": None}, {}, "refuses the key (api_key_env names none)"),
    ({"model": "other"}, {"TEST_KEY": KEY}, "does not serve the model 'other'; set the engine's model to one that it"),
    ({"url": f"http://127.0.0.1:{free_port()}/v1"}, {"TEST_KEY": KEY}, "cannot be reached"),
]


@pytest.mark.parametrize(("changes", "environment", "message"), WRONG)
def test_what_is_wrong_is_said(changes, environment, message, server, model, monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="engine openai: ") as caught:
        open_engine(model, settings(server, **changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_goes_away_is_one_clear_error(local, model, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr("selfalign.engines.openai_engine.RETRIES", 0)
    with CompletionServer(local, "tiny") as server:
        engine = open_engine(model, settings(server))
    with pytest.raises(ValueError, match=r"cannot be reached .* finished rows are kept"):
        list(engine.complete([Request(id="a", prompt="b", max_tokens=1, seeds=(1,))]))
