"""Which process gets which request and which GPUs, without a model: the rest of the vLLM engine is in test_vllm.py."""

import dataclasses
import json
from collections import Counter

import pytest

from selfalign.engines.feeding import PrefixQueue
from selfalign.engines.port import EngineSettings, Request, load_settings
from selfalign.engines.vllm_engine import share_gpus
from selfalign.engines.vllm_process import check_arguments


def requests(*prefixes: str) -> list[Request]:
    """Return one request for each prefix, numbered."""
    return [
        Request(id=str(at), prompt=f"{prefix} {at}", shared=len(prefix), max_tokens=1, seeds=(0,))
        for at, prefix in enumerate(prefixes)
    ]


def drain(queue: PrefixQueue, turns: list[int]) -> list[tuple[int, str]]:
    """Let engines take requests in turns, again and again, until none is left; return (engine, prefix)."""
    taken = []
    while True:
        for engine in turns:
            request = queue.take(engine)
            if request is None:
                assert all(queue.take(other) is None for other in set(turns))
                return taken
            taken.append((engine, request.prompt[: request.shared]))


def test_one_engine_gets_prefix_after_prefix():
    asked = requests(*"abcabcabca")
    taken = drain(PrefixQueue(asked, 1), [0])
    assert "".join(prefix for _, prefix in taken) == "aaaabbbccc"


def test_engines_keep_to_their_prefixes_and_help_at_the_end():
    asked = requests(*("a" * 10 + "b" * 4 + "c" * 4))
    taken = drain(PrefixQueue(asked, 2), [0, 1])
    assert Counter(prefix for _, prefix in taken) == {"a": 10, "b": 4, "c": 4}
    assert [engine for engine, prefix in taken if prefix in "bc"] == [1] * 8
    of_a = [engine for engine, prefix in taken if prefix == "a"]
    assert of_a == [0] * 9 + [1]  # both end together
    assert len(taken) == 18


def test_a_slow_engine_gets_less():
    taken = drain(PrefixQueue(requests(*("a" * 30 + "b" * 30)), 2), [0, 1, 1, 1, 1])
    assert Counter(engine for engine, _ in taken) == {0: 12, 1: 48}
    assert {prefix for engine, prefix in taken if engine == 0} == {"a"}


def few_shot(count: int, n: int, sets: int = 16) -> list[Request]:
    """Return requests of n samples over a number of prefixes."""
    prompts = [f"{number % sets:03} {number}" for number in range(count)]
    return [
        Request(id=str(number), prompt=prompt, shared=3, n=n, max_tokens=1, seeds=tuple(range(n)))
        for number, prompt in enumerate(prompts)
    ]


def given(lists: list[list[Request]]) -> list[int]:
    """Return the samples that each engine was given."""
    return [sum(request.n for request in requests) for requests in lists]


SMALL = [  # requests, samples, prefixes, engines, sequences that one decodes at once
    (200, 10, 16, 8, 1024),
    (164, 1, 1, 8, 1024),
    (1140, 1, 1, 8, 256),
    (5, 10, 1, 8, 256),
]


@pytest.mark.parametrize(("count", "n", "sets", "engines", "sequences"), SMALL)
def test_a_small_job_is_shared_by_all_engines(count, n, sets, engines, sequences):
    lists = PrefixQueue(few_shot(count, n, sets), engines).hand_out([0] * engines, [3 * sequences] * engines)
    assert sum(given(lists)) == count * n
    assert max(given(lists)) - min(given(lists)) <= n


def test_engines_keep_to_their_prefixes_when_they_share():
    lists = PrefixQueue(few_shot(160, 10), 8).hand_out([0] * 8, [1000] * 8)
    for requests in lists:
        prefixes = [request.prompt[:3] for request in requests]
        assert len(set(prefixes)) == 2
        assert sorted(prefixes) == prefixes, "one after the other"


