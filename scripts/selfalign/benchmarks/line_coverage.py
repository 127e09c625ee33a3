"""Line coverage by marks in a program's code: which of its statements ran, counted as coverage.py counts them.

The sandbox takes no trace functions, and marks cost less. A statement is where the compiler put code, under the number
of its first line; docstrings are none, and neither is what is marked `pragma: no cover` or abstract.
"""

import ast
import re
from collections.abc import Iterator
from types import CodeType

RAN = "_lines_that_ran"  # the set of lines, in the program's own namespace
EXCLUDED = re.compile(r"#\s*pragma[:\s]?\s*no\s*cover|@(abc\.)?abstractmethod", re.IGNORECASE)
BEGIN = f"{RAN} = set()"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def instrument(source: str, before: int = 0, begin: str = BEGIN) -> tuple[str, frozenset[int]]:
    """Return a source that puts the lines that it runs into the set RAN, and the lines that could run.

    Args:
        before: Lines of what comes before this source; 0 is where the set begins. Lines are counted with them.
        begin: The statement that makes the set, or something else under its name that has a method `update`.

    Raises:
        ValueError: it does not compile, or is nested too deeply to be written again.
    """
    try:
        tree = ast.parse(source)
        compiled = compile(tree, "source", "exec")
        first, left_out = _statements(tree, source.splitlines())
        ran = {first.get(line, line) for line in _code_lines(compiled)}
        lines = frozenset(line for line in ran if line in first and line not in left_out)
        _mark(tree, lines, before, begin)
        return ast.unparse(ast.fix_missing_locations(tree)), frozenset(line + before for line in lines)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"lines cannot be marked ({type(error).__name__}: {error})") from error


def _code_lines(code: CodeType) -> Iterator[int]:
    for *_, line in code.co_lines():
        if line:
            yield line
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_lines(constant)


def _start(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def _statements(tree: ast.Module, text: list[str]) -> tuple[dict[int, int], set[int]]:
    """Return for every line of code the first line of its statement, and the lines that do not count."""
    first: dict[int, int] = {}
    left_out: set[int] = set()
    for node in ast.walk(tree):  # from outside to inside
        if isinstance(node, ast.match_case):
            start = line = node.pattern.lineno
        elif isinstance(node, ast.stmt | ast.excepthandler):
            start, line = (_start(node) if isinstance(node, ast.stmt) else node.lineno), node.lineno
        else:
            continue
        body = getattr(node, "body", None)
        if body:
            last, end = max(line, _start(body[0]) - 1), body[-1].end_lineno
        else:
            last = end = node.end_lineno
        for decorator in getattr(node, "decorator_list", ()):
            first.update(dict.fromkeys(range(decorator.lineno, decorator.end_lineno + 1), decorator.lineno))
        first.update(dict.fromkeys(range(line, last + 1), line))
        if any(EXCLUDED.search(row) for row in text[start - 1 : last]):
            left_out.update(range(start, end + 1))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, *DEFINITIONS)) and ast.get_docstring(node, clean=False) is not None:
            left_out.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return first, left_out


def _mark(tree: ast.Module, lines: frozenset[int], before: int, begin: str) -> None:
    """Put a mark before every statement that counts; after it, where nothing may stand before."""

    def mark(numbers: list[int]) -> list[ast.stmt]:
        counted = [line + before for line in numbers if line in lines]
        return ast.parse(f"{RAN}.update({counted})").body if counted else []

    blocks: list[tuple[ast.AST, str, list[int]]] = [(tree, "body", [])]
    while blocks:
        parent, name, reached = blocks.pop()
        block = getattr(parent, name)
        held = 0  # statements that have to come first
        if isinstance(parent, (ast.Module, *DEFINITIONS)) and name == "body":
            held = int(ast.get_docstring(parent, clean=False) is not None)
            while held < len(block) and isinstance(block[held], ast.ImportFrom) and block[held].module == "__future__":
                reached.append(block[held].lineno)
                held += 1
        first = ast.parse(begin).body if parent is tree and not before else []
        marked = [*block[:held], *first, *mark(reached)]
        for node in block[held:]:
            decorators = getattr(node, "decorator_list", ())
            marked += [*mark([*(decorator.lineno for decorator in decorators), node.lineno]), node]
        for node in block:
            blocks += [(node, part, []) for part in ("body", "orelse", "finalbody") if getattr(node, part, None)]
            tried: list[int] = []  # what comes to the second handler or case has passed the first
            for part in getattr(node, "handlers", None) or getattr(node, "cases", None) or ():
                tried.append(part.pattern.lineno if isinstance(part, ast.match_case) else part.lineno)
                blocks.append((part, "body", list(tried)))
        setattr(parent, name, marked)
