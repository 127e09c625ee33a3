"""The openai engine against a real HTTP server that answers with the transformers engine."""

import re
import socket
import threading
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest
from completion_server import KEY, CompletionServer, body, hang_up, say, say_late, status, wait
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
    assert len(server.asked) == 9 + 1, "the server refused once and was asked again"
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
    with CompletionServer(local, "tiny") as server:
        engine = open_engine(model, settings(server, patience=0.3))
    with pytest.raises(ValueError, match=r"cannot be reached for 0.3 s .* finished rows are kept"):
        list(engine.complete(few(1)))


def few(count: int) -> list[Request]:
    """Return short requests; the prompt of each is its number."""
    return [Request(id=f"r{number}", prompt=f"{number}", max_tokens=4, seeds=(number,)) for number in range(count)]


def ask(model: Path, plan, monkeypatch, count: int = 6, **changes) -> tuple[dict, CompletionServer]:
    """Ask a server that follows a plan; return (text, finish reason) by request, and the server."""
    monkeypatch.setenv("TEST_KEY", KEY)
    with CompletionServer(None, "tiny", plan) as server:
        engine = open_engine(model, settings(server, **{"concurrency": 2, **changes}))
        groups = list(engine.complete(few(count)))
    return {one.id: (one.text, one.finish_reason) for group in groups for one in group}, server


PASSING = [  # what the first two requests meet
    status(429, "slow down"),
    status(429, "slow down", Retry_After="0.1"),
    status(429, "slow down", retry_after_ms="100"),
    status(500, "oops"),
    status(503, "starting"),
    status(408, "slow"),
    hang_up,
    body("<html>busy</html>", Content_Type="text/html"),
    body("{"),
    body('{"choices": []}'),
    wait(0.6),  # longer than the timeout
]


@pytest.mark.parametrize("act", PASSING)
def test_what_passes_is_tried_again(act, model, monkeypatch):
    plan = lambda number, _: act if number < 2 else say("fine")  # noqa: E731
    got, server = ask(model, plan, monkeypatch, timeout=0.4, patience=20)
    assert got == {f"r{number}": ("fine", "stop") for number in range(6)}
    assert len(server.asked) == 8


@pytest.mark.parametrize("headers", [{"Retry_After": "1.5"}, {"retry_after_ms": "1500"}])
def test_nobody_asks_before_the_server_said(headers, model, monkeypatch):
    plan = lambda number, _: status(429, "slow down", **headers) if number == 2 else say("fine")  # noqa: E731
    got, server = ask(model, plan, monkeypatch, count=30, concurrency=3)
    assert len(got) == 30
    refused = server.times[2]
    # Those that were on their way come within moments; then nobody, and then all the others.
    later = [at - refused for at in server.times[3:] if at - refused > 0.5]
    assert len(later) >= 25
    assert min(later) >= 1.5


@pytest.mark.parametrize("retry_after", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_server_that_asks_for_no_pause_gets_one(retry_after, model, monkeypatch):
    act = status(503, "starting", Retry_After=retry_after)
    got, server = ask(model, lambda number, _: act if number < 3 else say("fine"), monkeypatch, count=1)
    assert got == {"r0": ("fine", "stop")}
    pauses = [later - before for before, later in zip(server.times, server.times[1:], strict=False)]
    assert all(pause >= least for pause, least in zip(pauses, (0.37, 0.75, 1.5), strict=True))


def test_a_date_is_waited_for_too(model, monkeypatch):
    when = formatdate(time.time() + 2, usegmt=True)  # whole seconds
    plan = lambda number, _: status(503, "starting", Retry_After=when) if number == 0 else say("fine")  # noqa: E731
    got, server = ask(model, plan, monkeypatch, count=1)
    assert got == {"r0": ("fine", "stop")}
    assert 0.5 < server.times[1] - server.times[0] < 4


REFUSALS = [
    (status(400, "this prompt is bad"), "refused by the server", "refuses a request: "),
    (status(400, "filtered", error="content_filter"), "content_filter", "refuses a request: "),
    (status(403, "flagged by moderation"), "refused by the server", "flagged by moderation"),
    (status(422, "no"), "refused by the server", "refuses a request: "),
    (status(400, "This model's maximum context length is 5 tokens"), "prompt too long", ""),
    (status(500, "it crashes on this one"), "no answer from the server", r"without an answer after \d+ tries"),
    (hang_up, "no answer from the server", r"without an answer after \d+ tries"),
]


@pytest.mark.parametrize(("act", "reason", "message"), REFUSALS)
def test_one_row_that_the_server_does_not_answer_is_a_drop(act, reason, message, model, monkeypatch, capsys):
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.05)
    plan = lambda _, asked: act if asked["prompt"] == "1" else say_late("fine", 0.1)  # noqa: E731
    got, _ = ask(model, plan, monkeypatch)
    assert got.pop("r1") == ("", reason)
    assert got == {f"r{number}": ("fine", "stop") for number in (0, 2, 3, 4, 5)}
    assert re.search(message, capsys.readouterr().err)


