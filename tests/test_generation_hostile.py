"""What a model may write, through the real commands with a real server: a counted drop or verdict, never a stop."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from completion_server import KEY, CompletionServer, say, status

from selfalign.engines.models import fetch_model
from selfalign.records.files import read_json, read_jsonl, write_table
from selfalign.records.rows import Concepts, Function, Instruction, Pair, Response, Verdict
from selfalign.seeds.part import FUNCTION_COLUMNS

ROOT = Path(__file__).parent.parent
GOOD = "```python\ndef double(x):\n    return 2 * x\n```\n</response>\n<tests>\n```python\nassert double(2) == 4\n```\n"
TESTS = "</response>\n<tests>\n```python\nassert double(2) == 4\n```\n"
REFUSED = "refused by the server"

# What the server does, and the drop. A text without one goes on, with MARK the number of its case.
CONCEPTS = [
    (say(""), "empty"),
    (say(" , `` ,\n"), "empty"),
    (say("a" * 61), "malformed concepts"),
    (say("sorting", "length"), "length"),
    (say("sorting, " * 200_000), "length"),
    (say("\x00\x01\x1b[2J\x7f"), None),
    (say("case MARK \ud800, \u202e\u2028\x85"), None),
    (status(400, "no"), REFUSED),
]
INSTRUCTIONS = [
    (say(" \n\t"), "empty"),
    (say("Write it.\n### Instruction\nAgain."), "malformed instruction"),
    (say("Write <instruction> tags."), "malformed instruction"),
    (say("y" * 1_000_000), "length"),
    (say("Write it.", "abort"), "abort"),
    (say("Write it.\n## Example 3\n### Snippet"), None),  # a stop string that the server let through
    (say("Case MARK: \x00 \udfff \r\n\x0c \u2029"), None),
    (status(400, "filtered", error="content_filter"), "content_filter"),
]
RESPONSES = [  # the drop, or the verdict
    (say("I cannot do that."), "no tests section"),
    (say(""), "no tests section"),
    (say("<answer>\n```python\nx = 1\n```\n</answer>\n<test>\n```python\nassert x\n```\n</test>"), "no tests section"),
    (say(GOOD + GOOD), "several tests sections"),
    (say("Use a loop.\n" + TESTS), "no code in response"),
    (say(GOOD.replace("```python\nassert", "```text\nassert")), "no code in tests"),
    (say(GOOD, "length"), "length"),
    (say("```python\n" + "x = 1\n" * 200_000), "length"),
    (say("```python\nx = '" + "y" * 1_100_000 + "'\n```\n" + TESTS), "length"),
    (say("```python\nx = '" + "y" * 150_000 + "'\n```\n" + TESTS), "exception"),
    (say("```python\nx = " + "(" * 50_000 + "\n```\n" + TESTS), "syntax"),
    (say("```python\nx = " + "1+" * 60_000 + "1\n```\n" + TESTS), None),
    (say("```python\ndef double(x):\n    return 2 * x \x00\n```\n" + TESTS), "syntax"),
    (say("```python\ndef double(x):\n    return 2 * \x1b\ud83d\n```\n" + TESTS), "syntax"),
    (say("```python\r\ndef double(x):\x0c\r\n    return 2 * x\r\n```\r\n" + TESTS), "passed"),
    (
        say("```python\ndef double(x):\n    '''## Example 9 </tests>'''\n    return 2 * x\n```\n" + TESTS),
        "no tests section",
    ),
    (say(GOOD + "</tests>\n<instruction>\nMore."), "passed"),
    (say(GOOD, "tool_calls"), "tool_calls"),
    (status(422, "no"), REFUSED),
    (say(GOOD), "passed"),
]
CASES = [*CONCEPTS, *INSTRUCTIONS, *RESPONSES]


def plan(_: int, asked: dict):
    """Answer a stage with the case of the prompt's number, when the case is of that stage; else with what goes on."""
    prompt = asked["prompt"]
    marks = re.findall(r"case[_ ](\d+)", prompt, re.IGNORECASE)
    number = int(marks[-1]) if marks else 0  # lost in what was written instead
    if prompt.endswith("### Concepts\n"):
        return CASES[number][0] if number < len(CONCEPTS) else say(f"case {number}, lists")
    if prompt.endswith("### Instruction\n"):
        of_stage = len(CONCEPTS) <= number < len(CONCEPTS) + len(INSTRUCTIONS)
        return CASES[number][0] if of_stage else say(f"Case {number}: write `double(x)`.")
    return CASES[number][0] if number >= len(CONCEPTS) + len(INSTRUCTIONS) else say(GOOD)


