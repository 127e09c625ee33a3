"""Match texts and code against the tasks of benchmarks, with evidence.

Every test is a look-up of the candidate's own words in one table made from the benchmarks, so the work grows with the
candidate and not with candidates x tasks. Each pattern (a text to be found whole, the n-grams of a text, a syntax tree)
stands in that table under few of its words, its guards: it cannot match a text that has none of them. What several
tasks of one benchmark share (an n-gram, an entry point such as `main`) is boilerplate and matches nothing; two
benchmarks may share tasks.
"""

import ast
import functools
import json
import keyword
import re
import sys
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from selfalign.records.files import read_jsonl

NGRAM = 10  # words
NGRAM_SHARE = 2 / 3  # of all n-grams of an instruction or docstring; one shared phrase is not a copied task
TRIVIAL_CHARACTERS = 30  # shorter instructions, docstrings and solutions say nothing about where they come from
TRIVIAL_DEFINITION = 20  # the same for whole definitions: their names and parameters say more than prose
TRIVIAL_NODES = 9  # the same for syntax trees: `return sorted(set(xs))` has 6
DISTINCTIVE_WORDS = 3  # an entry point of as many words is evidence by itself: `separate_paren_groups`
WORD_SHARE = 0.5  # of the instruction's words, that must come with an entry point of fewer words: `is_prime`
KINDS = ("instruction", "docstring", "solution", "solution tree", "entry point", "n-grams")  # the strongest first

_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"\w+")
_NAME_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_DEFINED = re.compile(r"\n(?:async +)?(?:def|class) +(\w+)")
_STRING_OR_COMMENT = re.compile(
    "|".join(
        rf"{q}{q}{q}[^{q}\\]*(?:(?:\\.|{q}(?!{q}{q}))[^{q}\\]*)*{q}{q}{q}"
        rf"|{q}[^{q}\\\n\r]*(?:\\(?:\r\n|.)[^{q}\\\n\r]*)*{q}"
        for q in "\"'"
    )
    + r"|#[^\n\r]*",
    re.DOTALL,
)
_AT_MARGIN = re.compile(r"[\n\r](?:[ \t]*\f)*(?=\S)")  # a form feed takes back the spaces before it
_DEFINES = re.compile(r"(?:[ \t]*\f)*(?:async[\s\\]+)?(?:def|class)\b")
# Not the keywords in which equal trees may differ (the first two), nor those of usual annotations
_LETTERS = {
    word: chr(ord("A") + number)
    for number, word in enumerate(keyword.kwlist)
    if word not in {"else", "pass", "None", "True", "False", "and", "in", "is", "not", "or"}
}
_LETTERS["elif"] = _LETTERS["if"]  # `else: if` is the same tree
_NUMBER_AND_KEYWORD = re.compile(r"\d\w*(?:for|if)\b")  # `0if x`, `0xfor y`: two tokens that look like one word
_FSTRING = re.compile(r"""[fFtT][rR]?["']""")
_NESTED_QUOTES = sys.version_info >= (3, 12)  # in f-strings, where no pattern tells which quotes end the string
_LINKING_WORDS = {"and", "then"}  # `double_then_sort` and `DoubleSort` are one task
_NO_WORDS = {code: " " for code in range(128) if not _WORD.match(chr(code))}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Why a text was taken for a benchmark task.

    Attributes:
        kind: "instruction", "docstring", "solution" (exact), "solution tree" (identifiers renamed), "entry point" or
            "n-grams".
        matched: The text that matched, at most 300 characters.
    """

    benchmark: str
    task: str
    kind: str
    matched: str

    @property
    def reason(self) -> str:
        """Benchmark and kind, as funnels count them."""
        return f"{self.benchmark}: {self.kind}"

    def dump(self) -> dict:
        """Return the evidence as a plain dictionary."""
        return asdict(self)

    def drop(self) -> tuple[str, str]:
        """Return reason and detail of a row that is dropped for it."""
        return self.reason, json.dumps(self.dump(), ensure_ascii=False)


def parse_python(code: str) -> ast.Module | None:
    """Return the syntax tree of code, or None where it is not Python 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: absurdly deep nesting
            return None


