"""Python functions as `ast` shows them."""

import ast
import warnings
from collections.abc import Callable, Iterator

from selfalign.records.rows import Function


def parse_definition(code: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Return the tree of a function's definition.

    Raises:
        SyntaxError: this Python cannot parse it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            [definition] = ast.parse(code).body
    except (ValueError, RecursionError, MemoryError):
        raise SyntaxError("null bytes, more than one statement, or nested too deeply") from None
    return definition


def _statements(definition: ast.AST, *, nested: bool) -> Iterator[ast.AST]:
    """Yield the statements in a function's body, with or without those of functions and classes inside it."""
    stack = list(definition.body)
    while stack:
        node = stack.pop()
        yield node
        if nested or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                stack.extend(getattr(node, field, ()))


def returns_value(definition: ast.AST) -> bool:
    """Return whether a function has a `return` of its own with a value."""
    values = [node.value for node in _statements(definition, nested=False) if isinstance(node, ast.Return)]
    return any(value and not (isinstance(value, ast.Constant) and value.value is None) for value in values)


def parameters(definition: ast.AST) -> list[str]:
    """Return the names of a function's parameters."""
    arguments = definition.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument.arg for argument in every if argument is not None]


def _names(module: str) -> list[str]:
    """Return a module and the packages that it lies in."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def imported(function: Function, definition: Callable[[], ast.AST]) -> Iterator[tuple[list[str], str]]:
    """Yield what a function and the statements before it import; see `Syntax`."""
    for text in function.imports.splitlines():
        # One name to a line, as the extraction writes them
        words = text.split()
        yield _names(words[1]), text
        if words[0] != "import":
            yield _names(f"{words[1]}.{words[3]}"), text
    if "import" not in function.code:  # most functions have none of their own, and need no tree
        return
    for node in _statements(definition(), nested=True):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield [], ast.unparse(node)
                continue
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            yield _names(module), ast.unparse(node)
