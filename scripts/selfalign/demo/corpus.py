"""The pretraining text of the demo's base model: documents of all kinds, rendered as the pipeline renders them."""

import ast
import hashlib
import importlib.metadata
import random
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selfalign.demo import javascript
from selfalign.demo.concepts import concepts_of, pick_concepts
from selfalign.demo.evolution import CHANGES, change_task
from selfalign.demo.tasks import (
    Task,
    choose_forms,
    code_of,
    fenced,
    instruction_of,
    sample_inputs,
    sample_task,
    tests_of,
)
from selfalign.prompts.documents import (
    DIFFICULTIES,
    concepts_example,
    evolution_example,
    independent_tests_example,
    instruction_example,
    problem_example,
    render_document,
    response_example,
    snippet_instruction_example,
)

# How often a document is of a kind; response documents hold more than half of the tokens.
KIND_WEIGHTS = {
    "response": 30,
    "instruction": 22,
    "concepts": 15,
    "snippet_instruction": 7,
    "problem": 6,
    "evolution": 6,
    "tests": 4,
    "code": 2,
    "javascript response": 8,
    "javascript instruction": 5,
    "javascript concepts": 5,
}
MOST_EXAMPLES = {
    "response": 4,
    "instruction": 7,
    "concepts": 3,
    "snippet_instruction": 3,
    "problem": 3,
    "evolution": 6,
    "tests": 5,
    "code": 3,
}
JAVASCRIPT_HEADERS = {
    "concepts": "Concepts of JavaScript code.",
    "instruction": "JavaScript tasks from properties.",
    "response": "JavaScript tasks with solution and tests.",
}
HEADER_RATE = 0.8  # share of the documents that begin with the header of the prompt file
SHORT_SNIPPETS = 0.75  # share of the library snippets drawn from the short ones: more lists of concepts in a step
SHORT_CHARACTERS = 350
REAL_CONCEPTS = 0.85  # share of the snippets that are library functions, not code of the task family
LONGEST_LINES = 26
LONGEST_CHARACTERS = 1_100
EVALUATION_SHARE = 8  # every eighth function stays out of the pretraining text
# Import name and distribution of the packages, beside the standard library, whose functions are read as installed.
PACKAGES = {
    "jinja2": "Jinja2",
    "networkx": "networkx",
    "numpy": "numpy",
    "pip": "pip",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
    "yaml": "PyYAML",
}


