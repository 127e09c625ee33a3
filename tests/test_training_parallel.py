"""Training with several processes, and every kind of training killed: the same losses, whatever happened on the way."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from training_files import command, make_base, write_pairs, write_preferences

from selfalign.records.files import read_json, read_jsonl
from selfalign.training.command import train_model
from selfalign.training.launching import processes_for, use_first_gpu
from selfalign.training.settings import TrainSettings

QUICK = {"learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 2, "epochs": 3, "max_tokens": 256}
DPO = {"objective": "dpo", "micro_batch_size": 2}
RUNS = {
    # name: processes, settings, largest relative difference to the losses of one process that shards nothing
    "copies": (2, {}, 1e-4),
    "sharded": (2, {"sharding": "full", "gradient_checkpointing": True, "max_grad_norm": 1.0, "loss": "fused"}, 1e-4),
    "sharded, mixed": (
        2,
        {"sharding": "full", "dtype": "mixed", "optimizer": "adamw", "loss": "responses", "micro_batch_tokens": 700},
        2e-2,  # bfloat16 has 8 bits
    ),
    "preferences": (1, DPO, 0),
    "preferences, copies": (2, DPO, 1e-4),
}
KILLED = ("copies", "sharded", "preferences")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Return the files of a base model, of pairs, whose last step has one row for two processes, and of preferences."""
    folder = tmp_path_factory.mktemp("inputs")
    base = make_base(folder / "base", generation={"temperature": 0.6}, tie_word_embeddings=True)
    return base, write_pairs(folder / "pairs.jsonl", 17), write_preferences(folder / "preferences.jsonl")


@pytest.fixture(scope="module")
def start(inputs) -> Callable[..., subprocess.Popen]:
    """Return a function that starts a training of a given name, in a process group of its own."""
    base, pairs, preferences = inputs

    def run(
        name: str, output: Path, *, processes: int | None = None, launcher: tuple = (), **changes
    ) -> subprocess.Popen:
        count, settings, _ = RUNS[name]
        options = [] if launcher else ["--processes", count]
        line = command(
            base, pairs, output, QUICK | settings | changes, "--preferences", preferences, *options, launcher=launcher
        )
        return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)

    return run


def finish(process: subprocess.Popen) -> str:
    """Wait for a training that has to succeed; return what it printed."""
    printed = process.communicate()[1]
    assert process.returncode == 0, printed
    return printed


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a training of a given name, run once."""
    done = {}

    def get(name: str) -> Path:
        if name not in done:
            done[name] = tmp_path_factory.mktemp("unbroken") / "out"
            finish(start(name, done[name]))
        return done[name]

    return get


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_jsonl(folder / "training_log.jsonl")]


@pytest.mark.parametrize("name", [name for name, (processes, *_) in RUNS.items() if processes > 1])
def test_processes_train_as_one_does(inputs, unbroken, tmp_path, name):
    several, (count, settings, tolerance) = unbroken(name), RUNS[name]
    if "objective" in settings:
        one = unbroken("preferences")
    else:
        one, (base, pairs, _) = tmp_path / "one", inputs
        alone = TrainSettings(**QUICK | settings | {"sharding": "none"})
        train_model(base=base, pairs=pairs, settings=alone, run_seed=7, label="one", save_steps=9, output=one)
    assert len(losses(several)) == 15
    assert losses(several)[-1] < 0.95 * losses(several)[0]
    assert losses(several) == pytest.approx(losses(one), rel=tolerance)
    first, second = (load_file(folder / "model.safetensors") for folder in (one, several))
    assert {key: (value.shape, value.dtype) for key, value in first.items()} == {
        key: (value.shape, value.dtype) for key, value in second.items()
    }
    assert {path.name for path in several.iterdir()} == {path.name for path in one.iterdir()}
    dtype = "bfloat16" if settings.get("dtype") == "mixed" else "float32"
    assert read_json(several / "config.json")["dtype"] == read_json(one / "config.json")["dtype"] == dtype
    assert read_json(several / "generation_config.json") == read_json(one / "generation_config.json")
    assert read_json(several / "generation_config.json")["temperature"] == 0.6
    assert read_json(several / "training_stats.json")["processes"] == count


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_training_ends_with_the_same_losses_and_weights(start, unbroken, tmp_path, name):
    whole, output = unbroken(name), tmp_path / "out"
    process, saved = start(name, output), output / ".training_log.jsonl.partial"
    states = random.Random(os.getpid()).randrange(1, 4)  # after so many saved states
    print(f"to be killed after {states} saved states")
    deadline = time.monotonic() + 300
    while not saved.exists() or saved.read_bytes().count(b"\n") <= states:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (output / "model.json").exists()
    assert "resuming after" in finish(start(name, output))
    assert (output / "training_log.jsonl").read_bytes() == (whole / "training_log.jsonl").read_bytes()
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert {path.name for path in output.iterdir()} == {path.name for path in whole.iterdir()}


def test_processes_end_with_their_launcher(start, tmp_path):
    process, saved = start("copies", tmp_path / "out", epochs=1000), tmp_path / "out/.training_log.jsonl.partial"
    while not saved.exists() or saved.read_bytes().count(b"\n") <= 1:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.kill()  # the launcher alone
    process.communicate(timeout=60)  # ends when nobody holds the pipe
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_an_error_of_all_processes_is_told_once(start, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    process = start("copies", tmp_path / "out", max_tokens=16)
    printed = process.communicate()[1]
    assert process.returncode == 1
    assert printed.count("error:") == 1
    assert "none of its 17 pairs fits into max_tokens" in printed
    assert "Traceback" not in printed
    assert not list((tmp_path / "temporary").iterdir())  # nor is anything left there


def test_one_process_cannot_shard(inputs, tmp_path):
    base, pairs, _ = inputs
    settings = TrainSettings(sharding="full")
    with pytest.raises(ValueError, match="sharding is 'full', and there is one process to train with"):
        train_model(base=base, pairs=pairs, settings=settings, run_seed=7, label="one", save_steps=9, output=tmp_path)


def test_a_job_with_gpus_on_a_machine_without_any_trains_in_one_process(monkeypatch, capsys):
    assert processes_for(1) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert processes_for(8) == 1
    assert "no GPU is visible here (the job has gpu=8): one CPU process trains" in capsys.readouterr().err


@pytest.mark.parametrize(("before", "after"), [(None, "0"), ("2,3", "2"), ("GPU-8f,GPU-9a", "GPU-8f"), ("", "")])
def test_one_process_sees_one_gpu(monkeypatch, before, after):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before or "")
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    use_first_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == after


def test_fewer_gpus_than_the_job_has_are_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert processes_for(4) == 4
    with pytest.raises(ValueError, match="the job has gpu=8, and 4 are visible to it"):
        processes_for(8)


def test_accelerates_own_launcher_serves_as_well(start, unbroken, tmp_path):
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2")
    launcher += ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
    finish(start("copies", tmp_path / "out", launcher=launcher))
    assert losses(tmp_path / "out") == pytest.approx(losses(unbroken("copies")), rel=1e-6)
