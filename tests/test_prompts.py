"""The prompt files: every worked example is well formed, its tests pass, and they fail when the code is broken.

The second half tests how model output is read, with malformed output as table rows.
"""

import ast
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from selfalign.prompts import documents
from selfalign.sandbox.pool import Sandbox
from selfalign.sandbox.settings import Program, SandboxSettings

FOLDER = Path(__file__).parent.parent / "resources" / "prompts"
FILES = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "seed_judge.yaml", FOLDER / "demo-javascript.yaml"})
PROMPTS = {path.name: documents.load_prompts(path) for path in FILES}
SHOTS = [
    pytest.param(name, shot, id=f"{name}:{shot.id}") for name, prompts in PROMPTS.items() for shot in prompts.shots
]
GENERAL = PROMPTS["python.yaml"]
KINDS = documents.KINDS
STYLES = tuple(documents.STYLES)
SENTINEL = "the tests have run to their end"
# Every function of a response is replaced by one that does nothing; of these programs none may pass its tests.
MUTATION_RUNNER = """
import contextlib, io, json, sys
survivors = []
for name, program in json.load(sys.stdin):
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(program, name, "exec"), {"__name__": "__main__"})
    except BaseException:
        continue
    survivors.append(name)
print(json.dumps(survivors))
"""


def run_python(arguments: list[str], folder: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the interpreter, isolated, in a folder; the time limit allows for a machine that is busy."""
    command = [sys.executable, "-I", *arguments]
    return subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, timeout=120, check=False)


def emptied(code: str) -> list[tuple[str, str]]:
    """Return a copy of the program for each of its functions and methods, in which that one returns None at once."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    count = sum(isinstance(node, functions) for node in ast.walk(ast.parse(code)))
    programs = []
    for number in range(count):
        tree = ast.parse(code)
        function = [node for node in ast.walk(tree) if isinstance(node, functions)][number]
        function.body = [ast.Return(value=ast.Constant(value=None))]
        programs.append((f"{function.name} (line {function.lineno})", ast.unparse(ast.fix_missing_locations(tree))))
    return programs


def words(text: str) -> int:
    return len(text.split())


def test_the_general_prompt_file_exists() -> None:
    assert "python.yaml" in PROMPTS


@pytest.mark.parametrize("name", PROMPTS)
def test_file(name: str) -> None:
    prompts = PROMPTS[name]
    ids = [shot.id for shot in prompts.shots]
    assert len(ids) == len(set(ids)), "ids must be unique"
    for texts in zip(*((shot.snippet, shot.instruction, shot.response) for shot in prompts.shots), strict=True):
        assert len(set(texts)) == len(texts), "two examples share a text"
    assert set(prompts.headers) == {*KINDS, *documents.MORE_KINDS}
    for header in prompts.headers.values():
        assert header
        assert documents.NEXT_EXAMPLE not in header
    assert len({evolution.id for evolution in prompts.evolutions}) == len(prompts.evolutions) >= 8
    for change in prompts.changes:
        assert sum(evolution.change == change for evolution in prompts.evolutions) >= 2
    for evolution in prompts.evolutions:
        assert not any("### " in text for text in (evolution.change, evolution.instruction, evolution.evolved))
    raw = (FOLDER / name).read_bytes()
    assert b"\t" not in raw
    assert b"\r" not in raw


@pytest.mark.parametrize(("name", "shot"), SHOTS)
def test_form(name: str, shot: documents.Shot) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", shot.id)
    assert all(concept and concept == concept.strip(" .`*-").lower() for concept in shot.concepts)
    assert not any("," in concept or len(concept) > 60 for concept in shot.concepts)
    assert len(set(shot.concepts)) == len(shot.concepts)
    for text in (shot.response, shot.tests):
        assert text.count("```python\n") == 1
        assert text.count("```") == 2, "one block of code"
        ast.parse(documents.code_blocks(text))
    for text in (shot.snippet, shot.instruction, shot.response, shot.tests):
        assert text.strip()
        assert not any(stop in text for tags in STYLES for kind in KINDS for stop in documents.stop_strings(kind, tags))
        assert not re.search(r"</?(instruction|response|tests)>|^### ", text, re.MULTILINE)
        assert all(len(line) <= 120 or " " in line for line in text.splitlines())
    assert "__main__" not in documents.code_blocks(shot.response), "such a block would run before the tests"


@pytest.mark.parametrize(("name", "shot"), SHOTS)
def test_snippet_is_a_documented_function(name: str, shot: documents.Shot) -> None:
    tree = ast.parse(shot.snippet)
    *imports, function = tree.body
    assert all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in imports)
    assert isinstance(function, ast.FunctionDef)
    assert ast.get_docstring(function)
    assert function.args.args, "seed functions have an argument"
    kinds = (ast.Return,) if name == "python.yaml" else (ast.Return, ast.Yield)
    assert any(isinstance(node, kinds) and node.value for node in ast.walk(function)), "and return a value"
    exec(compile(tree, shot.id, "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize(("name", "shot"), SHOTS)
def test_response_passes_its_tests(name: str, shot: documents.Shot, tmp_path: Path) -> None:
    code, tests = documents.code_blocks(shot.response), documents.code_blocks(shot.tests)
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(tests)))
    program = tmp_path / "program.py"
    program.write_text(f"{code}\n{tests}\nprint({SENTINEL!r})\n", encoding="utf-8")
    folder = tmp_path / "work"
    folder.mkdir()
    begin = time.perf_counter()
    done = run_python([str(program)], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1:] == [SENTINEL]
    assert done.stderr == ""
    assert not list(folder.iterdir()), "tests tidy up after themselves"
    assert time.perf_counter() - begin < 30