def name_words(name: str) -> tuple[str, ...]:
    """Split an identifier into words, without linking words: `DoubleThenSort` gives ("double", "sort")."""
    words = tuple(word.lower() for word in _NAME_WORD.findall(name))
    return tuple(word for word in words if word not in _LINKING_WORDS)


def _words_of(names: list[str]) -> tuple[str, ...]:
    """Return the words of names in order: the helpers `sort`, `double` of a `main` say the same as `sort_double`."""
    return tuple(word for name in names if name != "main" for word in name_words(name))


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COUNTED = (ast.expr, ast.stmt, ast.comprehension)
_UNIMPORTANT = {"ctx", "type_comment", "kind"}  # fields that say nothing besides what their place in the tree says


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
            node = ast.Pass() if node.value is None else ast.Assign(targets=[node.target], value=node.value)
        kind = type(node)
        self.items.append(kind.__name__)
        if isinstance(node, _COUNTED) and kind not in _DEFINITIONS:
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
        elif kind in _DEFINITIONS:
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
            attributes |= {item.name for item in node.body if isinstance(item, _DEFINITIONS)}
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
        if isinstance(node, _DEFINITIONS):
            functions.add(node.name)
    functions -= attributes
    return (variables | functions) - {None}, attributes, functions


def _body(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[ast.stmt]:
    """Return the statements of a definition without its docstring."""
    documented = ast.get_docstring(node, clean=False) is not None
    return (node.body[1:] if documented else node.body) or [ast.Pass()]


def _outline(statements: list[ast.AST]) -> Iterator[str]:
    for node in statements:
        value = getattr(node, "value", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Pass):
            yield type(node).__name__
        yield type(value).__name__ if value else ""
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            if children := getattr(node, field, None):
                yield field
                yield from _outline(_body(node) if isinstance(node, _DEFINITIONS) else children)


def _shape(definitions: list[ast.stmt]) -> tuple[str, ...]:
    """Return what is the same for equal normal forms and known at a glance: the types of the statements."""
    return tuple(_outline(definitions))


class _NoKeywordsHidden(ast.NodeTransformer):
    """Removes what a normal form does not count, and strings with code inside."""

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
        node.annotation = ast.Constant(value=None)
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        return ast.Constant(value="")


def _tree_keywords(definition: ast.stmt) -> str:
    """Return the keywords that `_keywords` finds in all code with the normal form of this definition."""
    copy = ast.parse(ast.unparse(definition))
    return _split_keywords(_without_strings(ast.unparse(_NoKeywordsHidden().visit(copy))))[0][0]


def _without_strings(code: str) -> str:
    """Return code with a quote for each string and comment, so that lines still begin with something."""
    return _STRING_OR_COMMENT.sub('"', code)


def _split_keywords(bare: str) -> list[list[str]]:
    found: list[list[str]] = []
    for part in _AT_MARGIN.split(bare):
        keywords = "".join(map(_LETTERS.__getitem__, filter(_LETTERS.__contains__, part.translate(_NO_WORDS).split())))
        if _DEFINES.match(part):
            found.append([keywords])
        elif found and keywords:
            found[-1].append(found[-1][-1] + keywords)
    return found


def _keywords(code: str) -> list[list[str]] | None:
    """Return the keywords of each function and class of a module, a letter each, without parsing it.

    A definition ends before one of the lines at the left margin that follow it, but which one (a line inside brackets
    may begin there, too) only a parser can tell: each definition has as many strings as it has possible ends. One of
    them is the same for all code of one normal form. The one exception are keywords inside an annotation or an inner
    decorator, such as `x: (int if NEW else str)`: they count here and not in the form.

    Returns:
        None where the keywords cannot be told without a parser.
    """
    if _NESTED_QUOTES and _FSTRING.search(code):
        return None
    bare = _without_strings(code)
    return None if _NUMBER_AND_KEYWORD.search(bare) else _split_keywords(bare)


def _groups(tree: ast.Module) -> list[list[ast.stmt]]:
    """Return each function and class of a module by itself, and all of them together."""
    definitions = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
    return [[node] for node in definitions] + ([definitions] if len(definitions) > 1 else [])


def _tokens(text: str) -> str:
    """Return the words and signs of a text in lower case, with a space around each."""
    return f" {' '.join(_TOKEN.findall(unicodedata.normalize('NFKC', text).lower()))} "


def _ngrams(text: str) -> list[str]:
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return [" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def _docstrings(code: str) -> Iterator[str]:
    """Yield the docstrings of a program's functions and classes, whole and as the prose before the first example."""
    tree = parse_python(code)
    for node in ast.walk(tree) if tree else ():
        docstring = ast.get_docstring(node) if isinstance(node, _DEFINITIONS) else None
        if docstring:
            yield docstring
            yield docstring.split(">>>")[0]


@dataclass(frozen=True, kw_only=True)
class _Task:
    benchmark: str
    id: str
    words: frozenset[str]  # of the instruction

    def evidence(self, kind: str, matched: str) -> Evidence:
        return Evidence(benchmark=self.benchmark, task=self.id, kind=kind, matched=matched[:300])


@dataclass(frozen=True, kw_only=True)
class _Needle:
    """A text that is found whole, token by token."""

    task: int
    kind: str
    text: str  # as _tokens returns it
    word_line: str  # which a text has sooner than its tokens
    words: frozenset[str]

    def find(self, text: "_Text") -> str | None:
        return self.text.strip() if self.word_line in text.word_line and self.text in text.tokens else None


@dataclass(frozen=True, kw_only=True)
class _Ngrams:
    """A text of which a share of the n-grams is found."""

    task: int
    ngrams: tuple[str, ...]  # those that are no boilerplate, with a space around each
    least: float  # n-grams
    words: frozenset[str]  # without one of these too few n-grams are left
    rarest: tuple[tuple[str, int], ...]  # each n-gram's rarest word, and how many n-grams have it
    kind: str = "n-grams"

    def find(self, text: "_Text") -> str | None:
        if sum(count for word, count in self.rarest if word in text.words) < self.least:
            return None
        found = [ngram for ngram in self.ngrams if ngram in text.word_line]
        return found[0].strip() if len(found) >= self.least else None


class _Text:
    """What patterns are looked for in: a text, taken apart once and only as far as needed."""

    def __init__(self, text: str):
        self.text = text if text.isascii() else unicodedata.normalize("NFKC", text)  # as Python reads identifiers
        lower = self.text.lower()
        # The same words as the pattern's, at a fifth of its time
        words = lower.translate(_NO_WORDS).split() if lower.isascii() else _WORD.findall(lower)
        self.words = set(words)
        self.word_line = f" {' '.join(words)} "

    @functools.cached_property
    def tokens(self) -> str:
        return _tokens(self.text)


class BenchmarkIndex:
    """The patterns of one or more benchmarks.

    Args:
        rows: Benchmark rows (see docs/architecture.md), of all benchmarks.
    """

    def __init__(self, rows: Iterable[dict]):
        self.tasks: list[_Task] = []
        # How common words are in code and in prose on code: in what Python says about itself, and in these tasks
        self._counts = Counter(_python_words())
        self._patterns: list[_Needle | _Ngrams] = []
        # Shape to normal form to tasks
        self._trees: dict[tuple, dict[tuple, list[int]]] = defaultdict(lambda: defaultdict(list))
        # Number of definitions and keywords of the first one to the free words of each tree that has these
        self._tree_words: dict[tuple[int, str], set[frozenset[str]]] = defaultdict(set)
        entries: dict[tuple[str, ...], set[int]] = defaultdict(set)
        fields: list[tuple[int, list[str]]] = []  # task and n-grams
        for row in rows:
            self._add(row, entries, fields)
        self._entries = {entry: tasks for entry, tasks in entries.items() if self._is_distinctive(tasks)}
        self._add_ngrams(fields)
        self._guard()

    def _is_distinctive(self, numbers: set[int]) -> bool:
        """Return whether the tasks with these numbers are of as many benchmarks."""
        return len({self.tasks[number].benchmark for number in numbers}) == len(numbers)

    def _add(self, row: dict, entries: dict[tuple[str, ...], set[int]], fields: list[tuple[int, list[str]]]) -> None:
        number = len(self.tasks)
        instruction, solution = row["instruction"] or "", row["canonical_solution"] or ""
        prompt, entry = row["prompt"] or "", row["entry_point"] or ""
        self._counts.update(_WORD.findall(f"{instruction}\n{solution}".lower()))
        self.tasks.append(
            _Task(
                benchmark=row["benchmark"],
                id=row["id"],
                words=frozenset(_WORD.findall(instruction.lower())) - {entry.lower()},
            )
        )
        # A prompt that ends inside a function still shows its docstring once the body is there
        docstrings = list(dict.fromkeys([*_docstrings(solution), *_docstrings(prompt + "\n    pass\n")]))
        self._add_needle(number, "instruction", instruction)
        for docstring in docstrings:
            self._add_needle(number, "docstring", docstring)
        fields += [(number, list(dict.fromkeys(_ngrams(text)))) for text in (instruction, *docstrings)]
        for names in ([entry], _defined(solution)):
            if names and all(names):
                entries[_words_of(names)].add(number)
        tree = parse_python(solution)
        if tree is None:
            return
        definitions = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
        for node in definitions:
            if node.name == entry:
                lines = solution.split("\n")[node.lineno - 1 : node.end_lineno]
                self._add_needle(number, "solution", "\n".join(lines), least=TRIVIAL_DEFINITION)
                body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                if body:
                    lines = "\n".join(solution.split("\n")[body[0].lineno - 1 : node.end_lineno])
                    # Right after a signature or a docstring: the end of a longer solution is another task
                    for before in ":\"'":
                        self._add_needle(number, "solution", before + lines, least=1 + TRIVIAL_CHARACTERS)
        for group in _groups(tree):
            if len(group) > 1 or group[0].name == entry:
                form = NormalForm(group)
                if form.nodes >= TRIVIAL_NODES:
                    self._trees[_shape(group)][tuple(form.items)].append(number)
                    self._tree_words[len(group), _tree_keywords(group[0])].add(frozenset(form.free))

    def _add_needle(self, task: int, kind: str, text: str, least: int = TRIVIAL_CHARACTERS) -> None:
        tokens = _tokens(text)
        if len(tokens.replace(" ", "")) >= least:
            words = _WORD.findall(tokens)
            line = f" {' '.join(words)} "
            self._patterns.append(_Needle(task=task, kind=kind, text=tokens, word_line=line, words=frozenset(words)))

    def _add_ngrams(self, fields: list[tuple[int, list[str]]]) -> None:
        tasks: dict[str, set[int]] = defaultdict(set)
        for task, ngrams in fields:
            for ngram in ngrams:
                tasks[ngram].add(task)
        counts = self._counts
        for task, ngrams in fields:
            distinctive = [ngram for ngram in ngrams if self._is_distinctive(tasks[ngram])]
            # Of each field, boilerplate included, a share must match by n-grams that are not boilerplate
            least = NGRAM_SHARE * len(ngrams)
            if distinctive and len(distinctive) >= least:
                rarest = Counter(min(ngram.split(), key=lambda word: (counts[word], word)) for ngram in distinctive)
                holding = Counter(word for ngram in distinctive for word in set(ngram.split()))
                self._patterns.append(
                    _Ngrams(
                        task=task,
                        ngrams=tuple(f" {ngram} " for ngram in distinctive),
                        least=least,
                        words=frozenset(word for word in holding if len(distinctive) - holding[word] < least),
                        rarest=tuple(sorted(rarest.items(), key=lambda item: (counts[item[0]], item[0]))),
                    )
                )

    def _guard(self) -> None:
        """Make the table of guards: of each pattern's words the rare ones."""
        counts = self._counts
        # Guard to a second rare word, or itself where there is none, to patterns and what else they need
        self._guards: dict[str, dict[str, list[tuple[int, frozenset[str]]]]] = defaultdict(lambda: defaultdict(list))
        self._unguarded: list[int] = []
        for number, pattern in enumerate(self._patterns):
            choices = [[word] for word in pattern.words]
            if isinstance(pattern, _Ngrams):
                choices.append([])
                left = len(pattern.ngrams)
                for word, count in pattern.rarest:  # until too few n-grams for a match are without one
                    if left >= pattern.least:
                        choices[-1].append(word)
                        left -= count
            if choices:
                for word in min(choices, key=lambda words: (sum(counts[word] for word in words), words)):
                    others = pattern.words - {word}
                    second = min(others, key=lambda other: (counts[other], other), default=word)
                    self._guards[word][second].append((number, pattern.words))
            else:
                self._unguarded.append(number)
        self._guard_words = frozenset(self._guards)

    def find(self, code: str, instruction: str = "", response: str = "", *, exact: bool = False) -> list[Evidence]:
        """Return the evidence that code, or an instruction with its response, is a benchmark task.

        Args:
            code: Python code: a seed, or the code of a response.
            instruction: The task of which the code is a solution.
            response: The whole response, prose and code.
            exact: Look for whole texts and n-grams only, not for names and trees.

        Returns:
            The strongest evidence of each task that matches, the strongest first.
        """
        text = _Text("\n".join(part for part in (instruction, response or code) if part))
        words = text.words
        numbers = [
            number
            for guard in words & self._guard_words
            for second, patterns in self._guards[guard].items()
            if second in words
            for number, needed in patterns
            if needed <= words
        ]
        found = []  # rank of the kind, task, what matched
        for number in {*numbers, *self._unguarded}:
            pattern = self._patterns[number]
            matched = pattern.find(text)
            if matched is not None:
                found.append((KINDS.index(pattern.kind), pattern.task, matched))
        if not exact:
            found += [(KINDS.index("solution tree"), *match) for match in self._find_trees(code, words)]
            entries = self._find_entries(_defined(code), instruction, text)
            found += [(KINDS.index("entry point"), *match) for match in entries]
        strongest: dict[int, Evidence] = {}
        for rank, task, matched in sorted(found):
            strongest.setdefault(task, self.tasks[task].evidence(KINDS[rank], matched))
        return list(strongest.values())

    def _may_have_tree(self, code: str, words: set[str]) -> bool:
        """Return False where no tree can match: parsing takes longer than all the rest together."""
        definitions = _keywords(code)
        if definitions is None:
            return True
        keys = [(1, keywords) for definition in definitions for keywords in definition]
        if len(definitions) > 1:
            keys += [(len(definitions), keywords) for keywords in definitions[0]]
        return any(needed <= words for key in keys for needed in self._tree_words.get(key, ()))

    def _find_trees(self, code: str, words: set[str]) -> Iterator[tuple[int, str]]:
        tree = parse_python(code) if self._may_have_tree(code, words) else None
        for group in _groups(tree) if tree else ():
            forms = self._trees.get(_shape(group))
            if forms is None:
                continue
            try:
                form = NormalForm(group)
            except RecursionError:
                continue  # nested deeper than any tree in the table, whose forms were made in the same way
            for task in forms.get(tuple(form.items), ()):
                lines = code.split("\n")
                yield task, "\n".join("\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in group)

    def _find_entries(self, defined: list[str], instruction: str, text: _Text) -> Iterator[tuple[int, str]]:
        for names in (defined, *([name] for name in {*defined, *_IDENTIFIER.findall(instruction)})):
            words = _words_of(names)
            for number in self._entries.get(words, ()):
                task = self.tasks[number]
                shared = len(task.words & text.words)
                if len(words) >= DISTINCTIVE_WORDS or (len(words) > 1 and shared >= WORD_SHARE * len(task.words)):
                    yield number, " ".join(names)


@functools.cache
def _python_words() -> Counter[str]:
    """Count the words of Python's own help."""
    from pydoc_data.topics import topics

    return Counter(_WORD.findall("\n".join(topics.values()).lower()))


def _defined(code: str) -> list[str]:
    """Return the names of the functions and classes that begin at the beginning of a line."""
    return _DEFINED.findall("\n" + code)


def load_benchmarks(paths: Iterable[str | Path]) -> BenchmarkIndex:
    """Read benchmark files and build their index.

    Raises:
        ValueError: a row lacks a field; names the file, the row and the field.
    """
    rows = []
    for path in paths:
        for number, row in enumerate(read_jsonl(path), 1):
            missing = {"id", "benchmark", "instruction", "prompt", "entry_point", "canonical_solution"} - row.keys()
            if missing:
                raise ValueError(f"{path}, row {number}: not a benchmark row (no {', '.join(sorted(missing))})")
            rows.append(row)
    return BenchmarkIndex(rows)