def test_full_engines_get_no_more_and_none_is_idle_while_others_have_a_backlog():
    most, speed = [30, 30, 60], [1, 7, 20]  # samples finished in each turn
    asked = few_shot(200, 4)
    queue, load, seen = PrefixQueue(asked, 3), [0, 0, 0], []
    for _ in range(1000):
        lists = queue.hand_out(load, most)
        seen += [request.id for requests in lists for request in requests]
        load = [before + new for before, new in zip(load, given(lists), strict=True)]
        assert all(at < limit + 4 for at, limit in zip(load, most, strict=True))
        if len(seen) < len(asked):
            assert all(at >= limit for at, limit in zip(load, most, strict=True)), "what is left waits for room"
        load = [max(at - done, 0) for at, done in zip(load, speed, strict=True)]
        if not any(load):
            break
    assert sorted(seen, key=int) == [request.id for request in asked]


def test_what_an_engine_has_to_do_already_counts():
    lists = PrefixQueue(few_shot(10, 1), 3).hand_out([4, 0, 12], [12, 12, 12])
    assert given(lists) == [3, 7, 0]


GPUS = [  # CUDA_VISIBLE_DEVICES, tensor and data parallel size, what each process gets
    (None, 4, 1, [None]),
    ("0,1", 1, 2, [["0"], ["1"]]),
    ("2, 3,5,7,8", 2, 2, [["2", "3"], ["5", "7"]]),
    ("GPU-a,MIG-b", 1, 2, [["GPU-a"], ["MIG-b"]]),
    ("", 1, 3, [None, None, None]),  # a CPU build
]


@pytest.mark.parametrize(("visible", "tensor", "data", "shared"), GPUS)
def test_each_process_has_its_own_gpus(visible, tensor, data, shared, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    settings = EngineSettings(kind="vllm", tensor_parallel_size=tensor, data_parallel_size=data)
    assert share_gpus(settings) == shared


def test_too_few_gpus_are_named(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    settings = EngineSettings(kind="vllm", tensor_parallel_size=2, data_parallel_size=2)
    with pytest.raises(ValueError, match="2 times data_parallel_size 2 are 4 GPUs, but this job sees 3"):
        share_gpus(settings)


@pytest.mark.parametrize(
    ("changes", "gpus"),
    [
        ({}, 1),
        ({"data_parallel_size": 4}, 1),  # transformers uses one
        ({"kind": "vllm"}, 1),
        ({"kind": "vllm", "tensor_parallel_size": 2, "data_parallel_size": 4}, 8),
        ({"kind": "openai", "url": "http://localhost/v1", "tensor_parallel_size": 2}, 0),
    ],
)
def test_gpus_of_a_job(changes, gpus):
    assert EngineSettings(**changes).gpus() == gpus


def test_what_a_text_can_depend_on_is_in_the_identity():
    vllm = EngineSettings(kind="vllm")
    server = EngineSettings(kind="openai", url="http://localhost/v1")
    for base, name, value, counts in [
        (vllm, "batch_invariant", True, True),
        (vllm, "vllm", {"quantization": "fp8"}, True),
        (vllm, "batch_size", 8, True),
        (vllm, "data_parallel_size", 2, False),
        (vllm, "patience", 1.0, False),
        (EngineSettings(), "batch_invariant", True, False),
        (server, "model", "another", True),
        (server, "dtype", "bfloat16", False),
        (server, "url", "http://elsewhere/v1", False),
    ]:
        assert (dataclasses.replace(base, **{name: value}).identity() != base.identity()) == counts


ARGUMENTS = [
    ({"max_num_seqs": 3}, "max_num_seqs does not belong under vllm; set batch_size instead"),
    ({"quantisation": "fp8"}, "quantisation is no engine argument .*; did you mean quantization?"),
    ({"xyzzy": 1}, "xyzzy is no engine argument of the vLLM that is installed$"),
]


@pytest.mark.parametrize(("given", "message"), ARGUMENTS)
def test_wrong_arguments_of_vllm_are_named(given, message):
    known = ["max_num_seqs", "quantization", "enforce_eager"]
    check_arguments({"enforce_eager": True, "quantization": "fp8"}, known)
    with pytest.raises(ValueError, match=message):
        check_arguments(given, known)


def test_they_are_read_as_an_object():
    given = {"quantization": "fp8", "speculative_config": {"method": "ngram"}}
    assert load_settings(json.dumps({"kind": "vllm", "vllm": given})).vllm == given
    with pytest.raises(ValueError, match="vllm is 'fp8', which is not an object"):
        load_settings('{"vllm": "fp8"}')
