"""Runs of generate_responses on the demo model, for tests: whole, in shards, and killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from selfalign.generation import stages
from selfalign.generation.responses import generate_responses
from selfalign.records.files import read_jsonl, write_jsonl
from selfalign.records.rows import Instruction

ROOT = Path(__file__).parent.parent
PROMPTS = ROOT / "resources/prompts/demo.yaml"


def instructions(count: int) -> list[dict]:
    """Return instruction rows with tasks of the demo's benchmark."""
    tasks = list(read_jsonl(ROOT / "resources/demo/benchmark.jsonl"))[:count]
    return [
        Instruction(
            id=f"{number:016x}-c0-i0",
            parent=f"{number:016x}-c0",
            shots=[],
            seed=1,
            finish_reason="stop",
            category="function",
            difficulty="easy",
            concepts=["lists"],
            instruction=task["instruction"],
            drop=None,
        ).dump()
        for number, task in enumerate(tasks)
    ]


def options(model: Path, engine: str, folder: Path, max_tokens: int) -> dict:
    """Return the options of a run whose output is in a folder."""
    return {
        "model": model,
        "engine": engine,
        "prompts": PROMPTS,
        "shots": 1,
        "shot_sets": 2,
        "temperature": 0.7,
        "max_tokens": max_tokens,
        "samples": 2,
        "run_seed": 3407,
        "label": "responses test/00000",
        "output": folder / "rows.jsonl",
        "stats": folder / "rows.json",
    }


def run_shards(engine, count: int, folder: Path, model: Path, monkeypatch, max_tokens: int = 60) -> dict[int, dict]:
    """Run 1, 2 and 7 shards of the same instructions with an open engine; return the rows of each by id."""
    monkeypatch.setattr("selfalign.generation.stages.open_engine", lambda *_: engine)
    rows = {}
    for shards in (1, 2, 7):
        rows[shards] = {}
        for shard in range(shards):
            write_jsonl(folder / "part.jsonl", instructions(count)[shard::shards])
            settings = stages.Settings(top_p=1.0, **options(model, "{}", folder, max_tokens))
            generate_responses(folder / "part.jsonl", settings)
            rows[shards] |= {row["id"]: row for row in read_jsonl(folder / "rows.jsonl")}
        assert len(rows[shards]) == 2 * count
    return rows


def same(rows: dict, others: dict) -> float:
    """Return which share of rows is the same in both."""
    assert rows.keys() == others.keys()
    return sum(others[key] == row for key, row in rows.items()) / len(rows)


def command(model: Path, engine: str, folder: Path, count: int, max_tokens: int = 60) -> list[str]:
    """Return the command line of a run, and write its input."""
    write_jsonl(folder / "instructions.jsonl", instructions(count))
    named = {"instructions": folder / "instructions.jsonl", **options(model, engine, folder, max_tokens)}
    line = [str(part) for name, value in named.items() for part in (f"--{name.replace('_', '-')}", value)]
    return [sys.executable, str(ROOT / "scripts/generate_responses.py"), *line]


def kill_after(line: list[str], rows: int, partial: Path, look: Callable[[int], None] = lambda pid: None) -> int:
    """Start a command, kill -9 it (and nothing else) after some rows; return how many were stored.

    Args:
        look: Called with the process id before the kill.
    """
    log = partial.with_name("killed.log")
    with open(log, "wb") as file:
        process = subprocess.Popen(line, stdout=file, stderr=file)
    while not partial.exists() or partial.read_bytes().count(b"\n") <= rows:
        assert process.poll() is None, f"it ended before it could be killed: {log.read_text()}"
        time.sleep(0.02)
    look(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    log.unlink()
    return partial.read_bytes().count(b"\n") - 1