def test_one_refused_prompt_with_many_samples_is_one_drop(model, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    filtered = status(400, "filtered", error="content_filter")
    plan = lambda _, asked: filtered if asked["prompt"] == "bad" else say("fine")  # noqa: E731
    asked = [
        Request(id=prompt, prompt=prompt, n=20, max_tokens=4, seeds=tuple(range(20))) for prompt in ("a", "bad", "b")
    ]
    with CompletionServer(None, "tiny", plan) as server:
        groups = list(open_engine(model, settings(server, concurrency=2)).complete(asked))
    assert {(one.id, one.finish_reason) for group in groups for one in group} == {
        ("a", "stop"),
        ("bad", "content_filter"),
        ("b", "stop"),
    }
    assert [len(group) for group in groups] == [20, 20, 20]


@pytest.mark.parametrize("count", [2, 15])
def test_few_requests_that_all_fail_are_no_finished_stage(count, model, monkeypatch):
    """The cause is the server's, and nobody would ask for their rows again."""
    with pytest.raises(ValueError, match=f"completes none of {count} requests one after the other, for the reason"):
        ask(model, lambda *_: status(400, "seed is not supported"), monkeypatch, count=count)


def test_the_last_requests_may_be_refused_where_others_were_not(model, monkeypatch):
    """Whether in this call, in the one before, or in a run before this one."""
    monkeypatch.setenv("TEST_KEY", KEY)
    plan = lambda _, asked: say("fine") if asked["prompt"] == "0" else status(400, "bad")  # noqa: E731
    bad = few(4)[1:]
    with CompletionServer(None, "tiny", plan) as server:
        engine = open_engine(model, settings(server))
        runs = [list(engine.complete(few(4))), list(engine.complete(bad))]
        runs.append(list(open_engine(model, settings(server)).complete(few(4), done={"r0"})))
        for groups in runs:
            refused = {one.id for group in groups for one in group if one.finish_reason == "refused by the server"}
            assert refused == {request.id for request in bad}
        with pytest.raises(ValueError, match="completes none of 3 requests"):
            list(open_engine(model, settings(server)).complete(bad))
        [[alone]] = open_engine(model, settings(server)).complete(bad[:1])
    assert alone.finish_reason == "refused by the server"


HOPELESS = [  # what all requests meet, how many of them, the message
    (status(401, "expired"), 1, "refuses the key in TEST_KEY"),
    (status(404, "no such model"), 1, "answered with an error: .*no such model"),
    (status(402, "no credit"), 1, "no credit"),
    (status(429, "pay first", error="insufficient_quota"), 1, "pay first"),
    (status(400, "seed is not supported"), 16, "completes none of 16 requests one after the other"),
    (status(500, "oops"), 2, "answered with an error for 0.3 s: .*oops"),
    (hang_up, 2, "cannot be reached for 0.3 s"),
    (status(429, "slow down", Retry_After="3600"), 1, "answered with an error and asks to wait 3600 s"),
    (wait(1), 2, r"has not answered within 0.2 s, again and again for 0.3 s"),
    (body("{"), 2, "answered with an error for 0.3 s"),
]


@pytest.mark.parametrize(("act", "asked", "message"), HOPELESS)
def test_what_hits_all_rows_stops_at_once(act, asked, message, model, monkeypatch):
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.05)
    start = time.monotonic()
    counts = []
    plan = lambda number, _: counts.append(number) or act  # noqa: E731
    with pytest.raises(ValueError, match="engine openai: ") as caught:
        ask(model, plan, monkeypatch, count=40, timeout=0.2, patience=0.3)
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)
    assert len(counts) >= asked
    assert len(counts) <= 24
    assert time.monotonic() - start < 10


LATER = [
    (status(400, "seed is not supported"), "completes none of 16 requests .* for the reason above"),
    (status(500, "its model crashed"), "answered with an error for 0.3 s: .*its model crashed"),
]


