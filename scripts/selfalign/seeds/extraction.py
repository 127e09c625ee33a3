"""Find top-level functions with a docstring in source files. A broken file or function is counted, never fatal."""

import ast
import inspect
import io
import symtable
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath

from selfalign.records.files import digest
from selfalign.records.rows import Function
from selfalign.seeds.scanning import (
    Definition,
    find_definitions,
    find_docstring,
    find_imports,
    has_functions,
    long_strings,
)
from selfalign.seeds.sources import LARGEST_FILE, SourceFile

_BLOCKS = {
    "try_statement",
    "if_statement",
    "with_statement",
    "block",
    "else_clause",
    "except_clause",
    "elif_clause",
    "finally_clause",
}
_IMPORTS = {"import_statement", "import_from_statement", "future_import_statement"}
_ROOTS = frozenset({"src", "purelib", "platlib"})  # folders of packages that are none, in repositories and wheels
_NOT_PYTHON_3 = (SyntaxError, ValueError, RecursionError, MemoryError)  # what the parser raises, by what is wrong


class Unreadable(Exception):
    """A file that cannot be read as text; its message is the reason."""


@dataclass(kw_only=True)
class Extraction:
    """What became of the files and functions of one part.

    Attributes:
        files: Files by outcome.
        dropped: Top-level functions that are no candidates, by reason.
        kept: Functions with a docstring.
    """

    files: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    kept: int = 0


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decode_source(content: bytes | str) -> str:
    """Return the text of a Python file with newlines as line ends.

    Bytes are decoded as Python does: by byte order mark or PEP 263 comment, else as UTF-8. Text is decoded already.

    Raises:
        Unreadable: too large, null bytes, an unknown encoding, or bytes that the encoding does not have.
    """
    if len(content) > LARGEST_FILE:
        raise Unreadable("too large")
    if isinstance(content, str):
        if "\0" in content:
            raise Unreadable("null bytes")
        try:
            content.encode()
        except UnicodeError:
            raise Unreadable("lone surrogates") from None
        return _newlines(content.removeprefix("\ufeff"))
    if b"\0" in content:
        raise Unreadable("null bytes")
    encoding = "utf-8"
    try:
        if content.startswith(b"\xef\xbb\xbf") or b"coding" in content[:1000]:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
        if encoding != "utf-8":
            text.encode()  # some encodings decode to lone surrogates
    except SyntaxError as error:
        raise Unreadable("unknown encoding" if "unknown encoding" in str(error) else "not UTF-8") from None
    except LookupError:  # a codec, but not of text: rot13
        raise Unreadable("unknown encoding") from None
    except UnicodeError:
        raise Unreadable("not UTF-8" if encoding.startswith("utf-8") else f"not {encoding}") from None
    return _newlines(text)


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
            first = next((child for child in first.named_children if child.type != "comment"), None)
        return first is not None and first.type in ("string", "concatenated_string")
    return False


def _import_nodes(root) -> Iterator:
    """Yield the import statements at the top level of a module, those inside `try`, `if` and `with` included."""
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if node.type in _IMPORTS:
            yield node
        elif node.type in _BLOCKS or node is root:
            nodes += reversed(node.children)


def _package_of(path: str) -> tuple[str, ...]:
    """Return the package that a file is in, by its path: `name-1.0/src/name/sub/file.py` is in `name.sub`."""
    parts = PurePosixPath(path).parts[:-1]
    above = max((index + 1 for index, part in enumerate(parts) if not part.isidentifier()), default=0)
    if above < len(parts) and parts[above] in _ROOTS:
        above += 1
    return parts[above:]


def _absolute_module(node: ast.ImportFrom, path: str) -> str | None:
    """Return the module of a `from` import with leading dots resolved by the file's path; None where it leaves it."""
    if not node.level:
        return node.module
    parts = _package_of(path)
    if node.level > len(parts):
        return None
    return ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])


def _parse_imports(statements: Sequence[str]) -> list[ast.stmt]:
    """Parse import statements, all at once where all are Python 3; those that are not are left out."""
    try:
        return ast.parse("\n".join(statements)).body
    except _NOT_PYTHON_3:
        return [node for statement in statements for node in _parse_imports([statement])] if statements[1:] else []


