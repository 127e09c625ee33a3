"""Syntax trees of functions and classes in a normal form, and which code can have one of them.

Whether two pieces of code are the same but for their names, docstrings and annotations, their normal forms tell, for
which they have to be parsed. Parsing takes longer than everything else, so `FormTable` looks at many codes at a time
without it, and parses those only that have the keywords and signs of one of its forms.
"""

import ast
import keyword
import operator
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from selfalign.matching.hashing import (
    MULTIPLIER,
    ONLY_WORDS,
    PADDING,
    HashedTexts,
    HashTable,
    Words,
    find_words,
    hash_words,
)

_WORD = re.compile(r"\w+")
_HIDDEN = re.compile(
    "|".join(
        rf"{q}(?:{q}{q}[^{q}\\\0]*+(?:(?:\\[^\0]|{q}(?!{q}{q}))[^{q}\\\0]*+)*+{q}{q}{q}"
        rf"|[^{q}\\\n\r\0]*+(?:\\(?:\r\n|[^\0])[^{q}\\\n\r\0]*+)*+{q})"
        for q in "\"'"
    )
    + r"|#[^\n\r\0]*+|->"
)  # strings, comments, and the one sign that is part of an annotation
# Not the keywords in which equal forms may differ (the first two), nor those of usual annotations
_COUNTED_KEYWORDS = [
    word
    for word in keyword.kwlist
    if word not in {"else", "pass", "elif", "None", "True", "False", "and", "in", "is", "not", "or"}
]
_COUNTED_SIGNS = "=+-*/%<>!^&~{"  # what may be more or less of without changing a form is left out: `(` `,` `:` `\\`
_KINDS = {token: number for number, token in enumerate([*_COUNTED_KEYWORDS, *_COUNTED_SIGNS, *"[]@\n\0"], 1)}
_LAST_KEYWORD = len(_COUNTED_KEYWORDS)
_BREAKS = "\n\v\f\r"  # what the left margin follows: a form feed takes back the spaces before it
_SIGN_KINDS = bytes(_KINDS.get("\n" if chr(byte) in _BREAKS else chr(byte), 0) for byte in range(256))
_KEYWORD_VALUES = {
    int.from_bytes(word.encode(), "little"): _KINDS[{"elif": "if"}.get(word, word)]  # `else: if` is the same form
    for word in [*_COUNTED_KEYWORDS, "elif"]
}
_KEYWORDS = HashTable(_KEYWORD_VALUES)
_KEYWORD_KINDS = np.array([_KEYWORD_VALUES[value] for value in _KEYWORDS.keys.tolist()], dtype=np.uint8)
_NESTED_QUOTES = sys.version_info >= (3, 12)  # in f-strings, where `_HIDDEN` cannot tell which quotes end the string
_NESTED_FSTRING = re.compile(
    r"""(?<!\w)(?:[rR]?[fFtT]|[fFtT][rR])(?=["'])(?!"""
    + "|".join(
        rf"{q}{q}{q}(?:[^{{}}{q}\\]|{q}(?!{q}{q})|\\[^{{}}]|{{{{|}}}}"
        rf"|{{(?:[^{{}}\"'\\\n#]|{q}[^{{}}\"'\\\n]*{q}(?!{q})|{other}[^{{}}\"'\\\n]*{other})+}})*{q}{q}{q}"
        rf"|{q}(?!{q}{q})(?:[^{{}}{q}\\\n\r]|\\[^{{}}]|{{{{|}}}}"
        rf"|{{(?:[^{{}}\"'\\\n#]|{other}[^{{}}\"'\\\n]*{other})+}})*{q}"
        for q, other in ("\"'", "'\"")
    )
    + ")"
)  # one of which this pattern cannot tell, either


