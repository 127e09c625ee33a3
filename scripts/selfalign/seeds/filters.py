"""The filters of seeds, as the config lists them: what each one keeps, and the reasons of what it drops.

Row filters look at one function at a time and run on each part; corpus filters compare functions with each other or
with benchmarks and run on all parts together, so in a list they come last.
"""

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from selfalign.records.rows import Function
from selfalign.records.settings import load_settings
from selfalign.seeds.type_check import TypeChecker

Reasons = list[str | None]  # for each row None (kept) or the reason why it is dropped


@dataclass(frozen=True, kw_only=True)
class ReturnsValue:
    """Keep functions with a `return` of their own that has a value."""

    def __call__(self, rows: Sequence[Function]) -> Reasons:
        return [None if _returns_value(row.code) else "returns no value" for row in rows]


@dataclass(frozen=True, kw_only=True)
class HasArgument:
    """Keep functions with at least one argument."""

    def __call__(self, rows: Sequence[Function]) -> Reasons:
        return [None if _has_argument(row.code) else "no argument" for row in rows]


@dataclass(frozen=True, kw_only=True)
class Size:
    """Keep functions of a size, docstring and decorators included."""

    min_lines: int = 1
    max_lines: int = 150  # the paper's limit
    max_characters: int = 10_000

    def __call__(self, rows: Sequence[Function]) -> Reasons:
        return [self._reason(row.code) for row in rows]

    def _reason(self, code: str) -> str | None:
        lines = code.count("\n") + 1
        if lines < self.min_lines:
            return f"fewer than {self.min_lines} lines"
        if lines > self.max_lines:
            return f"more than {self.max_lines} lines"
        return f"more than {self.max_characters} characters" if len(code) > self.max_characters else None


@dataclass(frozen=True, kw_only=True)
class BadWords:
    """Drop functions that contain one of these words as a whole word, in any case: "debug" is not "bug"."""

    words: tuple[str, ...] = ("todo", "fixme", "bug")

    def __call__(self, rows: Sequence[Function]) -> Reasons:
        if not self.words:
            return [None] * len(rows)
        pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, self.words))})(?!\w)", re.IGNORECASE)
        found = [pattern.search(row.code) for row in rows]
        return [f"bad word: {match[0].lower()}" if match else None for match in found]


@dataclass(frozen=True, kw_only=True)
class TypeCheck:
    """Keep functions in which a type checker finds no error; undefined names are looked for first, with ruff."""

    checker: str = "basedpyright"
    batch: int = 1000
    timeout_s: int = 600

    def __call__(self, rows: Sequence[Function]) -> Reasons:
        return TypeChecker(checker=self.checker, batch=self.batch, timeout_s=self.timeout_s).check(rows)


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Drop functions that match a task of one of the run's benchmarks."""


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Keep one function of each cluster of near-duplicates."""

    threshold: float = 0.5


ROW_FILTERS = {
    "returns_value": ReturnsValue,
    "has_argument": HasArgument,
    "size": Size,
    "bad_words": BadWords,
    "type_check": TypeCheck,
}
CORPUS_FILTERS = {"benchmarks": Benchmarks, "near_duplicates": NearDuplicates}


def _own_nodes(definition: ast.AST):
    """Yield the nodes of a function's body, those of functions and classes inside it left out."""
    stack = list(definition.body)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            stack.extend(ast.iter_child_nodes(node))


def _returns_value(code: str) -> bool:
    returns = [node for node in _own_nodes(ast.parse(code).body[0]) if isinstance(node, ast.Return)]
    return any(
        node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None)
        for node in returns
    )


def _has_argument(code: str) -> bool:
    arguments = ast.parse(code).body[0].args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return any(argument is not None for argument in every)


def _build(position: int, item: object) -> tuple[str, object]:
    where = f"filters, entry {position}"
    known = ROW_FILTERS | CORPUS_FILTERS
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or item["name"] not in known:
        name = item.get("name") if isinstance(item, dict) else item
        raise ValueError(f"{where}: unknown filter {name!r}; the filters are {', '.join(known)}")
    kind = known[item["name"]]
    settings = {key: value for key, value in item.items() if key != "name"}
    return item["name"], load_settings(kind, json.dumps(settings), f"{where}, {item['name']}")


def parse_filters(text: str) -> tuple[list[tuple[str, object]], list[tuple[str, object]]]:
    """Read an ordered list of filters, as JSON; return the row filters and the corpus filters, each with its name.

    Raises:
        ValueError: not such a list, an unknown filter or setting, a filter listed twice, or a row filter after a
            corpus filter.
    """
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"filters: not valid JSON ({error})") from error
    if not isinstance(items, list):
        raise ValueError(f"filters: expected a list of filters, found {items!r}")
    built = [_build(position, item) for position, item in enumerate(items, 1)]
    names = [name for name, _ in built]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ValueError(f"filters: {name} is listed twice; list each filter once")
        before = [other for other in names[:position] if other in CORPUS_FILTERS]
        if name in ROW_FILTERS and before:
            raise ValueError(
                f"filters: {name} is listed after {before[0]}, which needs all parts together and so runs last; "
                f"list {name} before it"
            )
    split = sum(name in ROW_FILTERS for name in names)
    return built[:split], built[split:]
