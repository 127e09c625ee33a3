"""LiveCodeBench, code generation: contest problems, each with the date on which it was published.

Authors: Naman Jain and others: LiveCodeBench: Holistic and Contamination Free Evaluation of Large Language Models for
Code, arXiv 2403.07974 (2024).
Licence: CC (the dataset's card names no version); problems are those of LeetCode, AtCoder and Codeforces.
Source: hub dataset livecodebench/code_generation_lite, files test.jsonl, test2.jsonl, ...; that without "_lite" has the
same columns and all tests.

Some problems ask for a method of a class `Solution` and are called, others read standard input. A solution has to give
the right output for every public and hidden test, within 6 seconds for each: wall time there, CPU time here. As there,
the modules that contestants take for granted are imported beforehand, a tuple is as good as a list, and lines of
printed numbers are compared as decimals. There are no reference solutions, so the time limit is not adjusted to the
machine. Models are asked in our own wording, those that go on with text without the authors' worked example.
"""

import base64
import io
import json
import pickle
import zlib
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import ClassVar

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.downloads import Source
from selfalign.benchmarks.files import read_json_lines
from selfalign.benchmarks.outputs import Known, output_tests
from selfalign.benchmarks.tasks import Check, Task, text
from selfalign.benchmarks.values import encode

TEST_S = 6.0
MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json"),
)
HEADER = "".join(f"from {name} import *\n" for name in (*MODULES, "builtins", "typing")) + "".join(
    f"import {name}\n" for name in MODULES
)
HEADER += "sys.setrecursionlimit(50_000)\n"
STOP = ["\n```", "\n### "]


class _TextOnly(pickle.Unpickler):
    """Hidden tests are a pickled text; a pickle with anything else could run code."""

    def find_class(self, module: str, name: str):
        raise pickle.UnpicklingError(f"{module}.{name} in a pickle that should hold a text")


def read_tests(value: str) -> list[dict]:
    """Return tests ({input, output, testtype}) from JSON, plain or as the lite version packs it.

    Raises:
        ValueError: it is neither.
    """
    try:
        return json.loads(value)
    except ValueError:
        pass
    try:
        return json.loads(_TextOnly(io.BytesIO(zlib.decompress(base64.b64decode(value)))).load())
    except (ValueError, TypeError, EOFError, zlib.error, pickle.UnpicklingError) as error:
        raise ValueError(f"the hidden tests cannot be read ({error})") from error


class LiveCodeBench(Benchmark):
    """Problems of a window of dates."""

    source = Source(hub="livecodebench/code_generation_lite", files=("test*.jsonl",))
    options: ClassVar = {"start_date": None, "end_date": None}

    def rows(self, path: Path) -> Iterator[tuple[str, dict]]:
        """Yield the problems of a file, or of all files of a folder."""
        for file in sorted(path.glob("*.jsonl*")) if path.is_dir() else [path]:
            for number, fields in read_json_lines(file):
                yield f"{file.name}, row {number}", fields

    def read_tasks(self, fields: dict, benchmark: str, **options: object) -> list[Task]:
        """Build a task from a problem in the window, both of whose ends belong to it."""
        published = text(fields, "contest_date")[:10]
        window = {name: date.fromisoformat(str(options[name])) for name in options if options[name] is not None}
        day = date.fromisoformat(published)
        if not window.get("start_date", day) <= day <= window.get("end_date", day):
            return []
        tests = read_tests(fields["public_test_cases"]) + read_tests(fields["private_test_cases"])
        name = json.loads(fields["metadata"]).get("func_name")
        content, starter = text(fields, "question_content").strip(), fields["starter_code"].rstrip()
        if name is None:
            driver, wanted = "script", "Read from standard input and print the answer."
            inputs, expected = [test["input"] for test in tests], [test["output"] for test in tests]
        else:
            driver = "call"
            wanted = f"Complete this class and keep its method's name:\n\n```python\n{starter}\n```"
            inputs = [[encode(json.loads(line)) for line in test["input"].split("\n")] for test in tests]
            expected = [encode(json.loads(test["output"])) for test in tests]
        instruction = f"Solve this programming problem in Python.\n\n{content}\n\n{wanted}"
        check = Check(
            driver=driver,
            inputs=inputs,
            expected=expected,
            whole=True,
            input_s=TEST_S,
            cpu_s=TEST_S * (len(tests) + 1),
        )
        return [
            Task(
                id=text(fields, "question_id"),
                benchmark=benchmark,
                kind="livecodebench",
                instruction=instruction,
                prompt=f"### Problem\n{content}\n\n{wanted}\n\n### Solution\n```python\n",
                entry_point=name or "",
                groups={
                    "difficulty": text(fields, "difficulty"),
                    "platform": text(fields, "platform"),
                    "month": published[:7],
                },
                stop=STOP,
                checks=[check],
                metrics={"pass": [["tests"]]},
            )
        ]

    def build_program(self, task: Task, check: Check, code: str, known: Known) -> tuple[str, str]:
        """Return the solution behind the imports; a method is called on one object for all tests."""
        code = f"{HEADER}\n{code}"
        if check.driver == "script":
            return "", output_tests(check, known, target=repr(code))
        target = f"Solution().{task.entry_point}" if "class Solution" in code else task.entry_point
        return code, output_tests(check, known, target=target)

    def is_right(self, task: Task, arguments: Sequence, found: object, expected: object, before: Sequence) -> bool:
        """Compare as the authors do."""
        if not task.entry_point:
            return isinstance(found, str) and same_text(found, expected)
        return (list(found) if isinstance(found, tuple) else found) == expected


def same_text(found: str, expected: str) -> bool:
    """Return whether printed texts are the same but for spaces around lines and the spelling of numbers."""
    lines = [[line.strip() for line in one.strip().split("\n")] for one in (found, expected)]
    if len(lines[0]) != len(lines[1]):
        return False
    try:
        return all(
            one == other or [Decimal(part) for part in one.split()] == [Decimal(part) for part in other.split()]
            for one, other in zip(*lines, strict=True)
        )
    except InvalidOperation:
        return False
