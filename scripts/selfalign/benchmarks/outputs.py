"""Trusted comparison: programs that print a solution's outputs, and what says whether these are the right ones.

The program runs in the sandbox; it holds inputs, never the right outputs. The comparison runs outside.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from selfalign.benchmarks import driver, values
from selfalign.benchmarks.tasks import Check
from selfalign.records.files import digest

INPUT_S = 1.0  # CPU seconds for one input where the reference solution needs less than a quarter of it (evalplus 0.3.1)
FACTOR = 4.0  # times what the reference solution needs (evalplus 0.3.1)
TASK_S = 60.0  # CPU seconds for all inputs of a task (evalplus 0.3.1)
COLLECT_KB = 64 << 10
# What a value that a solution made up can raise when it is decoded or compared, such as a set of lists
WRONG = (ValueError, TypeError, LookupError, AttributeError, RecursionError, ArithmeticError)
DRIVER = "selfalign.benchmarks.driver"  # workers have it preloaded: to compile it costs more than most solutions
DRIVER_IMPORT = "from selfalign.benchmarks import driver as _driver\n"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the reference solution told of one check.

    Attributes:
        expected: The right outputs, encoded, those without floats possibly as digests.
        slow: Number of an input to its CPU seconds, for inputs that need more than a quarter of the common limit.
        cpu_s: CPU seconds of the whole program.
    """

    expected: list | None = None
    slow: dict[str, float] = field(default_factory=dict)
    cpu_s: float = 0.0


def output_data(check: Check) -> str:
    """Return the check's inputs as a program in the sandbox gets them, "" where it has none."""
    return "" if check.inputs is None else json.dumps(check.inputs)


def output_tests(check: Check, known: Known, *, target: str) -> str:
    """Return the test code that runs a solution on the check's inputs, its `_data`, and prints the outputs.

    Args:
        target: What is run, as an expression: the entry point's name, or the script's text as a literal.
    """
    run = {"call": "run_calls", "script": "run_scripts"}[check.driver]
    slow = {int(number): FACTOR * seconds for number, seconds in known.slow.items()}
    limit = check.input_s or INPUT_S
    return f"{DRIVER_IMPORT}assert _driver.{run}({target}, _data, {limit}, {slow!r}, {check.whole}, {check.typed})\n"


def cpu_limit(check: Check, known: Known, least_s: float) -> float:
    """Return the CPU seconds for a program: the check's own, or what the reference solution's time allows.

    Args:
        least_s: The sandbox's limit.
    """
    if check.cpu_s is not None:
        return check.cpu_s
    if check.inputs is None:
        return max(least_s, FACTOR * known.cpu_s)
    each = sum(max(0.0, FACTOR * seconds - INPUT_S) for seconds in known.slow.values())
    # Never less than what all inputs may take by their own limits: TASK_S is for a machine as fast as its authors'
    return max(least_s, FACTOR * known.cpu_s, min(TASK_S, INPUT_S * len(check.inputs) + each))


def parse_outputs(printed: str) -> dict:
    """Return outputs (encoded) and seconds of what a driver printed.

    Raises:
        ValueError: there are none, or not in this form.
    """
    _, mark, text = printed.rpartition(driver.MARK)
    try:
        found = json.loads(text.partition("\n")[0]) if mark else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(name), list) for name in ("outputs", "seconds")):
        raise ValueError("printed no outputs")
    return found


@dataclass(frozen=True, kw_only=True)
class OutputComparison:
    """Says of what a program printed whether it is right (`selfalign.sandbox.Comparison`).

    Attributes:
        check: With the inputs.
        expected: For each the right output, encoded.
        is_right: Takes arguments (as an expression where the check has them so), found and expected value, and the
            outputs expected before it, encoded.
    """

    check: Check
    expected: list
    is_right: Callable[[list, object, object, list], bool]
    collect_kb: int = COLLECT_KB

    @cached_property
    def key(self) -> str:
        """Digest of what is expected."""
        return digest(self.expected)

    def __call__(self, printed: str) -> str:
        """Return "" when all outputs are right, else what is wrong."""
        try:
            outputs = parse_outputs(printed)["outputs"]
        except ValueError as error:
            return str(error)
        if len(outputs) != len(self.expected):
            return f"{len(outputs)} outputs for {len(self.expected)} inputs"
        for number, (output, expected) in enumerate(zip(outputs, self.expected, strict=True)):
            try:
                right = self._agree(number, output, expected)
            except WRONG:
                right = False
            if not right:
                return f"input {number}: {show(output)} is not {show(expected)}"
        return ""

    def _agree(self, number: int, output: object, expected: object) -> bool:
        typed = self.check.typed
        if output == expected and not self.check.whole and (not typed or json.dumps(output) == json.dumps(expected)):
            return True
        if isinstance(expected, dict) and "h" in expected and not (isinstance(output, dict) and "h" in output):
            return {"h": values.digest(output, typed)} == expected
        if isinstance(output, dict) and "h" in output:  # without floats, as what is expected may be in other words
            return output == expected or output == {"h": values.digest(expected, typed)}
        arguments = values.decode(self.check.inputs[number]) if self.check.driver == "call" else []
        before = self.expected[:number]
        return bool(self.is_right(arguments, values.decode(output), values.decode(expected), before))


def show(encoded: object) -> str:
    """Return a short text of an encoded value."""
    try:
        shown = repr(values.decode(encoded))
    except WRONG:
        shown = "what is no value"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


@dataclass(frozen=True, kw_only=True)
class OutputCollection:
    """Keeps what reference solutions printed, by the program's id; calls everything right."""

    printed: dict[str, str]
    id: str
    collect_kb: int = COLLECT_KB

    @property
    def key(self) -> str:
        """One for each program: each is to run."""
        return self.id

    def __call__(self, printed: str) -> str:
        """Keep it."""
        self.printed[self.id] = printed
        return ""
