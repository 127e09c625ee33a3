"""What filters ask of a function, for each language."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from selfalign.records.rows import Function
from selfalign.seeds import javascript, python_syntax


@dataclass(frozen=True, kw_only=True)
class Syntax:
    """How functions of a language are taken apart.

    Attributes:
        parse: The function's definition in its code.
        returns_value: Whether a definition returns a value of its own.
        parameters: The names of its parameters.
        imported: What a function and the statements before it import, each time the module under all names that may
            be listed, the longest first, and the statement; no names for a module of the same package.
    """

    parse: Callable[[str], Any]
    returns_value: Callable[[Any], bool]
    parameters: Callable[[Any], list[str]]
    imported: Callable[[Function, Callable[[], Any]], Iterator[tuple[list[str], str]]]


SYNTAXES = {
    "python": Syntax(
        parse=python_syntax.parse_definition,
        returns_value=python_syntax.returns_value,
        parameters=python_syntax.parameters,
        imported=python_syntax.imported,
    ),
    "javascript": Syntax(
        parse=javascript.parse_definition,
        returns_value=javascript.returns_value,
        parameters=javascript.parameters,
        imported=javascript.imported,
    ),
}
