"""The methods beside self-oss-instruct: what each shows to the model, and what becomes of its answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from selfalign.engines.models import write_model
from selfalign.engines.port import Completion, Usage
from selfalign.generation.concepts import list_seeds
from selfalign.generation.instructions import METHODS, generate_instructions
from selfalign.generation.rebuilding import rebuild_request
from selfalign.generation.responses import generate_responses
from selfalign.generation.stages import Settings
from selfalign.prompts.documents import load_prompts
from selfalign.records.files import read_json, read_jsonl, write_jsonl, write_table
from selfalign.records.rows import Concepts, Function, Instruction, Response
from selfalign.seeds.part import FUNCTION_COLUMNS

ROOT = Path(__file__).parent.parent
PROMPTS = ROOT / "resources/prompts/demo.yaml"
SEED = Function(
    id="00000000000000aa",
    code='def first(xs):\n    """Return the first."""\n    return xs[0]',
    name="first",
    imports="",
    docstring="Return the first.",
    package="stdlib",
    version="3",
    path="a.py",
    line=1,
    licence="PSF-2.0",
)
CONCEPTS = f"{SEED.id}-c0"
TASK = "Write a function `double(xs)` that doubles every number."
CODE = "```python\ndef double(xs):\n    return [x * 2 for x in xs]\n```"
TESTS = "```python\nassert double([1]) == [2]\n```"
GENERATION = {
    "categories": {"function": 0.5, "class": 0.25, "program": 0.25},
    "shots": {"concepts": 2, "instruction": 2, "response": 1},
    "shot_sets": 2,
    "temperature": 0.7,
    "top_p": 1.0,
    "max_tokens": {"concepts": 9, "instruction": 99, "response": 99},
    "tags": "xml",
}


class Recorded:
    """An engine that gives one text to every request, and keeps the requests."""

    usage = Usage()

    def __init__(self, text: str):
        self.text = text
        self.requests = []

    def complete(self, requests, done=frozenset()):
        """Yield the completions of each request."""
        for request in requests:
            self.requests.append(request)
            yield [
                Completion(
                    id=request.id, k=k, text=self.text, finish_reason="stop", prompt_tokens=1, completion_tokens=1
                )
                for k in range(request.n)
            ]


def settings(folder: Path, kind: str, samples: int = 1) -> Settings:
    """Return the options of a stage that writes out.jsonl."""
    write_model(folder / "model.json", ROOT / "resources/demo-base")
    return Settings(
        prompts=PROMPTS,
        shots=GENERATION["shots"][kind],
        shot_sets=2,
        temperature=0.7,
        top_p=1.0,
        max_tokens=GENERATION["max_tokens"][kind],
        samples=samples,
        run_seed=7,
        model=folder / "model.json",
        engine="{}",
        label="test",
        output=folder / "out.jsonl",
        stats=folder / "out.json",
    )


def instruct(method: str, text: str, folder: Path, monkeypatch, instruction: Instruction | None = None):
    """Run the instruction stage on one seed; return its requests and rows."""
    engine = Recorded(text)
    monkeypatch.setattr("selfalign.generation.stages.open_engine", lambda *_: engine)
    write_table(folder / "seeds.parquet", [SEED.dump()], FUNCTION_COLUMNS)
    list_seeds(
        folder / "seeds.parquet", 0, 1, None, samples=1, run_seed=7, output=folder / "c.jsonl", stats=folder / "c.json"
    )
    files = {"seeds": folder / "seeds.parquet"} if METHODS[method].reads == "seeds" else {}
    if instruction:
        write_jsonl(folder / "i.jsonl", [instruction.dump()])
        files = {"instructions": folder / "i.jsonl"}
    generate_instructions(
        folder / "c.jsonl", GENERATION["categories"], settings(folder, "instruction"), method=method, **files
    )
    return engine.requests, [Instruction.load(row) for row in read_jsonl(folder / "out.jsonl")]


def an_instruction(**changes) -> Instruction:
    """Return a row as self-oss-instruct makes it."""
    row = Instruction(
        id=f"{CONCEPTS}-i0",
        parent=CONCEPTS,
        shots=[],
        seed=1,
        finish_reason="stop",
        category="function",
        difficulty="easy",
        concepts=["sorting"],
        instruction="Write a function `triple(xs)`.",
        drop=None,
    )
    return replace(row, **changes)


ANSWERS = [
    ("seed-instruct", TASK, {"instruction": TASK, "drop": None, "concepts": []}),
    ("seed-instruct", "", {"drop": "empty"}),
    ("oss-instruct", f"{TASK}\n### Solution\n{CODE}", {"instruction": TASK, "solution": CODE, "drop": None}),
    ("oss-instruct", f"{TASK}\n### Solution\n{CODE}", {"category": "any", "difficulty": "any", "concepts": []}),
    ("oss-instruct", TASK, {"drop": "no solution", "solution": ""}),
    ("oss-instruct", f"{TASK}\n### Solution\nuse map", {"drop": "no code in solution"}),
    ("oss-instruct", f"{TASK}\n### Solution\n{CODE}\n### Solution\n{CODE}", {"drop": "several solutions"}),
    ("oss-instruct", f"\n### Solution\n{CODE}", {"drop": "empty"}),
    ("evol-instruct", TASK, {"instruction": TASK, "original": "Write a function `triple(xs)`.", "drop": None}),
    ("evol-instruct", "Write a function `triple(xs)`.\n", {"drop": "not changed"}),
]


@pytest.mark.parametrize(("method", "text", "expected"), ANSWERS)
def test_answers_become_instructions(method, text, expected, tmp_path, monkeypatch):
    original = an_instruction() if method == "evol-instruct" else None
    (request,), (row,) = instruct(method, text, tmp_path, monkeypatch, original)
    assert {name: getattr(row, name) for name in expected} == expected
    assert (row.id, row.parent) == (f"{CONCEPTS}-i0", CONCEPTS)
    header = load_prompts(PROMPTS).headers[METHODS[method].kind]
    assert request.prompt.startswith(f"{header}\n\n## Example 1\n")
    last = request.prompt.rpartition("## Example ")[2]
    assert (SEED.code in last) == (method != "evol-instruct")
    assert (f"category: {row.category}" in last) == (method == "seed-instruct")
    if method == "evol-instruct":
        assert f"### Task\n{original.instruction}\n### Change\n{row.change}\n### Changed task\n" in last
        assert row.change in load_prompts(PROMPTS).changes
    generation = GENERATION | {"method": method}
    concepts = Concepts.load(next(read_jsonl(tmp_path / "c.jsonl")))
    again, shots = rebuild_request(row, [SEED, concepts], generation, PROMPTS, 7)
    assert (again.prompt, again.seeds, shots) == (request.prompt, request.seeds, row.shots)


def test_dropped_originals_are_passed_on_without_asking(tmp_path, monkeypatch):
    requests, rows = instruct("evol-instruct", TASK, tmp_path, monkeypatch, an_instruction(drop="length"))
    assert (requests, [row.drop for row in rows]) == ([], ["original: length"])
    assert read_json(tmp_path / "out.json")["dropped"] == {"original: length": 1}


def test_a_solution_gets_tests_and_is_the_response(tmp_path, monkeypatch):
    engine = Recorded(f"{TESTS}\n")
    monkeypatch.setattr("selfalign.generation.stages.open_engine", lambda *_: engine)
    asked = an_instruction(instruction=TASK, solution=CODE)
    write_jsonl(tmp_path / "i.jsonl", [asked.dump()])
    for tags in ("xml", "headings"):
        generate_responses(tmp_path / "i.jsonl", settings(tmp_path, "response", samples=2), tags=tags)
        rows = [Response.load(row) for row in read_jsonl(tmp_path / "out.jsonl")]
        assert [(row.response, row.tests, row.drop) for row in rows] == [(CODE, TESTS, None)] * 2
        assert CODE in engine.requests[-1].prompt.rpartition("## Example ")[2]
    generation = GENERATION | {"method": "oss-instruct", "tags": "headings"}
    again, _ = rebuild_request(rows[1], [SEED, None, asked], generation, PROMPTS, 7)
    assert again.prompt == engine.requests[-1].prompt


WRONG = [
    ("evol-instruct", {}, "--instructions is needed"),
    ("seed-instruct", {}, "--seeds is needed"),
    ("self-oss-instruct", {"seeds": Path("seeds.parquet")}, "--seeds is of no use"),
]


@pytest.mark.parametrize(("method", "files", "message"), WRONG)
def test_a_method_says_which_file_it_needs(method, files, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        generate_instructions(tmp_path / "c.jsonl", {}, settings(tmp_path, "instruction"), method=method, **files)


def test_prompts_without_the_methods_parts_are_refused(tmp_path, monkeypatch):
    text = PROMPTS.read_text(encoding="utf-8")
    bare = tmp_path / "bare.yaml"
    bare.write_text("\n".join(line for line in text.split("\n") if not line.startswith("  problem:")))
    monkeypatch.setattr("test_generation_methods.PROMPTS", bare)
    with pytest.raises(ValueError, match=r"bare\.yaml: headers: problem is missing"):
        instruct("oss-instruct", TASK, tmp_path, monkeypatch)
    bare.write_text(text.partition("evolutions:")[0])
    with pytest.raises(ValueError, match="has no evolutions"):
        instruct("evol-instruct", TASK, tmp_path, monkeypatch, an_instruction())


def test_every_method_is_small():
    for path in (ROOT / "scripts/selfalign/generation/methods").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 200, path