@pytest.mark.parametrize(("name", "shot"), SHOTS)
def test_broken_response_fails_its_tests(name: str, shot: documents.Shot, tmp_path: Path) -> None:
    tests = documents.code_blocks(shot.tests)
    programs = [
        (name, f"{code}\n{tests}")
        for name, code in emptied(documents.code_blocks(shot.response))
        # A hash may be lost in ways that no test can see.
        if not name.startswith("__hash__")
    ]
    assert programs
    done = run_python(["-c", MUTATION_RUNNER], tmp_path, json.dumps(programs))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [], "the tests pass although these functions do nothing"


@pytest.mark.parametrize("name", PROMPTS)
def test_examples_pass_in_the_sandbox(name: str) -> None:
    """What the prompts show is what verification accepts."""
    programs = [
        Program(id=shot.id, code=documents.code_blocks(shot.response), tests=documents.code_blocks(shot.tests))
        for shot in PROMPTS[name].shots
    ]
    verdicts = list(Sandbox(SandboxSettings(), workers=1).run(programs))
    assert {verdict.id for verdict in verdicts} == {program.id for program in programs}
    assert [verdict for verdict in verdicts if verdict.verdict != "passed"] == []
    assert all(verdict.assertions > 0 for verdict in verdicts)


@pytest.mark.parametrize("tags", STYLES)
@pytest.mark.parametrize(("name", "shot"), SHOTS)
def test_documents_are_read_back(name: str, shot: documents.Shot, tags: str) -> None:
    """What a model continues after the open end of an example is read back as that example's own parts."""
    ends = {
        "concepts": documents.concepts_example(shot.snippet),
        "instruction": documents.instruction_example(shot.category, shot.difficulty, shot.concepts),
        "response": documents.response_example(shot.instruction, tags=tags),
    }
    others = [other for other in PROMPTS[name].shots if other.id != shot.id][:2]
    for kind in KINDS:
        header = PROMPTS[name].headers[kind]
        before = [documents.shot_example(kind, other, tags=tags) for other in others]
        open_end = documents.render_document(header, [*before, ends[kind]])
        whole = documents.render_document(header, [*before, documents.shot_example(kind, shot, tags=tags), before[0]])
        assert whole.startswith(open_end)
        completion = whole[len(open_end) :]
        for stop in documents.stop_strings(kind, tags):
            completion = completion.split(stop)[0]
        if kind == "concepts":
            assert documents.parse_concepts(completion) == (list(shot.concepts), None)
        elif kind == "instruction":
            assert documents.parse_instruction(completion) == (shot.instruction.strip(), None)
        else:
            read = documents.parse_response(completion, tags=tags)
            assert read == (shot.response.strip(), shot.tests.strip(), None)
            end = documents.STYLES[tags].response_end  # where a benchmark asks for no tests
            assert whole[len(open_end) :].partition(end)[0].strip() == shot.response.strip()


