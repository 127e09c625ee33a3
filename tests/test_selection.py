"""Selecting pairs: every stage drops what it should with its reason, draws do not depend on order, files are whole."""

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from selection_rows import EMPTY, NEAR, TASK, TEXT, candidate, fenced, words

from selfalign.matching.benchmarks import BenchmarkIndex
from selfalign.records.files import read_json, read_jsonl, write_jsonl, write_table
from selfalign.records.rows import Difficulty, Negative, Pair
from selfalign.seeds.part import FUNCTION_COLUMNS
from selfalign.selection.candidates import Candidate, load_candidates
from selfalign.selection.card import data_card
from selfalign.selection.pairs import Settings, select_pairs

SCRIPTS = Path(__file__).parents[1] / "scripts"


def outcome(candidates: list[Candidate], settings: Settings, index: BenchmarkIndex = EMPTY) -> dict[str, str]:
    """Return "kept" or the reason for each candidate; check that counts and rows agree."""
    selection = select_pairs(candidates, settings, index, 3407)
    assert selection.funnel.rows == len(selection.kept)
    reasons = Counter(row["reason"] for row in selection.rejected)
    assert sum((Counter(stage["dropped"]) for stage in selection.funnel.stages), Counter()) == reasons
    kept = {row.id: "kept" for row in selection.kept}
    dropped = {row["id"]: row["reason"] for row in selection.rejected}
    assert kept.keys() | dropped.keys() == {row.id for row in candidates}
    assert len(kept) + len(dropped) == len(candidates)
    return kept | dropped


def test_the_card_counts_every_licence_and_the_commonest_packages():
    rows = [candidate(number) for number in range(60)]
    rows = [
        replace(row, seed=replace(row.seed, licence="MIT | ISC" if number < 3 else "MIT", package=f"p{number // 2:02}"))
        for number, row in enumerate([*rows, *(candidate(100 + number) for number in range(60))])
    ]
    card = data_card("d", select_pairs(rows, Settings(near_duplicate_threshold=1.0), EMPTY, 1), Settings(), 0)
    assert "| MIT | 117 |\n| MIT \\| ISC | 3 |\n" in card
    assert "| p49 | 2 |\n| 10 others | 20 |\n" in card