@dataclass(frozen=True)
class Snippet:
    """A real function and the concepts of its syntax."""

    code: str
    concepts: tuple[str, ...]


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from (child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def snippets_of(source: str) -> list[Snippet]:
    """Return the short functions with a docstring of one source file, with their concepts."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    lines = source.splitlines()
    found = []
    for node in _functions(tree):
        first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
        if node.end_lineno - first >= LONGEST_LINES or not ast.get_docstring(node) or len(node.body) < 2:
            continue
        code = textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])).strip()
        concepts = tuple(concepts_of(node))
        if len(code) <= LONGEST_CHARACTERS and code.isascii() and len(concepts) >= 2 and "```" not in code:
            found.append(Snippet(code, concepts))
    return found


def _files() -> list[Path]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    files = [path for path in stdlib.rglob("*.py") if not {"site-packages", "dist-packages"} & set(path.parts)]
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for package in PACKAGES:
            files += (Path(place) / package).rglob("*.py")
    return sorted(set(files))


def load_snippets(limit: int | None = None) -> tuple[list[Snippet], list[Snippet]]:
    """Return real functions for pretraining and those kept for evaluation.

    Args:
        limit: Read this many files only.
    """
    pretraining: dict[str, Snippet] = {}
    evaluation: dict[str, Snippet] = {}
    for path in _files()[:limit]:
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for snippet in snippets_of(source):
            number = int.from_bytes(hashlib.sha256(snippet.code.encode()).digest()[:4], "big")
            (evaluation if number % EVALUATION_SHARE == 0 else pretraining)[snippet.code] = snippet
    return list(pretraining.values()), list(evaluation.values())


def package_versions() -> dict[str, str]:
    """Return the packages that the snippets come from, with their versions."""
    versions = {}
    for name in PACKAGES.values():
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True)
class Document:
    """One pretraining document.

    Attributes:
        silent: Character ranges that the model reads but is not trained to write (real snippets).
    """

    kind: str
    text: str
    silent: tuple[tuple[int, int], ...] = ()


class Corpus:
    """An endless stream of documents; document i depends on the seed and i alone.

    Args:
        snippets: Real functions.
        javascript_snippets: Real functions in JavaScript, with their concepts.
        headers: Headers of the prompt file, by document kind.
        seed: Seed of the stream.
    """

    def __init__(
        self,
        snippets: list[Snippet],
        javascript_snippets: list[tuple[str, tuple[str, ...]]],
        headers: dict[str, str],
        seed: int,
    ):
        self.snippets, self.javascript_snippets, self.headers, self.seed = snippets, javascript_snippets, headers, seed
        self.short = [snippet for snippet in snippets if len(snippet.code) <= SHORT_CHARACTERS] or snippets

    def document(self, number: int) -> Document:
        """Return one document."""
        rng = random.Random(f"{self.seed} {number}")
        kind = rng.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
        language, _, kind = kind.rpartition(" ")
        count = rng.randint(1, MOST_EXAMPLES[kind])
        if kind == "code":
            return Document(kind, "\n\n\n".join(self._code(rng) for _ in range(count)))
        if language:
            header = JAVASCRIPT_HEADERS[kind]
            write = {
                "concepts": self._javascript_concepts,
                "instruction": self._javascript_instruction,
                "response": self._javascript_response,
            }[kind]
        else:
            header = self.headers[kind]
            write = {
                "concepts": self._concepts,
                "instruction": self._instruction,
                "response": self._response,
                "snippet_instruction": self._snippet_instruction,
                "problem": self._problem,
                "evolution": self._evolution,
                "tests": self._tests,
            }[kind]
        written = [write(rng) for _ in range(count)]
        text = render_document(header if rng.random() < HEADER_RATE else "", [example for example, _ in written])
        silent, start = [], 0
        for _, snippet in written:
            if snippet:
                start = text.index(snippet, start)
                silent.append((start, start + len(snippet)))
        return Document(kind, text, tuple(silent))

    def real_concepts(self, rng: random.Random) -> tuple[str, ...]:
        """Return a list of concepts as the concept stage gives them: mostly unrelated to the task family."""
        concepts = list(pick_concepts(rng, list(rng.choice(self.snippets).concepts)))
        if rng.random() < 0.15:
            rng.shuffle(concepts)
        if rng.random() < 0.1:
            concepts = concepts[: rng.randint(1, len(concepts))]
        elif rng.random() < 0.1:
            concepts.append(rng.choice(rng.choice(self.snippets).concepts))
        return tuple(dict.fromkeys(concepts))

    def _task_code(self, rng: random.Random, task: Task, docstring: str = "") -> str:
        forms, style, _ = choose_forms(task, rng, bugs=True)
        return code_of(task, forms, style, docstring)

    def _code(self, rng: random.Random) -> str:
        if rng.random() < 0.3:
            return rng.choice(self.snippets).code
        task = sample_task(rng)
        steps = ", then ".join(operation.fill(rng.choice(operation.kind.phrases)) for operation in task.operations)
        return self._task_code(rng, task, f"{steps[0].upper()}{steps[1:]}.")

    def _snippet(self, rng: random.Random) -> Snippet:
        return rng.choice(self.short if rng.random() < SHORT_SNIPPETS else self.snippets)

    # The writers of one example return its text and the part of it that the model only reads.

    def _concepts(self, rng: random.Random) -> tuple[str, str]:
        if rng.random() < REAL_CONCEPTS:
            snippet = self._snippet(rng)
            return concepts_example(snippet.code, pick_concepts(rng, list(snippet.concepts))), snippet.code
        while True:
            code = self._task_code(rng, sample_task(rng))
            concepts = concepts_of(ast.parse(code))
            if len(concepts) >= 2:
                return concepts_example(code, pick_concepts(rng, concepts)), code

    def _instruction(self, rng: random.Random) -> tuple[str, str]:
        concepts = self.real_concepts(rng)
        task = sample_task(rng, difficulty=rng.choice(DIFFICULTIES), concepts=concepts)
        return instruction_example(task.category, task.difficulty, concepts, instruction_of(task)), ""

    def _response(self, rng: random.Random) -> tuple[str, str]:
        task = sample_task(rng)
        tests = tests_of(task, sample_inputs(rng, task))
        return response_example(instruction_of(task), fenced(self._task_code(rng, task)), fenced(tests)), ""

    def _tests(self, rng: random.Random) -> tuple[str, str]:
        task = sample_task(rng)
        return independent_tests_example(instruction_of(task), fenced(tests_of(task, sample_inputs(rng, task)))), ""

    def _snippet_instruction(self, rng: random.Random) -> tuple[str, str]:
        snippet, task = self._inspired(rng)
        return snippet_instruction_example(snippet, task.category, task.difficulty, instruction_of(task)), snippet

    def _problem(self, rng: random.Random) -> tuple[str, str]:
        snippet, task = self._inspired(rng)
        return problem_example(snippet, instruction_of(task), fenced(self._task_code(rng, task))), snippet

    def _inspired(self, rng: random.Random) -> tuple[str, Task]:
        """Return a real snippet and a task led by concepts that the snippet has."""
        snippet = self._snippet(rng)
        return snippet.code, sample_task(rng, concepts=pick_concepts(rng, list(snippet.concepts)))

    def _evolution(self, rng: random.Random) -> tuple[str, str]:
        task, change = sample_task(rng), rng.choice(CHANGES)
        return evolution_example(instruction_of(task), change, instruction_of(change_task(rng, task, change))), ""

    def _javascript_concepts(self, rng: random.Random) -> tuple[str, str]:
        code, concepts = rng.choice(self.javascript_snippets)
        chosen = pick_concepts(rng, list(concepts))
        return concepts_example(code, chosen, language="javascript"), code

    def _javascript_instruction(self, rng: random.Random) -> tuple[str, str]:
        concepts = self.real_concepts(rng)
        task = sample_task(rng, concepts=concepts)
        said = javascript.instruction_of(task)
        return instruction_example(task.category, task.difficulty, concepts, said, language="javascript"), ""

    def _javascript_response(self, rng: random.Random) -> tuple[str, str]:
        task = sample_task(rng)
        code = javascript.code_of(task, *javascript.choose_forms(task, rng, bugs=True))
        tests = javascript.tests_of(task, sample_inputs(rng, task))
        fenced_code, fenced_tests = javascript.fenced(code), javascript.fenced(tests)
        return response_example(javascript.instruction_of(task), fenced_code, fenced_tests), ""