@dataclass(frozen=True, slots=True)
class Import:
    """A name that a module imports.

    Attributes:
        line: The statement that binds this name alone.
        is_plain: Whether it is `import a` or `import a.b`, which bind the same name.
    """

    name: str
    line: str
    is_plain: bool


def module_imports(statements: Sequence[str], path: str) -> list[Import]:
    """Return the names that import statements bind.

    Star imports are left out: what they bind is not known.
    """
    found: list[Import] = []
    for node in _parse_imports(statements):
        for alias in getattr(node, "names", ()):
            name = alias.asname or alias.name.split(".")[0]
            as_name = f" as {alias.asname}" if alias.asname else ""
            if isinstance(node, ast.Import):
                found.append(Import(name, f"import {alias.name}{as_name}", not as_name))
            elif alias.name != "*":
                module = _absolute_module(node, path)
                if module:
                    found.append(Import(name, f"from {module} import {alias.name}{as_name}", False))
    return found


def taken_names(table: symtable.SymbolTable, wanted: set[str]) -> set[str]:
    """Return which of some names a function takes from its module or the builtins, by its symbol table."""
    names = set()
    tables = [table]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for name in wanted.intersection(table.get_identifiers()):
            symbol = table.lookup(name)
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                names.add(name)
    return names


def used_imports(code: str, table: symtable.SymbolTable, imports: Sequence[Import]) -> str:
    """Return the import statements that a function uses, one per line.

    Where a name is bound twice (`try`, `except ImportError`), the first binding counts; `import a.b` and `import a.c`
    bind the same name and are both kept.

    Args:
        table: The function's symbol table.
    """
    wanted = {found.name for found in imports if found.name in code}
    names = taken_names(table, wanted) if wanted else wanted
    lines: list[str] = []
    plain: dict[str, bool] = {}
    for found in imports:
        if not found.line.startswith("from __future__ "):
            if found.name not in names or (found.name in plain and not (plain[found.name] and found.is_plain)):
                continue
            plain.setdefault(found.name, found.is_plain)
        lines.append(found.line)
    lines = list(dict.fromkeys(lines))
    return "\n".join(sorted(lines, key=lambda line: not line.startswith("from __future__ ")))


def _symbols(code: str) -> symtable.SymbolTable:
    """Return the symbol table of a function.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: the code is not Python 3.
    """
    return symtable.symtable(code, "function", "exec")


def _parsed(code: str) -> tuple[str, str, int]:
    """Return name and docstring of a function, and the number of its lines.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: the code is not Python 3.
    """
    definition = ast.parse(code).body[0]
    return definition.name, ast.get_docstring(definition) or "", definition.end_lineno


def _syntax_error(code: str) -> str:
    """Return why Python 3 does not take a function: it is broken, or tree-sitter reads it, as it reads Python 2."""
    return "syntax error" if _parser().parse(code.encode()).root_node.has_error else "not Python 3"


@dataclass(frozen=True, slots=True)
class _Found:
    """A function with a docstring, still without its imports."""

    code: str
    line: int
    name: str
    docstring: str
    table: symtable.SymbolTable


def _without_trailing_comments(code: str) -> str:
    """Cut the comments behind a function: those from the first at the left margin on."""
    end = stop = len(code)
    while stop > 0:
        start = code.rfind("\n", 0, stop) + 1
        line = code[start:stop].lstrip()
        if line and line[0] != "#":
            break
        if code.startswith("#", start):
            end = start
        stop = start - 1
    return code[:end].rstrip()


def _docstring(text: str, definition: Definition) -> tuple[bool, str | None]:
    """Return whether a function's body starts with a string, and its docstring; None where only a parser can tell."""
    found = find_docstring(text, definition.body)
    if found is None:
        return False, None
    prefix, literal = found
    if not literal:
        return True, None
    if "\\" in literal and prefix not in ("r", "R"):
        value = ast.literal_eval(prefix + literal)
    else:
        quotes = 3 if literal.startswith(('"""', "'''")) else 1
        value = literal[quotes:-quotes]
    return True, inspect.cleandoc(value)


