"""Concepts, a category and a difficulty to an instruction (second step of the paper's section 2.1)."""

import itertools
import json
from functools import partial
from pathlib import Path

from selfalign.generation.stages import Job, Settings, run_stage
from selfalign.prompts.documents import CATEGORIES, DIFFICULTIES, instruction_example, parse_instruction
from selfalign.records.commands import derive_seed
from selfalign.records.files import file_digest, read_jsonl
from selfalign.records.rows import Concepts, Instruction, load_rows


def generate_instructions(concepts: Path, category_weights: dict[str, float], settings: Settings) -> None:
    """Write the instructions of one shard's concepts; every instruction draws its own category and difficulty.

    Args:
        concepts: JSON lines of `Concepts` rows; dropped ones go no further.
        category_weights: Category to weight, from `load_weights`.
        settings: Options shared by the stages.
    """
    jobs = []
    for row in load_rows(Concepts, read_jsonl(concepts), str(concepts)):
        if row.drop:
            continue
        jobs += [instruction_job(row, k, category_weights, settings.run_seed) for k in range(settings.samples)]
    run_stage("instructions", "instruction", jobs, [file_digest(concepts), category_weights], settings)


def instruction_job(row: Concepts, number: int, category_weights: dict[str, float], run_seed: int) -> Job:
    """Return the job that asks for one instruction from concepts, by the sample's number."""
    row_id = f"{row.id}-i{number}"
    category, difficulty = draw_properties(row_id, category_weights, run_seed)
    return Job(
        parent=row.id,
        ids=[row_id],
        example=instruction_example(category, difficulty, tuple(row.concepts)),
        make=partial(_make, category, difficulty, row.concepts),
    )


def _make(category: str, difficulty: str, concepts: list[str], common: dict, text: str, drop: str | None):
    instruction, malformed = parse_instruction(text)
    return Instruction(
        **common,
        category=category,
        difficulty=difficulty,
        concepts=concepts,
        instruction=instruction,
        drop=drop or malformed,
    )


def load_weights(text: str) -> dict[str, float]:
    """Read category weights from JSON, in the order of `CATEGORIES`.

    Raises:
        ValueError: not JSON, an unknown category, or weights that are no weights.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--category-weights: not JSON ({error}): {text}") from error
    known = ", ".join(CATEGORIES)
    if not isinstance(data, dict) or not set(data) <= set(CATEGORIES):
        raise ValueError(f"--category-weights: expected an object with the categories {known}; found {text}")
    numbers = [value for value in data.values() if type(value) in (int, float) and value >= 0]
    if len(numbers) < len(data) or not sum(numbers) > 0:
        raise ValueError(f"--category-weights: weights must be at least 0 and not all 0; found {text}")
    return {category: data[category] for category in CATEGORIES if category in data}


def draw_properties(row_id: str, weights: dict[str, float], run_seed: int) -> tuple[str, str]:
    """Draw category (by weight) and difficulty (uniformly) from the run's seed and the row's id."""
    mark = derive_seed(run_seed, "category", row_id) / 2**48 * sum(weights.values())
    reached = itertools.accumulate(weights.values())
    category = next(name for name, upto in zip(weights, reached, strict=True) if mark < upto)
    return category, DIFFICULTIES[derive_seed(run_seed, "difficulty", row_id) % len(DIFFICULTIES)]
