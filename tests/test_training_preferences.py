"""Training on preferences: what the trainer sees, what it leaves, and what it says about bad input."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from training_files import FILES, make_base, make_pair, write_pairs, write_preferences
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign.engines.models import read_model
from selfalign.prompts.chat import SYSTEM_PROMPT, chat_prompt
from selfalign.records.files import file_digest, read_json, read_jsonl, write_json, write_jsonl
from selfalign.training.command import train_model
from selfalign.training.examples import encode_pairs
from selfalign.training.preferences import Preference, _Encoded, encode_preferences
from selfalign.training.settings import TrainSettings

SETTINGS = TrainSettings(
    objective="dpo", learning_rate=3e-3, batch_size=6, micro_batch_size=4, epochs=4, max_tokens=256, beta=0.2
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Return the files of a base model, pairs and preferences."""
    folder = tmp_path_factory.mktemp("inputs")
    return (
        make_base(folder / "base"),
        write_pairs(folder / "pairs.jsonl"),
        write_preferences(folder / "preferences.jsonl"),
    )


def train(inputs, output: Path, settings: TrainSettings = SETTINGS, preferences: Path | None = None) -> Path:
    base, pairs, usual = inputs
    train_model(
        base=base,
        pairs=pairs,
        preferences=preferences or usual,
        settings=settings,
        run_seed=7,
        label="test",
        save_steps=5,
        output=output,
    )
    return output


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory) -> Path:
    return train(inputs, tmp_path_factory.mktemp("trained") / "preferred")


