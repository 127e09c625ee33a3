"""What the report refuses: counts that do not add up, and artifacts that are corrupt or contradict one another."""

import json
import re
from pathlib import Path

import pytest
from reporting_run import make_run

from selfalign.records.files import read_jsonl, write_json, write_jsonl
from selfalign.reporting.funnels import Stage, check_chain
from selfalign.reporting.write import write_report


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return the results of a run, for the test to spoil."""
    return make_run(tmp_path)


@pytest.mark.parametrize("kept", [5, 7])
def test_a_stage_that_does_not_add_up_is_refused(kept: int):
    with pytest.raises(ValueError, match="stage size: the funnel does not add up: 10 rows in"):
        Stage(part="seeds", name="size", input=10, kept=kept, dropped={"too long": 4})


def test_a_chain_that_does_not_add_up_is_refused():
    stages = [Stage(part="seeds", name="size", input=10, kept=6, dropped={"too long": 4})]
    check_chain([*stages, Stage(part="generation", name="concepts", input=12, kept=12, dropped={}, samples=2)], "here")
    with pytest.raises(ValueError, match="here: the funnel does not add up: stage size kept 6, but stage words got 5"):
        check_chain([*stages, Stage(part="seeds", name="words", input=5, kept=5, dropped={})], "here")


def edit_json(path: Path, change) -> None:
    """Change a JSON file in place."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    write_json(path, data)


def edit_rows(path: Path, change) -> None:
    """Change the rows of a JSON lines file in place."""
    rows = list(read_jsonl(path))
    change(rows)
    write_jsonl(path, rows)


SHARD = "generations/self/{}/00000.jsonl"
CORRUPT = {
    "funnel sum": ("corpora/stdlib/funnel.json", lambda p: edit_json(p, lambda d: d["stages"][0].update(kept=1))),
    "seeds and concepts": (SHARD.format("concepts"), lambda p: edit_rows(p, lambda rows: rows.pop(1))),
    "response without verdict": (
        SHARD.format("responses"),
        lambda p: edit_rows(p, lambda rows: rows.append(rows[0] | {"id": "x"})),
    ),
    "lost verdict": (SHARD.format("verdicts"), lambda p: edit_rows(p, lambda rows: rows.pop())),
    "verdict of nothing": (SHARD.format("verdicts"), lambda p: edit_rows(p, lambda rows: rows[0].update(id="x"))),
    "unknown parent": (SHARD.format("responses"), lambda p: edit_rows(p, lambda rows: rows[0].update(parent="x"))),
    "field missing": (SHARD.format("instructions"), lambda p: edit_rows(p, lambda rows: rows[2].pop("category"))),
    "torn line": (SHARD.format("responses"), lambda p: p.write_bytes(p.read_bytes()[:-9])),
    "pairs and funnel": ("datasets/verified/pairs.jsonl", lambda p: edit_rows(p, lambda rows: rows.pop())),
    "dataset of another generation": (
        "datasets/random/funnel.json",
        lambda p: edit_json(
            p, lambda d: d["stages"][0].update(input=d["stages"][0]["input"] + 1, kept=d["stages"][0]["kept"] + 1)
        ),
    ),
    "pair of no seed": (
        "datasets/verified/pairs.jsonl",
        lambda p: edit_rows(p, lambda rows: [row.update(seed_id="f" * 16) for row in rows]),
    ),
    "score without tasks": ("scores/base/demo/scores.json", lambda p: edit_json(p, lambda d: d.pop("per_task"))),
    "score out of its interval": (
        "scores/base/demo/scores.json",
        lambda p: edit_json(p, lambda d: d.update({"pass@1": 0.99})),
    ),
    "log without loss": (
        "models/aligned/training_log.jsonl",
        lambda p: p.write_text('{"step": 1}\n', encoding="utf-8"),
    ),
    "stats without times": ("generations/self/responses/00001.json", lambda p: p.write_text("{}", encoding="utf-8")),
    "not JSON": ("provenance.json", lambda p: p.write_text("{", encoding="utf-8")),
    "not Parquet": ("corpora/stdlib/rejected.parquet", lambda p: p.write_bytes(b"PAR1")),
    "config without a table": ("run_config.yaml", lambda p: p.write_text("run: a\n", encoding="utf-8")),
}


REPORTED_AS = {  # where the error names another file than the one that was spoilt, or more of it
    "seeds and concepts": "datasets/verified",
    "response without verdict": "verdicts/00000.jsonl: no verdict for response x",
    "torn line": "responses/00000.jsonl, row",
    "pairs and funnel": "datasets/verified",
}


@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_artifact_is_one_clear_error(name: str, own: Path, tmp_path: Path):
    path, spoil = CORRUPT[name]
    spoil(own / path)
    with pytest.raises(ValueError, match=re.escape(REPORTED_AS.get(name, path))) as error:
        write_report(own, own / "run_config.yaml", tmp_path / "report")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report").exists()
