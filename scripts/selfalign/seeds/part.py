"""Filter the functions of one part: each function by itself, in the order of the config's list.

A filter takes candidates and returns one outcome for each: the function to go on with, or a `Drop`. The function is the
candidate's own, or one with other imports: code and id never change. Candidates come in blocks, and those of one block
share what was parsed, so memory is bounded by the block and every function is parsed once.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from selfalign.matching.funnels import Funnel
from selfalign.records.progress import Progress
from selfalign.records.rows import Function
from selfalign.seeds.syntax import SYNTAXES, Syntax

FUNCTION_COLUMNS = {field.name: "int64" if field.type is int else "string" for field in fields(Function)}
# What a rejected function carries besides: where it was dropped, why, and the evidence or the row kept instead
REJECTED_COLUMNS = FUNCTION_COLUMNS | {"stage": "string", "reason": "string", "detail": "string"}
BLOCK = 5_000  # functions that are parsed and checked together: half a GB with their trees, as measured


class Candidate:
    """A function on its way through the filters, with its syntax tree once one of them asks for it."""

    __slots__ = ("_definition", "_syntax", "function")

    def __init__(self, function: Function, syntax: Syntax = SYNTAXES["python"], definition: Any = None):
        self.function = function
        self._syntax = syntax
        self._definition = definition

    @property
    def definition(self) -> Any:
        """The tree of the function's definition, as its language's parser makes it.

        Raises:
            SyntaxError: it cannot be parsed.
        """
        if self._definition is None:
            self._definition = self._syntax.parse(self.function.code)
        return self._definition

    @property
    def returns_value(self) -> bool:
        """Whether it has a `return` of its own with a value."""
        return self._syntax.returns_value(self.definition)

    @property
    def parameters(self) -> list[str]:
        """The names of its parameters."""
        return self._syntax.parameters(self.definition)

    def imported(self) -> Iterator[tuple[list[str], str]]:
        """Yield the modules that it and the statements before it import; see `Syntax`."""
        return self._syntax.imported(self.function, lambda: self.definition)

    def go_on(self, function: Function) -> "Candidate":
        """Return the candidate that the next filter sees."""
        if function is self.function:
            return self
        assert (function.id, function.code) == (self.function.id, self.function.code)
        return Candidate(function, self._syntax, self._definition)


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a function is dropped: a reason to count by, and what in this function it was."""

    reason: str
    detail: str = ""


Outcomes = list[Function | Drop]
RowFilter = Callable[[Sequence[Candidate]], Outcomes]


def rejected_row(row: Function, stage: str, reason: str, detail: str = "") -> dict:
    """Return a row of a file of rejected functions, which has `REJECTED_COLUMNS`."""
    return row.dump() | {"stage": stage, "reason": reason, "detail": detail}


def filter_part(
    rows: Iterable[Function],
    filters: Sequence[tuple[str, RowFilter]],
    *,
    label: str = "filters",
    total: int = 0,
    block: int = BLOCK,
    language: str = "python",
) -> tuple[list[Function], list[dict], Funnel]:
    """Run the row filters on one part; return the kept functions, the rejected ones with their reasons, the funnel.

    Args:
        rows: The functions, read as they are needed.
        filters: Names and filters in their order.
        label: For progress lines.
        total: How many functions there are, for progress lines.
        block: Functions that go through all filters together; their outcomes do not depend on it.
        language: Of the functions.
    """
    kept: list[Function] = []
    rejected: list[dict] = []
    dropped: dict[str, Counter[str]] = {name: Counter() for name, _ in filters}
    changed: Counter[str] = Counter()
    progress = Progress(label, total, unit="functions")
    rows, count = iter(rows), 0
    while functions := list(itertools.islice(rows, block)):
        candidates = [Candidate(function, SYNTAXES[language]) for function in functions]
        for name, row_filter in filters:
            outcomes = row_filter(candidates)
            assert len(outcomes) == len(candidates), name
            going_on = []
            for candidate, outcome in zip(candidates, outcomes, strict=True):
                if isinstance(outcome, Drop):
                    dropped[name][outcome.reason] += 1
                    rejected.append(rejected_row(candidate.function, name, outcome.reason, outcome.detail))
                else:
                    changed[name] += outcome is not candidate.function
                    going_on.append(candidate.go_on(outcome))
            candidates = going_on
        kept += [candidate.function for candidate in candidates]
        count += len(functions)
        progress.add(len(functions))
    funnel = Funnel(count)
    for name, reasons in dropped.items():
        funnel.add(name, funnel.rows - reasons.total(), reasons.elements(), changed[name])
    return kept, rejected, funnel