@pytest.mark.parametrize(("act", "message"), LATER)
def test_rows_that_were_left_out_with_all_others_are_not_stored(act, message, model, monkeypatch):
    """When the cause is mended, they are asked again."""
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.02)
    plan = lambda number, _: say("fine") if number < 3 else act  # noqa: E731
    stored = []
    with CompletionServer(None, "tiny", plan) as server:
        engine = open_engine(model, settings(server, concurrency=1, patience=0.3))
        with pytest.raises(ValueError, match=message):
            stored.extend(engine.complete(few(40)))
    assert [[one.id for one in group] for group in stored] == [["r0"], ["r1"], ["r2"]]


def test_a_server_that_is_down_for_a_while_costs_no_row(model, monkeypatch):
    """Also where many tries fall into that while."""
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.02)
    monkeypatch.setattr("selfalign.engines.patience.FIRST_WAIT", 0.02)
    with CompletionServer(None, "tiny", lambda *_: say("fine")) as server:
        engine = open_engine(model, settings(server, concurrency=2))
        groups = engine.complete(few(12))
        got = [next(groups)]
    restarted = []

    def restart() -> None:
        restarted.append(CompletionServer(None, "tiny", lambda *_: say("fine"), port=server.server_port).__enter__())

    later = threading.Timer(1.5, restart)
    later.start()
    try:
        got += groups
    finally:
        later.join()
        restarted[0].__exit__()
    assert sorted(one.id for group in got for one in group) == sorted(f"r{number}" for number in range(12))
    assert {(one.text, one.finish_reason) for group in got for one in group} == {("fine", "stop")}


def test_a_row_that_failed_just_before_an_outage_is_not_lost(model, monkeypatch):
    """An answer that was on its way then says nothing of the tries that fall into the outage."""
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.03)
    begun = []

    def plan(number: int, asked: dict):
        begun.append(time.monotonic())
        if time.monotonic() - begun[0] > 2:
            return say("fine")
        return say_late("fine", 0.3) if number < 2 and asked["prompt"] == "1" else status(503, "gone")

    got, server = ask(model, plan, monkeypatch, count=3)
    assert got == {f"r{number}": ("fine", "stop") for number in range(3)}
    assert len(server.asked) > 2 * 8


@pytest.mark.parametrize("resumed", [False, True])
def test_the_last_row_is_left_out_when_the_server_never_answers_it(resumed, model, monkeypatch, capsys):
    """There is no other row then; one that was answered before, or in a run before this one, shows the server works."""
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.03)
    plan = lambda _, asked: status(500, "it crashes on this one") if asked["prompt"] == "2" else say("fine")  # noqa: E731
    with CompletionServer(None, "tiny", plan) as server:
        engine = open_engine(model, settings(server, concurrency=1, patience=5))
        groups = list(engine.complete(few(3), done={"r0", "r1"} if resumed else ()))
    assert groups[-1][0].finish_reason == "no answer from the server"
    assert len(groups) == (1 if resumed else 3)
    assert Counter(asked["prompt"] for asked in server.asked)["2"] == 8
    assert "after 8 tries: " in capsys.readouterr().err


def test_a_server_that_fails_for_a_while_costs_no_row(model, monkeypatch):
    """A model that is loading, behind a proxy that lists it, fails more often than one request may; then it wavers."""
    monkeypatch.setattr("selfalign.engines.patience.LONGEST_WAIT", 0.03)
    begun = []
    seen = Counter()

    def plan(_: int, asked: dict):
        begun.append(time.monotonic())
        if time.monotonic() - begun[0] < 1:
            return status(503, "Loading model")
        seen[asked["prompt"]] += 1
        return status(503, "overloaded") if seen[asked["prompt"]] <= 2 else say("fine")

    got, server = ask(model, plan, monkeypatch, count=30, concurrency=8)
    assert got == {f"r{number}": ("fine", "stop") for number in range(30)}
    assert len(server.asked) > 30 * 3 + 8 * 8


def test_stop_strings_that_a_server_does_not_know_and_half_characters(model, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    plan = lambda *_: say("one \ud83d two\0 STOP three HALT", "length")  # noqa: E731
    with CompletionServer(None, "tiny", plan) as server:
        engine = open_engine(model, settings(server))
        asked = Request(id="a", prompt="a", max_tokens=4, seeds=(1,), stop=("HALT", "STOP"))
        [[one]] = engine.complete([asked])
    assert (one.text, one.finish_reason) == ("one � two\0 ", "stop")