def parse_python(code: str) -> ast.Module | None:
    """Return the syntax tree of code, or None where it is not Python 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: absurdly deep nesting
            return None


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COUNTED = (ast.expr, ast.stmt, ast.comprehension)
_UNIMPORTANT = {"ctx", "type_comment", "kind"}  # fields that say nothing besides what their place in the tree says


def _plain_assignment(node: ast.AnnAssign) -> ast.stmt:
    """Return an assignment without its annotation."""
    return ast.Pass() if node.value is None else ast.Assign(targets=[node.target], value=node.value)


class NormalForm:
    """The syntax tree of functions and classes, in which their own names, docstrings and annotations do not count.

    What the code itself binds is renamed to v0, v1, ... in order of appearance.

    Attributes:
        items: Node types, names and constants in order: equal for trees that are equal so far.
        nodes: Expressions and statements, without the definitions themselves: a signature is no evidence.
        free: Names and attributes in items that the code does not bind: all code with this form has them as words.
    """

    def __init__(self, definitions: list[ast.stmt]):
        self._variables, self._attributes, self._functions = _bound_names(definitions)
        self._names: dict[tuple[str, str], str] = {}
        self.items: list[object] = []
        self.free: set[str] = set()
        self.nodes = 0
        for definition in definitions:
            self._visit(definition)

    def _add_name(self, name: str | None, bound: set[str], kind: str = "variable") -> None:
        if name in bound:
            self.items.append(self._names.setdefault((kind, name), f"v{len(self._names)}"))
        else:
            self.items.append(f"={name}")
            if name and name.isascii():  # how other names look in lower case depends on what follows them
                self.free.update(_WORD.findall(name.lower()))

    def _visit(self, node: object) -> None:
        if isinstance(node, list):
            self.items.append("[")
            for item in node:
                self._visit(item)
            self.items.append("]")
            return
        if not isinstance(node, ast.AST):
            if isinstance(node, str):
                self._add_name(node, self._variables)  # of `global`, `except`, `as` and patterns
            else:
                self.items.append(repr(node))
            return
        if isinstance(node, ast.AnnAssign):
            node = _plain_assignment(node)
        kind = type(node)
        self.items.append(kind.__name__)
        if isinstance(node, _COUNTED) and kind not in DEFINITIONS:
            self.nodes += 1
        if kind is ast.Name:
            self._add_name(node.id, self._variables)
        elif kind is ast.Constant:
            self.items += (type(node.value).__name__, node.value)  # True is not 1 is not 1.0
        elif kind is ast.Attribute:
            self._visit(node.value)
            self._add_name(node.attr, self._attributes, "attribute")
        elif kind is ast.arg:
            self._add_name(node.arg, self._variables)
        elif kind is ast.alias:
            self._add_name(node.name, set())
            self._visit(node.asname)
        elif kind is ast.ImportFrom:
            self._add_name(node.module, set())
            self._visit(node.names)
        elif kind is ast.Call:
            own = isinstance(node.func, ast.Name) and node.func.id in self._functions
            self._visit(node.func)
            self._visit(node.args)
            for keyword in node.keywords:
                self._add_name(keyword.arg, self._variables if own else set())
                self._visit(keyword.value)
        elif kind in DEFINITIONS:
            self._visit_definition(node)
        else:
            for field in kind._fields:
                if field not in _UNIMPORTANT:
                    self._visit(getattr(node, field, None))

    def _visit_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        if node.name in self._attributes:
            self._add_name(node.name, self._attributes, "attribute")
        else:
            self._add_name(node.name, self._variables)
        if isinstance(node, ast.ClassDef):
            self._visit(node.bases)
            self._visit(node.keywords)
        else:
            self._visit(node.args)
        self._visit(_body(node))


def _bound_names(definitions: list[ast.stmt]) -> tuple[set[str], set[str], set[str]]:
    """Return what the code itself names: its variables (functions and classes included), attributes and functions.

    A variable `count` does not make the method in `text.count()` the code's own.
    """
    variables, attributes, functions = set(), set(), set()
    for node in (node for definition in definitions for node in ast.walk(definition)):
        if isinstance(node, ast.ClassDef):
            attributes |= {item.name for item in node.body if isinstance(item, DEFINITIONS)}
        elif isinstance(node, ast.arg):
            variables.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            variables.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            variables.add(node.name)
        elif isinstance(node, ast.MatchMapping):
            variables.add(node.rest)
        elif isinstance(node, ast.alias):
            variables.add(node.asname)
        if isinstance(node, DEFINITIONS):
            functions.add(node.name)
    functions -= attributes
    return (variables | functions) - {None}, attributes, functions


def _body(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[ast.stmt]:
    """Return the statements of a definition without its docstring."""
    documented = ast.get_docstring(node, clean=False) is not None
    return (node.body[1:] if documented else node.body) or [ast.Pass()]


def _statement_types(statements: list[ast.AST]) -> Iterator[str]:
    for node in statements:
        value = getattr(node, "value", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Pass):
            yield type(node).__name__
        yield type(value).__name__ if value else ""
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            if children := getattr(node, field, None):
                yield field
                yield from _statement_types(_body(node) if isinstance(node, DEFINITIONS) else children)


def _shape(definitions: list[ast.stmt]) -> tuple[str, ...]:
    """Return what is the same for equal normal forms and known at a glance: the types of the statements."""
    return tuple(_statement_types(definitions))


def split_groups(tree: ast.Module) -> list[list[ast.stmt]]:
    """Return each function and class of a module by itself, and all of them together."""
    definitions = [node for node in tree.body if isinstance(node, DEFINITIONS)]
    return [[node] for node in definitions] + ([definitions] if len(definitions) > 1 else [])


class _Spelling(ast.NodeTransformer):
    """Removes what a normal form does not count, and what its code may spell with other words and signs."""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt:
        node.decorator_list, node.returns = [], None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        node.decorator_list = []
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        return self.generic_visit(_plain_assignment(node))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        node.level = 0
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(value=0 if isinstance(node.value, float | complex) else node.value)  # 1e-05, and no u""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        return ast.Constant(value="")

    visit_TemplateStr = visit_JoinedStr


def _spelling(definition: ast.stmt) -> str:
    """Return a definition with the least words and signs that code of its normal form has."""
    copy = ast.parse(ast.unparse(definition))
    return ast.unparse(ast.fix_missing_locations(_Spelling().visit(copy)))


@dataclass(frozen=True, kw_only=True)
class Outlines:
    """What is known of the functions and classes at the left margin of some codes without parsing.

    A definition ends before one of the lines at the left margin that follow it, but which one (a line inside brackets
    may begin there, too) only a parser can tell: each definition has as many outlines as it has possible ends, and as
    many again stand for all definitions of a code that has several. One of them is right.

    Attributes:
        codes: The number of the code of each outline.
        hashes: Of the keywords and signs of the first definition that it stands for, and of the number of definitions.
            They are the same for all code of one normal form, as signs in square brackets do not count. The one
            exception are keywords and signs that an annotation has outside of these, such as `x: (int if NEW else
            str)`: they count here and not in the form. Where decorators or numbers have signs, keywords alone count.
        heads: Where that definition begins in the text.
        ends: Where it ends.
        words: How many words it has.
        text: All codes without their strings and comments.
        unclear: The numbers of the codes that only a parser can tell.
        names: Of the functions and classes of each code.
    """

    codes: np.ndarray
    hashes: np.ndarray
    heads: np.ndarray
    ends: np.ndarray
    words: np.ndarray
    text: bytes
    unclear: set[int]
    names: list[list[str]]

    def sizes(self, number: int) -> tuple[int, ...]:
        """Return how many words and signs of some kinds the first definition of an outline has, annotations included.

        Code of one normal form has at least as many as its spelling without annotations.
        """
        head, end = int(self.heads[number]), int(self.ends[number])
        return int(self.words[number]), *(self.text.count(sign, head, end) for sign in (b".", b"[", b",", b":"))


def find_outlines(codes: Sequence[str], *, with_signs: bool = True) -> Outlines:
    """Outline the functions and classes of some codes."""
    joined = "\0".join(["", *("" if "\0" in code else code for code in codes), ""])
    text = _HIDDEN.sub('"', joined).encode("utf-8", "surrogatepass") + PADDING
    data = np.frombuffer(text, dtype=np.uint8)
    words = find_words(text.translate(ONLY_WORDS))
    places, numbers = _KEYWORDS.find(words.values)
    short = words.sizes[places] <= 8  # `continued` begins like `continue`
    places, kinds = places[short], _KEYWORD_KINDS[numbers[short]]
    starts = words.starts[places]
    defines = (kinds == _KINDS["def"]) | (kinds == _KINDS["class"])
    asynchronous = kinds == _KINDS["async"]
    asynchronous[:-1] &= defines[1:] & (places[1:] == places[:-1] + 1)
    marks = np.frombuffer(bytearray(text.translate(_SIGN_KINDS)), dtype=np.uint8)
    at_margin = np.isin(marks[starts - 1], (_KINDS["\n"], _KINDS["\0"])) & (defines | asynchronous)
    heads, named = starts[at_margin], (places + asynchronous)[at_margin] + 1
    marks[starts] = kinds
    marked = np.flatnonzero(marks)
    kinds = marks[marked]

    bounds = marked[kinds == _KINDS["\0"]][: len(codes) + 1]  # of the codes
    breaks = marked[kinds == _KINDS["\n"]]
    ends = np.sort(np.concatenate([breaks[data[breaks + 1] > ord(" ")] + 1, bounds[1:]]))
    head_codes, end_codes = np.searchsorted(bounds, heads) - 1, np.searchsorted(bounds, ends) - 1
    owners = np.searchsorted(heads, ends) - 1
    owned = np.flatnonzero((owners >= 0) & (np.append(head_codes, -1)[owners] == end_codes))
    ends, end_codes, owners = ends[owned], end_codes[owned], owners[owned]

    glued, signed = _ambiguous_places(data, words, marked[kinds == _KINDS["@"]])
    unclear = set((np.searchsorted(bounds, glued) - 1).tolist())
    if _NESTED_QUOTES:
        formatted = set((np.searchsorted(bounds, _formatted_places(data)) - 1).tolist())
        unclear.update(number for number in formatted if _NESTED_FSTRING.search(codes[number]))
    has_signs = np.full(len(codes), with_signs)
    has_signs[np.searchsorted(bounds, signed) - 1] = False
    first = np.searchsorted(marked, heads[0]) if len(heads) else len(marked)
    marked, kinds = marked[first:], kinds[first:]
    depths = np.cumsum((kinds == _KINDS["["]).astype(np.int32) - (kinds == _KINDS["]"]))
    firsts = np.searchsorted(marked, heads)
    lengths = np.diff(np.append(firsts, len(marked)))
    outer = (depths == np.repeat(depths[firsts], lengths)) & np.repeat(has_signs[head_codes], lengths)
    counted = (kinds <= _LAST_KEYWORD) | (outer & (kinds < _KINDS["["]))
    marked, kinds = marked[counted], kinds[counted]
    firsts = np.searchsorted(marked, heads)
    lengths = np.diff(np.append(firsts, len(marked)))
    powers = np.multiply.accumulate(np.full(lengths.max(initial=0), MULTIPLIER))
    sums = np.append(np.uint64(0), np.cumsum(kinds * powers[np.arange(len(marked)) - np.repeat(firsts, lengths)]))
    hashes = (sums[np.searchsorted(marked, ends)] - sums[firsts[owners]]) * MULTIPLIER + has_signs[end_codes]
    counts = np.bincount(head_codes, minlength=len(codes))[end_codes]
    grouped = np.flatnonzero((counts > 1) & (np.searchsorted(head_codes, end_codes) == owners))
    heads, ends = heads[np.append(owners, owners[grouped])], np.append(ends, ends[grouped])
    return Outlines(
        codes=np.append(end_codes, end_codes[grouped]),
        hashes=np.append(_group_hash(hashes, 1), _group_hash(hashes[grouped], counts[grouped])),
        heads=heads,
        ends=ends,
        words=np.searchsorted(words.starts, ends) - np.searchsorted(words.starts, heads),
        text=text,
        unclear=unclear,
        names=_read_names(text, words, head_codes, named, len(codes)),
    )


def _read_names(text: bytes, words: Words, codes: np.ndarray, places: np.ndarray, count: int) -> list[list[str]]:
    """Return of each code the words at these places, but for those that a `def` or `class` without a name is before."""
    names: list[list[str]] = [[] for _ in range(count)]
    inside = places < len(words.starts)
    codes, places = codes[inside], places[inside]
    ends = words.starts + words.sizes
    columns = (codes, ends[places - 1], words.starts[places], ends[places])
    for code, keyword_end, start, end in zip(*map(np.ndarray.tolist, columns), strict=True):
        if text[keyword_end:start].isspace():
            names[code].append(text[start:end].decode("utf-8", "surrogatepass"))
    return names


def _group_hash(hashes: np.ndarray, counts: np.ndarray | int) -> np.ndarray:
    """Return the hashes of groups of so many definitions, of which the first one has this hash."""
    return hashes ^ np.asarray(counts, dtype=np.uint64) * MULTIPLIER


def _ambiguous_places(data: np.ndarray, words: Words, decorators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where codes without strings may have other keywords, and where other signs, than words and bytes tell."""
    ends = (words.starts + words.sizes)[data[words.starts] - np.uint8(ord("0")) < 10]  # of numbers
    last, second = data[ends - 1], data[ends - 2]
    glued = (last == ord("f")) & (second == ord("i")) | (last == ord("r")) & (second == ord("o"))  # `0if x`, `0xfor y`
    signed = ((last | 32) == ord("e")) & ((data[ends] == ord("+")) | (data[ends] == ord("-")))  # `1e-5`
    inner = decorators[(data[decorators - 1] == ord(" ")) | (data[decorators - 1] == ord("\t"))]
    return ends[glued], np.concatenate([ends[signed], inner])


