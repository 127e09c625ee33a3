"""Dual agreement: responses that pass the same test suites form a set, and large sets that pass much are believed.

After Bei Chen and others, CodeT: Code Generation with Generated Tests, arXiv 2207.10397 (2022), with whole suites in
place of single test cases. A set counts the square root of its responses times the suites that they pass: the number of
responses says less than the number of tests, as a model repeats its mistakes.
"""

import ast
import functools
import math
from collections import Counter
from collections.abc import Sequence


def consensus(lines: Sequence[str]) -> list[tuple[int, float]]:
    """Return size and score of each response's consensus set.

    Args:
        lines: For each response, "1" or "0" for each suite that was run with it.
    """
    sizes = Counter(lines)
    return [(sizes[line], round(math.sqrt(sizes[line]) * line.count("1"), 4)) for line in lines]


def redefines(tests: str, code: str) -> bool:
    """Tell whether tests define anew what code defines: they would test themselves, and so pass with any code."""
    return bool(_defined(tests) & _defined(code))


@functools.lru_cache(maxsize=4096)
def _defined(code: str) -> frozenset[str]:
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return frozenset(node.name for node in body if isinstance(node, definitions))