def _read_definition(text: str, definition: Definition, line: int) -> _Found | str:
    """Return what a definition holds, or the reason why it is no candidate."""
    if definition.body is None:
        return "syntax error"
    code = _without_trailing_comments(text[definition.start : definition.end])
    try:
        has_string, docstring = _docstring(text, definition)
        if not has_string:
            return "no docstring"
        name = definition.name
        table = _symbols(code)
        if name is None or docstring is None:
            name, docstring, _ = _parsed(code)
    except _NOT_PYTHON_3:
        # A line at the left margin may belong to the function all the same, inside brackets: take what Python takes
        try:
            longer = text[definition.start : definition.following]
            name, docstring, lines = _parsed(longer)
            code = "\n".join(longer.split("\n")[:lines]).rstrip()
            table = _symbols(code)
        except _NOT_PYTHON_3:
            return _syntax_error(code)
    return _Found(code, line, name, docstring, table) if docstring else "no docstring"


def _by_lines(text: str, definitions: Iterable[Definition]) -> Iterator[_Found | str]:
    line, counted = 0, 0
    for definition in definitions:
        line += text.count("\n", counted, definition.start)
        counted = definition.start
        yield _read_definition(text, definition, line)


def _by_tree(root, data: bytes) -> Iterator[_Found | str]:
    for node in root.children:
        definition = node.child_by_field_name("definition") if node.type == "decorated_definition" else node
        if definition is None or definition.type != "function_definition":
            continue
        if node.has_error:
            yield "syntax error"
        elif not _starts_with_string(definition):
            yield "no docstring"
        else:
            code = data[node.start_byte : node.end_byte].decode().rstrip()
            try:
                name, docstring, _ = _parsed(code)
                table = _symbols(code)
            except _NOT_PYTHON_3:
                yield "not Python 3"
                continue
            found = _Found(code, node.start_point[0] + 1, name, docstring, table)
            yield found if docstring else "no docstring"


def extract_source(text: str, source: SourceFile, extraction: Extraction, *, whole: bool = False) -> Iterator[Function]:
    """Yield the top-level functions of one file that have a docstring, and count all others.

    Args:
        text: The file with newlines as line ends.
        whole: Parse the whole file, as is done otherwise only where its lines leave a doubt.
    """
    padded = "\n" + text
    if not whole and not has_functions(padded):
        extraction.files["read"] += 1
        return
    strings = None if whole else long_strings(padded)
    definitions = None if strings is None else find_definitions(padded, strings)
    if definitions is None:
        data = text.encode()
        root = _parser().parse(data).root_node
        extraction.files["read as a whole, with syntax errors" if root.has_error else "read as a whole"] += 1
        candidates = _by_tree(root, data)
    else:
        extraction.files["read"] += 1
        candidates = _by_lines(padded, definitions)
    imports = None
    for found in candidates:
        if isinstance(found, str):
            extraction.dropped[found] += 1
            continue
        if imports is None:
            if definitions is None:
                statements = [part.text.decode() for part in _import_nodes(root)]
            else:
                statements = find_imports(padded, strings, definitions)
            imports = module_imports(statements, source.path)
        extraction.kept += 1
        yield Function(
            id=digest(*source.identity, found.line, found.code)[:16],
            code=found.code,
            name=found.name,
            imports=used_imports(found.code, found.table, imports),
            docstring=found.docstring,
            package=source.package,
            version=source.version,
            path=source.path,
            line=found.line,
            licence=source.licence,
        )


def extract_functions(files: Iterable[SourceFile], extraction: Extraction) -> Iterator[Function]:
    """Yield the functions of all files; every file and every top-level function is accounted for in the extraction."""
    for source in files:
        if source.left_out:
            extraction.files[source.left_out] += 1
            continue
        try:
            text = decode_source(source.read())
        except Unreadable as error:
            extraction.files[str(error)] += 1
            continue
        except OSError as error:
            extraction.files[f"cannot be read: {error.strerror}"] += 1
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            functions = list(extract_source(text, source, extraction))
        yield from functions