CODE, TESTS = "```python\ndef f():\n    return 1\n```", "```python\nassert f() == 1\n```"
OWN_HEADINGS = [
    # what a model writes in the style of headings, what its response is when the stop strings have cut it
    (f"{CODE}\n\n### Tests\n{TESTS}\n\n### Instruction\nNext.", CODE),
    (f"{CODE}\n\n### Tests\n{TESTS}\n\n## Example 2\n### Instruction", CODE),
    (f"{CODE}\n\n### Example usage\nCall it.\n\n### Tests\n{TESTS}", f"{CODE}\n\n### Example usage\nCall it."),
    (f"### Instructions\nRun:\n{CODE}\n\n### Tests\n{TESTS}", f"### Instructions\nRun:\n{CODE}"),
    (f"{CODE}\n#### Tests pass\n\n### Tests\n{TESTS}", f"{CODE}\n#### Tests pass"),
]


@pytest.mark.parametrize(("text", "response"), OWN_HEADINGS)
def test_headings_of_the_model_s_own_end_nothing(text: str, response: str) -> None:
    for stop in documents.stop_strings("response", "headings"):
        text = text.partition(stop)[0]
    assert documents.parse_response(text, tags="headings") == (response, TESTS, None)


@pytest.mark.parametrize("tags", STYLES)
@pytest.mark.parametrize("name", PROMPTS)
def test_the_files_are_for_every_style(name: str, tags: str) -> None:
    assert documents.load_prompts(FOLDER / name, tags) == PROMPTS[name]


DOCUMENTS = {
    "xml": ("<instruction>\nAdd.\n</instruction>\n<response>\n", "Sum:\n</response>\n<tests>\nTrue\n</tests>\n\n"),
    "headings": ("### Instruction\nAdd.\n\n### Response\n", "Sum:\n\n### Tests\nTrue\n\n"),
}


@pytest.mark.parametrize("tags", STYLES)
def test_response_documents(tags: str) -> None:
    asked, written = DOCUMENTS[tags]
    assert documents.response_example(" Add.\n", tags=tags) == asked
    assert documents.response_example("Add.", "Sum:\n", "True", tags=tags) == asked + written


def test_general_examples_are_balanced() -> None:
    shots = GENERAL.shots
    assert len(shots) == 21
    assert Counter(shot.category for shot in shots) == {"function": 11, "class": 5, "program": 5}
    assert Counter(shot.difficulty for shot in shots) == {"easy": 8, "medium": 10, "hard": 3}
    assert {shot.difficulty for shot in shots if shot.category == "class"} == {"easy", "medium", "hard"}


@pytest.mark.parametrize("shot", GENERAL.shots, ids=lambda shot: shot.id)
def test_general_examples_have_the_right_size(shot: documents.Shot) -> None:
    assert 5 <= len(shot.snippet.strip().splitlines()) <= 40
    assert 3 <= len(shot.concepts) <= 6
    assert 45 <= words(shot.instruction) <= 150
    assert 60 <= words(shot.response) <= 400
    assert 30 <= words(shot.tests) <= 350
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(documents.code_blocks(shot.tests)))) >= 5
    assert not shot.response.startswith("```"), "the approach is explained before the code"


