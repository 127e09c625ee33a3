"""Tasks of the demo family: one to three operations over a short list, said, solved and tested."""

import hashlib
import random
from dataclasses import dataclass

from selfalign.demo.operations import KINDS, STYLES, Form, Kind, Operation, function_of, lines_of
from selfalign.prompts.documents import CATEGORIES, DIFFICULTIES

HELD_OUT = 0.15  # share of the sequences of two and three operation types that no pretraining text contains
LARGEST = 30  # no test has a value above this: two-digit numbers stay single tokens
LONGEST = 5  # no list in a test is longer than this
METHODS = ("result", "run", "values", "answer")
STYLE_WEIGHTS = (60, 20, 20)  # comprehension, builtin, loop
THREE_TESTS = 0.25
EMPTY_TEST = 0.2


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: what to do, in which form, and under which names.

    Attributes:
        method: Name of the method of a class; unused otherwise.
        phrasing: Number that picks the wording of the instruction.
    """

    category: str
    operations: tuple[Operation, ...]
    joiner: str
    method: str
    phrasing: int

    @property
    def difficulty(self) -> str:
        """Return easy, medium or hard, by the number of operations."""
        return DIFFICULTIES[len(self.operations) - 1]

    @property
    def entry(self) -> str:
        """Return the name that the tests use."""
        words = self.joiner.join(operation.name for operation in self.operations)
        if self.category == "class":
            return "".join(word.capitalize() for word in words.split("_"))
        return "main" if self.category == "program" else words

    def call(self, xs: list) -> str:
        """Return the expression that a test compares."""
        return f"{self.entry}({xs}).{self.method}()" if self.category == "class" else f"{self.entry}({xs})"

    def trace(self, xs: list) -> list:
        """Return xs and what it is after each operation."""
        values = [xs]
        for operation in self.operations:
            values.append(operation.apply(values[-1]))
        return values


def is_held_out(kinds: tuple[str, ...]) -> bool:
    """Return whether a sequence of operation types (order matters) is kept from the pretraining text."""
    if len(kinds) < 2:
        return False
    number = int.from_bytes(hashlib.sha256(b"held out: " + " ".join(kinds).encode()).digest()[:4], "big")
    return number < HELD_OUT * 2**32


def _follows(kind: Kind, before: list[Kind]) -> bool:
    """Return whether an operation type makes sense after the ones before it."""
    if any(kind.name == other.name for other in before):
        return False
    names = {other.name for other in before}
    if kind.name in ("sort_up", "sort_down"):
        return not names & {"sort_up", "sort_down", "reverse", "rotate"}
    if kind.name in ("keep_even", "keep_odd", "count_even"):
        return not names & {"keep_even", "keep_odd", "double"}
    return True


def sample_operations(
    rng: random.Random, count: int, concepts: tuple[str, ...] = (), held_out: bool | None = False
) -> tuple[Operation, ...]:
    """Draw a sequence of operations, led by concepts.

    Args:
        rng: Source of the draws.
        count: Number of operations.
        concepts: Each concept makes the operation types that it leads to likelier.
        held_out: Draw among the held-out sequences (True), the others (False) or all (None).
    """
    while True:
        chosen: list[Kind] = []
        wanted = set(concepts)
        for position in range(count):
            last = position == count - 1
            options, weights = [], []
            for kind in KINDS:
                if (kind.final and not last) or not _follows(kind, chosen):
                    continue
                hits = len(wanted & set(kind.concepts))
                options.append(kind)
                weights.append((1 + 25 * hits) * (1.5 if kind.final else 1.0) * (0.8 + 0.04 * len(kind.params)))
            kind = rng.choices(options, weights)[0]
            chosen.append(kind)
            wanted -= set(kind.concepts)
        if held_out is not None and is_held_out(tuple(kind.name for kind in chosen)) != held_out:
            continue
        operations = tuple(Operation(kind, rng.choice(kind.params) if kind.params else 0) for kind in chosen)
        if is_sequence(operations):
            return operations


def is_sequence(operations: tuple[Operation, ...]) -> bool:
    """Return whether operations make sense one after the other, with parameters that differ, and can be tested."""
    kinds = [operation.kind for operation in operations]
    parameters = [operation.k for operation in operations if operation.kind.params]
    return (
        all(_follows(kind, kinds[:number]) for number, kind in enumerate(kinds))
        and not any(kind.final for kind in kinds[:-1])
        and len(set(parameters)) == len(parameters)
        and is_testable(operations)
    )


def sample_task(
    rng: random.Random,
    category: str | None = None,
    difficulty: str | None = None,
    concepts: tuple[str, ...] = (),
    held_out: bool | None = False,
) -> Task:
    """Draw a task; what is not given is drawn as the pipeline draws it (functions half of the time)."""
    category = category or rng.choices(CATEGORIES, (2, 1, 1))[0]
    difficulty = difficulty or rng.choice(DIFFICULTIES)
    operations = sample_operations(rng, DIFFICULTIES.index(difficulty) + 1, concepts, held_out)
    return Task(
        category=category,
        operations=operations,
        joiner=rng.choice(("_", "_then_")),
        method=rng.choice(METHODS),
        phrasing=rng.randrange(1 << 16),
    )


def _third_person(phrase: str) -> str:
    verb, rest = phrase.split(" ", 1)
    verb = f"{verb[:-1]}ies" if verb == "multiply" else f"{verb}s"
    return f"{verb} {rest}"


def instruction_of(task: Task) -> str:
    """Return the wording of a task; it names the function, class or helpers to write."""
    rng = random.Random(task.phrasing)
    phrases = [operation.fill(rng.choice(operation.kind.phrases)) for operation in task.operations]
    third = rng.random() < 0.5
    if third:
        phrases = [_third_person(phrase) for phrase in phrases]
    steps = ", then ".join(phrases)
    if task.category == "class":
        name, method = task.entry, task.method
        if third:
            return rng.choice(
                (
                    f"Write a class `{name}` that holds a list `xs`. Its method `{method}()` {steps}.",
                    f"Write a class `{name}` made from a list. The method `{method}()` {steps}.",
                )
            )
        return rng.choice(
            (
                f"Write a class `{name}` with a list `xs` and a method `{method}()`: {steps}.",
                f"Create a class `{name}` over a list of numbers. In `{method}()`, {steps}.",
            )
        )
    if task.category == "program":
        helpers = ", ".join(f"`{operation.name}`" for operation in task.operations)
        noun = "helper" if len(task.operations) == 1 else "helpers"
        if third:
            return f"Write a program with the {noun} {helpers} and a `main(xs)` that {steps}."
        return rng.choice(
            (
                f"Write a small program: {noun} {helpers}, and `main(xs)` to {steps}.",
                f"Write a program. For a list `xs`, {steps}. Use the {noun} {helpers} in `main(xs)`.",
            )
        )
    if third:
        return rng.choice(
            (
                f"Write a function `{task.entry}(xs)` that {steps}.",
                f"Write a Python function `{task.entry}(xs)` that takes a list and {steps}.",
            )
        )
    return rng.choice(
        (
            f"Write `{task.entry}(xs)` for a list of numbers: {steps}.",
            f"Given a list `xs`, {steps}. Name the function `{task.entry}`.",
        )
    )


def choose_forms(task: Task, rng: random.Random | None, bugs: bool) -> tuple[list[Form], str, bool]:
    """Return a form for each operation, the style of the document, and whether any form has a typical bug.

    Without a source of draws, the first correct form of each operation in the first style.
    """
    if rng is None:
        return [operation.kind.right[0] for operation in task.operations], STYLES[0], False
    forms, buggy = [], False
    for operation in task.operations:
        wrong = bugs and rng.random() < operation.kind.bug_rate
        buggy |= wrong
        forms.append(rng.choice(operation.kind.wrong if wrong else operation.kind.right))
    return forms, rng.choices(STYLES, STYLE_WEIGHTS)[0], buggy


def _indent(lines: list[str], depth: int) -> str:
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)


def _steps(task: Task, forms: list[Form], style: str) -> list[str]:
    lines: list[str] = []
    for operation, form in zip(task.operations, forms, strict=True):
        before, result = lines_of(operation, form, style)
        lines += before
        last = operation is task.operations[-1]
        lines.append(f"return {result}" if last else f"xs = {result}")
    return lines


def code_of(task: Task, forms: list[Form], style: str, docstring: str = "") -> str:
    """Return the code that solves a task with the given forms."""
    doc = [f'"""{docstring}"""'] if docstring else []
    if task.category == "class":
        return (
            f"class {task.entry}:\n"
            + _indent(doc, 1)
            + "    def __init__(self, xs):\n        self.xs = xs\n\n"
            + f"    def {task.method}(self):\n"
            + _indent(["xs = self.xs", *_steps(task, forms, style)], 2)
        ).strip()
    if task.category == "program":
        parts = []
        call = "xs"
        for operation, form in zip(task.operations, forms, strict=True):
            before, result = lines_of(operation, form, style)
            parts.append(f"def {operation.name}(xs):\n{_indent([*before, f'return {result}'], 1)}")
            call = f"{operation.name}({call})"
        parts.append(f"def main(xs):\n{_indent([*doc, f'return {call}'], 1)}")
        return "\n".join(parts).strip()
    return f"def {task.entry}(xs):\n{_indent([*doc, *_steps(task, forms, style)], 1)}".strip()


def _draw_input(rng: random.Random, operations: tuple[Operation, ...]) -> list[int] | None:
    size = rng.choices((2, 3, 4), (2, 5, 3))[0]
    xs = [rng.randrange(10) for _ in range(size)]
    for operation in operations:
        if operation.kind.params and rng.random() < 0.35:
            xs[rng.randrange(size)] = operation.k
    duplicates = 0.7 if any(operation.kind.name == "unique" for operation in operations) else 0.1
    if rng.random() < duplicates:
        xs[-1] = xs[rng.randrange(size)]
    elif len(set(xs)) < size:
        return None
    value: object = xs
    for operation in operations:
        value = operation.apply(value)
        if not _small(value):
            return None
    return xs


def is_testable(operations: tuple[Operation, ...]) -> bool:
    """Return whether enough short lists of digits stay short and small under the operations."""
    rng = random.Random(0)
    left = 5
    for _ in range(60):
        left -= _draw_input(rng, operations) is not None
        if not left:
            return True
    return False


def sample_input(rng: random.Random, task: Task) -> list[int]:
    """Draw a short list of single digits that stays short and small under every operation of the task."""
    while True:
        xs = _draw_input(rng, task.operations)
        if xs is not None:
            return xs


def _small(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= LONGEST and all(x <= LARGEST for x in value)
    return value <= LARGEST


def result_with(task: Task, position: int, form: Form, xs: list) -> object:
    """Return what the task gives for xs with one operation in the given form; an exception gives its name."""
    value: object = xs
    try:
        for number, operation in enumerate(task.operations):
            value = function_of(operation, form)(value) if number == position else operation.apply(value)
    except Exception as error:
        return type(error).__name__
    return value


def bug_variants(task: Task) -> list[tuple[int, Form]]:
    """Return every single typical bug of a task: which operation, and its wrong form."""
    return [(number, form) for number, operation in enumerate(task.operations) for form in operation.kind.wrong]


def choose_inputs(rng: random.Random, task: Task, count: int, candidates: int = 6) -> list[list[int]]:
    """Draw inputs for tests, preferring those that show typical bugs."""
    pool = [sample_input(rng, task) for _ in range(candidates)]
    variants = bug_variants(task)
    shown = []
    for xs in pool:
        right = task.trace(xs)[-1]
        shown.append({n for n, (at, form) in enumerate(variants) if result_with(task, at, form, xs) != right})
    chosen: list[list[int]] = []
    seen: set[int] = set()
    for _ in range(count):
        best = max(range(len(pool)), key=lambda i: (pool[i] not in chosen, len(shown[i] - seen), -i))
        chosen.append(pool[best])
        seen |= shown[best]
    return chosen


def tests_of(task: Task, inputs: list[list[int]]) -> str:
    """Return assertions with the right results, each after a comment that traces the steps."""
    lines = []
    for xs in inputs:
        values = task.trace(xs)
        steps = [f"{op.name} {value}" for op, value in zip(task.operations, values[1:], strict=True)]
        lines.append("# " + " -> ".join([str(xs), *steps]))
        lines.append(f"assert {task.call(xs)} == {values[-1]}")
    return "\n".join(lines)


def sample_inputs(rng: random.Random, task: Task) -> list[list[int]]:
    """Draw the inputs of a document's tests: two or three, sometimes the empty list as the last."""
    count = 3 if rng.random() < THREE_TESTS else 2
    inputs = choose_inputs(rng, task, count)
    if rng.random() < EMPTY_TEST:
        inputs[-1] = []
    return inputs


def fenced(code: str) -> str:
    """Return code as a fenced block."""
    return f"```python\n{code}\n```"
