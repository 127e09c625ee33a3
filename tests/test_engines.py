"""The transformers engine against the model's own logits, and what every engine shares: settings and model files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_model import make_model
from transformers import AutoModelForCausalLM

from selfalign.engines.models import fetch_model, model_digest, read_model, write_model
from selfalign.engines.port import EngineSettings, Request, load_settings, open_engine
from selfalign.engines.text import StopScanner, encode
from selfalign.engines.transformers_engine import make_groups, sample

ROOT = Path(__file__).parent.parent
SOURCE = (ROOT / "scripts/selfalign/records/files.py").read_text(encoding="utf-8")
SHARED = 120


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Return the model.json of a tiny random Llama."""
    folder = make_model(tmp_path_factory.mktemp("tiny"), num_key_value_heads=2)
    write_model(folder / "model.json", folder)
    return folder / "model.json"


def engine_of(model: Path, **settings):
    """Open the transformers engine."""
    return open_engine(model, EngineSettings(**settings))


def request(number: int, **options) -> Request:
    """Return one of many requests that share their first characters."""
    prompt = SOURCE[:SHARED] + SOURCE[400 + 31 * number : 430 + 41 * number]
    values = {"max_tokens": 24, "temperature": 0.8, "n": 2, "shared": SHARED, **options}
    seeds = tuple(1000 * number + k for k in range(values["n"]))
    return Request(**{"id": f"r{number}", "prompt": prompt, "seeds": seeds, **values})


def run(engine, requests: list[Request], done=()) -> dict[tuple[str, int], tuple]:
    """Return text, finish reason and token counts by request and sample."""
    return {
        (one.id, one.k): (one.text, one.finish_reason, one.prompt_tokens, one.completion_tokens)
        for group in engine.complete(requests, done)
        for one in group
    }


ARCHITECTURES = [
    ("llama", {"num_key_value_heads": 2}, "SharedPrefixDecoder"),
    ("starcoder2", {"num_key_value_heads": 2, "sliding_window": 4096}, "SharedPrefixDecoder"),
    ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}, "SharedPrefixDecoder"),
    ("mistral", {"num_key_value_heads": 2, "sliding_window": 16}, "PlainDecoder"),
    ("gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16}, "PlainDecoder"),
    ("bloom", {"n_layer": 2, "n_head": 4}, "PlainDecoder"),  # positions by ALiBi
    ("mamba", {}, "PlainDecoder"),  # no attention
]


@pytest.mark.parametrize(("kind", "options", "decoder"), ARCHITECTURES, ids=[kind for kind, _, _ in ARCHITECTURES])
def test_greedy_text_is_that_of_the_model_without_cache_or_batch(kind, options, decoder, tmp_path):
    make_model(tmp_path, kind, **options)
    write_model(tmp_path / "model.json", tmp_path)
    engine = engine_of(tmp_path / "model.json", batch_size=4)
    assert type(engine.decoder).__name__ == decoder
    requests = [request(number, temperature=0.0, n=1, max_tokens=6 + 5 * number) for number in range(6)]
    got = run(engine, requests)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for one in requests:
        prompt = list(encode(engine.tokenizer, one.prompt))
        tokens, finish = list(prompt), "length"
        with torch.inference_mode():
            while len(tokens) < len(prompt) + one.max_tokens:
                token = int(model(torch.tensor([tokens])).logits[0, -1].argmax())
                if token in engine.ends:
                    finish = "stop"
                    break
                tokens.append(token)
        text = StopScanner(engine.tokenizer, ()).text(prompt, tokens[len(prompt) :])
        assert got[one.id, 0][:2] == (text, finish)


def test_a_sample_depends_on_its_seed_alone(tiny):
    requests = [request(number) for number in range(9)]
    together = run(engine_of(tiny, batch_size=8), requests)
    assert len(together) == 18
    assert len({text for text, *_ in together.values()}) == 18, "samples differ from one another"
    assert run(engine_of(tiny, batch_size=8), requests) == together
    alone = engine_of(tiny, batch_size=1)
    for one in requests:
        assert run(alone, [one]).items() <= together.items()
    assert run(engine_of(tiny, batch_size=64), requests[::-1]) == together
    other = run(engine_of(tiny, batch_size=8), [request(3, seeds=(1, 2))])
    assert other["r3", 0] != together["r3", 0]


