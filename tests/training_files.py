"""What the tests of training share: a tiny base model, pairs, preferences, and the real command."""

import json
import sys
from pathlib import Path

from conftest import ROOT
from tiny_model import make_model

from selfalign.engines.models import write_model
from selfalign.records.files import read_json, write_json, write_jsonl
from selfalign.records.rows import Pair

FILES = {  # what a training leaves
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training_log.jsonl",
    "training_stats.json",
}
BODIES = ("sorted(xs)", "[x + 1 for x in xs]", "sum(xs)", "xs[::-1]", "[x for x in xs if x % 2 == 0]", "len(set(xs))")


def make_pair(number: int) -> Pair:
    name = f"task_{number}"
    body = BODIES[number % len(BODIES)]
    return Pair(
        id=f"{number:016x}-c0-i0-r0",
        instruction=f"Write `{name}(xs)` that returns {body}" + " for a list of numbers" * (number % 3),
        response=f"```python\ndef {name}(xs):\n    return {body}\n```",
        tests=f"```python\nassert {name}([]) is not None\n```",
        category="function",
        difficulty="easy",
        concepts=["lists"],
        instruction_id=f"{number:016x}-c0-i0",
        concepts_id=f"{number:016x}-c0",
        seed_id=f"{number:016x}",
        verdict="passed",
        pass_rate=0.5,
        samples=2,
        package="stdlib",
        path="bisect.py",
        line=1,
        licence="PSF-2.0",
    )


def make_base(folder: Path, *, generation: dict | None = None, **options) -> Path:
    """Write a tiny random base model, with these entries in its generation_config.json; return its model.json."""
    make_model(folder, **{"initializer_range": 0.02, **options})
    settings = folder / "generation_config.json"
    write_json(settings, read_json(settings) | (generation or {}))
    write_model(folder / "model.json", folder)
    return folder / "model.json"


def write_pairs(path: Path, count: int = 20) -> Path:
    """Write pairs; return their file."""
    write_jsonl(path, (make_pair(number).dump() for number in range(count)))
    return path


def write_preferences(path: Path, count: int = 20) -> Path:
    """Write preferences for the instructions of the pairs; return their file."""
    pairs = map(make_pair, range(count))
    write_jsonl(
        path,
        (
            {
                "instruction_id": pair.instruction_id,
                "instruction": pair.instruction,
                "chosen": pair.response,
                "rejected": pair.response.replace("return ", "return not "),
                "chosen_id": pair.id,
                "rejected_id": f"{pair.instruction_id}-r1",
            }
            for pair in pairs
        ),
    )
    return path


def command(base: Path, pairs: Path, output: Path, settings: dict, *options: object, launcher: tuple = ()) -> list[str]:
    """Return the command line of a training; `launcher` stands in the place of the interpreter."""
    script = [ROOT / "scripts/train_model.py", "--base", base, "--pairs", pairs, "--settings", json.dumps(settings)]
    rest = ["--run-seed", 7, "--save-steps", 3, "--output", output, *options]
    return [str(part) for part in [*(launcher or [sys.executable]), *script, *rest]]
