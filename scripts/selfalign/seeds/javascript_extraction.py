"""Find top-level JavaScript functions right below a JSDoc comment. What is broken is counted, never fatal."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from selfalign.languages.javascript import parse
from selfalign.records.files import digest
from selfalign.records.rows import Function
from selfalign.seeds.extraction import Extraction
from selfalign.seeds.javascript import declared_names, free_names, function_in, required_module, text_of
from selfalign.seeds.sources import SourceFile

_STAR = re.compile(r"^[ \t]*\*[ \t]?", re.MULTILINE)


def read_comment(comment: str) -> str:
    """Return the text of a JSDoc comment, without its stars."""
    return inspect.cleandoc(_STAR.sub("", comment.removeprefix("/**").removesuffix("*/"))).strip()


def _comment_above(statement: Any) -> Any:
    """Return the JSDoc comment that ends on the line above a statement, or on its own; None where there is none."""
    comment = statement.prev_sibling
    if comment is None or comment.type != "comment" or not text_of(comment).startswith("/**"):
        return None
    return comment if statement.start_point.row - comment.end_point.row <= 1 else None


def _imports(root: Any) -> list[tuple[set[str], str]]:
    """Return the top-level statements that import or require something, on one line each, and the names they bind."""
    found = []
    for statement in root.named_children:
        if statement.type not in ("import_statement", "lexical_declaration", "variable_declaration"):
            continue
        nodes, names, requires = [statement], set(), statement.type == "import_statement"
        while nodes:
            node = nodes.pop()
            names.update(declared_names(node))
            requires = requires or required_module(node) is not None
            nodes += node.named_children
        text = " ".join(text_of(statement).split())
        if requires and "//" not in text and not any(function_in(statement) or ()):
            found.append((names, text))
    return found


def extract_source(text: str, source: SourceFile, extraction: Extraction) -> Iterator[Function]:
    """Yield the top-level functions of one file that have a JSDoc comment, and count all others.

    The comment is part of a function's code, and its text the docstring.

    Args:
        text: The file with newlines as line ends.
    """
    root = parse(text)
    extraction.files["read, with syntax errors" if root.has_error else "read"] += 1
    imports = None
    for statement in root.named_children:
        found = function_in(statement)
        if found is None:
            continue
        comment = _comment_above(statement)
        docstring = read_comment(text_of(comment)) if comment else ""
        name = found[0]
        if not docstring or name is None or statement.has_error:
            reason = "syntax error" if statement.has_error else "no name" if name is None else "no docstring"
            extraction.dropped[reason] += 1
            continue
        imports = _imports(root) if imports is None else imports
        used = free_names(statement)
        code = f"{text_of(comment)}\n{text_of(statement)}"
        line = comment.start_point.row + 1
        extraction.kept += 1
        yield Function(
            id=digest(*source.identity, line, code)[:16],
            code=code,
            name=name,
            imports="\n".join(dict.fromkeys(statement for names, statement in imports if names & used)),
            docstring=docstring,
            package=source.package,
            version=source.version,
            path=source.path,
            line=line,
            licence=source.licence,
        )