def test_a_resumed_run_repeats_only_the_groups_that_are_not_whole(tiny):
    engine = engine_of(tiny, batch_size=4)
    requests = [request(number) for number in range(7)]
    groups = [[completion.id for completion in group] for group in engine.complete(requests)]
    assert [len(ids) for ids in groups] == [4, 4, 4, 2]
    whole = run(engine, requests)
    torn = {groups[0][0], groups[0][-1], groups[1][0]}  # group 0 is whole, group 1 is not
    rest = run(engine, requests, torn)
    assert {key for key, _ in rest} == {key for ids in groups[1:] for key in ids}
    assert rest.items() <= whole.items()
    assert run(engine, requests, {one.id for one in requests}) == {}


def test_stop_strings_end_the_text_and_the_tokens(tiny):
    engine = engine_of(tiny, batch_size=8)
    free = run(engine, [request(0, n=1, max_tokens=60)])["r0", 0][0]
    assert len(free) > 60
    for low, size in [(20, 1), (21, 2), (25, 5), (33, 9), (40, 14)]:
        stop = free[low : low + size]
        text, finish, _, tokens = run(engine, [request(0, n=1, max_tokens=60, stop=("never there", stop))])["r0", 0]
        assert (text, finish) == (free[: free.index(stop)], "stop")
        assert tokens <= 60
    text, finish, _, tokens = run(engine, [request(0, n=1, max_tokens=9)])["r0", 0]
    assert (finish, tokens) == ("length", 9)
    assert free.startswith(text.rstrip("�"))


def test_prompts_that_do_not_fit_are_refused_and_counted(tiny):
    engine = engine_of(tiny, batch_size=8, max_model_len=150)
    length = len(encode(engine.tokenizer, request(2).prompt))
    got = run(engine, [request(2, max_tokens=150 - length), request(2, id="long", max_tokens=151 - length)])
    assert got["r2", 0][1] in ("stop", "length")
    assert got["long", 1] == ("", "prompt too long", length, 0)


def test_more_samples_than_a_batch_and_shared_prefixes_are_accounted(tiny):
    engine = engine_of(tiny, batch_size=4)
    many = request(1, n=10, max_tokens=8)
    groups = list(engine.complete([many]))
    assert [[completion.k for completion in group] for group in groups] == [list(range(10))]
    length = len(encode(engine.tokenizer, many.prompt))
    assert engine.usage.prompt_tokens == 10 * length
    assert engine.usage.cached_prompt_tokens == 7 * length  # read once in each of three batches
    assert engine.usage.completion_tokens == sum(completion.completion_tokens for completion in groups[0])


GROUPS = [  # (prefix, prompt tokens, samples) of each request; size; groups by position
    ([("a", 5, 1), ("b", 5, 1), ("a", 3, 1)], 8, [[2, 0], [1]]),
    ([("a", 9, 1), ("a", 1, 1), ("a", 5, 1), ("a", 4, 1), ("a", 2, 1)], 4, [[1, 4, 3], [2, 0]]),
    ([("a", 1, 4), ("a", 1, 4), ("a", 1, 4)], 8, [[0, 1], [2]]),
    ([("a", 1, 3), ("a", 2, 20), ("a", 3, 3)], 8, [[0], [1], [2]]),
]


@pytest.mark.parametrize(("shapes", "size", "groups"), GROUPS)
def test_groups(shapes, size, groups):
    requests = [
        Request(id=str(at), prompt=f"{prefix}{at}", shared=1, n=n, max_tokens=1, seeds=(0,) * n)
        for at, (prefix, _, n) in enumerate(shapes)
    ]
    lengths = {str(at): tokens for at, (_, tokens, _) in enumerate(shapes)}
    assert [[int(one.id) for one in group] for group in make_groups(requests, lengths, size)] == groups


CHANCES = [0.05, 0.4, 0.3, 0.25]
SAMPLING = [  # temperature, top_p, expected chances
    (0.0, 1.0, [0, 1, 0, 0]),
    (1.0, 1.0, CHANCES),
    (1.0, 0.7, [0, 4 / 7, 3 / 7, 0]),
    (1.0, 0.71, [0, 0.4 / 0.95, 0.3 / 0.95, 0.25 / 0.95]),
    (0.5, 1.0, [chance**2 / sum(c**2 for c in CHANCES) for chance in CHANCES]),
]


@pytest.mark.parametrize(("temperature", "top_p", "expected"), SAMPLING)
def test_sampling_follows_the_distribution(temperature, top_p, expected):
    count = 20_000
    logits = torch.tensor(CHANCES).log().repeat(count, 1)
    draws = (torch.arange(count, dtype=torch.float64) + 0.5) / count  # evenly spread: exact up to 1 / count
    tokens = sample(logits, draws, torch.full((count,), temperature), torch.full((count,), top_p, dtype=torch.float64))
    seen = torch.bincount(tokens, minlength=4) / count
    assert seen.tolist() == pytest.approx(expected, abs=2e-4)