def _formatted_places(data: np.ndarray) -> np.ndarray:
    """Return where strings with code inside begin, in codes in which a quote stands for each string."""
    quotes = np.flatnonzero(data == ord('"'))
    last, second = data[quotes - 1] | 32, data[quotes - 2] | 32
    return quotes[_is_format(last) | (last == ord("r")) & _is_format(second)]


def _is_format(letters: np.ndarray) -> np.ndarray:
    return (letters == ord("f")) | (letters == ord("t"))


@dataclass(frozen=True, kw_only=True)
class _Needs:
    """What all code of a normal form has at least: sizes of its outline, and hashes of words."""

    sizes: tuple[int, ...]
    words: frozenset[int]

    def fit(self, sizes: tuple[int, ...]) -> bool:
        return all(map(operator.le, self.sizes, sizes))


def _least(needs: Iterable[_Needs]) -> list[_Needs]:
    """Return those without which none of all can be met."""
    least: list[_Needs] = []
    for some in sorted(needs, key=lambda some: (sum(some.sizes), len(some.words))):
        if not any(other.fit(some.sizes) and other.words <= some.words for other in least):
            least.append(some)
    return least


class FormTable:
    """Normal forms of groups of functions and classes, to be looked for in code.

    Args:
        groups: Functions and classes with what they stand for; those whose form is too small to tell are left out.
        least: Nodes of the smallest form that is not.
    """

    def __init__(self, groups: Iterable[tuple[list[ast.stmt], int]], least: int):
        # Shape to normal form to what has it
        self._forms: dict[tuple, dict[tuple, list[int]]] = defaultdict(lambda: defaultdict(list))
        counts, spellings, free = [], [], []
        for group, value in groups:
            form = NormalForm(group)
            if form.nodes >= least:
                self._forms[_shape(group)][tuple(form.items)].append(value)
                counts.append(len(group))
                spellings.append(_spelling(group[0]))
                free.append(" ".join(form.free))
        free_words = hash_words(free)
        needs: dict[int, set[_Needs]] = defaultdict(set)
        for with_signs in (True, False):
            outlines = find_outlines(spellings, with_signs=with_signs)
            assert outlines.codes.tolist() == list(range(len(spellings)))
            assert not outlines.unclear
            hashes = _group_hash(_group_hash(outlines.hashes, 1), np.array(counts))
            for place, key in enumerate(hashes.tolist()):
                needs[key].add(_Needs(sizes=outlines.sizes(place), words=frozenset(free_words.of(place))))
        self._outlines = HashTable(needs)
        self._needs = [_least(needs[key]) for key in self._outlines.keys.tolist()]  # of each outline
        self._fewest_words = np.array([min(some.sizes[0] for some in least) for least in self._needs], dtype=np.int64)

    def find(self, codes: Sequence[str], outlines: Outlines, texts: HashedTexts) -> Iterator[tuple[int, int, str]]:
        """Yield the number of each code with a form of the table, what has that form, and the text that matched.

        Args:
            texts: The words of each code, or more.
        """
        chosen = set(outlines.unclear)
        places, numbers = self._outlines.find(outlines.hashes)
        long_enough = outlines.words[places] >= self._fewest_words[numbers]
        for place, number in zip(places[long_enough].tolist(), numbers[long_enough].tolist(), strict=True):
            code = int(outlines.codes[place])
            if code not in chosen:
                sizes = outlines.sizes(place)
                fitting = [needs.words for needs in self._needs[number] if needs.fit(sizes)]
                if fitting and any(map(texts.of(code).issuperset, fitting)):
                    chosen.add(code)
        for code in sorted(chosen):
            for value, matched in self._match(codes[code]):
                yield code, value, matched

    def _match(self, code: str) -> Iterator[tuple[int, str]]:
        tree = parse_python(code)
        for group in split_groups(tree) if tree else ():
            forms = self._forms.get(_shape(group))
            if forms is None:
                continue
            try:
                form = NormalForm(group)
            except RecursionError:
                continue  # nested deeper than any tree in the table, whose forms were made in the same way
            for value in forms.get(tuple(form.items), ()):
                lines = code.split("\n")
                yield value, "\n".join("\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in group)
