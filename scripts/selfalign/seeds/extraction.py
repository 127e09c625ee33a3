"""Find top-level functions with a docstring in source files. A broken file or function is counted, never fatal."""

import _symtable
import ast
import inspect
import io
import keyword
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, KeysView, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from selfalign.records.files import digest
from selfalign.records.rows import Function
from selfalign.seeds.scanning import (
    Definition,
    find_definitions,
    find_docstring,
    find_imports,
    has_functions,
    read_lines,
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


def _listed(name: str, gap: str) -> str:
    """Return a pattern of names with aliases, separated by commas."""
    item = rf"{gap}*+{name}(?:{gap}++as{gap}++{_NAME})?{gap}*+"
    return rf"{item}(?:,{item})*"


# An import statement that needs no parser: ASCII names that are no keywords, nothing continued by a backslash
_NAME = rf"(?!(?:{'|'.join(keyword.kwlist)})\b)[A-Za-z_]\w*+"
_DOTTED = rf"{_NAME}(?:\.{_NAME})*"
_BLANK = r"[ \t]"
_GAP = r"(?:[ \t\n\f]++|#[^\n]*+)"
_COMMENT_LINES = re.compile(r"\n#[^\n]*+(?:\n[^\S\n]*+(?:#[^\n]*+)?+)*+")  # the first at the left margin
_COMMENT = re.compile(r"#[^\n]*+")
_IMPORTED = re.compile(rf"({_DOTTED})(?:\s++as\s++({_NAME}))?", re.ASCII)
_PLAIN_IMPORT = re.compile(
    rf"import[ \t](?P<plain>{_listed(_DOTTED, _BLANK)})"
    rf"|from[ \t]++(?P<module>\.*+{_DOTTED}|\.++)[ \t]++import"
    rf"(?:[ \t](?P<names>{_listed(_NAME, _BLANK)})|[ \t]*+\((?P<inside>{_listed(_NAME, _GAP)}(?:,{_GAP}*+)?+)\))",
    re.ASCII,
)
_GLOBAL = (_symtable.GLOBAL_IMPLICIT, _symtable.GLOBAL_EXPLICIT)
_ABSOLUTE = re.compile(r"import\b|from[ \t]++\w")
_LONGEST_REMEMBERED = 200  # characters of an import statement that is read once for many files
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


def _absolute_module(module: str, package: Sequence[str]) -> str | None:
    """Return the module of a `from` import with its leading dots resolved; None where they lead out of the package."""
    name = module.lstrip(".")
    level = len(module) - len(name)
    if not level:
        return module
    if level > len(package):
        return None
    return ".".join([*package[: len(package) - level + 1], *filter(None, [name])])


# What an import statement binds: its module with leading dots (None after `import`), and names with aliases
_Bound = tuple[str | None, list[tuple[str, str | None]]]


def _read_import(statement: str) -> list[_Bound]:
    """Return what an import statement binds, nothing where it is not Python 3."""
    plain = _PLAIN_IMPORT.fullmatch(statement)
    if plain:
        names = plain["plain"] or plain["names"] or plain["inside"]
        return [(plain["module"], _IMPORTED.findall(_COMMENT.sub("", names) if "#" in names else names))]
    try:
        nodes = ast.parse(statement).body
    except _NOT_PYTHON_3:
        return []
    return [
        ("." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else None, names)
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for names in [[(alias.name, alias.asname) for alias in node.names]]
    ]


class _Binding(NamedTuple):
    """One name that an import statement binds.

    Attributes:
        name: The name; None for one from `__future__`.
        line: A statement that binds this name alone.
        plain: The statement is `import a` or `import a.b`, which may bind one name together.
    """

    name: str | None
    line: str
    plain: bool


def _read_bindings(statement: str, package: tuple[str, ...]) -> list[_Binding]:
    """Return what an import statement in a package binds; star imports are left out."""
    bindings = []
    for stated, names in _read_import(statement):
        module = None if stated is None else _absolute_module(stated, package)
        if stated is not None and not module:
            continue
        start = "import " if module is None else f"from {module} import "
        for imported, alias in names:
            if imported == "*":
                continue
            name = alias or (imported if module else imported.partition(".")[0])
            line = f"{start}{imported} as {alias}" if alias else start + imported
            bindings.append(_Binding(None if module == "__future__" else name, line, not module and not alias))
    return bindings


_read_bindings_again = lru_cache(maxsize=20_000)(_read_bindings)  # files begin with the same imports


def _bindings(statement: str, package: tuple[str, ...]) -> list[_Binding]:
    """Return what `_read_bindings` does, from memory where many files may have the statement."""
    if len(statement) > _LONGEST_REMEMBERED:
        return _read_bindings(statement, package)
    return _read_bindings_again(statement, () if _ABSOLUTE.match(statement) else package)


@dataclass(frozen=True, slots=True)
class Imports:
    """The names that a module imports.

    Attributes:
        future: Its imports from `__future__`, one name each.
        lines: Name to the statements that bind this name alone, each with its position in the module.
    """

    future: list[str]
    lines: dict[str, list[tuple[int, str]]]


def module_imports(statements: Iterable[str], path: str) -> Imports:
    """Return the names that import statements bind.

    Where a name is bound twice (`try`, `except ImportError`), the first binding counts; `import a.b` and `import a.c`
    bind the same name and are both kept. Star imports are left out: what they bind is not known.
    """
    package = _package_of(path)
    future: list[str] = []
    lines: dict[str, list[tuple[int, str]]] = {}
    several = set()  # names that only `import a` and `import a.b` have bound
    position = 0
    for statement in statements:
        for name, line, plain in _bindings(statement, package):
            if name is None:
                future.append(line)
            elif name not in lines:
                lines[name] = [(position, line)]
                if plain:
                    several.add(name)
            elif plain and name in several:
                lines[name].append((position, line))
            position += 1
    return Imports(list(dict.fromkeys(future)), lines)


def taken_names(table: object, names: KeysView[str]) -> set[str]:
    """Return which of some names a function takes from its module or the builtins, by its symbol table."""
    # In the table of the module stand decorators, defaults and annotations: what they refer to is the module's
    taken = {name for name in names & table.symbols.keys() if table.symbols[name] & _symtable.USE}
    tables = list(table.children)
    for table in tables:
        tables += table.children
        symbols = table.symbols
        for name in names & symbols.keys():
            if symbols[name] & _symtable.USE and symbols[name] >> _symtable.SCOPE_OFF & _symtable.SCOPE_MASK in _GLOBAL:
                taken.add(name)
    return taken


def used_imports(table: object, imports: Imports) -> str:
    """Return the import statements that a function uses, one per line, in the order of the module.

    Args:
        table: The function's symbol table.
    """
    names = taken_names(table, imports.lines.keys()) if imports.lines else ()
    used = sorted(line for name in names for line in imports.lines[name])
    return "\n".join(dict.fromkeys([*imports.future, *(line for _, line in used)]))


def _symbols(code: str) -> object:
    """Return the symbol table of a function.

    It is what the module `symtable` wraps, without the objects that it makes for every table and name: they cost time
    with each function. The attributes and flags are those that this module reads.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: the code is not Python 3.
    """
    return _symtable.symtable(code, "function", "exec")


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


class _Found(NamedTuple):
    """A function with a docstring, still without its imports."""

    code: str
    line: int
    name: str
    docstring: str
    table: object


def _without_trailing_comments(code: str) -> str:
    """Cut the comments behind a function: those from the first at the left margin on."""
    if "\n#" in code:
        blocks = list(_COMMENT_LINES.finditer(code))
        if blocks and blocks[-1].end() == len(code):
            code = code[: blocks[-1].start()]
    return code.rstrip()


def _docstring(prefix: str, literal: str) -> str | None:
    """Return the docstring that a string holds; None where only a parser can tell."""
    if not literal:
        return None
    if "\\" in literal and prefix not in ("r", "R"):
        value = ast.literal_eval(prefix + literal)
    else:
        quotes = 3 if literal.startswith(('"""', "'''")) else 1
        value = literal[quotes:-quotes]
    return inspect.cleandoc(value)


def _read_definition(text: str, definition: Definition, line: int, string: tuple[str, str]) -> _Found | str:
    """Return what a definition holds whose body starts with a string, or the reason why it is no candidate."""
    code = _without_trailing_comments(text[definition.start : definition.end])
    name = definition.name
    try:
        docstring = _docstring(*string)
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
        string = None if definition.body is None else find_docstring(text, definition.body)
        if string:
            line += text.count("\n", counted, definition.start)
            counted = definition.start
            yield _read_definition(text, definition, line, string)
        else:
            yield "syntax error" if definition.body is None else "no docstring"


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
    lines = None if whole else read_lines(padded)
    definitions = None if lines is None else find_definitions(padded, lines)
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
                statements = find_imports(padded, lines)
            imports = module_imports(statements, source.path)
        extraction.kept += 1
        yield Function(
            id=digest(*source.identity, found.line, found.code)[:16],
            code=found.code,
            name=found.name,
            imports=used_imports(found.table, imports),
            docstring=found.docstring,
            package=source.package,
            version=source.version,
            path=source.path,
            line=found.line,
            licence=source.licence,
        )


def extract_functions(
    files: Iterable[SourceFile], extraction: Extraction, extract: Callable = extract_source
) -> Iterator[Function]:
    """Yield the functions of all files; every file and every top-level function is accounted for in the extraction.

    Args:
        extract: Finds those of one file, in its language: `extract_source`, or that of another extractor.
    """
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
            functions = list(extract(text, source, extraction))
        yield from functions