WRONG_SETTINGS = [
    ("{", "not valid JSON"),
    ("[]", "not a JSON object"),
    ('{"batchsize": 3}', "did you mean batch_size?"),
    ('{"kind": "vlm"}', "it can be transformers, vllm, openai"),
    ('{"dtype": "float8"}', "it can be auto, float32"),
    ('{"threads": 0}', "threads is 0; it must be a whole number of at least 1"),
    ('{"batch_size": 1.5}', "batch_size is 1.5, which is not a whole number"),
    ('{"max_model_len": 0}', "max_model_len is 0; it must be a whole number of at least 1"),
    ('{"kind": "openai"}', "needs url"),
    ('{"patience": 0}', "patience is 0; it must be above 0"),
    ('{"data_parallel_size": 0}', "data_parallel_size is 0; it must be a whole number of at least 1"),
    ('{"gpu_memory_utilization": 1.2}', "above 0 and at most 1"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_SETTINGS)
def test_wrong_settings_are_named(text, message):
    with pytest.raises(ValueError, match="engine: ") as caught:
        load_settings(text)
    assert message in str(caught.value)


def fetch(cwd: Path, pretrained: str, **environment: str) -> subprocess.CompletedProcess:
    """Run the real fetch_model command in a folder, with no hub to ask."""
    return subprocess.run(
        [sys.executable, ROOT / "scripts/fetch_model.py", "--pretrained", pretrained, "--output", "out/model.json"],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hub"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_fetch_model_finds_folders_and_says_what_is_missing(tiny, tmp_path):
    shutil.copytree(tiny.parent, tmp_path / "models/mine")
    digest = model_digest(tiny.parent)
    for pretrained, name in [("models/mine", "../models/mine"), (str(tiny.parent), str(tiny.parent))]:
        result = fetch(tmp_path, pretrained)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        model = read_model(tmp_path / "out/model.json")
        assert (model.name_or_path, model.revision, model.digest) == (name, None, digest)
        assert (model.chat_template, model.trained_from) == (False, None)
        assert model.folder() == (tmp_path / "models/mine" if name.startswith(".") else tiny.parent)
    (tmp_path / "models/mine/README.md").write_text("not part of what the model answers with")
    assert model_digest(tmp_path / "models/mine") == digest
    (tmp_path / "models/mine/chat_template.jinja").write_text("{{ messages }}")
    assert fetch(tmp_path, "models/mine").returncode == 0
    assert read_model(tmp_path / "out/model.json").chat_template
    assert read_model(tmp_path / "out/model.json").digest != digest
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.json"]


LACKING = [
    (["config.json"], "config.json"),
    (["tokenizer.json"], "a tokenizer"),
    (["model.safetensors"], "weights"),
    (["config.json", "model.safetensors"], "it lacks config.json, weights"),
]


@pytest.mark.parametrize(("names", "message"), LACKING)
def test_an_incomplete_folder_is_refused(names, message, tiny, tmp_path):
    shutil.copytree(tiny.parent, tmp_path / "mine")
    for name in names:
        (tmp_path / "mine" / name).unlink()
    with pytest.raises(ValueError, match=f"not a model folder.*{message}"):
        fetch_model(str(tmp_path / "mine"), tmp_path / "model.json", ROOT)
    assert not (tmp_path / "model.json").exists()


UNKNOWN = [
    ("no-such-owner/no-such-model", ["model 'no-such-owner/no-such-model': not in the local cache", "HF_HUB_OFFLINE"]),
    ("models/a/b/c", ["model 'models/a/b/c': no such folder (tried ", "no hub id"]),
    ("./models", ["model './models': no such folder"]),
]


@pytest.mark.parametrize(("pretrained", "parts"), UNKNOWN)
def test_an_unknown_model_is_one_clear_error(pretrained, parts, tmp_path):
    result = fetch(tmp_path, pretrained)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts)
    assert not (tmp_path / "out/model.json").exists()


def test_a_served_model_has_no_weights_here(tmp_path):
    model = fetch_model("served:big-teacher", tmp_path / "model.json", ROOT)
    assert model.name_or_path == "served:big-teacher"
    with pytest.raises(ValueError, match="only the engine of kind openai"):
        open_engine(tmp_path / "model.json", "{}")
    data = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**data, "digset": 1}))
    with pytest.raises(ValueError, match="not a model file"):
        read_model(tmp_path / "model.json")