@pytest.mark.parametrize("shot", GENERAL.shots, ids=lambda shot: shot.id)
def test_general_instruction_names_what_is_tested(shot: documents.Shot) -> None:
    """The instruction alone has to be enough: what the tests call is named in it."""
    defined = {
        node.name
        for node in ast.parse(documents.code_blocks(shot.response)).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    tests = ast.parse(documents.code_blocks(shot.tests))
    called = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)} & defined
    assert called
    for name in called:
        assert re.search(rf"`{name}\b", shot.instruction), name
    kind = ast.ClassDef if shot.category == "class" else ast.FunctionDef
    body = ast.parse(documents.code_blocks(shot.response)).body
    assert any(isinstance(node, kind) and node.name in called for node in body)
    if shot.category == "program":
        assert "main" in called


# How model output is read.

CODE = "```python\nx = 1\n```"
LONG = "a" * 2**20


@pytest.mark.parametrize(
    ("text", "expected", "drop"),
    [
        ("recursion, string slicing", ["recursion", "string slicing"], None),
        ("  Recursion ,  `Sets`, *sorting*.\n", ["recursion", "sets", "sorting"], None),
        ("recursion, Recursion, recursion.", ["recursion"], None),
        ("\n\nrecursion\nThis snippet is about recursion, and more.", ["recursion"], None),
        ("- recursion", ["recursion"], None),
        ("recursion, , ,sets,", ["recursion", "sets"], None),
        ("größenvergleich, 排序", ["größenvergleich", "排序"], None),
        ("x" * 60, ["x" * 60], None),
        ("x" * 61, ["x" * 61], "malformed concepts"),
        (
            "The code above walks through a list and returns a new one in which all the things are",
            None,
            "malformed concepts",
        ),
        (LONG, [LONG], "malformed concepts"),
        ("sets, " * 10**5, ["sets"], None),
        ("", [], "empty"),
        (" \n\t\n", [], "empty"),
        (", ,,.", [], "empty"),
        ("```", [], "empty"),
    ],
)
def test_parse_concepts(text: str, expected: list[str] | None, drop: str | None) -> None:
    concepts, reason = documents.parse_concepts(text)
    assert reason == drop
    assert expected is None or concepts == expected


@pytest.mark.parametrize(
    ("text", "expected", "drop"),
    [
        ("Write a function.", "Write a function.", None),
        ("\n  Write a function.\n\n", "Write a function.", None),
        ("Write two paragraphs.\n\nThis is the second.", "Write two paragraphs.\n\nThis is the second.", None),
        ("Print `#` and `##` as they are.", "Print `#` and `##` as they are.", None),
        (LONG, LONG, None),
        ("", "", "empty"),
        (" \n ", "", "empty"),
        ("Write a function.\n### Response\nHere", "Write a function.\n### Response\nHere", "malformed instruction"),
        ("<instruction>\nWrite", "<instruction>\nWrite", "malformed instruction"),
    ],
)
def test_parse_instruction(text: str, expected: str, drop: str | None) -> None:
    assert documents.parse_instruction(text) == (expected, drop)


