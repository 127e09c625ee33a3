"""What the report tells of sampling: rounds, pass rates by difficulty, format failures; and which rounds it refuses."""

import re
from collections import Counter
from pathlib import Path

import pytest
from reporting_run import CONFIG, make_run

from selfalign.records.files import read_jsonl, write_jsonl
from selfalign.records.rows import BANDS, Difficulty
from selfalign.reporting.artifacts import read_run
from selfalign.reporting.figures import percent
from selfalign.reporting.funnels import Stage, check_chain, join_chain
from selfalign.reporting.generations import read_generation
from selfalign.reporting.sampling import bands, format_failures, rounds

ADAPTIVE = CONFIG["generations"]["self"] | {
    "samples": {"concepts": 1, "instruction": 2, "response": 2},
    "adaptive": {"samples": [1, 1], "until_passed": 1},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a generation in three rounds: of a plain one, the samples that these would have drawn."""
    folder = make_run(tmp_path, seeds=30) / "generations/self"
    for shard in ("00000", "00001"):
        responses = list(read_jsonl(folder / f"responses/{shard}.jsonl"))
        verdicts = {row["id"]: row for row in read_jsonl(folder / f"verdicts/{shard}.jsonl")}
        solved: set[str] = set()
        for number, samples in enumerate(((0, 1), (2,), (3,))):
            made = [row for row in responses if int(row["id"][-1]) in samples and row["parent"] not in solved]
            seen = [verdicts[row["id"]] for row in made if row["id"] in verdicts]
            solved |= {row["id"].rpartition("-")[0] for row in seen if row["verdict"] == "passed"}
            end = f".{number}" if number else ""
            write_jsonl(folder / f"responses/{shard}{end}.jsonl", made)
            write_jsonl(folder / f"verdicts/{shard}{end}.jsonl", seen)
    return folder


def cells(table: str) -> list[list[str]]:
    """Return the cells of a table's rows, the head first."""
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:]]


def test_rounds_are_read_as_one_generation(folder: Path):
    made = read_generation(folder, "self", ADAPTIVE)
    assert made.samples == (2, 3, 4)
    kept = [row for shard in range(2) for row in read_jsonl(folder / f"instructions/0000{shard}.jsonl")]
    asked = sum(row["drop"] is None for row in kept)
    assert made.rounds[0].asked == asked
    for before, after in zip(made.rounds, made.rounds[1:], strict=False):
        assert after.asked == before.asked - before.enough > 0
    assert [found.responses for found in made.rounds] == [2 * asked, made.rounds[1].asked, made.rounds[2].asked]
    assert made.responses == sum(found.responses for found in made.rounds)
    assert made.outcomes["passed"] == sum(found.passed for found in made.rounds)
    assert sum(made.passes.values()) == asked
    check_chain(made.stages, "here")
    (stage,) = [stage for stage in made.stages if stage.name == "responses"]
    assert stage.times == "× 2 to 4 samples"
    (told, _) = rounds(made)
    assert cells(told)[1:] == [
        [str(number), *(str(value) for value in (found.asked, found.responses, found.passed, found.enough))]
        for number, found in enumerate(made.rounds)
    ]


def test_one_round_tells_nothing_of_rounds(tmp_path: Path):
    made = read_generation(make_run(tmp_path) / "generations/self", "self", CONFIG["generations"]["self"])
    assert len(made.rounds) == 1
    assert rounds(made) == []


def spoil(path: Path, change) -> None:
    rows = list(read_jsonl(path))
    change(rows)
    write_jsonl(path, rows)


def test_a_round_that_is_not_there_is_a_generation_not_made(folder: Path):
    (folder / "verdicts/00001.2.jsonl").unlink()
    assert read_generation(folder, "self", ADAPTIVE) is None


def test_a_round_that_does_not_follow_from_the_one_before_is_refused(folder: Path):
    missed = next(read_jsonl(folder / "responses/00000.1.jsonl"))
    spoil(folder / "responses/00000.1.jsonl", lambda rows: rows.remove(missed))
    if not missed["drop"]:
        spoil(folder / "verdicts/00000.1.jsonl", lambda rows: rows.pop(0))
    with pytest.raises(ValueError, match=rf"00000\.1\.jsonl: instruction {missed['parent']} has no response in this"):
        read_generation(folder, "self", ADAPTIVE)


@pytest.mark.parametrize(("made", "fits"), [(11, False), (12, True), (17, True), (24, True), (25, False)])
def test_stages_with_two_to_four_samples(made: int, fits: bool):
    before = Stage(part="generation", name="instructions", input=6, kept=6, dropped={})
    after = Stage(part="generation", name="responses", input=made, kept=made, dropped={}, samples=2, most_samples=4)
    if fits:
        check_chain([before, after], "here")
    else:
        with pytest.raises(ValueError, match="kept 6 × 2 to 4 samples, but stage responses got"):
            check_chain([before, after], "here")


@pytest.mark.parametrize(
    ("seeds", "drawn", "fits"), [(None, 9, True), (6, 6, True), (9, 9, True), (20, 9, True), (6, 9, False)]
)
def test_seeds_that_are_not_drawn_are_a_stage(seeds: int | None, drawn: int, fits: bool):
    corpus = [Stage(part="seeds", name="size", input=10, kept=9, dropped={"long": 1})]
    made = [
        Stage(part="generation", name="concepts", input=2 * drawn, kept=2 * drawn, dropped={}, samples=2),
        Stage(part="generation", name="responses", input=2 * drawn, kept=2 * drawn, dropped={}),
    ]
    dataset = [Stage(part="selection", name="responses", input=2 * drawn, kept=2 * drawn, dropped={})]
    chain = join_chain(corpus, made, dataset, seeds)
    assert [stage.dropped for stage in chain if stage.name == "draw"] == ([{"not drawn": 3}] if seeds == 6 else [])
    if fits:
        check_chain(chain, "here")
    else:
        with pytest.raises(ValueError, match="stage draw kept 6 × 2 samples, but stage concepts got 18"):
            check_chain(chain, "here")


def test_pass_rates_stand_beside_the_difficulty_that_was_asked_for(tmp_path: Path):
    run = read_run(make_run(tmp_path), CONFIG)
    (shown,) = bands(run, "self")
    rows = [Difficulty.load(row) for row in read_jsonl(run.results / "datasets/random/difficulty.jsonl")]
    counts = Counter((row.band, row.difficulty) for row in rows)
    assert len({row.band for row in rows}) > 2
    asked = ("easy", "medium", "hard")
    assert cells(shown)[1:] == [[band, *(str(counts[band, name]) for name in asked)] for band in BANDS]
    assert bands(run, "other") == []


def test_format_failures_are_told_by_kind_with_their_share(folder: Path):
    made = read_generation(folder, "self", ADAPTIVE)
    (shown,) = format_failures(made)
    (stage,) = [stage for stage in made.stages if stage.name == "responses"]
    count = stage.dropped["no tests section"]
    assert ["responses", "no tests section", str(count), percent(count / stage.input)] in cells(shown)
    assert {row[0] for row in cells(shown)[1:]} == {"concepts", "instructions", "responses"}
    assert "marked by xml" in shown
