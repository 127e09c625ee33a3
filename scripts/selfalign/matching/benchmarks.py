"""Match texts and code against the tasks of benchmarks, with evidence.

Every test is a look-up of the candidate's own words in one table made from the benchmarks, so the work grows with the
candidate and not with candidates x tasks. Each pattern (a text to be found whole, the n-grams of a text) stands in that
table under few of its runs of words, its guards: it cannot match a text that has none of them. Thousands of texts are
looked up together, and only what has a guard is looked at by itself. What several tasks of one benchmark share (an
n-gram, an entry point such as `main`) is boilerplate and matches nothing, unless they ask for the same solution; two
benchmarks may share tasks.
"""

import ast
import functools
import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from selfalign.matching.hashing import HashedTexts, HashTable, hash_runs, hash_words, normalize, split_words
from selfalign.matching.trees import DEFINITIONS, FormTable, find_outlines, parse_python, split_groups
from selfalign.records.files import read_jsonl

NGRAM = 10  # words
NGRAM_SHARE = 2 / 3  # of all n-grams of an instruction or docstring; one shared phrase is not a copied task
TRIVIAL_CHARACTERS = 30  # shorter instructions, docstrings and solutions say nothing about where they come from
TRIVIAL_DEFINITION = 20  # the same for whole definitions: their names and parameters say more than prose
TRIVIAL_LINES = 40  # the same for a solution that is a few lines without a name: `model_name = type(model).__name__`
TRIVIAL_NODES = 9  # the same for syntax trees: `return sorted(set(xs))` has 6
DISTINCTIVE_WORDS = 3  # an entry point of as many words is evidence by itself: `separate_paren_groups`
WORD_SHARE = 0.5  # of the instruction's words, that must come with an entry point of fewer words: `is_prime`
KINDS = ("instruction", "docstring", "solution", "solution tree", "entry point", "n-grams")  # the strongest first
GUARDS = (6, 3, 1)  # words of the runs under which a pattern is looked up: of the longest that it has
BATCH = 512  # texts that are looked up together: what is made of them fits into a core's cache

_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"\w+")
_NAME_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
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


def name_words(name: str) -> tuple[str, ...]:
    """Split an identifier into words, without linking words: `DoubleThenSort` gives ("double", "sort")."""
    words = " ".join(_NAME_WORD.findall(name)).lower().split()
    return tuple([word for word in words if word not in _LINKING_WORDS])


def _words_of(names: list[str]) -> tuple[str, ...]:
    """Return the words of names in order: the helpers `sort`, `double` of a `main` say the same as `sort_double`."""
    return tuple(word for name in names if name != "main" for word in name_words(name))


def _tokens(text: str) -> str:
    """Return the words and signs of a text in lower case, with a space around each."""
    return f" {' '.join(_TOKEN.findall(unicodedata.normalize('NFKC', text).lower()))} "


def _ngrams(text: str) -> list[tuple[str, ...]]:
    words = split_words(normalize(text))
    return [tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)]


def _docstrings(code: str) -> Iterator[str]:
    """Yield the docstrings of a program's functions and classes, whole and as the prose before the first example."""
    tree = parse_python(code)
    for node in ast.walk(tree) if tree else ():
        docstring = ast.get_docstring(node) if isinstance(node, DEFINITIONS) else None
        if docstring:
            yield docstring
            yield docstring.split(">>>")[0]


@dataclass(frozen=True, kw_only=True)
class _Task:
    benchmark: str
    id: str
    problem: str  # the solution: two tasks of a benchmark may ask for the same in other words
    words: frozenset[str]  # of the instruction

    def evidence(self, kind: str, matched: str) -> Evidence:
        return Evidence(benchmark=self.benchmark, task=self.id, kind=kind, matched=matched[:300])


@dataclass(frozen=True, kw_only=True)
class _Needle:
    """A text that is found whole, token by token."""

    task: int
    kind: str
    text: str  # as _tokens returns it
    words: tuple[str, ...]

    def guards(self, counts: Counter[str]) -> list[tuple[str, ...]]:
        return [_rarest_run(self.words, counts)]

    def find(self, text: "_Text") -> str | None:
        return self.text.strip() if self.text in text.tokens else None


@dataclass(frozen=True, kw_only=True)
class _Ngrams:
    """A text of which a share of the n-grams is found."""

    task: int
    ngrams: tuple[tuple[str, ...], ...]  # those that are no boilerplate
    least: float  # n-grams
    kind: str = "n-grams"

    def guards(self, counts: Counter[str]) -> list[tuple[str, ...]]:
        """Return runs of words without all of which too few n-grams are left."""
        runs = Counter(_rarest_run(ngram, counts) for ngram in self.ngrams)
        left = len(self.ngrams)
        chosen = []
        for run in sorted(runs, key=lambda run: _commonness(run, counts)):
            if left >= self.least:
                chosen.append(run)
                left -= runs[run]
        return chosen

    def find(self, text: "_Text") -> str | None:
        found = [ngram for ngram in map(" ".join, self.ngrams) if f" {ngram} " in text.word_line]
        return found[0] if len(found) >= self.least else None