@pytest.mark.parametrize(
    ("text", "expected", "drop"),
    [
        (f"Why.\n{CODE}\n</response>\n<tests>\n{CODE}\n", (f"Why.\n{CODE}", CODE), None),
        (f"{CODE}</response><tests>{CODE}", (CODE, CODE), None),
        (f"{CODE}\n</response>\n\n\n<tests>\n{CODE}\nDone.", (CODE, f"{CODE}\nDone."), None),
        (f"a\x00b\x1b[31m\n{CODE}\n</response>\n<tests>\n{CODE}", (f"a\x00b\x1b[31m\n{CODE}", CODE), None),
        (f"{LONG}\n{CODE}</response>\n<tests>{CODE}", (f"{LONG}\n{CODE}", CODE), None),
        (f"In the midst of a line: {CODE}\n</response>\n<tests>\n{CODE}", None, "no code in response"),
        ("", ("", ""), "no tests section"),
        (" \n", ("", ""), "no tests section"),
        (LONG, (LONG, ""), "no tests section"),
        (f"{CODE}\n", (CODE, ""), "no tests section"),
        (f"{CODE}\n</response>\n", (f"{CODE}\n</response>", ""), "no tests section"),
        (f"{CODE}\n<tests>\n{CODE}", (f"{CODE}\n<tests>\n{CODE}", ""), "no tests section"),
        (f"{CODE}\n</response>\nand\n<tests>\n{CODE}", None, "no tests section"),
        (f"{CODE}\n</Response>\n<Tests>\n{CODE}", None, "no tests section"),
        (f"{CODE}\n<response/>\n<tests>\n{CODE}", None, "no tests section"),
        (f"{CODE}\n</response>\n<tests>\n{CODE}\n</response>\n<tests>\n{CODE}", None, "several tests sections"),
        ("Only words.\n</response>\n<tests>\n" + CODE, ("Only words.", CODE), "no code in response"),
        (f"{CODE}\n</response>\n<tests>\nassert x == 1", (CODE, "assert x == 1"), "no code in tests"),
        (f"{CODE}\n</response>\n<tests>\n", (CODE, ""), "no code in tests"),
        (f"```\nx = 1\n```\n</response>\n<tests>\n{CODE}", None, "no code in response"),
        ("</response>\n<tests>", ("", ""), "no code in response"),
    ],
)
def test_parse_response(text: str, expected: tuple[str, str] | None, drop: str | None) -> None:
    response, tests, reason = documents.parse_response(text)
    assert reason == drop
    assert expected is None or (response, tests) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CODE, "x = 1\n"),
        (f"Why.\n\n{CODE}\n\nThat is it.", "x = 1\n"),
        (f"{CODE}\nand\n```python\ny = 2\n```", "x = 1\n\ny = 2\n"),
        ("```py\nx = 1\n```", "x = 1\n"),
        ("```Python\nx = 1\n```", "x = 1\n"),
        ('```python title="a.py"\nx = 1\n```', "x = 1\n"),
        ("```python\nx = 1\n\n\n```", "x = 1\n"),
        ("```python\nx = 1", "x = 1\n"),
        ("```bash\nls\n```\n```python\nx = 1\n```", "x = 1\n"),
        ('```python\nx = "`" * 3 + "```"\n```', 'x = "`" * 3 + "```"\n'),
        ("```python\n\x0c\x00\n```", "\x0c\x00\n"),
        (f"```python\n{LONG}\n```", f"{LONG}\n"),
        ("~~~python\nx = 1\n```\n~~~", "x = 1\n```\n"),
        ("````python\nx = '```'\n```\n````", "x = '```'\n```\n"),
        ("``` python\nx = 1\n```", "x = 1\n"),
        ("```{.python .numberLines}\nx = 1\n```", "x = 1\n"),
        ("```python3\r\nx = 1\r\n```\r\n", "x = 1\n"),
        ("1. First\n\n   ```python\n   if x:\n       y = 2\n   ```\n2. Then", "if x:\n    y = 2\n"),
        ('```python\ndef f():\n    """\n    ```\n    f()\n    ```\n    """\n```', None),
        ("```\nNow:\n```python\nx = 1\n```", "x = 1\n"),
        ("```python\n```python\nx = 1\n```", "\nx = 1\n"),
        ("````markdown\n```python\nx = 1\n```\n````", "x = 1\n"),
        ("```pycon\n>>> x = 1\n```", ""),
        ("```python-repl\n>>> x = 1\n```", ""),
        ("`python` and ```x = 1```", ""),
        ("```\nx = 1\n```", ""),
        ("no code", ""),
        ("", ""),
        (LONG, ""),
    ],
)
def test_code_blocks(text: str, expected: str) -> None:
    if expected is None:  # all that stands between the first and the last line
        expected = text.partition("\n")[2].rpartition("```")[0]
    assert documents.code_blocks(text) == expected


