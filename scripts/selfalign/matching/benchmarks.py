"""Match texts and code against the tasks of benchmarks, with evidence.

Every test is a look-up of the candidate's own tokens, n-grams, names and trees in tables made once from the
benchmarks, so the work grows with the candidate and not with candidates x tasks. What several tasks of one benchmark
share (an n-gram, an entry point such as `main`) is boilerplate and matches nothing; two benchmarks may share tasks.
"""

import ast
import json
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import read_jsonl

NGRAM = 10  # words
NGRAM_SHARE = 2 / 3  # of all n-grams of an instruction or docstring; one shared phrase is not a copied task
TRIVIAL_CHARACTERS = 30  # shorter instructions, docstrings and solutions say nothing about where they come from
TRIVIAL_NODES = 9  # the same for syntax trees: `return sorted(set(xs))` has 6
DISTINCTIVE_WORDS = 3  # an entry point of as many words is evidence by itself: `separate_paren_groups`
WORD_SHARE = 0.5  # of the instruction's words, that must come with an entry point of fewer words: `is_prime`
ANCHOR = 4  # tokens by which an exact match is looked up

_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"\w+")
_NAME_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_DEFINED = re.compile(r"^(?:async +)?(?:def|class) +(\w+)", re.MULTILINE)
_LINKING_WORDS = {"and", "then"}  # `double_then_sort` and `DoubleSort` are one task


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

    def dump(self) -> str:
        """Return the evidence as one line of JSON."""
        return json.dumps(
            {"benchmark": self.benchmark, "task": self.task, "kind": self.kind, "matched": self.matched},
            ensure_ascii=False,
        )


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


class _Renamer(ast.NodeTransformer):
    """Rename what the code itself binds to v0, v1, ... in order of appearance; drop docstrings and annotations."""

    def __init__(self, tree: ast.AST):
        self.variables, self.attributes, self.functions = _bound_names(tree)
        self.names: dict[tuple[str, str], str] = {}

    def _rename(self, name: str, bound: set[str], kind: str = "variable") -> str:
        return self.names.setdefault((kind, name), f"v{len(self.names)}") if name in bound else name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._rename(node.id, self.variables)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg, node.annotation = self._rename(node.arg, self.variables), None
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id in self.functions:
            for keyword in node.keywords:
                keyword.arg = keyword.arg and self._rename(keyword.arg, self.variables)
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = self._rename(node.attr, self.attributes, "attribute")
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.Pass()
        return self.visit(ast.Assign(targets=[node.target], value=node.value))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        is_method = node.name in self.attributes
        bound, kind = (self.attributes, "attribute") if is_method else (self.variables, "variable")
        node.name, node.decorator_list = self._rename(node.name, bound, kind), []
        if not isinstance(node, ast.ClassDef):
            node.returns = None
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _bound_names(tree: ast.AST) -> tuple[set[str], set[str], set[str]]:
    """Return what the code itself names: its variables (functions and classes included), attributes and functions.

    A variable `count` does not make the method in `text.count()` the code's own.
    """
    variables, attributes, functions = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            attributes |= {item.name for item in node.body if isinstance(item, _DEFINITIONS)}
        elif isinstance(node, ast.arg):
            variables.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            variables.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
    for node in ast.walk(tree):
        if isinstance(node, _DEFINITIONS) and node.name not in attributes:
            functions.add(node.name)
    return variables | functions, attributes, functions


def normalised_tree(definitions: list[ast.stmt]) -> str | None:
    """Return functions and classes as text in which their own names do not count, or None if they are trivial."""
    tree = ast.parse(ast.unparse(ast.Module(body=definitions, type_ignores=[])))
    tree = ast.fix_missing_locations(_Renamer(tree).visit(tree))
    # A signature is no evidence: only what the bodies hold counts
    nodes = sum(
        isinstance(node, (ast.expr, ast.stmt, ast.comprehension)) and not isinstance(node, _DEFINITIONS)
        for node in ast.walk(tree)
    )
    return ast.unparse(tree) if nodes >= TRIVIAL_NODES else None


def _trees(tree: ast.Module) -> Iterator[str]:
    """Yield the normalised trees of each function and class of a module, and of all of them together."""
    definitions = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
    groups = [[node] for node in definitions]
    if len(definitions) > 1:
        groups.append(definitions)
    for group in groups:
        text = normalised_tree(group)
        if text is not None:
            yield text


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(text.lower()))


