"""HumanEval: 164 hand-written Python functions with tests.

Authors: Mark Chen and others, OpenAI: Evaluating Large Language Models Trained on Code, arXiv 2107.03374 (2021).
Licence: MIT.
Source: HumanEval.jsonl.gz of github.com/openai/human-eval.

A task is code to complete. Asked by chat, the code stands in an instruction of our own wording.
"""

from selfalign.benchmarks.tasks import Task, text

STOP = ["\nclass ", "\ndef ", "\n#", "\nif ", "\nprint("]  # those of the paper's section 2.1: the function is over


def read_task(fields: dict, benchmark: str) -> Task:
    """Build a task from a row of the file."""
    prompt, entry_point = text(fields, "prompt"), text(fields, "entry_point")
    return Task(
        id=text(fields, "task_id"),
        benchmark=benchmark,
        instruction=(
            f"Complete the Python function `{entry_point}`. Write out the whole function and the imports that it "
            f"needs.\n\n```python\n{prompt.strip()}\n```"
        ),
        prompt=prompt,
        entry_point=entry_point,
        canonical_solution=prompt + text(fields, "canonical_solution"),
        tests=f"{text(fields, 'test').strip()}\n\ncheck({entry_point})\n",
        category="function",
        difficulty=None,
        stop=STOP,
    )
