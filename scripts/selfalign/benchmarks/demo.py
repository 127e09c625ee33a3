"""Held-out list tasks.

Authors: this project (make_demo_base writes the tasks; see resources/demo/README.md).
Licence: Apache-2.0.
Source: resources/demo/benchmark.jsonl.

Functions, classes and programs that combine list operations; no sequence of operation types in it is in the text
that the demo's base model was trained on.
"""

from selfalign.benchmarks.tasks import Task, text


def read_task(fields: dict, benchmark: str) -> Task:
    """Build a task from a row of the file."""
    return Task(
        id=text(fields, "task_id"),
        benchmark=benchmark,
        instruction=text(fields, "instruction"),
        prompt=None,
        entry_point=text(fields, "entry_point"),
        canonical_solution=text(fields, "canonical_solution"),
        tests=text(fields, "tests"),
        category=text(fields, "category"),
        difficulty=text(fields, "difficulty"),
        stop=[],
    )