def _ngrams(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
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


class BenchmarkIndex:
    """The tables of one or more benchmarks.

    Args:
        rows: Benchmark rows (see docs/architecture.md), of all benchmarks.
    """

    def __init__(self, rows: Iterable[dict]):
        self.tasks: list[_Task] = []
        # anchor -> needles (task, kind, tokens); an anchor is a needle's first tokens
        self._needles: dict[tuple[str, ...], list[tuple[int, str, tuple[str, ...]]]] = defaultdict(list)
        self._trees: dict[str, int] = {}
        self._entries: dict[tuple[str, ...], set[int]] = defaultdict(set)
        self._ngrams: dict[str, set[tuple[int, str]]] = defaultdict(set)
        for row in rows:
            self._add(row)
        # Of each field, boilerplate included, a share must match by n-grams that are not boilerplate
        self._lengths = Counter(field for fields in self._ngrams.values() for field in fields)
        self._entries = {entry: tasks for entry, tasks in self._entries.items() if self._is_distinctive(tasks)}
        self._ngrams = {
            ngram: fields
            for ngram, fields in self._ngrams.items()
            if self._is_distinctive({number for number, _ in fields})
        }

    def _is_distinctive(self, numbers: set[int]) -> bool:
        """Return whether the tasks with these numbers are of as many benchmarks."""
        return len({self.tasks[number].benchmark for number in numbers}) == len(numbers)

    def _add(self, row: dict) -> None:
        number = len(self.tasks)
        instruction, solution = row["instruction"] or "", row["canonical_solution"] or ""
        prompt, entry = row["prompt"] or "", row["entry_point"] or ""
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
        for ngram in _ngrams(instruction):
            self._ngrams[ngram].add((number, "instruction"))
        for position, docstring in enumerate(docstrings):
            for ngram in _ngrams(docstring):
                self._ngrams[ngram].add((number, f"docstring {position}"))
        for names in ([entry], _DEFINED.findall(solution)):
            if names and all(names):
                self._entries[_words_of(names)].add(number)
        tree = parse_python(solution)
        if tree is None:
            return
        definitions = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
        for node in definitions:
            if node.name == entry:
                text = normalised_tree([node])
                if text is not None:
                    self._trees.setdefault(text, number)
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if body:
                    lines = "\n".join(solution.split("\n")[body[0].lineno - 1 : node.end_lineno])
                    # Right after a signature or a docstring: the end of a longer solution is another task
                    for before in ":\"'":
                        self._add_needle(number, "solution", before + lines, padding=1)
        if len(definitions) > 1:
            text = normalised_tree(definitions)
            if text is not None:
                self._trees.setdefault(text, number)

    def _add_needle(self, task: int, kind: str, text: str, padding: int = 0) -> None:
        tokens = _tokens(text)
        if sum(map(len, tokens)) - padding >= TRIVIAL_CHARACTERS:
            self._needles[tokens[:ANCHOR]].append((task, kind, tokens))

    def find(self, code: str, instruction: str = "", response: str = "") -> Evidence | None:
        """Return the evidence that code, or an instruction with its response, is a benchmark task; or None.

        Args:
            code: Python code: a seed, or the code of a response.
            instruction: The task of which the code is a solution.
            response: The whole response, prose and code.
        """
        text = "\n".join(part for part in (instruction, response or code) if part)
        tree = parse_python(code)
        return (
            self._find_exact(_tokens(text))
            or (self._find_tree(tree) if tree else None)
            or self._find_entry(_DEFINED.findall(code), _IDENTIFIER.findall(instruction), text)
            or self._find_ngrams(text)
        )

    def _find_exact(self, tokens: tuple[str, ...]) -> Evidence | None:
        lengths = {len(anchor) for anchor in self._needles}
        for length in sorted(lengths, reverse=True):
            for start in range(len(tokens) - length + 1):
                for task, kind, needle in self._needles.get(tokens[start : start + length], ()):
                    if tokens[start : start + len(needle)] == needle:
                        return self.tasks[task].evidence(kind, " ".join(needle))
        return None

    def _find_tree(self, tree: ast.Module) -> Evidence | None:
        for text in _trees(tree):
            if text in self._trees:
                return self.tasks[self._trees[text]].evidence("solution tree", text)
        return None

    def _find_entry(self, defined: list[str], named: list[str], text: str) -> Evidence | None:
        for names in ([name] for name in dict.fromkeys([*defined, *named])):
            evidence = self._match_names(names, text)
            if evidence:
                return evidence
        return self._match_names(defined, text)

    def _match_names(self, names: list[str], text: str) -> Evidence | None:
        words = _words_of(names)
        for number in sorted(self._entries.get(words, ())):
            task = self.tasks[number]
            shared = len(task.words & set(_WORD.findall(text.lower())))
            if len(words) >= DISTINCTIVE_WORDS or (len(words) > 1 and shared >= WORD_SHARE * len(task.words)):
                return task.evidence("entry point", " ".join(names))
        return None

    def _find_ngrams(self, text: str) -> Evidence | None:
        found: dict[tuple[int, str], list[str]] = defaultdict(list)
        for ngram in dict.fromkeys(_ngrams(text)):
            for field in self._ngrams.get(ngram, ()):
                found[field].append(ngram)
        for field in sorted(found):
            if len(found[field]) >= NGRAM_SHARE * self._lengths[field]:
                return self.tasks[field[0]].evidence("n-grams", found[field][0])
        return None


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
