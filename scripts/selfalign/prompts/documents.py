"""Few-shot documents: snippet to concepts, properties to instruction, instruction to response with tests.

A document is a header and numbered examples of one kind; the last example is left open for the model. The order of
the three steps, the properties and the stop strings follow the paper (section 2); the wording and the examples are
ours and stand in a prompt file (resources/prompts/*.yaml). The parts of the last kind are marked by tags, as in the
paper, or by headings, for models that ignore tags (`STYLES`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from selfalign.languages import LANGUAGES

CATEGORIES = ("function", "class", "program")
DIFFICULTIES = ("easy", "medium", "hard")
KINDS = ("concepts", "instruction", "response")  # of the documents that every prompt file has a header for
MORE_KINDS = ("snippet_instruction", "problem", "evolution", "tests")  # only for the methods that ask for them
NEXT_EXAMPLE = "## Example"
_SOLUTION = "\n### Solution\n"


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the parts of a response document are marked.

    Attributes:
        opens: Text before the instruction, between it and the response, and between the response and the tests.
        closes: Text after the tests.
        parts: Pattern of what a model writes between its response and its tests.
        response_end: What ends the response, where tests are not wanted.
        tests_end: What ends the tests.
        next_example: What ends a document: the model goes on with one of its own.
    """

    opens: tuple[str, str, str]
    closes: str
    parts: re.Pattern
    response_end: str
    tests_end: str
    next_example: str


STYLES = {
    "xml": Style(
        opens=("<instruction>\n", "\n</instruction>\n<response>\n", "\n</response>\n<tests>\n"),
        closes="\n</tests>\n\n",
        parts=re.compile(r"</response>\s*<tests>"),
        response_end="</response>",
        tests_end="</tests>",
        next_example=NEXT_EXAMPLE,
    ),
    "headings": Style(
        opens=("### Instruction\n", "\n\n### Response\n", "\n\n### Tests\n"),
        closes="\n\n",
        parts=re.compile(r"^### Tests[ \t]*$", re.MULTILINE),
        # A response may well have headings of its own, such as "### Example usage": only these whole lines end anything
        response_end="\n### Tests\n",
        tests_end="\n### Instruction\n",
        next_example=f"\n{NEXT_EXAMPLE}",
    ),
}


