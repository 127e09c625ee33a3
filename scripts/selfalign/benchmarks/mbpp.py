"""MBPP: 974 short Python tasks, each a sentence and three assertions.

Authors: Jacob Austin, Augustus Odena, Maxwell Nye and others, Google Research: Program Synthesis with Large Language
Models, arXiv 2108.07732 (2021).
Licence: CC-BY-4.0.
Source: mbpp.jsonl of github.com/google-research/google-research.

The split `test` (tasks 11 to 510) is what the authors report. A model sees the sentence and all three assertions, as
theirs did. They show three solved tasks of the split `prompt` before it; here a model that goes on with code gets the
sentence and the assertions as a docstring and nothing else, and prompt: few-shot gives worked examples of our own.
"""

import ast
from typing import ClassVar

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.downloads import Source
from selfalign.benchmarks.tasks import Task, single, text

SPLITS = {"prompt": (1, 10), "test": (11, 510), "validation": (511, 600), "train": (601, 974)}  # their section 2.1
STOP = ['\n"""', "\nassert", "\nif __name__", "\ndef main(", "\nprint("]  # those of evalplus 0.3.1: the task is over


def test_instruction(sentence: str, tests: str) -> str:
    """Return the instruction that asks for a function by a sentence and assertions."""
    return f"{sentence.strip()}\n\nThe Python code has to pass:\n\n```python\n{tests.strip()}\n```"


def called_function(tests: str, solution: str) -> str:
    """Return the name of the function of a solution that tests call first.

    Raises:
        ValueError: they call none.
    """
    defined = {node.name for node in ast.parse(solution).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    calls = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Call)]
    for node in calls:
        if isinstance(node.func, ast.Name) and node.func.id in defined:
            return node.func.id
    raise ValueError("its tests call no function of its solution; fetch the file again")


class Mbpp(Benchmark):
    """The original's tests; evalplus has more, of fewer tasks.

    Options:
        split: test, train, validation, prompt or all.
    """

    source = Source(url="https://github.com/google-research/google-research/raw/master/mbpp/mbpp.jsonl")
    options: ClassVar = {"split": "test"}
    as_main = False

    def read_tasks(self, fields: dict, benchmark: str, *, split: str) -> list[Task]:
        """Build a task from a row of the file; none for one of another split."""
        if split != "all" and split not in SPLITS:
            raise ValueError(f"no split {split!r}; there are all, {', '.join(SPLITS)}")
        number = int(fields["task_id"])
        if split != "all" and not SPLITS[split][0] <= number <= SPLITS[split][1]:
            return []
        sentence, solution = text(fields, "text"), text(fields, "code")
        tests = "\n".join(test.strip() for test in fields["test_list"])
        prompt = f'"""\n{sentence.strip()}\n{tests}\n"""\n'
        task = Task(
            id=f"Mbpp/{number}",
            benchmark=benchmark,
            kind="mbpp",
            instruction=test_instruction(sentence, tests),
            prompt=prompt,
            prefix=prompt,
            entry_point=called_function(tests, solution),
            canonical_solution=solution,
            stop=STOP,
            **single(f"{fields['test_setup_code']}\n{tests}\n"),
        )
        return [task]
