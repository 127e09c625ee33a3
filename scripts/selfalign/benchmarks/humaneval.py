"""HumanEval: 164 hand-written Python functions with tests.

Authors: Mark Chen and others, OpenAI: Evaluating Large Language Models Trained on Code, arXiv 2107.03374 (2021).
Licence: MIT.
Source: HumanEval.jsonl.gz of github.com/openai/human-eval.

A task is code to complete. Asked by chat, the code stands in an instruction of our own wording.
"""

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.downloads import Source
from selfalign.benchmarks.tasks import Task, single, text

STOP = ["\nclass ", "\ndef ", "\n#", "\nif ", "\nprint("]  # those of the paper's section 2.1: the function is over


def completion_instruction(prompt: str, entry_point: str) -> str:
    """Return the instruction that asks for a function whose beginning is given."""
    return (
        f"Complete the Python function `{entry_point}`. Write out the whole function and the imports that it needs."
        f"\n\n```python\n{prompt.strip()}\n```"
    )


class HumanEval(Benchmark):
    """The original's tests; evalplus has more."""

    as_main = False
    source = Source(url="https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz")

    def read_tasks(self, fields: dict, benchmark: str) -> list[Task]:
        """Build a task from a row of the file."""
        prompt, entry_point = text(fields, "prompt"), text(fields, "entry_point")
        task = Task(
            id=text(fields, "task_id"),
            benchmark=benchmark,
            kind="humaneval",
            instruction=completion_instruction(prompt, entry_point),
            prompt=prompt,
            prefix=prompt,
            entry_point=entry_point,
            canonical_solution=prompt + text(fields, "canonical_solution"),
            groups={"category": "function"},
            stop=STOP,
            **single(f"{text(fields, 'test').strip()}\n\ncheck({entry_point})\n"),
        )
        return [task]
