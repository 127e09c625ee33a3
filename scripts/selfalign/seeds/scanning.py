r"""Find the top-level functions and imports of a Python file by its lines, without parsing the file.

A top-level function starts with a line that begins with `def`, `async def` or a decorator and ends before the next line
that begins with anything but white space, a comment or a closing bracket. That holds wherever no such line lies inside
a string, so one pass of a regular expression finds the strings of several lines first. Where the lines leave a doubt
(a quote that nothing closes, a decorator that is followed by neither function nor class, a header without end), nothing
is returned, and the caller has to parse the file.

A text is handed around with a newline before its first line: every line then begins with "\n".
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# A string on one line; then those that may go on over lines: three quotes, or a backslash before the newline.
# What stands between escapes comes first in each: most strings have none, and loops over groups are slow.
_SHORT = r"""(?:"(?!"")[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"|'(?!'')[^'\\\n]*+(?:\\[^\n][^'\\\n]*+)*+')"""
_LONG = (
    r'''(?:"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+"""|"(?!"")[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"'''
    r"""|'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+'''|'(?!'')[^'\\\n]*+(?:\\.[^'\\\n]*+)*+')"""
)
_NEXT_LONG = re.compile(rf"""[^"'#]*+(?:(?:#[^\n]*+|{_SHORT})[^"'#]*+)*+({_LONG})?""", re.DOTALL)
_DEFINITION = re.compile(r"\n\f*+(?:(?:async[ \t\f]++)?def[ \t\f\\]|@)")
_FUNCTION = re.compile(r"\n\f*+(?:async[ \t\f]++)?def[ \t\f\\]")
_STATEMENT = re.compile(r"\n\f*+[^\s#)\]}]")
_DEF_OR_CLASS = re.compile(r"(?:(?:async[ \t\f]++)?def|class)\b|@")
_NAME = re.compile(r"(?:async[ \t\f]++)?def[ \t\f]++([A-Za-z_][A-Za-z0-9_]*+)[ \t\f]*+\(")
_SIMPLE_HEADER = re.compile(
    r"""(?:async[ \t\f]++)?def[ \t\f]++([A-Za-z_][A-Za-z0-9_]*+)[ \t\f]*+\([^()"'#]*+\)[ \t\f]*+"""
    r"""(?:->[^:"'#()\\\n]*+)?:"""
)
_HEADER_TOKEN = re.compile(rf"""{_LONG}|#[^\n]*+|[][(){{}}:]""", re.DOTALL)
_LONGEST_HEADER = 20_000  # characters, so that many broken headers do not cost the square of the file's length
# What may stand between a header and its docstring: white space, comments, parentheses, continued lines
_FIRST_STRING = re.compile(r"""(?P<before>(?:[\s(\\]|#[^\n]*+)*+)(?P<prefix>[A-Za-z]{0,2}+)(?=["'])""")
_STRING = re.compile(_LONG, re.DOTALL)
_END_OF_STATEMENT = re.compile(r"[ \t\f]*+(?:[\n;#]|\Z)")
_DOCSTRING_PREFIXES = frozenset({"", "r", "R", "u", "U"})

_IMPORT = re.compile(r"[\n;:][ \t\f]*+(?=(?:import|from)\b)")
_IMPORT_WORD = re.compile(r"import(?=[\s(*\\])")
_IMPORT_STATEMENT = re.compile(r"""(?:[^\n;#(\\"']|\\\n)++(?:\((?:[^()#]++|#[^\n]*+)*+\))?""")
_PLAIN_LINE = re.compile(r"""\n[ \t\f]*+((?:import|from)[ \t][^\n;:#"']*+)""")
_LINE_TOKEN = re.compile(rf"""{_SHORT}|#""")
# Blocks whose imports are the module's, and all blocks
_MODULE_BLOCK = re.compile(r"(?:try|if|elif|else|except|finally|with)\b")
_BLOCK = re.compile(r"(?:try|if|elif|else|except|finally|with|def|class|async|for|while|match|case)\b")


class Definition(NamedTuple):
    """A top-level function as its lines show it, in a text with a newline before its first line.

    Attributes:
        start: Offset of `def`, `async def` or the first decorator.
        end: Offset of the newline before the next statement, or of the end of the text.
        following: The same for the next function, class or decorator.
        name: None where it is not ASCII.
        body: Offset behind the colon of the header; None where there is no such colon.
    """

    start: int
    end: int
    following: int
    name: str | None
    body: int | None


def has_functions(text: str) -> bool:
    """Return whether a line starts like a function, be it inside a string."""
    return _FUNCTION.search(text) is not None


def long_strings(text: str) -> list[tuple[int, int]] | None:
    """Return the start and end of every string that may go on over lines; None where a quote is not closed."""
    spans = []
    position = 0
    while True:
        match = _NEXT_LONG.match(text, position)
        position = match.end()
        if match.start(1) >= 0:
            spans.append(match.span(1))
        else:
            return spans if position == len(text) else None


class _Lines:
    """The statements at the left margin of a text."""

    def __init__(self, text: str, strings: list[tuple[int, int]]):
        self.text = text
        self.starts = [start for start, _ in strings]
        self.ends = [end for _, end in strings]

    def in_string(self, offset: int) -> bool:
        """Return whether a character lies inside a string, behind its first."""
        index = bisect_left(self.starts, offset) - 1
        return index >= 0 and offset < self.ends[index]

    def next_statement(self, offset: int) -> tuple[int, int]:
        """Return the newline before the next statement at the left margin, and its first character."""
        while match := _STATEMENT.search(self.text, offset):
            if not self.in_string(match.end() - 1):
                return match.start(), match.end() - 1
            # Not into the same string again: a long one may hold thousands of such lines
            offset = self.ends[bisect_left(self.starts, match.end() - 1) - 1] - 1
        return len(self.text), len(self.text)


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


def find_definitions(text: str, strings: list[tuple[int, int]]) -> list[Definition] | None:
    """Return the functions at the left margin, in their order; None where the lines do not tell.

    Args:
        text: The file, with a newline before its first line.
        strings: What `long_strings` returned for it.
    """
    lines = _Lines(text, strings)
    found: list[tuple[int, int, int]] = []
    first_decorator = None
    for match in _DEFINITION.finditer(text):
        start = match.start() + 1
        while text[start] == "\f":
            start += 1
        if lines.in_string(start):
            continue
        end, following = lines.next_statement(start)
        if text[start] == "@":
            first_decorator = start if first_decorator is None else first_decorator
            decorated = _DEF_OR_CLASS.match(text, following)
            if not decorated:
                return None
            if decorated[0] == "class":
                first_decorator = None
        else:
            found.append((start if first_decorator is None else first_decorator, start, end))
            first_decorator = None
    definitions = []
    for index, (start, header, end) in enumerate(found):
        following = found[index + 1][0] - 1 if index + 1 < len(found) else len(text)
        name = simple = _SIMPLE_HEADER.match(text, header)
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
    for match in _IMPORT.finditer(text, line, comment):
        if not any(start < match.start() < stop for start, stop in quoted):
            yield match.end()


def _imports_of_block(lines: _Lines, start: int, end: int) -> Iterator[int]:
    """Yield where the module's own import statements start in a block that starts at the left margin."""
    text = lines.text
    blocks = [(-1, True)]  # indentation, and whether imports inside are the module's
    line = start
    while line < end:
        stop = text.find("\n", line + 1, end)
        stop = end if stop < 0 else stop
        columns, first = _indent(text, line + 1)
        if first < stop and text[first] not in "#)]}" and not lines.in_string(first):
            while columns <= blocks[-1][0]:
                blocks.pop()
            allowed = blocks[-1][1]
            if _BLOCK.match(text, first):
                allowed = allowed and _MODULE_BLOCK.match(text, first) is not None
                blocks.append((columns, allowed))
            if allowed:
                yield from _imports_of_line(text, line, stop)
        line = stop


def _imports_between(lines: _Lines, begin: int, end: int) -> Iterator[int]:
    """Yield where the module's own import statements start between two functions.

    Args:
        begin: The newline before the first line.
        end: The newline behind the last line.
    """
    text = lines.text
    indented: list[int] = []
    line = -1
    # Every import statement has this word, `from` has it on the same line
    for match in _IMPORT_WORD.finditer(text, begin, end):
        start = text.rfind("\n", 0, match.start())
        while text[start - 1 : start] == "\\":  # a continued line
            start = text.rfind("\n", 0, start)
        if start == line or start < begin or lines.in_string(match.start()):
            continue
        line = start
        columns, first = _indent(text, line + 1)
        if columns == 0 and not _BLOCK.match(text, first):
            yield from _imports_of_line(text, line, text.find("\n", match.end()) % (len(text) + 1))
        else:
            indented.append(line)
    if indented:
        margin = [
            match.start() for match in _STATEMENT.finditer(text, begin, end) if not lines.in_string(match.end() - 1)
        ]
        for index in sorted({bisect_right(margin, line) - 1 for line in indented}):
            if index >= 0 and _MODULE_BLOCK.match(text, _indent(text, margin[index] + 1)[1]):
                yield from _imports_of_block(lines, margin[index], margin[index + 1] if margin[index + 1 :] else end)


def find_imports(text: str, strings: list[tuple[int, int]], definitions: Sequence[Definition]) -> list[str]:
    """Return the import statements of a module, those inside `try`, `if` and `with` included, in their order.

    Args:
        text: The file, with a newline before its first line.
        strings: What `long_strings` returned for it.
        definitions: What `find_definitions` returned for it.
    """
    lines = _Lines(text, strings)
    offsets: list[int] = []
    begin = 0
    ends = [text.rfind("\n", 0, definition.start) for definition in definitions]
    for end, following in zip([*ends, len(text)], [*(definition.end for definition in definitions), 0], strict=True):
        if text.find("import", begin, end) >= 0:
            offsets += _imports_between(lines, begin, end)
        begin = following
    return [_IMPORT_STATEMENT.match(text, offset)[0].strip() for offset in sorted(offsets)]