def run(name: str, *arguments: object) -> None:
    """Run a command of scripts/; it must succeed."""
    line = [sys.executable, ROOT / f"scripts/{name}.py", *arguments]
    result = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Return the folder in which all cases went through all stages."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = []
    for number in range(len(CASES)):
        code = f'def case_{number}(x):\n    """Return x."""\n    return x'
        row = dict.fromkeys(Function.__dataclass_fields__, "") | {"code": code, "name": f"case_{number}", "line": 1}
        rows.append(row | {"id": f"{number:03}{hashlib.sha256(code.encode()).hexdigest()[:13]}"})
    write_table(folder / "seeds.parquet", rows, FUNCTION_COLUMNS)
    fetch_model("served:writer", folder / "model.json", ROOT)
    with pytest.MonkeyPatch.context() as patch, CompletionServer(None, "writer", plan) as server:
        patch.setenv("TEST_KEY", KEY)
        engine = {"kind": "openai", "url": server.base, "api_key_env": "TEST_KEY"}
        options = ["--model", folder / "model.json", "--engine", json.dumps(engine), "--shots", 1, "--shot-sets", 2]
        options += ["--prompts", ROOT / "resources/prompts/demo.yaml", "--temperature", 0, "--max-tokens", 50]
        options += ["--samples", 1, "--run-seed", 1, "--label", "hostile"]
        inputs = {
            "concepts": ["--seeds", folder / "seeds.parquet", "--shard", 0, "--shards", 1],
            "instructions": ["--concepts", folder / "concepts/00000.jsonl", "--category-weights", '{"function": 1}'],
            "responses": ["--instructions", folder / "instructions/00000.jsonl"],
        }
        for stage, more in inputs.items():
            files = ["--output", folder / stage / "00000.jsonl", "--stats", folder / stage / "00000.json"]
            run(f"generate_{stage}", *more, *options, *files)
    files = ["--output", folder / "verdicts/00000.jsonl", "--stats", folder / "verdicts/00000.json"]
    judged = [*files, "--label", "hostile"]
    run("verify_responses", "--responses", folder / "responses/00000.jsonl", "--sandbox", "{}", "--workers", 2, *judged)
    files = ["--generation", folder, "--shards", 1]
    for select in ("all", "passed"):
        settings = ["--settings", f'{{"select": "{select}"}}', "--run-seed", 1, "--output", folder / select]
        run("select_pairs", "--seeds", folder / "seeds.parquet", *files, *settings)
    return folder


def rows_of(folder: Path, stage: str, kind) -> dict[int, object]:
    """Return a stage's rows by the number of their case."""
    return {int(row["id"][:3]): kind.load(row) for row in read_jsonl(folder / stage / "00000.jsonl")}


def test_every_row_is_there_with_its_reason(results):
    first = len(CONCEPTS)
    second = first + len(INSTRUCTIONS)
    concepts = rows_of(results, "concepts", Concepts)
    assert [concepts[at].drop for at in range(first)] == [drop for _, drop in CONCEPTS]
    assert [row.drop for at, row in concepts.items() if at >= first] == [None] * (len(CASES) - first)
    instructions = rows_of(results, "instructions", Instruction)
    assert set(instructions) == {at for at, row in concepts.items() if row.drop is None}
    assert [instructions[at].drop for at in range(first, second)] == [drop for _, drop in INSTRUCTIONS]
    responses = rows_of(results, "responses", Response)
    verdicts = rows_of(results, "verdicts", Verdict)
    assert set(responses) == {at for at, row in instructions.items() if row.drop is None}
    assert set(verdicts) == {at for at, row in responses.items() if row.drop is None}
    for at in range(second, len(CASES)):
        seen = responses[at].drop or verdicts[at].verdict
        assert seen == CASES[at][1] or (CASES[at][1] is None and seen != "passed"), f"case {at}: {seen}"
    for stage, rows in (("concepts", concepts), ("instructions", instructions), ("responses", responses)):
        stats = read_json(results / stage / "00000.json")
        assert stats["dropped"] == Counter(row.drop for row in rows.values() if row.drop)
        assert stats["rows"] == len(rows)


def test_later_stages_go_on_and_their_files_can_be_read(results):
    for select, verdicts in (("all", {"syntax", "exception"}), ("passed", {"passed"})):
        pairs = [Pair.load(row) for row in read_jsonl(results / select / "pairs.jsonl")]
        assert {pair.verdict for pair in pairs} >= verdicts
        assert read_json(results / select / "funnel.json")["stages"][-1]["kept"] == len(pairs)
    for path in results.rglob("*.jsonl"):
        assert list(read_jsonl(path)) or path.name in ("contamination.jsonl", "preferences.jsonl")
        assert b"\x00" not in path.read_bytes()
