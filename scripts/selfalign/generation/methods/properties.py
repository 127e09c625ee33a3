"""Category and difficulty of an instruction, drawn by the run's seed and the row's id."""

import itertools
import json
from collections.abc import Mapping

from selfalign.prompts.documents import CATEGORIES, DIFFICULTIES
from selfalign.records.commands import derive_seed

ANY = "any"  # category and difficulty where a method asks for none


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


def draw_properties(row_id: str, weights: Mapping[str, float], run_seed: int) -> tuple[str, str]:
    """Draw category (by weight) and difficulty (uniformly) from the run's seed and the row's id."""
    mark = derive_seed(run_seed, "category", row_id) / 2**48 * sum(weights.values())
    reached = itertools.accumulate(weights.values())
    category = next(name for name, upto in zip(weights, reached, strict=True) if mark < upto)
    return category, DIFFICULTIES[derive_seed(run_seed, "difficulty", row_id) % len(DIFFICULTIES)]
