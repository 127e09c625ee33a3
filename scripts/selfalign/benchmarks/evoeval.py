"""EvoEval: problems that a language model evolved from those of HumanEval.

Authors: Chunqiu Steven Xia, Yinlin Deng, Lingming Zhang: Top Leaderboard Ranking = Top Coding Proficiency, Always?
EvoEval: Evolving Coding Benchmarks via LLM, arXiv 2403.19114 (2024).
Licence: Apache-2.0.
Source: EvoEval_{subset}.jsonl.gz v0.1.0 of github.com/evo-eval/evoeval_release. Subsets: difficult, creative, subtle,
combine, tool_use; 100 problems each. An entry of the config is one subset.

What is right is decided as in evoeval/eval_test: values have to be of the same type, lists of floats are near enough
within 1e-6 + 1e-5 of their size, and six problems have several right outputs. But for these:
- A limit is CPU seconds where theirs is wall seconds: 1 s for an input, or four times what the reference needs.
- Numbers and lists of floats are compared one by one. There numpy stretches the shorter one, so that an empty list is
  as right as a list of any one float.
- numpy's numbers come back as plain ones, and its arrays are never right.
- creative/30 looks at the start of a path where the authors look at another place by a slip of an index.
- A model is asked in our words, with the same code to complete; an answer in words is run behind the imports and
  helpers that the task gives.
"""

import ast
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy

from selfalign.benchmarks.benchmark import Benchmark
from selfalign.benchmarks.downloads import Source
from selfalign.benchmarks.humaneval import completion_instruction
from selfalign.benchmarks.tasks import Check, Task, text

SUBSETS = ("difficult", "creative", "subtle", "combine", "tool_use")
RELEASE = "https://github.com/evo-eval/evoeval_release/releases/download/v0.1.0"
FILE_NAME = re.compile(r"EvoEval_(?P<subset>\w+)\.jsonl")
STOP = ["\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```"]  # those of codegen/model.py
ATOL, RTOL = 1e-6, 1e-5


class EvoEval(Benchmark):
    """One subset; the name of the file says which.

    Options:
        subset: One of SUBSETS: which one to fetch where the config names no file, or which one a renamed file holds.
    """

    options: ClassVar = {"subset": None}
    packages = ("numpy",)  # a requirement of evoeval, so solutions may import it there
    as_main = False

    def published(self, *, subset: str | None) -> Source:
        """Return where a subset is published."""
        return Source(url=f"{RELEASE}/EvoEval_{known_subset(subset)}.jsonl.gz")

    def rows(self, path: Path) -> Iterator[tuple[str, dict]]:
        """Yield place and fields of every problem, with the subset that the file's name tells."""
        name = FILE_NAME.match(path.name)
        for place, fields in super().rows(path):
            yield place, {"subset": name["subset"] if name else None, **fields}

    def read_tasks(self, fields: dict, benchmark: str, *, subset: str | None) -> list[Task]:
        """Build a task from a row of the file."""
        found = known_subset(subset or fields["subset"])
        name, prompt, entry_point = (text(fields, key) for key in ("task_id", "prompt", "entry_point"))
        inputs = [f"[{arguments}]" for arguments in fields["inputs"]]
        for number, arguments in enumerate(inputs):
            try:
                ast.parse(arguments, mode="eval")
            except SyntaxError as error:
                raise ValueError(f"its input {number} is not valid Python ({error}); fetch the file again") from error
        prefix = f"{prompt.rstrip()}\n"
        task = Task(
            id=name,
            benchmark=benchmark,
            kind="evoeval",
            instruction=completion_instruction(prompt, entry_point),
            prompt=prefix,
            prefix=prefix,
            entry_point=entry_point,
            canonical_solution=f"{prompt}\n{text(fields, 'canonical_solution')}",
            stop=STOP,
            checks=[Check(name="tests", driver="call", inputs=inputs, whole=(found, name) in RULES, typed=True)],
            metrics={"pass": [["tests"]]},
            data={"subset": found},
        )
        return [task]

    def is_right(self, task: Task, arguments: str, found: object, expected: object, before: Sequence) -> bool:
        """Apply EvoEval's rules to one output."""
        rule = RULES.get((task.data["subset"], task.id))
        return rule(ast.literal_eval(arguments), found, expected) if rule else is_same(found, expected)


