"""The benchmark of the engines' overhead: its command for real, with few and short responses."""

import subprocess
import sys
from pathlib import Path

from selfalign.records.files import read_json

BENCH = Path(__file__).parent.parent / "bench/engine_overhead.py"


def run(output: Path, *options: str) -> subprocess.CompletedProcess:
    """Run the benchmark with the transformers engine."""
    small = ["--engine", "transformers", "--instructions", "5", "--samples", "2", "--max-tokens", "12"]
    line = [sys.executable, BENCH, *small, *options, "--output", output]
    return subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)


def test_the_command_compares_the_same_work(tmp_path):
    result = run(tmp_path / "results.json", "--rounds", "2", "--target", "100")
    assert result.returncode == 0, result.stderr
    found = read_json(tmp_path / "results.json")
    assert (found["responses"], found["rounds"], found["n_ratio"]) == (10, 2, None)
    assert set(found["ways"]) == {"workflow", "bare"}
    assert found["same_texts"]["min"] == 1, "both ways do the same"
    for way in found["ways"].values():
        assert 0 < way["tokens"]["min"] <= way["tokens"]["max"] <= 10 * 12
        assert 0 < way["prefix_hits"]["min"] < 1
        assert way["tokens"] == found["ways"]["bare"]["tokens"]
    assert found["loading"]["workflow"]["cpu_s"] > 0
    assert f"workflow / bare: CPU {found['ratio']['cpu']['median']:.3f}" in result.stdout


def test_it_fails_above_its_target_and_on_too_many_instructions(tmp_path):
    result = run(tmp_path / "results.json", "--rounds", "1", "--target", "0.001")
    assert (result.returncode, "| workflow |" in result.stdout) == (1, True)
    result = run(tmp_path / "results.json", "--instructions", "1000")
    assert (result.returncode, result.stderr.startswith("error: --instructions is 1000")) == (1, True)