@pytest.mark.parametrize(
    ("text", "expected", "drop"),
    [
        (f"Why.\n{CODE}\n\n### Tests\n{CODE}\n", (f"Why.\n{CODE}", CODE), None),
        (f"{CODE}\n### Tests \t\n{CODE}\nDone.", (CODE, f"{CODE}\nDone."), None),
        ("```python\nx = 1\n### Tests\n" + CODE, ("```python\nx = 1", CODE), None),
        (f"{CODE}\n\n### Why\nSo.\n\n### Tests\n{CODE}", (f"{CODE}\n\n### Why\nSo.", CODE), None),
        ("", ("", ""), "no tests section"),
        (f"{CODE}\n", (CODE, ""), "no tests section"),
        (f"{CODE}\n## Tests\n{CODE}", None, "no tests section"),
        (f"{CODE}\n### tests\n{CODE}", None, "no tests section"),
        (f"{CODE}\n ### Tests\n{CODE}", None, "no tests section"),
        (f"{CODE}\n### Tests of it\n{CODE}", None, "no tests section"),
        (f"{CODE}\n</response>\n<tests>\n{CODE}", None, "no tests section"),
        (f"{CODE}\n### Tests\n{CODE}\n### Tests\n{CODE}", None, "several tests sections"),
        (f"Words.\n### Tests\n{CODE}", ("Words.", CODE), "no code in response"),
        (f"{CODE}\n### Tests\nassert x == 1", (CODE, "assert x == 1"), "no code in tests"),
        ("```python\nx = 1\n### Tests\nassert x == 1\n```", None, "no code in tests"),  # a comment in one block
    ],
)
def test_parse_response_with_headings(text: str, expected: tuple[str, str] | None, drop: str | None) -> None:
    response, tests, reason = documents.parse_response(text, tags="headings")
    assert reason == drop
    assert expected is None or (response, tests) == expected


@pytest.mark.parametrize(
    "character", ["### Tests\n", "### Tests ", "<", "`", "#", " ", "\n", "</response>", "<tests>", "```python\n", ", "]
)
def test_hostile_output_is_read_in_linear_time(character: str) -> None:
    text = character * (2**20 // len(character))
    begin = time.process_time()
    documents.parse_concepts(text)
    documents.parse_instruction(text)
    for tags in STYLES:
        documents.parse_response(text, tags=tags)
    documents.code_blocks(text)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected the keys"),
        ("headers: {}\nshots: []\n", "headers: expected concepts"),
        ("headers: {concepts: a, instruction: b, response: c}\nshots: []\n", "no examples"),
        ("headers: {concepts: a, instruction: b, response: c}\nshots: []\nextra: 1\n", "expected the keys"),
        ("headers: {concepts: a, instruction: b, response: c}\nshots:\n- {id: a, concepts: [b]}\n", "example 1"),
        ("headers: {concepts: a, instruction: b, response: c}\nshots:\n- {id: a}\n", "example 1"),
        ("headers: [\n", "cannot be read"),
    ],
)
def test_bad_prompt_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        documents.load_prompts(path)
    assert str(path) in str(error.value)


UNREADABLE = [
    ("xml", "assert ", "</tests>\n    assert "),
    ("xml", "assert ", "## Example\n    assert "),
    ("headings", "assert ", "### Instruction\n    assert "),
    ("headings", "```python", "### Tests\n```python"),
    ("headings", "```python", "```"),
]


@pytest.mark.parametrize(("tags", "old", "new"), UNREADABLE)
def test_an_example_with_marks_of_the_style_is_refused(tags: str, old: str, new: str, tmp_path: Path) -> None:
    shot = GENERAL.shots[0]
    assert documents._is_read_back(shot, tags)
    tests = shot.tests.replace(old, new) if old in shot.tests else f"{new}\n{shot.tests}"
    path = tmp_path / "prompts.yaml"
    item = {**vars(shot), "concepts": list(shot.concepts), "tests": tests}
    path.write_text(json.dumps({"headers": GENERAL.headers, "shots": [item]}), encoding="utf-8")
    documents.load_prompts(path)
    with pytest.raises(ValueError, match=rf"prompts.yaml, example 1: with tags {tags}, .*not read back"):
        documents.load_prompts(path, tags)


def test_missing_or_undecodable_prompt_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        documents.load_prompts(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"headers: \xff\xfe\n")
    with pytest.raises(ValueError, match="cannot be read"):
        documents.load_prompts(tmp_path / "latin.yaml")


def test_unknown_category_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    text = (FOLDER / "python.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("category: class", "category: module", 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"example 12.*category"):
        documents.load_prompts(path)
