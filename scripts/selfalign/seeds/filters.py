"""The filters of seeds, as the config lists them: what each one keeps, and the reasons of what it drops.

Row filters look at one function at a time and run on each part (see `selfalign.seeds.part` for their contract); the
judge runs on what they kept, with a model; corpus filters compare functions with each other or with benchmarks and run
on all parts together. A list has them in this order.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from selfalign.languages import LANGUAGES, Language
from selfalign.records.rows import Function
from selfalign.records.settings import load_settings
from selfalign.seeds.docstrings import docstring_fault
from selfalign.seeds.import_inference import infer_imports, missing_names
from selfalign.seeds.licences import PERMISSIVE, licence_allowed
from selfalign.seeds.node_check import NodeChecker
from selfalign.seeds.part import Candidate, Drop, Outcomes, RowFilter
from selfalign.seeds.type_check import TypeChecker


def _each(candidates: Sequence[Candidate], judge: Callable[[Candidate], Function | Drop | None]) -> Outcomes:
    """Return the outcome of each candidate; None stands for the function as it is.

    What this Python cannot parse is dropped by the first filter that has to.
    """
    outcomes: Outcomes = []
    for candidate in candidates:
        try:
            outcomes.append(judge(candidate) or candidate.function)
        except SyntaxError as error:
            outcomes.append(Drop("not Python 3", error.msg or ""))
    return outcomes


@dataclass(frozen=True, kw_only=True)
class ReturnsValue:
    """Keep functions with a `return` of their own that has a value."""

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        return _each(candidates, lambda one: None if one.returns_value else Drop("returns no value"))


@dataclass(frozen=True, kw_only=True)
class HasArgument:
    """Keep functions with at least one argument."""

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        return _each(candidates, lambda one: None if one.parameters else Drop("no argument"))


@dataclass(frozen=True, kw_only=True)
class Size:
    """Keep functions of a size, docstring and decorators included."""

    min_lines: int = 1
    max_lines: int = 150  # the paper's limit
    max_characters: int = 10_000

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        return _each(candidates, lambda one: self._drop(one.function.code))

    def _drop(self, code: str) -> Drop | None:
        lines = code.count("\n") + 1
        if lines < self.min_lines:
            return Drop(f"fewer than {self.min_lines} lines")
        if lines > self.max_lines:
            return Drop(f"more than {self.max_lines} lines")
        return Drop(f"more than {self.max_characters} characters") if len(code) > self.max_characters else None


@dataclass(frozen=True, kw_only=True)
class BadWords:
    """Drop functions that contain one of these words as a whole word, in any case: "debug" is not "bug"."""

    words: tuple[str, ...] = ("todo", "fixme", "bug")

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        return _each(candidates, lambda one: self._drop(one.function.code))

    @cached_property
    def _pattern(self) -> re.Pattern:
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, self.words))})(?!\w)", re.IGNORECASE)

    def _drop(self, code: str) -> Drop | None:
        low = code.lower()
        if not any(
            word.lower() in low for word in self.words
        ):  # four times as fast as the pattern, and nearly all end here
            return None
        match = self._pattern.search(code)
        if match is None:
            return None
        line = code[code.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
        return Drop(f"bad word: {match[0].lower()}", line.strip())


@dataclass(frozen=True, kw_only=True)
class SandboxImports:
    """Drop functions that import a module which makes no sense in a sandbox, or the package they come from.

    Attributes:
        modules: Names with dots or slashes; a name stands for all that is below it. The default is the language's.
    """

    modules: tuple[str, ...] = LANGUAGES["python"].not_for_sandbox

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        return _each(candidates, self._drop)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.modules)

    def _drop(self, one: Candidate) -> Drop | None:
        for names, text in one.imported():
            if not names:
                return Drop("relative import", text)
            if found := next((name for name in names if name in self._names), None):
                return Drop(f"import: {found}", text)
        return None


@dataclass(frozen=True, kw_only=True)
class Licences:
    """Keep functions under an allowed licence; what states none is never allowed, unless the list has "unknown"."""

    allowed: tuple[str, ...] = PERMISSIVE

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        stated = {one.function.licence for one in candidates}
        allowed = {licence for licence in stated if licence_allowed(licence, self.allowed)}
        return [
            one.function
            if one.function.licence in allowed
            else Drop(f"licence: {one.function.licence.strip()[:80] or 'unknown'}")
            for one in candidates
        ]


@dataclass(frozen=True, kw_only=True)
class InferImports:
    """Add well-known imports to functions that lack nothing else; it drops none.

    What it added stands in `inferred_imports`.
    """

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        return _each(candidates, self._complete)

    def _complete(self, one: Candidate) -> Function | None:
        function = one.function
        names = missing_names(function.code, function.imports)
        lines = infer_imports(one.definition, names) if names else None
        if not lines:
            return None
        imports = "\n".join([*function.imports.splitlines(), *lines])
        return replace(function, imports=imports, inferred_imports="\n".join(lines))


@dataclass(frozen=True, kw_only=True)
class DocstringQuality:
    """Keep functions whose docstring says in English prose what they do, as far as fixed rules can tell."""

    min_words: int = 3
    max_words: int = 400

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        return _each(candidates, self._drop)

    def _drop(self, one: Candidate) -> Drop | None:
        function = one.function
        fault = docstring_fault(function.docstring, function.name, one.parameters, self.min_words, self.max_words)
        return Drop(f"docstring: {fault}") if fault else None


@dataclass(frozen=True, kw_only=True)
class TypeCheck:
    """Keep functions in which no type checker finds an error; undefined names are looked for first, with ruff.

    Attributes:
        checkers: Run in this order, each on what those before it keep (see `selfalign.seeds.type_check`). By default
            nothing is kept in which Pyright, the original's, finds an error. For JavaScript it is Node, which finds
            broken syntax, undefined names and modules that are not there.
    """

    checkers: tuple[str, ...] = LANGUAGES["python"].default_checkers
    batch: int = 5000
    timeout_s: int = 600

    def __post_init__(self):
        self._checker()  # wrong settings are said before any work

    def _checker(self) -> TypeChecker | NodeChecker:
        kind = NodeChecker if "node" in self.checkers else TypeChecker
        return kind(checkers=self.checkers, batch=self.batch, timeout_s=self.timeout_s)

    def __call__(self, candidates: Sequence[Candidate]) -> Outcomes:
        functions = [one.function for one in candidates]
        found = self._checker().check(functions)
        return [Drop(*error) if error else function for function, error in zip(functions, found, strict=True)]


@dataclass(frozen=True, kw_only=True)
class DocstringJudge:
    """Keep functions of which a model says that their docstring tells what they do; see `selfalign.seeds.judge`.

    Attributes:
        model: Name from the config's models table.
        prompts: File with the judge's header and worked examples.
        shots: Worked examples in a prompt.
        samples: Answers to each function.
        threshold: Share of the answers that have to be Yes.
        temperature: 0 is greedy, as in the original; then one sample says all.
        max_tokens: Longest answer (the original's: 5).
    """

    model: str
    prompts: str = "resources/prompts/seed_judge.yaml"
    shots: int = 8
    samples: int = 1
    threshold: float = 0.5
    temperature: float = 0.0
    max_tokens: int = 5

    def __post_init__(self):
        if min(self.shots, self.samples, self.max_tokens) < 1 or not 0 < self.threshold <= 1 or self.temperature < 0:
            raise ValueError(
                "shots, samples and max_tokens must be at least 1, threshold above 0 and at most 1, "
                "temperature at least 0"
            )


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Drop functions that match a task of one of the run's benchmarks."""


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Keep one function of each cluster of near-duplicates."""

    threshold: float = 0.5


ROW_FILTERS = {
    "returns_value": ReturnsValue,
    "has_argument": HasArgument,
    "size": Size,
    "bad_words": BadWords,
    "sandbox_imports": SandboxImports,
    "licences": Licences,
    "infer_imports": InferImports,
    "docstring_quality": DocstringQuality,
    "type_check": TypeCheck,
}
JUDGE = {"docstring_judge": DocstringJudge}
CORPUS_FILTERS = {"benchmarks": Benchmarks, "near_duplicates": NearDuplicates}
# What runs when: each list of filters has those of an earlier stage first
STAGES = (ROW_FILTERS, JUDGE, CORPUS_FILTERS)


def _build(position: int, item: object, language: Language) -> tuple[str, object]:
    where = f"filters, entry {position}"
    known = {name: kind for stage in STAGES for name, kind in stage.items()}
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or item["name"] not in known:
        name = item.get("name") if isinstance(item, dict) else item
        raise ValueError(f"{where}: unknown filter {name!r}; the filters are {', '.join(known)}")
    kind = known[item["name"]]
    settings = {key: value for key, value in item.items() if key != "name"}
    if item["name"] not in language.filters | CORPUS_FILTERS.keys():
        there = ", ".join(name for name in known if name in language.filters or name in CORPUS_FILTERS)
        raise ValueError(
            f"filters.{position - 1}: {item['name']} is not there for {language.name}; take it out. There are {there}"
        )
    if kind is SandboxImports:
        settings.setdefault("modules", list(language.not_for_sandbox))
    if kind is TypeCheck:
        settings.setdefault("checkers", list(language.default_checkers))
        foreign = {name for other in LANGUAGES.values() for name in other.checkers} - set(language.checkers)
        if isinstance(settings["checkers"], list) and (found := foreign.intersection(settings["checkers"])):
            raise ValueError(
                f"filters.{position - 1}.checkers: {', '.join(sorted(found))} is not for {language.name}; it has "
                f"{', '.join(language.checkers)}"
            )
    return item["name"], load_settings(kind, json.dumps(settings), f"{where}, {item['name']}")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """An ordered list of filters, each with its name, taken apart by when they run."""

    rows: list[tuple[str, RowFilter]]
    judge: DocstringJudge | None
    corpus: list[tuple[str, object]]


def parse_filters(text: str, language: str = "python") -> Filters:
    """Read an ordered list of filters, as JSON.

    Args:
        language: Of the functions, a key of `LANGUAGES`.

    Raises:
        ValueError: not such a list, an unknown filter or setting or one that the language lacks, a filter listed twice,
            or one that is listed after another that runs later.
    """
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"filters: not valid JSON ({error})") from error
    if not isinstance(items, list):
        raise ValueError(f"filters: expected a list of filters, found {items!r}")
    built = [_build(position, item, LANGUAGES[language]) for position, item in enumerate(items, 1)]
    names = [name for name, _ in built]
    stages = [next(number for number, stage in enumerate(STAGES) if name in stage) for name in names]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ValueError(f"filters: {name} is listed twice; list each filter once")
        later = [other for other, stage in zip(names[:position], stages, strict=False) if stage > stages[position]]
        if later:
            why = "needs a model" if later[0] in JUDGE else "needs all parts together"
            raise ValueError(
                f"filters: {name} is listed after {later[0]}, which {why} and so runs last; list {name} before it"
            )
    by_stage = [[item for item, stage in zip(built, stages, strict=True) if stage == number] for number in range(3)]
    return Filters(rows=by_stage[0], judge=by_stage[1][0][1] if by_stage[1] else None, corpus=by_stage[2])
