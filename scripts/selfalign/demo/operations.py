"""The operations of the demo's task family: what each one means, how it is said, written, and typically got wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

# How often each kind of form is chosen where an operation can be written as a comprehension, a builtin call or a loop.
STYLES = ("comprehension", "builtin", "loop")


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to write an operation.

    Attributes:
        kind: "pred" (a condition on x), "elem" (a new value for x), "expr" (an expression over xs) or "block" (lines
            that set `out` from xs).
        text: Python source; `{k}` is the parameter, `{j}` the parameter minus one.
    """

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type of operation.

    Attributes:
        name: Name of the type; with the parameter it gives the name of an operation ("keep_above_3").
        spec: What it means: (list, parameter) to a new list or a value.
        phrases: Imperative phrases; `{k}` is the parameter.
        right: Correct ways to write it.
        wrong: Typical bugs.
        bug_rate: How often the pretraining text has a typical bug here.
        concepts: Concepts that lead to this operation.
        params: Possible parameters; empty for none.
        final: It gives a value, so it can only be the last step.
    """

    name: str
    spec: Callable[[list, int], object]
    phrases: tuple[str, ...]
    right: tuple[Form, ...]
    wrong: tuple[Form, ...]
    bug_rate: float
    concepts: tuple[str, ...]
    params: tuple[int, ...] = ()
    final: bool = False


@dataclass(frozen=True)
class Operation:
    """A type of operation with its parameter."""

    kind: Kind
    k: int = 0

    @property
    def name(self) -> str:
        """Return the name, as functions and traces spell it."""
        return f"{self.kind.name}_{self.k}" if self.kind.params else self.kind.name

    def fill(self, text: str) -> str:
        """Put the parameter into a template."""
        return text.replace("{k}", str(self.k)).replace("{j}", str(self.k - 1))

    def apply(self, xs: list) -> object:
        """Return what the operation means for xs, which stays as it is."""
        return self.kind.spec(list(xs), self.k)


def _pred(*texts: str) -> tuple[Form, ...]:
    return tuple(Form(kind="pred", text=text) for text in texts)


def _elem(*texts: str) -> tuple[Form, ...]:
    return tuple(Form(kind="elem", text=text) for text in texts)


def _expr(*texts: str) -> tuple[Form, ...]:
    return tuple(Form(kind="expr", text=text) for text in texts)


def _block(*texts: str) -> tuple[Form, ...]:
    return tuple(Form(kind="block", text=text) for text in texts)


def _unique(xs: list, k: int) -> list:
    return [x for i, x in enumerate(xs) if x not in xs[:i]]


# The bug rates are designed: most operations are nearly always right, four are wrong more often than right, so that
# the likeliest continuation is wrong there and only running the tests shows it.
KINDS = (
    Kind(
        name="keep_even",
        spec=lambda xs, k: [x for x in xs if not x % 2],
        phrases=("keep the even numbers", "keep only even numbers"),
        right=_pred("x % 2 == 0"),
        wrong=_pred("x % 2 == 1"),
        bug_rate=0.05,
        concepts=("modulo", "conditional", "list comprehension", "boolean logic"),
    ),
    Kind(
        name="keep_odd",
        spec=lambda xs, k: [x for x in xs if x % 2],
        phrases=("keep the odd numbers", "keep only odd numbers"),
        right=_pred("x % 2 == 1"),
        wrong=_pred("x % 2 == 0"),
        bug_rate=0.08,
        concepts=("modulo", "conditional", "list comprehension", "while loop"),
    ),
    Kind(
        name="keep_above",
        params=(2, 3, 4, 5, 6),
        spec=lambda xs, k: [x for x in xs if x > k],
        phrases=("keep the numbers above {k}", "keep numbers greater than {k}"),
        right=_pred("x > {k}"),
        wrong=_pred("x >= {k}"),
        bug_rate=0.58,
        concepts=("comparison", "conditional", "exception handling", "early return"),
    ),
    Kind(
        name="keep_below",
        params=(3, 4, 5, 6, 7),
        spec=lambda xs, k: [x for x in xs if x < k],
        phrases=("keep the numbers below {k}", "keep numbers less than {k}"),
        right=_pred("x < {k}"),
        wrong=_pred("x <= {k}"),
        bug_rate=0.1,
        concepts=("comparison", "conditional", "boolean logic", "context manager"),
    ),
    Kind(
        name="remove",
        params=(0, 1, 2, 3, 4, 5),
        spec=lambda xs, k: [x for x in xs if x != k],
        phrases=("remove every {k}", "remove all values equal to {k}"),
        right=_pred("x != {k}"),
        wrong=_pred("x == {k}"),
        bug_rate=0.08,
        concepts=("comparison", "none check", "membership test", "raising exceptions"),
    ),
    Kind(
        name="add",
        params=(1, 2, 3),
        spec=lambda xs, k: [x + k for x in xs],
        phrases=("add {k} to every number", "add {k} to each value"),
        right=_elem("x + {k}"),
        wrong=_elem("x - {k}"),
        bug_rate=0.06,
        concepts=("arithmetic", "for loop", "list comprehension", "keyword arguments"),
    ),
    Kind(
        name="double",
        spec=lambda xs, k: [x * 2 for x in xs],
        phrases=("double every number", "multiply each value by 2"),
        right=_elem("x * 2"),
        wrong=_elem("x ** 2"),
        bug_rate=0.08,
        concepts=("arithmetic", "for loop", "type conversion", "nested function"),
    ),
    Kind(
        name="triple",
        spec=lambda xs, k: [x * 3 for x in xs],
        phrases=("triple every number", "multiply each value by 3"),
        right=_elem("x * 3"),
        wrong=_elem("x + 3"),
        bug_rate=0.08,
        concepts=("arithmetic", "for loop", "lambda", "generator expression"),
    ),
    Kind(
        name="cap",
        params=(4, 5, 6),
        spec=lambda xs, k: [x if x < k else k for x in xs],
        phrases=("cap every number at {k}", "limit each value to at most {k}"),
        right=_elem("min(x, {k})"),
        wrong=_elem("max(x, {k})"),
        bug_rate=0.58,
        concepts=("conditional expression", "comparison", "exception handling", "type checking"),
    ),
    Kind(
        name="reverse",
        spec=lambda xs, k: list(reversed(xs)),
        phrases=("reverse the list", "reverse the order"),
        right=_expr("xs[::-1]", "list(reversed(xs))"),
        wrong=_expr("xs[:-1]", "xs.reverse()"),
        bug_rate=0.1,
        concepts=("reversing", "recursion", "indexing", "while loop"),
    ),
    Kind(
        name="sort_up",
        spec=lambda xs, k: sorted(xs),
        phrases=("sort in ascending order", "sort from low to high"),
        right=_expr("sorted(xs)"),
        wrong=_expr("xs.sort()"),
        bug_rate=0.1,
        concepts=("sorting", "lambda", "comparison", "regular expressions"),
    ),
    Kind(
        name="sort_down",
        spec=lambda xs, k: sorted(xs, key=lambda x: -x),
        phrases=("sort in descending order", "sort from high to low"),
        right=_expr("sorted(xs, reverse=True)", "sorted(xs)[::-1]"),
        wrong=_expr("sorted(xs)"),
        bug_rate=0.1,
        concepts=("sorting", "reversing", "tuple unpacking", "attribute access"),
    ),
    Kind(
        name="rotate",
        spec=lambda xs, k: xs[1:] + xs[:1],
        phrases=("move the first item to the end", "rotate left by one"),
        right=_expr("xs[1:] + xs[:1]"),
        wrong=_expr("xs[-1:] + xs[:-1]"),
        bug_rate=0.1,
        concepts=("slicing", "tuple unpacking", "bit operations", "generator function"),
    ),
    Kind(
        name="first",
        params=(2, 3),
        spec=lambda xs, k: xs[:k],
        phrases=("take the first {k} items", "keep the first {k} values"),
        right=_expr("xs[:{k}]"),
        wrong=_expr("xs[:{j}]"),
        bug_rate=0.08,
        concepts=("slicing", "indexing", "early return", "file handling"),
    ),
    Kind(
        name="last",
        params=(2, 3),
        spec=lambda xs, k: xs[-k:],
        phrases=("take the last {k} items", "keep the last {k} values"),
        right=_expr("xs[-{k}:]"),
        wrong=_expr("xs[{k}:]"),
        bug_rate=0.58,
        concepts=("slicing", "indexing", "attribute access", "global state"),
    ),
    Kind(
        name="drop_first",
        spec=lambda xs, k: xs[1:],
        phrases=("drop the first item", "remove the first value"),
        right=_expr("xs[1:]"),
        wrong=_expr("xs[:1]"),
        bug_rate=0.06,
        concepts=("slicing", "string methods", "raising exceptions", "nested function"),
    ),
    Kind(
        name="drop_last",
        spec=lambda xs, k: xs[:-1],
        phrases=("drop the last item", "remove the last value"),
        right=_expr("xs[:-1]"),
        wrong=_expr("xs[:1]", "xs[1:]"),
        bug_rate=0.08,
        concepts=("slicing", "string methods", "context manager", "type conversion"),
    ),
    Kind(
        name="every_second",
        spec=lambda xs, k: xs[::2],
        phrases=("take every second item from the first", "keep items at even positions"),
        right=_expr("xs[::2]"),
        wrong=_expr("xs[1::2]"),
        bug_rate=0.58,
        concepts=("slicing", "indexing", "generator function", "decorators"),
    ),
    Kind(
        name="unique",
        spec=_unique,
        phrases=("remove duplicates keeping order", "keep the first of equal values"),
        right=_expr("list(dict.fromkeys(xs))"),
        wrong=_expr("list(set(xs))"),
        bug_rate=0.1,
        concepts=("set", "dictionary", "membership test", "dictionary comprehension"),
    ),
    Kind(
        name="append",
        params=(0, 1, 2, 7, 9),
        spec=lambda xs, k: [*xs, k],
        phrases=("append {k} at the end", "add a {k} at the end"),
        right=_expr("xs + [{k}]", "[*xs, {k}]"),
        wrong=_expr("[{k}] + xs"),
        bug_rate=0.06,
        concepts=("list building", "variable arguments", "string formatting", "attribute access"),
    ),
    Kind(
        name="prepend",
        params=(0, 1, 2, 7, 9),
        spec=lambda xs, k: [k, *xs],
        phrases=("put {k} in front", "insert a {k} at the start"),
        right=_expr("[{k}] + xs", "[{k}, *xs]"),
        wrong=_expr("xs + [{k}]"),
        bug_rate=0.1,
        concepts=("list building", "default arguments", "string formatting", "dictionary"),
    ),
    Kind(
        name="total",
        final=True,
        spec=lambda xs, k: sum(xs),
        phrases=("return the sum", "return the total"),
        right=(*_expr("sum(xs)"), *_block("out = 0\nfor x in xs:\n    out += x")),
        wrong=(*_expr("sum(xs[1:])"), *_block("out = 0\nfor x in xs:\n    out = x")),
        bug_rate=0.08,
        concepts=("aggregation", "arithmetic", "for loop", "assertion"),
    ),
    Kind(
        name="largest",
        final=True,
        spec=lambda xs, k: max([*xs, 0]),
        phrases=("return the largest number, or 0 if empty", "return the maximum, or 0 if empty"),
        right=_expr("max(xs, default=0)", "max(xs) if xs else 0"),
        wrong=_expr("max(xs)", "min(xs, default=0)"),
        bug_rate=0.08,
        concepts=("aggregation", "comparison", "conditional expression", "async code"),
    ),
    Kind(
        name="smallest",
        final=True,
        spec=lambda xs, k: min(xs, default=0),
        phrases=("return the smallest number, or 0 if empty", "return the minimum, or 0 if empty"),
        right=_expr("min(xs, default=0)", "min(xs) if xs else 0"),
        wrong=_expr("min(xs)", "max(xs, default=0)"),
        bug_rate=0.08,
        concepts=("aggregation", "comparison", "default arguments", "set comprehension"),
    ),
    Kind(
        name="length",
        final=True,
        spec=lambda xs, k: len(xs),
        phrases=("return how many items are left", "return the length"),
        right=_expr("len(xs)"),
        wrong=_expr("len(xs) - 1"),
        bug_rate=0.06,
        concepts=("counting", "aggregation", "file handling", "string methods"),
    ),
    Kind(
        name="head",
        final=True,
        spec=lambda xs, k: next(iter(xs), 0),
        phrases=("return the first item, or 0 if empty", "return item 0, or 0 if empty"),
        right=_expr("xs[0] if xs else 0"),
        wrong=_expr("xs[1] if xs else 0", "xs[0]"),
        bug_rate=0.08,
        concepts=("indexing", "early return", "conditional expression", "attribute access"),
    ),
    Kind(
        name="tail",
        final=True,
        spec=lambda xs, k: next(reversed(xs), 0),
        phrases=("return the last item, or 0 if empty", "return item -1, or 0 if empty"),
        right=_expr("xs[-1] if xs else 0"),
        wrong=_expr("xs[len(xs)] if xs else 0", "xs[-1]"),
        bug_rate=0.08,
        concepts=("indexing", "none check", "keyword arguments", "recursion"),
    ),
    Kind(
        name="count_even",
        final=True,
        spec=lambda xs, k: len([x for x in xs if not x % 2]),
        phrases=("return how many are even", "return the count of even numbers"),
        right=_expr("sum(1 for x in xs if x % 2 == 0)", "len([x for x in xs if x % 2 == 0])"),
        wrong=_expr("sum(x for x in xs if x % 2 == 0)"),
        bug_rate=0.1,
        concepts=("counting", "modulo", "generator expression", "regular expressions"),
    ),
    Kind(
        name="is_empty",
        final=True,
        spec=lambda xs, k: not xs,
        phrases=("return whether nothing is left", "return True if the list is empty"),
        right=_expr("len(xs) == 0", "not xs"),
        wrong=_expr("len(xs) > 0", "xs is None"),
        bug_rate=0.1,
        concepts=("boolean logic", "none check", "type checking", "raising exceptions"),
    ),
    Kind(
        name="has",
        params=(1, 2, 3, 4, 5),
        final=True,
        spec=lambda xs, k: xs.count(k) > 0,
        phrases=("return whether {k} is in it", "return True if {k} occurs"),
        right=_expr("{k} in xs", "any(x == {k} for x in xs)"),
        wrong=_expr("{k} not in xs", "all(x == {k} for x in xs)"),
        bug_rate=0.06,
        concepts=("membership test", "boolean logic", "type checking", "set"),
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}
OPERATIONS = tuple(Operation(kind, k) for kind in KINDS for k in (kind.params or (0,)))
BY_OPERATION = {operation.name: operation for operation in OPERATIONS}


def lines_of(operation: Operation, form: Form, style: str) -> tuple[list[str], str]:
    """Return the statements that prepare an operation on xs, and the expression of its result."""
    text = operation.fill(form.text)
    if form.kind == "pred":
        if style == "loop":
            return ["out = []", "for x in xs:", f"    if {text}:", "        out.append(x)"], "out"
        if style == "builtin":
            return [], f"list(filter(lambda x: {text}, xs))"
        return [], f"[x for x in xs if {text}]"
    if form.kind == "elem":
        if style == "loop":
            return ["out = []", "for x in xs:", f"    out.append({text})"], "out"
        if style == "builtin":
            return [], f"list(map(lambda x: {text}, xs))"
        return [], f"[{text} for x in xs]"
    if form.kind == "block":
        return text.split("\n"), "out"
    return [], text


@cache
def function_of(operation: Operation, form: Form) -> Callable[[list], object]:
    """Return a form as a Python function of a list (a copy is made for each call)."""
    lines, result = lines_of(operation, form, "comprehension")
    body = "".join(f"    {line}\n" for line in ["xs = list(xs)", *lines, f"return {result}"])
    namespace: dict = {}
    exec(f"def f(xs):\n{body}", namespace)
    return namespace["f"]