def stop_strings(kind: str, tags: str = "xml") -> tuple[str, ...]:
    """Return the strings that end a completion of a document kind."""
    return (STYLES[tags].next_example, STYLES[tags].tests_end) if kind == "response" else (NEXT_EXAMPLE,)


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One worked example; `response` and `tests` hold fenced code blocks, with or without prose around them."""

    id: str
    snippet: str
    concepts: tuple[str, ...]
    category: str
    difficulty: str
    instruction: str
    response: str
    tests: str


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """One worked example of a change to a task."""

    id: str
    change: str
    instruction: str
    evolved: str


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """The headers (by document kind), the worked examples and the language of one prompt file."""

    headers: dict[str, str]
    shots: tuple[Shot, ...]
    evolutions: tuple[Evolution, ...] = ()
    language: str = "python"

    def examples(self, kind: str) -> tuple[Shot, ...] | tuple[Evolution, ...]:
        """Return the worked examples of a document kind."""
        return self.evolutions if kind == "evolution" else self.shots

    @property
    def changes(self) -> tuple[str, ...]:
        """The changes that tasks may be asked for, in the order of their first worked examples."""
        return tuple(dict.fromkeys(evolution.change for evolution in self.evolutions))


def load_prompts(path: str | Path, tags: str | None = None) -> PromptSet:
    """Read a prompt file: `headers` (concepts, instruction, response; more for some methods), `shots`, `evolutions`.

    Where it is not for Python, it says its `language`.

    Args:
        tags: Style of the response documents that the examples are for; None is none.

    Raises:
        ValueError: a key is missing or unknown, or an example holds marks of the style; names file and example.
    """
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as a prompt file ({' '.join(str(error).split())})") from error
    language = data.pop("language", "python") if isinstance(data, dict) else ""
    if not isinstance(data, dict) or not {"headers", "shots"} <= set(data) <= {"headers", "shots", "evolutions"}:
        raise ValueError(f"{path}: expected the keys headers, shots and, for Evol-Instruct, evolutions")
    if not isinstance(data["headers"], dict) or not set(KINDS) <= set(data["headers"]) <= {*KINDS, *MORE_KINDS}:
        raise ValueError(f"{path}: headers: expected {', '.join(KINDS)}, and possibly {', '.join(MORE_KINDS)}")
    if language not in LANGUAGES:
        raise ValueError(f"{path}: language is {language!r}; known are {', '.join(LANGUAGES)}")
    shots = []
    for number, item in enumerate(data["shots"], 1):
        try:
            shot = Shot(**{**item, "concepts": tuple(item["concepts"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path}, example {number}: {error}") from error
        if shot.category not in CATEGORIES or shot.difficulty not in DIFFICULTIES:
            raise ValueError(f"{path}, example {number}: unknown category or difficulty")
        shots.append(shot)
    if not shots:
        raise ValueError(f"{path}: no examples under shots")
    evolutions = []
    for number, item in enumerate(data.get("evolutions", ()), 1):
        try:
            evolutions.append(Evolution(**item))
        except TypeError as error:
            raise ValueError(f"{path}, evolution {number}: {error}") from error
    prompts = PromptSet(
        headers={kind: text.strip() for kind, text in data["headers"].items()},
        shots=tuple(shots),
        evolutions=tuple(evolutions),
        language=language,
    )
    if tags:
        check_tags(prompts, path, tags)
    return prompts


def check_tags(prompts: PromptSet, path: str | Path, tags: str) -> None:
    """Check that the worked examples can be written with a style of tags.

    Raises:
        ValueError: one holds marks of the style; names file and example.
    """
    for number, shot in enumerate(prompts.shots, 1):
        if not _is_read_back(shot, tags, prompts.language):
            raise ValueError(
                f"{path}, example {number}: with tags {tags}, its response and tests are not read back as they stand "
                f"there: both need a block of {LANGUAGES[prompts.language].name} code and neither may hold marks of "
                "documents or examples"
            )


def _snippet(code: str, language: str) -> str:
    return f"### Snippet\n```{LANGUAGES[language].fence}\n{code.strip()}\n```\n"


def _properties(category: str, difficulty: str, language: str) -> str:
    return f"### Properties\ncategory: {category}\nlanguage: {LANGUAGES[language].name}\ndifficulty: {difficulty}\n"


def concepts_example(snippet: str, concepts: tuple[str, ...] | None = None, *, language: str = "python") -> str:
    """Render snippet and concepts; without concepts, the open end that the model continues."""
    text = f"{_snippet(snippet, language)}### Concepts\n"
    return text if concepts is None else f"{text}{', '.join(concepts)}\n\n"


def instruction_example(
    category: str,
    difficulty: str,
    concepts: tuple[str, ...],
    instruction: str | None = None,
    *,
    language: str = "python",
) -> str:
    """Render properties and instruction; without an instruction, the open end that the model continues."""
    text = f"{_properties(category, difficulty, language)}concepts: {', '.join(concepts)}\n### Instruction\n"
    return text if instruction is None else f"{text}{instruction.strip()}\n\n"


def snippet_instruction_example(
    snippet: str, category: str, difficulty: str, instruction: str | None = None, *, language: str = "python"
) -> str:
    """Render snippet, properties and instruction: a task without the way through concepts."""
    text = f"{_snippet(snippet, language)}{_properties(category, difficulty, language)}### Instruction\n"
    return text if instruction is None else f"{text}{instruction.strip()}\n\n"


def problem_example(
    snippet: str, problem: str | None = None, solution: str | None = None, *, language: str = "python"
) -> str:
    """Render snippet, problem and solution, which OSS-Instruct asks for at once."""
    text = f"{_snippet(snippet, language)}### Problem\n"
    if problem is None:
        return text
    return f"{text}{problem.strip()}{_SOLUTION}{solution.strip()}\n\n"


def evolution_example(instruction: str, change: str, evolved: str | None = None) -> str:
    """Render a task, the change that is asked for, and the changed task, as in Evol-Instruct."""
    text = f"### Task\n{instruction.strip()}\n### Change\n{change}\n### Changed task\n"
    return text if evolved is None else f"{text}{evolved.strip()}\n\n"


def independent_tests_example(instruction: str, tests: str | None = None) -> str:
    """Render instruction and tests: tests that no response has been seen for."""
    text = f"### Instruction\n{instruction.strip()}\n### Tests\n"
    return text if tests is None else f"{text}{tests.strip()}\n\n"


def response_example(
    instruction: str, response: str | None = None, tests: str | None = None, *, tags: str = "xml"
) -> str:
    """Render instruction, response and tests; without tests, or response and tests, with an open end for the model."""
    style = STYLES[tags]
    text = f"{style.opens[0]}{instruction.strip()}{style.opens[1]}"
    if response is None:
        return text
    text = f"{text}{response.strip()}{style.opens[2]}"
    return text if tests is None else f"{text}{tests.strip()}{style.closes}"


def shot_example(kind: str, shot: Shot | Evolution, *, tags: str = "xml", language: str = "python") -> str:
    """Render a worked example as a document of the given kind."""
    if kind == "concepts":
        return concepts_example(shot.snippet, shot.concepts, language=language)
    if kind == "instruction":
        return instruction_example(shot.category, shot.difficulty, shot.concepts, shot.instruction, language=language)
    if kind == "snippet_instruction":
        return snippet_instruction_example(
            shot.snippet, shot.category, shot.difficulty, shot.instruction, language=language
        )
    if kind == "problem":
        return problem_example(shot.snippet, shot.instruction, shot.response, language=language)
    if kind == "evolution":
        return evolution_example(shot.instruction, shot.change, shot.evolved)
    if kind == "tests":
        return independent_tests_example(shot.instruction, shot.tests)
    return response_example(shot.instruction, shot.response, shot.tests, tags=tags)


def _is_read_back(shot: Shot, tags: str, language: str = "python") -> bool:
    """Tell whether a worked example, written by a model, would be cut and split into its own parts."""
    written = shot_example("response", shot, tags=tags).removeprefix(response_example(shot.instruction, tags=tags))
    for stop in stop_strings("response", tags):
        written = written.partition(stop)[0]
    return parse_response(written, tags=tags, language=language) == (shot.response.strip(), shot.tests.strip(), None)


def render_document(header: str, examples: list[str]) -> str:
    """Join a header and rendered examples; the model continues at the end of the last one."""
    body = "".join(f"{NEXT_EXAMPLE} {number}\n{example}" for number, example in enumerate(examples, 1))
    return f"{header}\n\n{body}" if header else body


def parse_concepts(text: str) -> tuple[list[str], str | None]:
    """Read a comma-separated list of concepts; return it with None, or what was read with the drop reason."""
    line = text.strip().split("\n", 1)[0]
    concepts = list(dict.fromkeys(part.strip(" .`*-").lower() for part in line.split(",")))
    concepts = [concept for concept in concepts if concept]
    if not concepts:
        return [], "empty"
    if any(len(concept) > 60 for concept in concepts):
        return concepts, "malformed concepts"
    return concepts, None


def parse_instruction(text: str) -> tuple[str, str | None]:
    """Read an instruction; return it with None, or with the drop reason."""
    instruction = text.strip()
    if not instruction:
        return "", "empty"
    if "### " in instruction or "<instruction>" in instruction:
        return instruction, "malformed instruction"
    return instruction, None


def parse_problem(text: str, language: str = "python") -> tuple[str, str, str | None]:
    """Split a completion into problem and solution; return them with None, or with the drop reason."""
    parts = text.split(_SOLUTION)
    if len(parts) != 2:
        return text.strip(), "", "no solution" if len(parts) == 1 else "several solutions"
    problem, malformed = parse_instruction(parts[0])
    solution = parts[1].strip()
    return problem, solution, malformed or (None if code_blocks(solution, language) else "no code in solution")


def parse_response(text: str, *, tags: str = "xml", language: str = "python") -> tuple[str, str, str | None]:
    """Split a completion into response and tests; return them with None, or with the drop reason."""
    parts = STYLES[tags].parts.split(text)
    if len(parts) != 2:
        return text.strip(), "", "no tests section" if len(parts) == 1 else "several tests sections"
    response, tests = (part.strip() for part in parts)
    for name, part in (("response", response), ("tests", tests)):
        if not code_blocks(part, language):
            return response, tests, f"no code in {name}"
    return response, tests, None


def parse_independent_tests(text: str) -> tuple[str, str | None]:
    """Read tests that were written from an instruction alone; return them with None, or with the drop reason."""
    tests = text.strip()
    if _PART.search(tests):  # a solution of its own, or a further task
        return tests, "malformed tests"
    return tests, None if code_blocks(tests) else "no code in tests"


_PART = re.compile(r"^(?:### (?:Instruction|Response|Tests)|</?(?:instruction|response|tests)>)[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})(.*)")


def code_blocks(text: str, language: str = "python") -> str:
    """Return the code of a text: its fenced blocks of the language, joined; other blocks and prose are left out.

    Fences are those of CommonMark (section 4.5): backticks or tildes, three or more, closed by as many or by the end
    of the text, possibly indented as in a list. But a block of the language also opens within another block: models
    write fences that close nothing, and open twice.
    """
    ours = LANGUAGES[language].fence_pattern
    lines: list[str] = []
    fence, indent, is_ours = "", 0, False
    for line in text.replace("\r\n", "\n").split("\n"):
        found = _FENCE.match(line)
        rest = found[3].strip() if found else ""
        opens = found and not (found[2][0] == "`" and "`" in rest)
        again = opens and ours.match(rest) and (not is_ours or (found[2].startswith(fence) and not found[1]))
        if opens and (not fence or again):
            if is_ours:
                _end_block(lines)
            fence, indent, is_ours = found[2], len(found[1]), bool(ours.match(rest))
        elif found and not rest and found[2].startswith(fence) and len(found[1]) <= indent + 3:
            if is_ours:
                _end_block(lines)
            fence, is_ours = "", False
        elif is_ours:
            lines.append(line[len(line[:indent]) - len(line[:indent].lstrip(" \t")) :])
    if is_ours:
        _end_block(lines)
    return "\n".join(lines)


def _end_block(lines: list[str]) -> None:
    """Leave one empty line at the end of a block."""
    while lines and not lines[-1].strip():
        lines.pop()
    lines.append("")


def chat_document(system: str, instruction: str) -> str:
    """Render what a trained model is asked: the same text that its chat template gives for one user message."""
    return f"{system}\n\n### Instruction\n{instruction.strip()}\n\n### Response\n"