def log_probability(model, tokens: list[int], masked: int) -> float:
    """Return the log-probability of the tokens after the first `masked`."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return sum(logits[place - 1, tokens[place]].item() for place in range(masked, len(tokens)))


def test_the_log_holds_the_loss_of_the_method(inputs, trained):
    log = list(read_jsonl(trained / "training_log.jsonl"))
    assert [row["step"] for row in log] == list(range(1, 17))
    assert [row["epoch"] for row in log] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert log[0]["loss"] == pytest.approx(0.6931, abs=1e-4)  # log 2: the model is its own reference
    # The reference answered in other batches, with other padding: equal up to rounding.
    assert (log[0]["margin"], log[0]["reward_chosen"]) == pytest.approx((0, 0), abs=1e-5)
    assert log[-1]["loss"] < 0.6
    assert log[-1]["accuracy"] == 1
    # 16 steps, of which round(0.05 x 16) = 1 warms up
    assert [row["learning_rate"] for row in log[:3]] == pytest.approx([0, 3e-3, 3e-3 * 14 / 15])


def test_the_reward_is_that_of_the_saved_model_against_its_base(inputs, trained):
    """By our own arithmetic, on the tokens of supervised training: beta times the gain in log-probability."""
    base, _, preferences = inputs
    tokenizer = AutoTokenizer.from_pretrained(base.parent)
    rows = [Preference.load(row, "row") for row in read_jsonl(preferences)]
    both, _ = encode_preferences(rows, tokenizer, system=SYSTEM_PROMPT, max_tokens=256)
    after, before = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (trained, base.parent))
    margins = []
    for chosen, rejected in both:
        gains = [
            log_probability(after, one.tokens, one.masked) - log_probability(before, one.tokens, one.masked)
            for one in (chosen, rejected)
        ]
        margins.append(SETTINGS.beta * (gains[0] - gains[1]))
    assert min(margins) > 0
    last = list(read_jsonl(trained / "training_log.jsonl"))[-1]
    assert sum(margins) / len(margins) == pytest.approx(last["margin"], rel=0.5)  # of its own rows, one step before


def test_it_leaves_what_supervised_training_leaves(inputs, trained):
    preferences = inputs[2]
    assert {path.name for path in trained.iterdir()} == FILES
    described = read_model(trained / "model.json")
    assert described.chat_template
    assert described.trained_from["settings"] == asdict(SETTINGS)
    assert described.trained_from["preferences"] == {
        "rows": 20,
        "digest": file_digest(preferences),
        "truncated": 0,
        "dropped": 0,
    }
    assert chat_prompt("Write `f`.", tokenizer=AutoTokenizer.from_pretrained(trained)).endswith("### Response\n")
    stats = read_json(trained / "training_stats.json")
    assert (stats["rows"], stats["steps"], stats["processes"]) == (20, 16, 1)
    assert stats["cpu_s"] > 0
    card = (trained / "README.md").read_text()
    assert all(part in card for part in ("20 preferences", "PSF-2.0 20", "objective | dpo", "beta | 0.2"))


def test_its_configuration_is_that_of_supervised_training(tmp_path):
    """Of a base without a token for padding, whose settings of generation are not valid as they stand."""
    base = make_base(tmp_path / "base", generation={"temperature": 0.6})
    tokenizer = base.parent / "tokenizer_config.json"
    write_json(tokenizer, {key: value for key, value in read_json(tokenizer).items() if key != "pad_token"})
    inputs = base, write_pairs(tmp_path / "pairs.jsonl"), write_preferences(tmp_path / "preferences.jsonl")
    settings = TrainSettings(objective="dpo", epochs=1, max_tokens=256)
    dpo, sft = (
        train(inputs, tmp_path / objective, replace(settings, objective=objective)) for objective in ("dpo", "sft")
    )
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        assert read_json(dpo / name) == read_json(sft / name)
    assert read_json(dpo / "generation_config.json")["temperature"] == 0.6


def test_both_responses_are_the_tokens_of_supervised_training(inputs):
    base, _, preferences = inputs
    tokenizer = AutoTokenizer.from_pretrained(base.parent)
    rows = [Preference.load(row, "row") for row in read_jsonl(preferences)]
    both, counts = encode_preferences(rows, tokenizer, system=SYSTEM_PROMPT, max_tokens=256)
    supervised, _ = encode_pairs(map(make_pair, range(20)), tokenizer, system=SYSTEM_PROMPT, max_tokens=256)
    assert [chosen for chosen, _ in both] == supervised
    assert all(rejected.tokens[: rejected.masked] == chosen.tokens[: chosen.masked] for chosen, rejected in both)
    assert counts == {"truncated": 0, "dropped": 0}
    shortest = min(len(chosen.tokens) for chosen, _ in both)
    cut, counts = encode_preferences(rows, tokenizer, system=SYSTEM_PROMPT, max_tokens=shortest - 1)
    assert counts["truncated"] == len(cut) > 0
    assert len(cut) + counts["dropped"] == 20


def test_mixed_weights_are_saved_in_bfloat16_and_the_same_each_time(inputs, tmp_path):
    settings = TrainSettings(
        objective="dpo", learning_rate=3e-3, epochs=1, max_tokens=256, dtype="mixed", optimizer="adamw"
    )
    first, second = (train(inputs, tmp_path / name, settings) for name in ("first", "second"))
    assert AutoModelForCausalLM.from_pretrained(first).dtype == torch.bfloat16
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert (first / "training_log.jsonl").read_bytes() == (second / "training_log.jsonl").read_bytes()


def test_dropout_is_for_the_steps_and_not_for_the_reference(inputs, tmp_path, monkeypatch):
    modes = {"compute_ref_log_probs": set(), "training_step": set()}
    for name, seen in modes.items():
        real = getattr(_Encoded, name)

        def spy(self, model, *arguments, seen=seen, real=real, **options):
            result = real(self, model, *arguments, **options)
            seen.add(model.training)
            return result

        monkeypatch.setattr(_Encoded, name, spy)
    train(inputs, tmp_path / "out", replace(SETTINGS, dropout=0.2, epochs=1))
    assert modes == {"compute_ref_log_probs": {False}, "training_step": {True}}


def rows_without_one(path: Path) -> None:
    rows = list(read_jsonl(path))
    del rows[3]["rejected"]
    write_jsonl(path, rows)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text(""), "nothing to train on, it has no preference pairs; sample more responses"),
        (rows_without_one, "preferences.jsonl, row 4: not a preference"),
        (
            lambda path: write_jsonl(path, [row | {"instruction": "word " * 900} for row in read_jsonl(path)]),
            "none of its 20 pairs fits into max_tokens",
        ),
    ],
    ids=["none", "incomplete", "too long"],
)
def test_bad_input_is_one_clear_error(inputs, tmp_path, spoil, message):
    preferences = write_preferences(tmp_path / "preferences.jsonl")
    spoil(preferences)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        train(inputs, tmp_path / "out", preferences=preferences)
    assert message in str(error.value)


def test_the_objective_needs_its_file(inputs, tmp_path):
    base, pairs, _ = inputs
    with pytest.raises(ValueError, match="the objective dpo needs --preferences"):
        train_model(
            base=base, pairs=pairs, settings=SETTINGS, run_seed=7, label="test", save_steps=5, output=tmp_path / "out"
        )
