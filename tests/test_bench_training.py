"""The benchmark of training: both loops do the same, and its command runs for real on a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from training_files import make_base

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    """Return what the command writes for a tiny model."""
    folder = tmp_path_factory.mktemp("bench")
    make_base(folder / "base")
    settings = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 8, "micro_batch_size": 4, "max_tokens": 256}
    command = [sys.executable, BENCH / "training_speed.py", "--base", folder / "base", "--count", "12", "--rounds", "1"]
    command += ["--settings", json.dumps(settings), "--rows", "2", "--length", "384", "--output", folder / "speed.json"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stderr  # it fails where the two loops differ in a bit of their losses
    return json.loads((folder / "speed.json").read_text())


def test_the_loops_are_compared(results):
    loops = results["loops"]
    assert loops["bare loop"]["cpu_ratio"] == {"median": 1, "min": 1, "max": 1}
    assert 0.2 < loops["ours"]["cpu_ratio"]["median"] < 20  # of steps that take milliseconds
    assert all(
        entry["last_loss"] == pytest.approx(loops["bare loop"]["last_loss"], rel=1e-3) for entry in loops.values()
    )
    assert loops["ours, micro_batch_tokens: 2048"]["padding"] != loops["ours"]["padding"]


def test_kinds_of_loss_agree_and_take_less_memory(results):
    kinds = results["large_vocabulary"]
    assert kinds["responses"]["loss"] == pytest.approx(kinds["full"]["loss"], rel=1e-4)
    assert kinds["fused"]["loss"] == pytest.approx(kinds["full"]["loss"], rel=1e-4)
    memory = {kind: entry["added_memory_mb"]["median"] for kind, entry in kinds.items()}
    assert memory["fused"] < memory["full"]
    assert memory["responses"] < memory["full"]
