"""Held-out list tasks.

Authors: this project (make_demo_base writes the tasks; see resources/demo/README.md).
Licence: Apache-2.0.
Source: resources/demo/benchmark.jsonl; benchmark-javascript.jsonl has such tasks in JavaScript.

Functions, classes and programs that combine list operations; no sequence of operation types in it is in the text
that the demo's base model was trained on.
"""

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.tasks import Task, single, text
from selfalign.languages import LANGUAGES


class Demo(Benchmark):
    """The demo's own benchmark."""

    def read_tasks(self, fields: dict, benchmark: str) -> list[Task]:
        """Build a task from a row of the file."""
        language = fields.get("language", "python")
        if language not in LANGUAGES:
            raise ValueError(f"language is {language!r}; known are {', '.join(LANGUAGES)}")
        task = Task(
            id=text(fields, "task_id"),
            benchmark=benchmark,
            kind="demo",
            instruction=text(fields, "instruction"),
            entry_point=text(fields, "entry_point"),
            canonical_solution=text(fields, "canonical_solution"),
            groups={"category": text(fields, "category"), "difficulty": text(fields, "difficulty")},
            data={} if language == "python" else {"language": language},
            **single(text(fields, "tests")),
        )
        return [task]