def known_subset(subset: str | None) -> str:
    """Return the subset.

    Raises:
        ValueError: there is none of this name.
    """
    if subset not in SUBSETS:
        raise ValueError(f"no subset {subset!r}; set options: {{subset: {' or '.join(SUBSETS)}}}")
    return subset


def is_floats(value: object) -> bool:
    """Tell whether a value is a float or a sequence of nothing but floats."""
    return isinstance(value, float) or (
        isinstance(value, list | tuple) and all(isinstance(item, float) for item in value)
    )


def kind_of(value: object) -> type:
    """Return what EvoEval takes for the type of a value."""
    return float if is_floats(value) else type(value)


def is_same(found: object, expected: object) -> bool:
    """Tell whether two values are of the same type and equal, or near enough where they are floats."""
    if kind_of(found) is not kind_of(expected):
        return False
    if is_floats(expected):
        if numpy.shape(found) != numpy.shape(expected):
            return False
        with numpy.errstate(all="ignore"):
            return bool(numpy.allclose(expected, found, rtol=RTOL, atol=ATOL, equal_nan=True))
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(is_same, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(is_same(found[key], expected[key]) for key in expected)
    return found == expected


def polynomial(coefficients: list, x: float) -> float:
    """Return the value of a polynomial, the constant first."""
    return sum(value * math.pow(x, power) for power, value in enumerate(coefficients))


def is_palindrome_from(arguments: list, found: str, expected: str) -> bool:
    """Tell whether a text is a palindrome but for case, starts as asked and is as long as it should be."""
    (start,) = arguments
    return len(found) == len(expected) and found.startswith(start) and found.lower() == found[::-1].lower()


def is_zero_in_interval(arguments: list, found: float | None, expected: float | None) -> bool:
    """Tell whether a polynomial is near zero at a place of the interval, or there is none and None says so."""
    coefficients, (start, end) = arguments
    if expected is None or found is None:
        return found is expected
    return start <= found <= end and abs(polynomial(coefficients, found)) <= 2e-2


def is_zero_without_odd(arguments: list, found: float, expected: float) -> bool:
    """Tell whether a polynomial whose odd powers above the first are left out is near zero."""
    (coefficients,) = arguments
    spread = coefficients[:2] + [part for value in coefficients[2:] for part in (0, value)]
    return abs(polynomial(spread, found)) <= 1e-6


def leads_through_maze(arguments: list, found: list, expected: list) -> bool:
    """Tell whether steps lead from start to end without a wall (1)."""
    maze, (row, column), end = arguments
    if not expected:
        return found == []
    steps = {"right": (0, 1), "left": (0, -1), "up": (-1, 0), "down": (1, 0)}
    for step in found:
        row, column = row + steps[step][0], column + steps[step][1]
        if maze[row][column] == 1:
            return False
    return (row, column) == end


def is_path(arguments: list, found: list, expected: list) -> bool:
    """Tell whether points without a wall (0) lead from start to end, each beside the one before."""
    maze, start, end = arguments
    if not expected:
        return found == []
    return (
        found[0] == start
        and found[-1] == end
        and all(maze[row][column] != 0 for row, column in found[1:])
        and all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in itertools.pairwise(found))
    )


def is_pair_of_factors(arguments: list, found: object, expected: object) -> bool:
    """Tell whether two indices in order point to numbers with the product."""
    numbers, product = arguments
    if isinstance(expected, str):
        return found == expected
    if not isinstance(found, tuple):
        return False
    first, second = found
    return 0 <= first < second < len(numbers) and numbers[first] * numbers[second] == product


# Problems with several right outputs
RULES = {
    ("difficult", "EvoEval/10"): is_palindrome_from,
    ("difficult", "EvoEval/32"): is_zero_in_interval,
    ("creative", "EvoEval/26"): leads_through_maze,
    ("creative", "EvoEval/30"): is_path,
    ("creative", "EvoEval/69"): is_pair_of_factors,
    ("subtle", "EvoEval/32"): is_zero_without_odd,
}
