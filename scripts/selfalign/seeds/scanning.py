r"""Find the top-level functions and imports of a Python file by its lines, without parsing the file.

A top-level function starts with a line that begins with `def`, `async def` or a decorator and ends before the next line
that begins with anything but white space, a comment or a closing bracket. That holds wherever no such line lies inside
a string, so the strings of several lines are found first. Where the lines leave a doubt (a string that nothing closes,
a decorator that is followed by neither function nor class, a header without end), nothing is returned, and the caller
has to parse the file.

A text is handed around with a newline before its first line: every line then begins with "\n".
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

# A string on one line; then those that may go on over lines: three quotes, or a backslash before the newline.
# What stands between escapes comes first in each: most strings have none, and loops over groups are slow.
# Possessive are only the loops over single characters, and over groups that fail at their first one: before Python
# 3.11.5 a possessive loop does not go back when a group fails further on (python/cpython issue 106052).
_SHORT = r"""(?:"(?!"")[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*"|'(?!'')[^'\\\n]*+(?:\\[^\n][^'\\\n]*+)*')"""
_LONG = (
    r'''(?:"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*"""|"(?!"")[^"\\\n]*+(?:\\.[^"\\\n]*+)*"'''
    r"""|'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*'''|'(?!'')[^'\\\n]*+(?:\\.[^'\\\n]*+)*')"""
)
_STRING = re.compile(_LONG, re.DOTALL)
_NEXT_LONG = re.compile(rf"""[^"'#]*+(?:(?:#[^\n]*+|{_SHORT})[^"'#]*+)*({_LONG})?""", re.DOTALL)
_QUOTE_OR_COMMENT = re.compile(r"""["'#]""")
# The first characters are looked at in every line: most end the match there, and form feeds come after them
_FUNCTION = re.compile(r"\n(?=[ad\f])\f*+(?:async[ \t\f]++)?def[ \t\f\\]")
# A statement at the left margin, with one group for each kind that matters; `lastindex` is the kind
_STATEMENT = re.compile(
    r"\n(?=[^ \t\n#)\]}])\f*+(?=[^\s#)\]}])"
    r"(?:((?:async[ \t\f]++)?def[ \t\f\\])|(@)|(class\b)|((?:import|from)\b)"
    r"|((?:try|if|elif|else|except|finally|with)\b)|)"
)
_OTHER, _DEF, _DECORATOR, _CLASS, _IMPORT, _MODULE_BLOCK = None, 1, 2, 3, 4, 5
_NAME = re.compile(r"(?:async[ \t\f]++)?def[ \t\f]++([A-Za-z_][A-Za-z0-9_]*+)[ \t\f]*+\(")
_SIMPLE_HEADER = re.compile(
    rf"""(?:async[ \t\f]++)?def[ \t\f]++([A-Za-z_][A-Za-z0-9_]*+)[ \t\f]*+"""
    rf"""\((?:[^()"'#]++|{_SHORT}|\([^()"'#]*+\))*\)[ \t\f]*+(?:->[^:"'#()\\\n]*+)?:"""
)
_HEADER_TOKEN = re.compile(rf"""{_LONG}|#[^\n]*+|[][(){{}}:]""", re.DOTALL)
_LONGEST_HEADER = 20_000  # characters, so that many broken headers do not cost the square of the file's length
# What may stand between a header and its docstring: white space, comments, parentheses, continued lines
_FIRST_STRING = re.compile(r"""(?P<before>[\s(\\]*+(?:#[^\n]*+[\s(\\]*+)*+)(?P<prefix>[A-Za-z]{0,2}+)(?=["'])""")
_END_OF_STATEMENT = re.compile(r"[ \t\f]*+(?:[\n;#]|\Z)")
_DOCSTRING_PREFIXES = frozenset({"", "r", "R", "u", "U"})

_IMPORTS_OF_LINE = re.compile(r"[\n;:][ \t\f]*+(?=(?:import|from)\b)")
_LATER_IMPORT = re.compile(r";(?:[ \t\f]|\\\n)*(?:import|from)\b")
_IMPORT_STATEMENT = re.compile(r"""[^\n;#(\\"']++(?:\\\n[^\n;#(\\"']*+)*(?:\((?:[^()#]++|#[^\n]*+)*+\))?""")
_PLAIN_LINE = re.compile(r"""\n[ \t\f]*+((?:import|from)[ \t][^\n;:#"']+)""")
_LINE_TOKEN = re.compile(rf"""{_SHORT}|#""")
# Blocks whose imports are the module's, and all blocks
_BLOCK_OF_MODULE = re.compile(r"(?:try|if|elif|else|except|finally|with)\b")
_BLOCK = re.compile(r"(?:try|if|elif|else|except|finally|with|def|class|async|for|while|match|case)\b")


class Definition(NamedTuple):
    """A top-level function as its lines show it, in a text with a newline before its first line.

    Attributes:
        start: Offset of `def`, `async def` or the first decorator.
        end: Offset of the newline before the next statement, or of the end of the text.
        following: The same for the next function.
        name: None where it is not ASCII.
        body: Offset behind the colon of the header; None where there is no such colon.
    """

    start: int
    end: int
    following: int
    name: str | None
    body: int | None


class Lines(NamedTuple):
    """The statements at the left margin of a text.

    Attributes:
        strings: Start and end of the strings that may hold lines at the left margin, in their order.
        statements: Offset of the newline before each statement, and its kind. Of statements of no kind that matters
            only those behind another kind are listed: they end it.
    """

    strings: list[tuple[int, int]]
    statements: list[tuple[int, int | None]]


def has_functions(text: str) -> bool:
    """Return whether a line starts like a function, be it inside a string."""
    return _FUNCTION.search(text) is not None


def _long_strings(text: str, begin: int, end: int) -> list[tuple[int, int]] | None:
    """Return the start and end of every string that may go on over lines; None where a quote is not closed."""
    spans = []
    while True:
        match = _NEXT_LONG.match(text, begin, end)
        begin = match.end()
        if match.start(1) >= 0:
            spans.append(match.span(1))
        else:
            return spans if begin == end else None


def _triple_quoted(text: str) -> list[tuple[int, int]] | None:
    """Return the start and end of every string in three quotes; None where it is not clear which quotes are theirs.

    It jumps from quotes to quotes, several times as fast as the pattern that looks at every string and comment. No
    other string goes on over lines unless one of its lines ends in a backslash.
    """
    spans = []
    position = double = 0
    while True:
        if double <= position:
            double = text.find('"""', position) % (len(text) + 1)
        start = text.find("'''", position, double)
        if start < 0:
            start = double
        if start == len(text):
            return spans
        line = max(text.rfind("\n", position, start) + 1, position)
        if text[line - 2 : line] == "\\\n":
            return None
        if _QUOTE_OR_COMMENT.search(text, line, start):
            match = _NEXT_LONG.match(text, line)
            start, end = match.span(1)
            if start < 0:
                return spans if match.end() == len(text) else None
        else:
            end = text.find(text[start : start + 3], start + 3) + 3
            if end < 3:
                return None
            if text[end - 4] == "\\":
                match = _STRING.match(text, start)
                if not match:
                    return None
                end = match.end()
        spans.append((start, end))
        position = end


def _statements(text: str, strings: list[tuple[int, int]]) -> list[tuple[int, int | None]]:
    """Return the statements at the left margin, as `Lines` holds them."""
    found = []
    begin, last = 0, _OTHER
    for start, end in [*strings, (len(text), 0)]:
        # The first quote of a string may begin a statement
        for match in _STATEMENT.finditer(text, begin, start + 1):
            kind = match.lastindex
            if kind or last:
                found.append((match.start(), kind))
                last = kind
        begin = end
    return found


def read_lines(text: str) -> Lines | None:
    """Return the statements at the left margin; None where it is not clear which lines are inside of strings.

    Args:
        text: The file, with a newline before its first line.
    """
    strings = _triple_quoted(text)
    if strings is not None:
        lines = Lines(strings, _statements(text, strings))
        # Behind a backslash it may be a line of a string in single quotes
        if not any(text[newline - 1] == "\\" for newline, _ in lines.statements):
            return lines
    strings = _long_strings(text, 0, len(text))
    return None if strings is None else Lines(strings, _statements(text, strings))


class _TooLong(Exception):
    """A header goes on for longer than headers do."""


def _header_end(text: str, start: int) -> int | None:
    """Return the offset behind the colon that ends a function's header; None where there is none.

    Raises:
        _TooLong: there is none within the longest header.
    """
    depth = 0
    for token in _HEADER_TOKEN.finditer(text, start, start + _LONGEST_HEADER):
        character = token[0]
        if character in ("(", "[", "{"):
            depth += 1
        elif character in (")", "]", "}"):
            depth -= 1
            if depth < 0:
                return None
        elif character == ":" and depth == 0:
            return token.end()
    if start + _LONGEST_HEADER < len(text):
        raise _TooLong
    return None


def _first_character(text: str, newline: int) -> int:
    """Return the offset of the first character of a statement at the left margin."""
    start = newline + 1
    while text[start] == "\f":
        start += 1
    return start


def find_definitions(text: str, lines: Lines) -> list[Definition] | None:
    """Return the functions at the left margin, in their order; None where the lines do not tell.

    Args:
        text: The file, with a newline before its first line.
        lines: What `read_lines` returned for it.
    """
    statements = lines.statements
    found: list[tuple[int, int, int]] = []
    decorator = None
    for index, (newline, kind) in enumerate(statements):
        if kind == _DEF:
            header = _first_character(text, newline)
            end = statements[index + 1][0] if index + 1 < len(statements) else len(text)
            found.append((header if decorator is None else decorator, header, end))
            decorator = None
        elif kind == _DECORATOR:
            decorator = _first_character(text, newline) if decorator is None else decorator
        elif kind == _CLASS:
            decorator = None
        elif decorator is not None:
            return None
    if decorator is not None:
        return None
    definitions = []
    limits = [*(start - 1 for start, _, _ in found[1:]), len(text)]
    for (start, header, end), following in zip(found, limits, strict=False):
        name = simple = _SIMPLE_HEADER.match(text, header, header + _LONGEST_HEADER)
        if simple:
            body = simple.end()
        else:
            name = _NAME.match(text, header)
            try:
                body = _header_end(text, header)
            except _TooLong:
                return None
        definitions.append(Definition(start, end, max(end, following), name[1] if name else None, body))
    return definitions


def find_docstring(text: str, body: int) -> tuple[str, str] | None:
    """Return prefix and literal of the string that a function's body starts with.

    The literal is empty where more than one plain literal may belong to the docstring: the function has to be parsed.
    None is returned where the body starts with something else.

    Args:
        body: Offset behind the header's colon.
    """
    first = _FIRST_STRING.match(text, body)
    if not first or first["prefix"] not in _DOCSTRING_PREFIXES:
        return None
    literal = _STRING.match(text, first.end())
    alone = literal and "(" not in first["before"] and "\\" not in first["before"]
    if not alone or not _END_OF_STATEMENT.match(text, literal.end()):
        return first["prefix"], ""
    return first["prefix"], literal[0]


def _indent(text: str, start: int) -> tuple[int, int]:
    """Return the indentation of a line in columns, and the offset of its first character that is not white space."""
    columns = 0
    while start < len(text):
        if text[start] == " ":
            columns += 1
        elif text[start] == "\t":
            columns += 8 - columns % 8
        elif text[start] == "\f":
            columns = 0
        else:
            break
        start += 1
    return columns, start


def _imports_of_line(text: str, line: int, end: int) -> Iterator[int]:
    """Yield where import statements start in one line, those behind a semicolon or a colon included."""
    code = text[line:end]
    if "import" not in code and "from" not in code:
        return
    plain = _PLAIN_LINE.fullmatch(code)
    if plain:
        yield line + plain.start(1)
        return
    quoted = [match.span() for match in _LINE_TOKEN.finditer(text, line + 1, end)]
    comment = next((start for start, _ in quoted if text[start] == "#"), end)
    for match in _IMPORTS_OF_LINE.finditer(text, line, comment):
        if not any(start < match.start() < stop for start, stop in quoted):
            yield match.end()


def _inside(strings: list[tuple[int, int]], offset: int) -> bool:
    """Return whether a character lies inside a string, behind its first."""
    index = bisect_left(strings, (offset,)) - 1
    return index >= 0 and offset < strings[index][1]


def _imports_of_block(text: str, strings: list[tuple[int, int]], start: int, end: int) -> Iterator[int]:
    """Yield where the module's own import statements start in a block that starts at the left margin."""
    if text.find("\\\n", start, end) >= 0:
        strings = _long_strings(text, start, end) or strings
    blocks = [(-1, True)]  # indentation, and whether imports inside are the module's
    line = start
    while line < end:
        stop = text.find("\n", line + 1, end)
        stop = end if stop < 0 else stop
        columns, first = _indent(text, line + 1)
        if first < stop and text[first] not in "#)]}" and not _inside(strings, first):
            while columns <= blocks[-1][0]:
                blocks.pop()
            allowed = blocks[-1][1]
            if _BLOCK.match(text, first):
                allowed = allowed and _BLOCK_OF_MODULE.match(text, first) is not None
                blocks.append((columns, allowed))
            if allowed:
                yield from _imports_of_line(text, line, stop)
        line = stop


def _later_imports(text: str, lines: Lines) -> Iterator[int]:
    """Yield where import statements of the module start behind a semicolon, those in blocks left out."""
    end = 0  # of the last line that was read
    for match in _LATER_IMPORT.finditer(text):
        if match.start() < end:
            continue
        line = text.rfind("\n", end, match.start())
        while line > end and text[line - 1] == "\\":
            line = text.rfind("\n", end, line)
        end = text.find("\n", match.end()) % (len(text) + 1)
        if text[line - 1 : line] == "\\":  # it goes on from a line that was read
            continue
        columns, first = _indent(text, line + 1)
        if columns or _BLOCK.match(text, first) or _inside(lines.strings, match.start()):
            continue
        index = bisect_right(lines.statements, line, key=lambda statement: statement[0]) - 1
        if index < 0 or lines.statements[index][1] != _DEF:
            yield from _imports_of_line(text, line, end)


def find_imports(text: str, lines: Lines) -> list[str]:
    """Return the import statements of a module, those inside `try`, `if` and `with` included, in their order.

    Args:
        text: The file, with a newline before its first line.
        lines: What `read_lines` returned for it.
    """
    offsets = set(_later_imports(text, lines))
    for index, (newline, kind) in enumerate(lines.statements):
        if kind == _IMPORT:
            offsets.add(_first_character(text, newline))
        elif kind == _MODULE_BLOCK:
            end = lines.statements[index + 1][0] if index + 1 < len(lines.statements) else len(text)
            if text.find("import", newline, end) >= 0:
                offsets.update(_imports_of_block(text, lines.strings, newline, end))
    return [_IMPORT_STATEMENT.match(text, offset)[0].strip() for offset in sorted(offsets)]