FAR = " ".join([*TEXT[:20], *words("far", 40).split()])
STAGES = {
    # name: (candidate that stays, candidate that goes, reason)
    "dropped": (candidate(0), candidate(1, drop="no tests section"), "no tests section"),
    "verdict": (candidate(0), candidate(1, verdict="wrong"), "wrong"),
    "placeholder": (candidate(0), candidate(1, code="def f(x):\n    # TODO: write\n    return x"), "placeholder"),
    "your code": (candidate(0), candidate(1, code="def f(x):\n    'your code here'"), "placeholder"),
    "todo list": (candidate(0, code="todo = ['Todo']  # a todo list"), candidate(1, verdict="x"), "x"),
    "no assertion": (candidate(0), candidate(1, tests=fenced("print(f(1))")), "tests without assertion"),
    "assert in prose": (candidate(0), candidate(1, tests="assert\n```python\nf(1)\n```"), "tests without assertion"),
    "unittest": (candidate(0, tests=fenced("self.assertEqual(f(1), 1)")), candidate(1, verdict="x"), "x"),
    "long": (candidate(0, instruction="w " * 30), candidate(1, instruction="w " * 31), "more than 30 words"),
    "same instruction": (
        candidate(0, instruction="Sort  the LIST."),
        candidate(1, instruction="sort the list."),
        "duplicate instruction",
    ),
    "same code": (
        candidate(0, response=f"Sure.\n{fenced('x = 1')}"),
        candidate(1, response=fenced("x =  1")),
        "duplicate response",
    ),
    "near instruction": (
        candidate(0, instruction=" ".join(TEXT[:30])),
        candidate(1, instruction=" ".join([*TEXT[:29], "changed"])),
        "near-duplicate instruction",
    ),
    "near response": (
        candidate(0, response=fenced(" ".join(TEXT))),
        candidate(1, response=fenced(NEAR)),
        "near-duplicate response",
    ),
    "benchmark instruction": (
        candidate(0),
        candidate(1, instruction=TASK["instruction"].lower()),
        "bench: instruction",
    ),
    "benchmark solution": (candidate(0), candidate(1, code=TASK["canonical_solution"]), "bench: solution"),
    "benchmark solution, renamed": (
        candidate(0),
        candidate(1, code=TASK["canonical_solution"].replace("keep_even_then_double", "f").replace("xs", "values")),
        "bench: solution tree",
    ),
    "benchmark name": (
        candidate(0, code="def keep_even_then_triple(xs):\n    return [3 * x for x in xs if x % 2 == 0]"),
        candidate(1, code="def keep_even_double(xs):\n    return [2 * x for x in xs if x % 2 == 0]"),
        "bench: entry point",
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_drops_what_it_should_and_no_more(name):
    stays, goes, reason = STAGES[name]
    settings = Settings(max_instruction_words=30)
    assert outcome([goes, stays], settings, BenchmarkIndex([TASK])) == {stays.id: "kept", goes.id: reason}


def test_texts_that_share_a_third_are_no_near_duplicates():
    rows = [candidate(0, response=fenced(" ".join(TEXT))), candidate(1, response=fenced(FAR))]
    assert set(outcome(rows, Settings()).values()) == {"kept"}


def test_settings_switch_stages_off():
    _, contaminated, _ = STAGES["benchmark name"]
    near = [*STAGES["near response"][:2]]
    assert outcome([contaminated], Settings(decontaminate=False), BenchmarkIndex([TASK])) == {contaminated.id: "kept"}
    assert set(outcome(near, Settings(near_duplicate_fields=("instruction",))).values()) == {"kept"}
    assert set(outcome(near, Settings(near_duplicate_threshold=0.99)).values()) == {"kept"}


SELECT = [
    ("passed", {"passed": 20}),
    ("failed", {"wrong": 15, "timeout": 5}),
    ("random", {"passed": 20, "wrong": 15, "timeout": 5}),
    ("all", {"passed": 20, "wrong": 15, "timeout": 5}),
]


@pytest.mark.parametrize(("select", "verdicts"), SELECT)
def test_select_looks_at_the_verdict_or_does_not(select, verdicts):
    names = ["passed"] * 20 + ["wrong"] * 15 + ["timeout"] * 5
    rows = [candidate(number, verdict=verdict) for number, verdict in enumerate(names)]
    kept = select_pairs([*rows, candidate(99, drop="empty")], Settings(select=select), EMPTY, 3407).kept
    assert Counter(row.verdict.verdict for row in kept) == verdicts


def test_one_per_instruction_is_a_seeded_draw_that_does_not_depend_on_the_others():
    rows = [candidate(seed, sample=sample) for seed in range(40) for sample in range(5)]
    kept = select_pairs(rows, Settings(), EMPTY, 1).kept
    assert len(kept) == 40
    samples = Counter(row.id[-1] for row in kept)
    assert len(samples) == 5  # it is a draw, not always the first
    assert max(samples.values()) < 20
    shuffled = random.Random(0).sample(rows, len(rows))
    assert [row.id for row in select_pairs(shuffled, Settings(), EMPTY, 1).kept] == [row.id for row in kept]
    half = [row.id for row in select_pairs(rows[:100], Settings(), EMPTY, 1).kept]
    assert half == [row.id for row in kept[:20]]
    assert [row.id for row in select_pairs(rows, Settings(), EMPTY, 2).kept] != [row.id for row in kept]
    # The responses of one instruction share its text; that makes them no duplicates
    assert len(select_pairs(rows, Settings(per_instruction=2), EMPTY, 1).kept) == 80


def test_size_is_a_seeded_draw():
    rows = [candidate(seed) for seed in range(50)]
    selection = select_pairs(rows, Settings(size=20), EMPTY, 1)
    assert len(selection.kept) == 20
    assert selection.funnel.stages[-1] == {"stage": "size", "input": 50, "kept": 20, "dropped": {"not drawn": 30}}
    ids = {row.id for row in selection.kept}
    assert ids != {row.id for row in rows[:20]}
    # A smaller draw is part of a larger one
    assert {row.id for row in select_pairs(rows, Settings(size=10), EMPTY, 1).kept} < ids


NOTHING = [
    ([], Settings(), "no pair is left of 0 responses; most were dropped by the stage responses"),
    ([candidate(drop="empty")], Settings(), r"stage responses \(empty 1\).*raise max_tokens"),
    ([candidate(), candidate(1)], Settings(select="failed"), r"stage verdicts \(passed 2\).*change select"),
    (
        [candidate(n, instruction=words(n, 9)) for n in range(3)],
        Settings(max_instruction_words=8),
        r"stage instruction_length \(more than 8 words 3\).*raise max_instruction_words",
    ),
]


@pytest.mark.parametrize(("candidates", "settings", "message"), NOTHING)
def test_nothing_left_names_the_stage_and_what_to_change(candidates, settings, message):
    with pytest.raises(ValueError, match=message):
        select_pairs(candidates, settings, EMPTY, 1)
    assert select_pairs(candidates, settings, EMPTY, 1, may_be_empty=True).kept == []


SETTINGS = [
    ({"size": 0}, "size is 0; it must be at least 1"),
    ({"per_instruction": 0}, "per_instruction is 0"),
    ({"preferences_per_instruction": 0}, "preferences_per_instruction is 0"),
    ({"near_duplicate_fields": ("tests",)}, "near_duplicate_fields names 'tests'; known are instruction, response"),
    ({"near_duplicate_threshold": 1.5}, "near_duplicate_threshold is 1.5"),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_wrong_settings_are_clear_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def write_run(folder: Path, rows: list[Candidate]) -> list[str]:
    """Write the files of a generation in two shards by seed; return the options that say where they are."""
    seeds = {row.seed.id: row.seed.dump() for row in rows}
    write_table(folder / "seeds.parquet", list(seeds.values()), FUNCTION_COLUMNS)
    options = ["--seeds", str(folder / "seeds.parquet"), "--generation", str(folder), "--shards", "2"]
    kinds = {"concepts": "concepts", "instructions": "instruction", "responses": "response", "verdicts": "verdict"}
    for name, attribute in kinds.items():
        for shard in range(2):
            found = [getattr(row, attribute) for row in rows if int(row.seed.id, 16) % 2 == shard]
            write_jsonl(folder / name / f"{shard:05}.jsonl", {item.id: item.dump() for item in found if item}.values())
    write_jsonl(folder / "bench.jsonl", [TASK])
    return [*options, "--benchmarks", str(folder / "bench.jsonl"), "--run-seed", "3407"]


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / "select_pairs.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_writes_a_dataset_and_a_control_of_its_size(tmp_path):
    rows = [
        candidate(seed, sample=sample, verdict="passed" if (seed + sample) % 3 else "wrong")
        for seed in range(12)
        for sample in range(3)
    ]
    rows += [candidate(20, drop="no tests section"), candidate(21, code=TASK["canonical_solution"])]
    options = write_run(tmp_path, rows)
    verified, control = tmp_path / "datasets/verified", tmp_path / "datasets/control"
    result = run(*options, "--settings", '{"size": 8}', "--output", verified)
    assert result.returncode == 0, result.stderr
    result = run(
        *options, "--settings", '{"select": "random"}', "--like", verified / "pairs.jsonl", "--output", control
    )
    assert result.returncode == 0, result.stderr
    names = {"pairs.jsonl", "preferences.jsonl", "negatives.jsonl", "difficulty.jsonl", "contamination.jsonl"}
    names |= {"rejected.jsonl", "funnel.json", "README.md"}
    for folder in (verified, control):
        assert {path.name for path in folder.iterdir()} == names

    pairs = [Pair.load(row) for row in read_jsonl(verified / "pairs.jsonl")]
    assert len(pairs) == 8
    assert [pair.id for pair in pairs] == sorted(pair.id for pair in pairs)
    assert {pair.verdict for pair in pairs} == {"passed"}
    assert {(pair.samples, pair.pass_rate) for pair in pairs} == {(3, 0.6667)}
    pair = pairs[0]
    assert pair.id.startswith(f"{pair.instruction_id}-r")
    assert pair.instruction_id.startswith(f"{pair.concepts_id}-i")
    assert pair.concepts_id == f"{pair.seed_id}-c0"
    assert (pair.package, pair.path, pair.line, pair.licence) == ("stdlib", "json/decoder.py", 7, "PSF-2.0")

    unverified = list(read_jsonl(control / "pairs.jsonl"))
    assert len(unverified) == 8
    assert {row["verdict"] for row in unverified} == {"passed", "wrong"}

    for folder in (verified, control):  # of all instructions, whatever became a pair
        preferences = list(read_jsonl(folder / "preferences.jsonl"))
        assert [row["instruction_id"] for row in preferences] == [f"{seed:016x}-c0-i0" for seed in range(12)]
        failed = [Negative.load(row) for row in read_jsonl(folder / "negatives.jsonl")]
        assert [row.id for row in failed] == [row.id for row in rows if row.failed]
        assert {(row.verdict, row.detail, row.samples) for row in failed} == {("wrong", "seen", 3)}
        found = [Difficulty.load(row) for row in read_jsonl(folder / "difficulty.jsonl")]
        assert [(row.id, row.seed_id) for row in found] == [
            (f"{seed:016x}-c0-i0", f"{seed:016x}") for seed in (*range(12), 21)
        ]
        assert {(row.samples, row.passed, row.pass_rate) for row in found} == {(3, 2, 0.6667), (1, 1, 1.0)}
    funnels = read_json(verified / "funnel.json")
    assert [stage["kept"] for stage in funnels["preferences"]] == [12, 12, 12, 12]

    rejected = list(read_jsonl(verified / "rejected.jsonl"))
    assert all(row.keys() == {"id", "stage", "reason", "detail"} for row in rejected)
    assert sorted([*(row["id"] for row in rejected), *(pair.id for pair in pairs)]) == sorted(row.id for row in rows)
    [found] = [row for row in rejected if row["stage"] == "decontamination"]
    assert json.loads(found["detail"])["task"] == "t/0"
    stages = read_json(verified / "funnel.json")["stages"]
    assert [(stage["stage"], stage["input"], stage["kept"]) for stage in stages] == [
        ("responses", 38, 37),
        ("verdicts", 37, 25),
        ("format", 25, 25),
        ("instruction_length", 25, 25),
        ("one_per_instruction", 25, 13),
        ("exact_duplicates", 13, 13),
        ("near_duplicates", 13, 13),
        ("decontamination", 13, 12),
        ("size", 12, 8),
    ]
    card = (verified / "README.md").read_text()
    for part in (
        "# Dataset verified",
        "8 pairs of instruction and response from 8 seeds, 8 of them passed",
        "matched against 1 benchmark tasks",
        "| PSF-2.0 | 8 |",
        "| up to 75 % | 12 | 0 | 0 |",
        "| all passed | 1 | 0 | 0 |",
        "| preferences.jsonl | 12 |",
        "| negatives.jsonl | 12 | responses that failed, with verdict and detail; 0 hold code that passed other",
        "| both_verdicts | 13 | 12 | no passing and no failing response 1 |",
        "| verdicts | 37 | 25 | wrong 12 |",
    ):
        assert part in card


def break_file(folder: Path, name: str) -> None:
    path = folder / name / "00000.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))


INCOMPLETE = [
    ("concepts", "row 0000000000000000-c0-i0: its parent 0000000000000000-c0 is not among the concepts;"),
    ("instructions", "row 0000000000000000-c0-i0-r0: its parent 0000000000000000-c0-i0 is not among the instr"),
    ("verdicts", "response 0000000000000000-c0-i0-r0 has no verdict; give"),
]


@pytest.mark.parametrize(("name", "message"), INCOMPLETE)
def test_files_of_different_runs_are_a_clear_error(tmp_path, name, message):
    write_run(tmp_path, [candidate(seed) for seed in range(4)])
    break_file(tmp_path, name)
    kinds = ("concepts", "instructions", "responses", "verdicts")
    files = {kind: sorted((tmp_path / kind).iterdir()) for kind in kinds}
    with pytest.raises(ValueError, match=message):
        load_candidates(seeds=tmp_path / "seeds.parquet", **files)


def test_a_shard_given_twice_is_a_clear_error(tmp_path):
    write_run(tmp_path, [candidate(0)])
    files = {kind: [tmp_path / kind / "00000.jsonl"] for kind in ("concepts", "instructions", "verdicts")}
    twice = [tmp_path / "responses/00000.jsonl"] * 2
    with pytest.raises(ValueError, match="the id 0000000000000000-c0-i0-r0 occurs twice; give each shard once"):
        load_candidates(seeds=tmp_path / "seeds.parquet", responses=twice, **files)


def test_pass_rates_count_verified_responses_alone(tmp_path):
    rows = [candidate(0), candidate(0, sample=1, verdict="wrong"), candidate(0, sample=2, drop="empty")]
    write_run(tmp_path, rows)
    kinds = ("concepts", "instructions", "responses", "verdicts")
    loaded = load_candidates(
        seeds=tmp_path / "seeds.parquet", **{kind: [tmp_path / kind / "00000.jsonl"] for kind in kinds}
    )
    assert loaded == [replace(row, samples=2, pass_rate=0.5) for row in rows]


def test_a_control_that_cannot_be_as_large_says_so_and_nothing_left_is_one_error(tmp_path):
    options = write_run(tmp_path, [candidate(seed) for seed in range(3)])
    write_jsonl(tmp_path / "other.jsonl", [{"id": str(number)} for number in range(5)])
    result = run(*options, "--settings", "{}", "--like", tmp_path / "other.jsonl", "--output", tmp_path / "few")
    assert result.returncode == 0
    assert "warning: few has 3 pairs and not the 5 of" in result.stderr
    result = run(*options, "--settings", '{"select": "failed"}', "--output", tmp_path / "none")
    assert result.returncode == 1
    assert result.stderr.startswith("error: no pair is left of 3 responses; most were dropped by the stage verdicts")
    assert not (tmp_path / "none").exists()
