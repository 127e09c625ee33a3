"""Find top-level functions with a docstring in source files. A broken file or function is counted, never fatal."""

import ast
import io
import re
import symtable
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath

from selfalign.records.files import digest
from selfalign.records.progress import Progress
from selfalign.records.rows import Function
from selfalign.seeds.sources import SourceFile

LARGEST_FILE = 1_000_000  # bytes; what is larger is data (The Stack has the same limit)
_BLOCKS = {"try_statement", "if_statement", "block", "else_clause", "except_clause", "elif_clause", "finally_clause"}
_IMPORTS = {"import_statement", "import_from_statement", "future_import_statement"}


class Unreadable(Exception):
    """A file that cannot be read as text; its message is the reason."""


@dataclass(kw_only=True)
class Extraction:
    """What came out of the files of one part.

    Attributes:
        files: Files by outcome.
        functions: The functions with a docstring, in the order of files and lines.
        dropped: The reasons of all other top-level functions, one each.
    """

    files: Counter[str] = field(default_factory=Counter)
    functions: list[Function] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def decode_source(data: bytes) -> str:
    """Decode a Python file as Python does: by its byte order mark or PEP 263 comment, else as UTF-8.

    Raises:
        Unreadable: null bytes, an unknown encoding, or bytes that the encoding does not have.
    """
    if len(data) > LARGEST_FILE:
        raise Unreadable("too large")
    if b"\0" in data:
        raise Unreadable("null bytes")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        text.encode()  # some encodings decode to lone surrogates
    except SyntaxError as error:
        raise Unreadable("unknown encoding" if "unknown encoding" in str(error) else "not UTF-8") from None
    except LookupError:  # a codec, but not of text: rot13
        raise Unreadable("unknown encoding") from None
    except UnicodeError:
        raise Unreadable("not UTF-8" if encoding.startswith("utf-8") else f"not {encoding}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


@cache
def _parser():
    import tree_sitter_python
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_python.language()))


def _starts_with_string(definition) -> bool:
    """Return whether a function's body starts with a string in any spelling, as tree-sitter sees it."""
    body = definition.child_by_field_name("body")
    for statement in body.named_children if body else ():
        if statement.type == "comment":
            continue
        first = statement.named_children[0] if statement.type == "expression_statement" else None
        while first is not None and first.type == "parenthesized_expression":
            first = first.named_children[0] if first.named_children else None
        return first is not None and first.type in ("string", "concatenated_string")
    return False


def _import_nodes(node) -> Iterator:
    """Yield the import statements at the top level of a module, those inside `try` and `if` included."""
    for child in node.children:
        if child.type in _IMPORTS:
            yield child
        elif child.type in _BLOCKS:
            yield from _import_nodes(child)


def _absolute_module(node: ast.ImportFrom, path: str) -> str | None:
    """Return the module of a `from` import with leading dots resolved by the file's path; None where it leaves it."""
    if not node.level:
        return node.module
    parts = PurePosixPath(path).parts[:-1]
    if node.level > len(parts):
        return None
    return ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])


def module_imports(statements: Iterable[str], path: str) -> list[tuple[str, str]]:
    """Return the names that import statements bind, each with the statement that binds it alone.

    Star imports are left out: what they bind is not known.
    """
    found: list[tuple[str, str]] = []
    for statement in statements:
        try:
            tree = ast.parse(statement)
        except (SyntaxError, ValueError):
            continue
        for node in tree.body:
            for alias in getattr(node, "names", ()):
                name = alias.asname or alias.name.split(".")[0]
                as_name = f" as {alias.asname}" if alias.asname else ""
                if isinstance(node, ast.Import):
                    found.append((name, f"import {alias.name}{as_name}"))
                elif alias.name != "*":
                    module = _absolute_module(node, path)
                    if module:
                        found.append((name, f"from {module} import {alias.name}{as_name}"))
    return found


def global_names(code: str) -> set[str]:
    """Return the names that a function takes from its module or the builtins.

    Raises:
        SyntaxError: the code is not Python 3.
    """
    names = set()
    tables = [symtable.symtable(code, "function", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                names.add(symbol.get_name())
    return names


def used_imports(code: str, imports: Sequence[tuple[str, str]]) -> str:
    """Return the import statements that a function uses, one per line.

    Where a name is bound twice (`try`, `except ImportError`), the first binding counts; `import a.b` and `import a.c`
    bind the same name and are both kept.
    """
    names = global_names(code)
    lines: list[str] = []
    plain: dict[str, bool] = {}  # name to whether `import a` or `import a.b` bound it
    for name, line in imports:
        if not line.startswith("from __future__ "):
            is_plain = re.fullmatch(r"import \S+", line) is not None
            if name not in names or (name in plain and not (plain[name] and is_plain)):
                continue
            plain.setdefault(name, is_plain)
        lines.append(line)
    lines = list(dict.fromkeys(lines))
    return "\n".join(sorted(lines, key=lambda line: not line.startswith("from __future__ ")))


def _docstring(code: str) -> tuple[str, str]:
    """Return name and docstring of a function.

    Raises:
        SyntaxError: the code is not Python 3, or is nested too deeply for it.
    """
    try:
        tree = ast.parse(code)
    except (RecursionError, MemoryError, ValueError):
        raise SyntaxError("nested too deeply") from None
    definition = tree.body[0]
    return definition.name, ast.get_docstring(definition) or ""


def extract_source(text: str, source: SourceFile, extraction: Extraction) -> None:
    """Add the top-level functions of one file to an extraction."""
    data = text.encode()
    tree = _parser().parse(data)
    extraction.files["read, with syntax errors" if tree.root_node.has_error else "read"] += 1
    imports = None
    for node in tree.root_node.children:
        definition = node.child_by_field_name("definition") if node.type == "decorated_definition" else node
        if definition is None or definition.type != "function_definition":
            continue
        if node.has_error:
            extraction.dropped.append("syntax error")
            continue
        if not _starts_with_string(definition):
            extraction.dropped.append("no docstring")
            continue
        code = data[node.start_byte : node.end_byte].decode().rstrip()
        if imports is None:
            statements = [part.text.decode() for part in _import_nodes(tree.root_node)]
            imports = module_imports(statements, source.path)
        try:
            name, docstring = _docstring(code)
            used = used_imports(code, imports)
        except SyntaxError:
            extraction.dropped.append("not Python 3")
            continue
        if not docstring:
            extraction.dropped.append("no docstring")
            continue
        line = node.start_point[0] + 1
        extraction.functions.append(
            Function(
                id=digest(source.package, source.path, line, code)[:16],
                code=code,
                name=name,
                imports=used,
                docstring=docstring,
                package=source.package,
                version=source.version,
                path=source.path,
                line=line,
                licence=source.licence,
            )
        )


def extract_functions(files: Sequence[SourceFile], label: str) -> Extraction:
    """Extract the functions of all files; every file and every top-level function is accounted for."""
    extraction = Extraction()
    progress = Progress(label, len(files), unit="files")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        for source in files:
            if source.left_out:
                extraction.files[source.left_out] += 1
            else:
                try:
                    extract_source(decode_source(source.file.read_bytes()), source, extraction)
                except Unreadable as error:
                    extraction.files[str(error)] += 1
                except OSError as error:
                    extraction.files[f"cannot be read: {error.strerror}"] += 1
            progress.add()
    return extraction
