"""From a model's text to a solution: the code in the text and what it builds on."""

import ast
import re
from dataclasses import dataclass

from selfalign.benchmarks.tasks import Task
from selfalign.prompts.documents import code_blocks
from selfalign.records.rows import Row

NO_CODE = "no code"
ANY_FENCE = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)
CODE_START = re.compile(r"^(?:def|class|import|from|async def) |^@", re.MULTILINE)
FUTURE = re.compile(r"^from __future__ import [^\n]*\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Answer(Row):
    """One answer of a model to a benchmark task.

    Attributes:
        task: Id of the task.
        k: Sample number, from 0.
        texts: What the model wrote, one for each question of the task.
        finish_reasons: Why each of them ended.
        code: The solution; empty for a dropped row.
        drop: None, or the reason why there is nothing to run. It counts as a failure.
    """

    task: str
    k: int
    texts: list[str]
    finish_reasons: list[str]
    code: str
    drop: str | None


def find_code(text: str, language: str = "python") -> str:
    """Return the code in an answer, "" when there is none.

    Fenced blocks of the language, the last one closed or not; else blocks of an unnamed language; else, of Python, the
    part of the text that starts like code and parses.
    """
    if code := code_blocks(text, language):
        return code
    if blocks := ANY_FENCE.findall(text):
        return "\n".join(block.rstrip() + "\n" for block in blocks)
    start = CODE_START.search(text)
    if not start or language != "python":
        return ""
    lines = text[start.start() :].splitlines()
    for end in range(len(lines), 0, -1):  # prose may follow the code
        code = "\n".join(lines[:end]) + "\n"
        try:
            ast.parse(code)
        except (SyntaxError, ValueError):
            continue
        return code
    return ""


def code_before(prompt: str, entry_point: str) -> str:
    """Return what stands in the code to complete before the function itself: imports and helpers.

    An answer in words may leave them out, and the tests use some of them.
    """
    for node in ast.parse(prompt).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == entry_point:
            return "".join(prompt.splitlines(keepends=True)[: node.lineno - 1])
    return ""


def join_code(task: Task, code: str) -> str:
    """Return the code of an answer with what stands before the function in the code that the task gives."""
    if task.prefix:
        code = f"{code_before(task.prefix, task.entry_point)}\n{code}"
    return put_first("", code)


def put_first(statement: str, code: str) -> str:
    """Return code with a statement before it, and before that its future imports, which may stand nowhere else."""
    return "".join(dict.fromkeys(FUTURE.findall(code))) + statement + FUTURE.sub("", code)


def without_main(code: str) -> str:
    """Return code of which the part under `if __name__ == "__main__"` does not run: as text given to `exec`."""
    return put_first('__name__ = "builtins"\n', code) if "__main__" in code else code
