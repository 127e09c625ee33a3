"""Which statements and outcomes of conditions of a response its tests run, by marks in the code.

The sandbox takes no trace functions, so neither coverage.py nor `sys.settrace` works in it. Statements are marked as
in `benchmarks.line_coverage`. A condition (of if, while, conditional expressions and comprehensions) is marked for
true and for false: expressions count, as most branches of short functions stand in them; a constant one, as of `while
True`, has no mark. A mark is printed when it is first run, wherever tests run: at the end of the module, too, where
the harness calls unittest's cases and pytest's functions.
"""

import ast
import re
from dataclasses import dataclass

from selfalign.benchmarks.line_coverage import RAN, instrument

PRINTED = re.compile(r"^@ran (\w+)$", re.MULTILINE)
# Its methods get the stream that is there before tests put another one in its place to look at what is printed.
BEGIN = f"""
class {RAN}:
    import sys
    stream, seen = sys.stdout, set()

    @classmethod
    def update(cls, marks):
        for mark in marks:
            if mark not in cls.seen:
                cls.seen.add(mark)
                cls.stream.write(f"\\n@ran {{mark}}\\n")

    @classmethod
    def condition(cls, number, value):
        cls.update([f"c{{number}}{{bool(value)}}"])
        return value
"""


def mark_code(code: str) -> tuple[str, frozenset[str]]:
    """Return code that prints what of it runs, and all that could.

    Raises:
        ValueError: it does not compile, or is nested too deeply to be written again.
    """
    marked, lines = instrument(code, begin=BEGIN)
    try:
        conditions = _Conditions()
        tree = ast.fix_missing_locations(conditions.visit(ast.parse(marked)))
        outcomes = {f"c{number}{value}" for number in range(conditions.count) for value in (True, False)}
        return ast.unparse(tree), frozenset(map(str, lines)) | outcomes
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"conditions cannot be marked ({type(error).__name__}: {error})") from error


class _Conditions(ast.NodeTransformer):
    """Wraps each condition in a call that marks its outcome."""

    count = 0

    def _wrap(self, test: ast.expr) -> ast.expr:
        if isinstance(test, ast.Constant):
            return test
        call = ast.parse(f"{RAN}.condition({self.count}, None)", mode="eval").body
        call.args[1] = test
        self.count += 1
        return call

    def _test(self, node: ast.If | ast.While | ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        node.test = self._wrap(node.test)
        return node

    visit_If = visit_While = visit_IfExp = _test

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.ifs = [self._wrap(test) for test in node.ifs]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node if node.name == RAN else self.generic_visit(node)


@dataclass(frozen=True, kw_only=True)
class WholeCoverage:
    """Expects every mark to be printed (`selfalign.sandbox.Comparison`), and else says how many were."""

    marks: frozenset[str]
    collect_kb: int
    key: str = "coverage"  # the marks follow from the program's text

    def __call__(self, printed: str) -> str:
        """Return "" when all was run, else how much of it."""
        ran = len(self.marks.intersection(PRINTED.findall(printed)))
        return "" if ran == len(self.marks) else f"ran {ran} of {len(self.marks)}"


def covered(row: dict, marks: int) -> int | None:
    """Return how many marks ran, by the verdict row of a marked program; None where it did not come to its end."""
    if row["verdict"] == "passed":
        return marks
    found = re.fullmatch(r"ran (\d+) of \d+", row["detail"])
    return int(found[1]) if row["verdict"] == "wrong_output" and found else None
