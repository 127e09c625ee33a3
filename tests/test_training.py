"""Training: the real command on a tiny model; masks, bits, kills, and what it says about bad input."""

import json
import math
import os
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import END, make_model, make_tokenizer
from tokenizers.processors import TemplateProcessing
from training_files import FILES, command, make_base, make_pair, write_pairs
from transformers import AutoTokenizer

from selfalign.engines.models import read_model, write_model
from selfalign.prompts.chat import SYSTEM_PROMPT, adds_bos, chat_prompt, chat_template
from selfalign.prompts.documents import chat_document
from selfalign.records.files import SideFile, file_digest, read_json, read_jsonl, write_jsonl
from selfalign.records.rows import Pair
from selfalign.records.settings import load_settings
from selfalign.training.checkpoints import load_base, load_tokenizer, write_errors
from selfalign.training.command import train_model
from selfalign.training.examples import IGNORED, batch_order, encode_pairs, micro_batches, positions, share
from selfalign.training.settings import TrainSettings

QUICK = TrainSettings(learning_rate=1e-2, batch_size=6, micro_batch_size=4, epochs=2, max_tokens=256)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Return the model.json of a tiny random base model."""
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


def train(base: Path, pairs: Path, output: Path, settings: TrainSettings = QUICK, run_seed: int = 7) -> Path:
    train_model(base=base, pairs=pairs, settings=settings, run_seed=run_seed, label="test", save_steps=3, output=output)
    return output


@pytest.fixture(scope="module")
def trained(base, pairs, tmp_path_factory) -> Path:
    """Return the folder of one unbroken training."""
    return train(base, pairs, tmp_path_factory.mktemp("trained") / "aligned")


# The chat template

INSTRUCTIONS = [
    "Write `f(x)`.",
    "  spaces around\n",
    "Two\n\nparagraphs, 'quotes' and \"more\", and a back\\slash",
    "{{ not }} {% a %} template {# here #}",
    "### Response\nÄhnlich 漢字 🙂",
]
SYSTEMS = [SYSTEM_PROMPT, 'Say "yes"\nor \\n it\'s no.', "{{ 1 + 1 }} 🙂 Ü"]


def with_bos():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_template_renders_the_training_text(system, instruction):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat_template(system, adds_bos=adds_bos(tokenizer))
    messages = [{"role": "user", "content": instruction}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == chat_document(system, instruction)
    assert chat_prompt(instruction, tokenizer=tokenizer) == text
    assert chat_prompt(instruction, system=system) == text


def test_template_gives_the_training_tokens_where_the_tokenizer_adds_a_first_token():
    tokenizer = with_bos()
    tokenizer.chat_template = chat_template(SYSTEM_PROMPT, adds_bos=adds_bos(tokenizer))
    messages = [{"role": "user", "content": "Write `f(x)`."}]
    tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert tokens[0] == tokenizer.bos_token_id
    assert tokens == tokenizer(chat_document(SYSTEM_PROMPT, "Write `f(x)`.")).input_ids
    assert tokens == tokenizer(chat_prompt("Write `f(x)`.", tokenizer=tokenizer)).input_ids


def test_template_renders_turns_and_a_system_message():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat_template(SYSTEM_PROMPT, adds_bos=False)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
    ]
    first = f"Be brief.\n\n### Instruction\nOne?\n\n### Response\n1{END}"
    rendered = tokenizer.apply_chat_template(messages[:3], tokenize=False)
    assert rendered == first
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == f"{first}\n\n### Instruction\nTwo?\n\n### Response\n"
    assert chat_prompt("One?", tokenizer=tokenizer, system="Be brief.") == chat_document("Be brief.", "One?")
    with pytest.raises(Exception, match="can only come first"):
        tokenizer.apply_chat_template(messages[1:3] + messages[:1], tokenize=False)


# Examples and batches


@pytest.mark.parametrize("make", [make_tokenizer, with_bos])
def test_loss_is_on_the_response_only(make):
    tokenizer = make()
    pair = make_pair(2)
    (example,), counts = encode_pairs([pair], tokenizer, system=SYSTEM_PROMPT, max_tokens=500)
    learned = [label for label in example.labels if label != IGNORED]
    assert tokenizer.decode(learned) == pair.response + END
    assert learned[-1] == tokenizer.eos_token_id
    asked = tokenizer(chat_document(SYSTEM_PROMPT, pair.instruction)).input_ids
    assert example.tokens[: example.masked] == asked
    assert example.labels[: example.masked] == [IGNORED] * len(asked)
    assert counts == {"truncated": 0, "dropped": 0}


def test_long_pairs_are_cut_and_counted():
    tokenizer = make_tokenizer()
    long_prompt = replace(make_pair(0), instruction="word " * 300)
    long_response = replace(make_pair(1), response="word " * 300)
    empty = replace(make_pair(2), response="")
    kept = make_pair(3)
    examples, counts = encode_pairs(
        [long_prompt, long_response, empty, kept], tokenizer, system=SYSTEM_PROMPT, max_tokens=250
    )
    assert counts == {"truncated": 1, "dropped": 2}
    assert len(examples[0].tokens) == 250
    assert tokenizer.eos_token_id not in examples[0].tokens, "a cut response must not teach to stop"
    assert examples[1].tokens[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(("count", "batch_size", "epochs", "sizes"), [(20, 6, 2, [6, 6, 6, 2] * 2), (10, 16, 1, [10])])
def test_every_epoch_has_every_pair_once_in_its_own_order(count, batch_size, epochs, sizes):
    steps = batch_order(count, batch_size=batch_size, epochs=epochs, run_seed=1)
    assert [len(batch) for _, batch in steps] == sizes
    orders = [[row for epoch, batch in steps if epoch == number for row in batch] for number in range(1, epochs + 1)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert len({tuple(order) for order in orders}) == epochs
    assert batch_order(count, batch_size=batch_size, epochs=epochs, run_seed=2) != steps


def test_micro_batches_of_tokens_have_a_bound_and_less_padding():
    examples, _ = encode_pairs(map(make_pair, range(20)), make_tokenizer(), system=SYSTEM_PROMPT, max_tokens=256)
    longest = max(len(example.tokens) for example in examples)
    parts = micro_batches(examples, size=1, tokens=3 * longest)
    assert sorted(len(example.tokens) for part in parts for example in part) == sorted(
        len(example.tokens) for example in examples
    )
    assert all(positions([part]) <= 3 * longest for part in parts)
    assert len(parts) < len(examples) / 2
    assert positions(parts) < positions([examples])
    assert micro_batches(examples, size=1, tokens=1) == micro_batches(examples, size=1)


@pytest.mark.parametrize(("count", "processes"), [(6, 2), (7, 2), (1, 3)])
def test_processes_share_a_step_in_parts_of_equal_number(count, processes):
    examples, _ = encode_pairs(map(make_pair, range(count)), make_tokenizer(), system=SYSTEM_PROMPT, max_tokens=256)
    shares = share(examples, processes, size=1)
    assert len({len(parts) for parts in shares}) == 1
    learnt = [example for parts in shares for part in parts for example in part if example.masked < len(example.tokens)]
    assert sorted(example.tokens for example in learnt) == sorted(example.tokens for example in examples)


def test_micro_batches_hold_neighbouring_lengths():
    examples, _ = encode_pairs(map(make_pair, range(10)), make_tokenizer(), system=SYSTEM_PROMPT, max_tokens=256)
    parts = micro_batches(examples, size=4)
    lengths = [len(example.tokens) for part in parts for example in part]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert lengths == sorted(len(example.tokens) for example in examples)


# The command


def test_training_leaves_a_whole_checkpoint(base, pairs, trained):
    assert {path.name for path in trained.iterdir()} == FILES
    described = read_model(trained / "model.json")
    assert described.folder() == trained
    assert described.chat_template
    assert described.trained_from["base"]["digest"] == read_model(base).digest
    assert described.trained_from["pairs"] == {"rows": 20, "digest": file_digest(pairs), "truncated": 0, "dropped": 0}
    assert described.trained_from["settings"] == asdict(QUICK)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert chat_prompt("Write `f`.", tokenizer=tokenizer) == chat_document(SYSTEM_PROMPT, "Write `f`.")
    before, after = load_file(base.parent / "model.safetensors"), load_file(trained / "model.safetensors")
    assert all(not torch.equal(after[name], before[name]) for name in before)
    card = (trained / "README.md").read_text()
    assert all(part in card for part in ("20 pairs", "PSF-2.0 20", "learning_rate | 0.01", "passed 20"))


def test_log_holds_the_schedule_and_the_mean_loss_of_response_tokens(base, pairs, trained):
    log = list(read_jsonl(trained / "training_log.jsonl"))
    assert [(row["step"], row["epoch"]) for row in log] == [(n, 1 + (n > 4)) for n in range(1, 9)]
    # 8 steps, of which round(0.05 x 8) = 0 warm up; linear to 0
    assert [row["learning_rate"] for row in log] == pytest.approx([1e-2 * (8 - step) / 8 for step in range(8)])
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    tokenizer, model = load_tokenizer(read_model(base)), load_base(read_model(base), QUICK)
    rows = [Pair.load(row) for row in read_jsonl(pairs)]
    examples, _ = encode_pairs(rows, tokenizer, system=SYSTEM_PROMPT, max_tokens=256)
    _, first = batch_order(20, batch_size=6, epochs=2, run_seed=7)[0]
    losses = [  # one pair at a time, by transformers' own loss
        (model(torch.tensor([example.tokens]), labels=torch.tensor([example.labels])).loss.item(), example)
        for example in (examples[index] for index in first)
    ]
    counts = [len(example.tokens) - example.masked for _, example in losses]
    expected = sum(loss * count for (loss, _), count in zip(losses, counts, strict=True)) / sum(counts)
    assert log[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert log[0]["tokens"] == sum(counts)
    stats = read_json(trained / "training_stats.json")
    assert stats["tokens"] == 2 * sum(len(example.tokens) for example in examples)
    assert (stats["stage"], stats["label"], stats["rows"], stats["steps"]) == ("training", "test", 20, 8)
    assert stats["wall_s"] > 0
    assert stats["cpu_s"] > 0


def weights(folder: Path) -> str:
    return file_digest(folder / "model.safetensors")


def test_same_inputs_give_the_same_bits_and_another_seed_does_not(base, pairs, trained, tmp_path):
    again = train(base, pairs, tmp_path / "again")
    assert weights(again) == weights(trained)
    assert read_model(again / "model.json").digest == read_model(trained / "model.json").digest
    assert (again / "training_log.jsonl").read_bytes() == (trained / "training_log.jsonl").read_bytes()
    assert weights(train(base, pairs, tmp_path / "other", run_seed=8)) != weights(trained)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adamw", "schedule": "cosine", "learning_rate": 5e-3},
        {"schedule": "constant", "warmup_ratio": 0.5},
        {"max_grad_norm": 0.1},
        {"dropout": 0.2},
        {"gradient_checkpointing": True},
        {"dtype": "bfloat16"},
        {"dtype": "mixed"},
        {"micro_batch_tokens": 500},
        {"loss": "responses"},
        {"loss": "fused"},
    ],
    ids=str,
)
def test_every_setting_trains(base, pairs, trained, tmp_path, change):
    folder = train(base, pairs, tmp_path / "out", replace(QUICK, **change))
    log = list(read_jsonl(folder / "training_log.jsonl"))
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    assert (weights(folder) == weights(trained)) == (change == {"gradient_checkpointing": True})


def test_micro_batches_change_nothing_but_rounding(base, pairs, trained, tmp_path):
    folder = train(base, pairs, tmp_path / "out", replace(QUICK, micro_batch_size=1))
    first, second = (list(read_jsonl(path / "training_log.jsonl")) for path in (trained, folder))
    assert [row["loss"] for row in second] == pytest.approx([row["loss"] for row in first], rel=1e-3)


@pytest.mark.parametrize(("dropout", "expected"), [(0.0, {0.0}), (0.25, {0.25})])
def test_dropout_reaches_the_layers(tmp_path, dropout, expected):
    model = load_base(read_model(make_base(tmp_path, kind="gpt2")), replace(QUICK, dropout=dropout))
    assert {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)} == expected


@pytest.mark.parametrize(
    ("change", "moment"),
    [({}, ".state/3/0.pt"), ({"dtype": "bfloat16", "dropout": 0.1}, ".state/6/0.pt"), ({}, "../.out.tmp")],
    ids=str,
)
def test_killed_training_goes_on_to_the_same_weights(base, pairs, tmp_path, capfd, change, moment):
    settings = replace(QUICK, epochs=6, **change)
    unbroken, output = train(base, pairs, tmp_path / "unbroken/out", settings), tmp_path / "killed/out"
    process = subprocess.Popen(command(base, pairs, output, asdict(settings)), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (output / moment).exists():
        assert process.poll() is None, f"it ended before {moment} was there"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "model.json").exists()
    capfd.readouterr()
    train(base, pairs, output, settings)
    assert "resuming after" in capfd.readouterr().err
    assert {path.name for path in output.iterdir()} == FILES
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    assert weights(output) == weights(unbroken)
    for name in ("model.json", "README.md", "training_log.jsonl"):
        assert (output / name).read_bytes() == (unbroken / name).read_bytes()


@pytest.mark.parametrize("moment", ["discard", "rmtree"])
def test_training_killed_while_it_tidies_up_goes_on(base, pairs, trained, tmp_path, monkeypatch, moment):
    output, remove = tmp_path / "out", shutil.rmtree

    def killed(path, **options):
        if isinstance(path, SideFile) or path.name == ".state":
            raise KeyboardInterrupt
        remove(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(*((SideFile, "discard") if moment == "discard" else (shutil, "rmtree")), killed)
        with pytest.raises(KeyboardInterrupt):
            train(base, pairs, output)
    assert (output / ".state").exists()
    train(base, pairs, output)
    assert {path.name for path in output.iterdir()} == FILES
    assert weights(output) == weights(trained)


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1}, "unknown setting 'learning_rat'; did you mean learning_rate?"),
        ({"frobnicate": 1}, "unknown setting 'frobnicate'; the settings are objective, "),
        ({"epochs": "3"}, "epochs is '3', which is not a whole number"),
        ({"epochs": True}, "epochs is True, which is not a whole number"),
        ({"epochs": 0}, "epochs is 0"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', which is not one of adafactor, adamw"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio is 1.5"),
        ({"dropout": 1}, "dropout is 1"),
        ({"max_grad_norm": 0}, "max_grad_norm is 0"),
        ({"max_tokens": 3}, "max_tokens is 3"),
        ({"micro_batch_tokens": 0}, "micro_batch_tokens is 0"),
        ({"beta": 0}, "beta is 0"),
        ({"objective": "dpo", "sharding": "full"}, "sharding is 'full'; it has no effect on the objective dpo"),
        ({"objective": "dpo", "dtype": "bfloat16"}, "in which the small steps of the objective dpo are lost"),
        ({"system_prompt": " "}, "system_prompt is empty"),
        ([], "not a JSON object"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=r"^training: ") as error:
        load_settings(TrainSettings, json.dumps(settings), "training")
    assert message in str(error.value)


def test_defaults_are_the_papers():
    settings = load_settings(TrainSettings, "{}", "training")
    paper = {"optimizer": "adafactor", "learning_rate": 1e-5, "schedule": "linear", "warmup_ratio": 0.05}
    paper |= {"batch_size": 64, "max_tokens": 1280, "dropout": 0.0, "max_grad_norm": -1.0}
    assert {name: getattr(settings, name) for name in paper} == paper


def no_pairs(base: Path, pairs: Path) -> None:
    pairs.write_text("")


def torn_pair(base: Path, pairs: Path) -> None:
    pairs.write_text(pairs.read_text()[:-20])


def pair_without_licence(base: Path, pairs: Path) -> None:
    row = make_pair(1).dump()
    del row["licence"]
    write_jsonl(pairs, [make_pair(0).dump(), row])


def all_too_long(base: Path, pairs: Path) -> None:
    write_jsonl(pairs, [replace(make_pair(0), instruction="word " * 1000).dump()])


def no_end_token(base: Path, pairs: Path) -> None:
    path = base.parent / "tokenizer_config.json"
    config = {name: value for name, value in read_json(path).items() if name != "eos_token"}
    path.write_text(json.dumps(config))


def foreign_tokenizer(base: Path, pairs: Path) -> None:
    make_tokenizer(600).save_pretrained(base.parent)


def broken_weights(base: Path, pairs: Path) -> None:
    state = load_file(base.parent / "model.safetensors")
    name = next(iter(state))
    save_file(
        {**state, name: torch.full_like(state[name], math.nan)}, base.parent / "model.safetensors", {"format": "pt"}
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_pairs, "pairs.jsonl: nothing to train on, it has no pairs"),
        (torn_pair, "pairs.jsonl, row 20: not valid JSON"),
        (pair_without_licence, "pairs.jsonl, row 2: not a Pair row"),
        (all_too_long, "none of its 1 pairs fits into max_tokens"),
        (no_end_token, "no end-of-text token"),
        (foreign_tokenizer, "which the model does not have"),
        (broken_weights, "the loss of step 1 is not a number; lower the learning rate (0.01)"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, spoil, message):
    folder, pairs = tmp_path / "base", tmp_path / "pairs.jsonl"
    make_model(folder)
    write_model(folder / "model.json", folder)
    write_jsonl(pairs, (make_pair(number).dump() for number in range(20)))
    spoil(folder / "model.json", pairs)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        train(folder / "model.json", pairs, tmp_path / "out")
    assert message in str(error.value)
    assert not (tmp_path / "out/model.json").exists()


def test_command_prints_an_error_and_no_traceback(base, tmp_path):
    (tmp_path / "pairs.jsonl").write_text("")
    result = subprocess.run(
        command(base, tmp_path / "pairs.jsonl", tmp_path / "out", {}), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'pairs.jsonl'}: nothing to train on")


def test_full_disk_is_an_os_error(tmp_path):
    for write in (
        lambda file: torch.save({"weights": torch.zeros(1 << 20)}, file),
        lambda file: file.write(b"x" * 9999),
    ):
        with (
            pytest.raises(OSError, match="No space left") as error,
            write_errors(tmp_path / "state"),
            open("/dev/full", "wb") as file,
        ):
            write(file)
        assert error.value.errno == 28