def _commonness(run: tuple[str, ...], counts: Counter[str]) -> tuple[int, tuple[str, ...]]:
    return math.prod(counts[word] for word in run), run


def _rarest_run(words: Sequence[str], counts: Counter[str]) -> tuple[str, ...]:
    size = next(size for size in GUARDS if size <= len(words))
    runs = (tuple(words[start : start + size]) for start in range(len(words) - size + 1))
    return min(runs, key=lambda run: _commonness(run, counts))


class _Text:
    """What patterns are looked for in: a text, taken apart as far as needed."""

    def __init__(self, text: str):
        self.text = text

    @functools.cached_property
    def words(self) -> list[str]:
        return split_words(normalize(self.text))

    @functools.cached_property
    def word_line(self) -> str:
        return f" {' '.join(self.words)} "

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
        entries: dict[tuple[str, ...], set[int]] = defaultdict(set)
        fields: list[tuple[int, list[tuple[str, ...]]]] = []  # task and n-grams
        groups: list[tuple[list[ast.stmt], int]] = []  # definitions and task
        for row in rows:
            self._add(row, entries, fields, groups)
        self._entries = {entry: tasks for entry, tasks in entries.items() if self._is_distinctive(tasks)}
        self._forms = FormTable(groups, TRIVIAL_NODES)
        self._add_ngrams(fields)
        self._guard()

    def _is_distinctive(self, numbers: set[int]) -> bool:
        """Return whether the tasks with these numbers are one problem of each of their benchmarks."""
        tasks = [self.tasks[number] for number in numbers]
        return len({task.benchmark for task in tasks}) == len({(task.benchmark, task.problem) for task in tasks})

    def _add(
        self,
        row: dict,
        entries: dict[tuple[str, ...], set[int]],
        fields: list[tuple[int, list[tuple[str, ...]]]],
        groups: list[tuple[list[ast.stmt], int]],
    ) -> None:
        number = len(self.tasks)
        instruction, solution = row["instruction"] or "", row["canonical_solution"] or ""
        prompt, entry = row["prompt"] or "", row["entry_point"] or ""
        self._counts.update(_WORD.findall(f"{instruction}\n{solution}".lower()))
        self.tasks.append(
            _Task(
                benchmark=row["benchmark"],
                id=row["id"],
                problem=solution or row["id"],
                words=frozenset(_WORD.findall(instruction.lower())) - {entry.lower()},
            )
        )
        # A prompt that ends inside a function still shows its docstring once the body is there
        docstrings = list(dict.fromkeys([*_docstrings(solution), *_docstrings(prompt + "\n    pass\n")]))
        self._add_needle(number, "instruction", instruction)
        for docstring in docstrings:
            self._add_needle(number, "docstring", docstring)
        fields += [(number, list(dict.fromkeys(_ngrams(text)))) for text in (instruction, *docstrings)]
        for names in ([entry], *find_outlines([solution]).names):
            if names and all(names):
                entries[_words_of(names)].add(number)
        if not entry:
            self._add_needle(number, "solution", solution, least=TRIVIAL_LINES)
        tree = parse_python(solution)
        if tree is None:  # of another language
            self._add_needle(number, "solution", solution, least=TRIVIAL_DEFINITION)
            return
        definitions = [node for node in tree.body if isinstance(node, DEFINITIONS)]
        asked = [node for node in definitions if node.name == entry or (not entry and len(definitions) == 1)]
        for node in asked:
            lines = solution.split("\n")[node.lineno - 1 : node.end_lineno]
            self._add_needle(number, "solution", "\n".join(lines), least=TRIVIAL_DEFINITION)
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            if body:
                lines = "\n".join(solution.split("\n")[body[0].lineno - 1 : node.end_lineno])
                # Right after a signature or a docstring: the end of a longer solution is another task
                for before in ":\"'":
                    self._add_needle(number, "solution", before + lines, least=1 + TRIVIAL_CHARACTERS)
        groups += [(group, number) for group in split_groups(tree) if len(group) > 1 or group[0] in asked]

    def _add_needle(self, task: int, kind: str, text: str, least: int = TRIVIAL_CHARACTERS) -> None:
        tokens = _tokens(text)
        words = tuple(_WORD.findall(tokens))
        if words and len(tokens.replace(" ", "")) >= least:
            self._patterns.append(_Needle(task=task, kind=kind, text=tokens, words=words))

    def _add_ngrams(self, fields: list[tuple[int, list[tuple[str, ...]]]]) -> None:
        tasks: dict[tuple[str, ...], set[int]] = defaultdict(set)
        for task, ngrams in fields:
            for ngram in ngrams:
                tasks[ngram].add(task)
        for task, ngrams in fields:
            distinctive = tuple(ngram for ngram in ngrams if self._is_distinctive(tasks[ngram]))
            # Of each field, boilerplate included, a share must match by n-grams that are not boilerplate
            least = NGRAM_SHARE * len(ngrams)
            if distinctive and len(distinctive) >= least:
                self._patterns.append(_Ngrams(task=task, ngrams=distinctive, least=least))

    def _guard(self) -> None:
        """Make the tables of guards, one for each length in words."""
        guards: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, pattern in enumerate(self._patterns):
            for guard in pattern.guards(self._counts):
                guards[guard].append(number)
        runs = list(guards)
        words = hash_words([" ".join(run) for run in runs])
        self._guards: dict[int, tuple[HashTable, list[list[int]]]] = {}  # size to hashes and the patterns of each
        for size, hashes in hash_runs(words.hashes, {len(run) for run in runs}):
            patterns: dict[int, list[int]] = defaultdict(list)
            for run, end in zip(runs, words.ends.tolist(), strict=True):
                if len(run) == size:
                    patterns[int(hashes[end - size])] += guards[run]
            table = HashTable(patterns)
            self._guards[size] = (table, [patterns[key] for key in table.keys.tolist()])

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
        text = "\n".join(part for part in (instruction, response or code) if part)
        return next(self._find_batch([code], [text], [instruction], exact))

    def find_all(self, codes: Sequence[str], *, exact: bool = False) -> Iterator[list[Evidence]]:
        """Yield what `find` returns for each of many codes, at a tenth of the time."""
        for start in range(0, len(codes), BATCH):
            batch = codes[start : start + BATCH]
            yield from self._find_batch(batch, batch, [""] * len(batch), exact)

    def _find_batch(
        self, codes: Sequence[str], texts: Sequence[str], instructions: Sequence[str], exact: bool
    ) -> Iterator[list[Evidence]]:
        words = hash_words(texts)
        found: dict[int, list[tuple[int, int, str]]] = defaultdict(list)  # text to rank of the kind, task, what matched
        for number, patterns in self._find_guards(words).items():
            text = _Text(texts[number])
            for pattern in map(self._patterns.__getitem__, patterns):
                if (matched := pattern.find(text)) is not None:
                    found[number].append((KINDS.index(pattern.kind), pattern.task, matched))
        if not exact:
            outlines = find_outlines(codes)
            for number, task, matched in self._forms.find(codes, outlines, words):
                found[number].append((KINDS.index("solution tree"), task, matched))
            for number, names in enumerate(outlines.names):
                for task, matched in self._find_entries(names, instructions[number], texts[number]):
                    found[number].append((KINDS.index("entry point"), task, matched))
        for number in range(len(codes)):
            strongest: dict[int, Evidence] = {}
            for rank, task, matched in sorted(found.get(number, ())):
                strongest.setdefault(task, self.tasks[task].evidence(KINDS[rank], matched))
            yield list(strongest.values())

    def _find_guards(self, words: HashedTexts) -> dict[int, set[int]]:
        """Return of each text that has guards the patterns that these stand for."""
        found: dict[int, set[int]] = defaultdict(set)
        for size, hashes in hash_runs(words.hashes, self._guards):
            table, patterns = self._guards[size]
            places, numbers = table.find(hashes)
            texts = np.searchsorted(words.ends, places, "right")
            for text, number in zip(texts.tolist(), numbers.tolist(), strict=True):
                found[text].update(patterns[number])
        return found

    def _find_entries(self, defined: list[str], instruction: str, text: str) -> Iterator[tuple[int, str]]:
        mentioned = _IDENTIFIER.findall(instruction)
        for names in (defined, *([name] for name in {*defined, *mentioned} if [name] != defined)):
            words = _words_of(names)
            for number in self._entries.get(words, ()):
                task = self.tasks[number]
                shared = len(task.words & set(split_words(normalize(text))))
                if len(words) >= DISTINCTIVE_WORDS or (len(words) > 1 and shared >= WORD_SHARE * len(task.words)):
                    yield number, " ".join(names)


@functools.cache
def _python_words() -> Counter[str]:
    """Count the words of Python's own help."""
    from pydoc_data.topics import topics

    return Counter(_WORD.findall("\n".join(topics.values()).lower()))


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
