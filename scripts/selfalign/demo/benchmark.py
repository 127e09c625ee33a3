"""The held-out benchmark of the demo domain: operation sequences that no pretraining text contains."""

import random

from selfalign.demo import javascript
from selfalign.demo.evaluate import bug_is_shown
from selfalign.demo.tasks import Task, choose_forms, choose_inputs, code_of, instruction_of, sample_task
from selfalign.prompts.documents import CATEGORIES

DIFFICULTIES = ("medium", "hard")  # a task of one operation is never held out
SHARES = {"function": 4, "class": 2, "program": 2}  # tasks in every eight
INPUTS = 6


def test_inputs(task: Task, rng: random.Random) -> list[list[int]] | None:
    """Return inputs that show every typical bug of the task, with edge cases; None if some bug can't be shown."""
    long = [rng.randrange(10) for _ in range(6)]
    inputs = [*choose_inputs(rng, task, INPUTS, candidates=60), [], [rng.randrange(10)], [*long, long[0], long[3]]]
    unique = list(dict.fromkeys(map(tuple, inputs)))
    inputs = [list(xs) for xs in unique]
    return inputs if bug_is_shown(task, inputs) else None


def _in_python(task: Task, inputs: list[list[int]]) -> dict:
    forms, style, _ = choose_forms(task, None, bugs=False)
    return {
        "instruction": instruction_of(task),
        "entry_point": task.entry,
        "canonical_solution": code_of(task, forms, style),
        "tests": "\n".join(f"assert {task.call(xs)} == {task.trace(xs)[-1]}" for xs in inputs),
    }


def _in_javascript(task: Task, inputs: list[list[int]]) -> dict:
    lines = javascript.tests_of(task, inputs).splitlines()
    return {
        "language": "javascript",
        "instruction": javascript.instruction_of(task),
        "entry_point": javascript.entry_of(task),
        "canonical_solution": javascript.code_of(task, *javascript.choose_forms(task, None, bugs=False)),
        "tests": "\n".join(line for line in lines if not line.startswith("//")),  # which say how to solve it
    }


WRITERS = {"python": _in_python, "javascript": _in_javascript}


def benchmark_rows(seed: int, count: int, language: str = "python") -> list[dict]:
    """Return the tasks of the benchmark, each solved by its canonical solution and closed to every typical bug."""
    name = "" if language == "python" else f"-{language}"
    rng = random.Random(f"benchmark{name} {seed}")
    rows: list[dict] = []
    seen: set[tuple] = set()
    order = [category for category in CATEGORIES for _ in range(SHARES[category])]
    while len(rows) < count:
        number = len(rows)
        category = order[number % len(order)]
        difficulty = DIFFICULTIES[number // len(order) % 2]
        task = sample_task(rng, category, difficulty, held_out=True)
        operations = tuple(operation.name for operation in task.operations)
        inputs = test_inputs(task, rng)
        if operations in seen or inputs is None:
            continue
        seen.add(operations)
        rows.append(
            {
                "task_id": f"demo{name}/{number:03}",
                "category": task.category,
                "difficulty": task.difficulty,
                "operations": list(operations),
                **WRITERS[language](task, inputs),
            }
        )
    return rows
