"""Rounds: what is watched of rows with known numbers, which limit ends them, what Snakemake then plans, the report."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import commands
import pytest
import yaml
from reporting_run import CONFIG, make_run
from test_reporting import write
from workflow_plans import Plan, plan, pretend

from selfalign.archiving.contents import run_files
from selfalign.records.files import read_json, write_json, write_jsonl
from selfalign.records.rounds import reached
from selfalign.records.rows import Concepts, Instruction, Response, Verdict
from selfalign.reporting.artifacts import read_run
from selfalign.rounds.judging import Limits, judge
from selfalign.rounds.monitors import Monitors, entropy
from selfalign.workflow.replicates import expand_replicates
from selfalign.workflow.rounds import expand_rounds

COMMON = {"shots": [], "seed": 1, "finish_reason": "stop"}
LONG = "Write a function that takes a list of numbers and returns the sum of all those that are even and positive"
COPY = LONG.upper().replace(" ", "\n", 1)
LIKE = LONG.replace("positive", "large")
OTHER = "Count the words"


def write_generation(folder: Path, instructions: list[tuple[str, str | None]], passed: str = "110", named=()) -> Path:
    """Write two shards: instructions with reasons to drop them, responses that pass ("1"), fail ("0"), or none."""
    for shard, places in (("00000", range(0, len(instructions), 2)), ("00001", range(1, len(instructions), 2))):
        rows = [
            Instruction(
                **COMMON, id=f"s{n}-c0-i0", parent=f"s{n}-c0", category="function", difficulty="easy", concepts=[],
                instruction=instructions[n][0], drop=instructions[n][1],
            )
            for n in places
        ]  # fmt: skip
        concepts = [(number, found) for number, found in enumerate(named) if number % 2 == int(shard)]
        write_jsonl(
            folder / f"concepts/{shard}.jsonl",
            [
                Concepts(**COMMON, id=f"s{n}-c0", parent=f"s{n}", text="", concepts=found, drop=drop).dump()
                for n, (found, drop) in concepts
            ],
        )
        write_jsonl(folder / f"instructions/{shard}.jsonl", [row.dump() for row in rows])
        responses, verdicts = [], []
        for row in (row for row in rows if row.drop is None):
            for sample, outcome in enumerate(passed):
                text = "x" * (10 if outcome == "1" else 40)
                drop = None if outcome in "01" else "no tests"
                made = {"parent": row.id, "text": text, "response": text, "tests": "", "drop": drop}
                responses.append(Response(**COMMON, id=f"{row.id}-r{sample}", **made).dump())
                verdict = "passed" if outcome == "1" else "assertion"
                limits = {"detail": "", "cpu_s": 0, "wall_s": 0, "max_rss_mb": 0, "assertions": 1, "core": "c"}
                if drop is None:
                    verdicts.append(Verdict(id=f"{row.id}-r{sample}", verdict=verdict, **limits).dump())
        write_jsonl(folder / f"responses/{shard}.jsonl", responses)
        write_jsonl(folder / f"verdicts/{shard}.jsonl", verdicts)
    write_jsonl(folder / "responses/00000.1.jsonl", [{"not": "read"}])  # of adaptive sampling
    return folder


def judge_round(folder: Path, number: int, *more: object, **limits: object) -> dict:
    write_jsonl(folder / "pairs.jsonl", [{"id": "a"}, {"id": "b"}])
    options = ["--round", number, "--generation", folder, "--shards", 2, "--pairs", folder / "pairs.jsonl"]
    options += ["--threshold", 0.7, "--limits", json.dumps(limits), "--output", folder / "judged.json"]
    done = commands.run("judge_round", *options, *more)
    assert (done.returncode, done.stderr) == (0, "")
    found = read_json(folder / "judged.json")
    assert done.stdout.startswith(f"round {number}: {found['verdict']}\n")
    assert all(one["told"] in done.stdout for one in found["broken"])
    return found


def test_monitors_of_known_rows(tmp_path):
    """A copy but for case and layout, one of another word at its end, one of round 1, and one that is dropped."""
    named = [(["sorting", "Graphs"], None), (["Sorting "], None), (["recursion"], None), (["lost"], "cut")]
    first = write_generation(tmp_path / "first", [(OTHER, None), ("Sort a list", None)])
    rows = [(LONG, None), (COPY, None), (LIKE, None), (OTHER, None), ("Dropped", "empty")]
    folder = write_generation(tmp_path / "second", rows, passed="10-", named=named)
    judged = judge_round(first, 1)
    assert judged["verdict"] == "go"
    assert judged["monitors"]["repeated"] is judged["monitors"]["concept_entropy"] is None
    judged = judge_round(folder, 2, "--earlier", first, "--first", first / "judged.json", max_duplicate_rate=0.4)
    words = [21, 21, 21, 3]
    mean = sum(words) / 4
    assert judged["monitors"] == {
        "instructions": 4,
        "responses": 12,
        "pass_rate": pytest.approx(1 / 3),
        "exact_duplicates": 0.25,
        "duplicate_rate": 0.5,
        "repeated": 0.25,
        "concepts": 4,
        "different_concepts": 3,
        "concept_entropy": pytest.approx(1.5),  # 1/2 once, 1/4 twice
        "instruction_words": mean,
        "instruction_words_deviation": pytest.approx((sum((n - mean) ** 2 for n in words) / 4) ** 0.5),
        "response_characters": 25.0,
        "response_characters_deviation": 15.0,
        "pairs": 2,
    }
    assert [one["limit"] for one in judged["broken"]] == ["length", "max_duplicate_rate"]
    assert judged["broken"][0]["told"] == (
        "the mean length of instructions is 16.5 words, above 2 of round 1's 3.0 words"
    )
    assert (
        judged["broken"][1]["told"] == "50.0 % of the instructions are like another one of the round, more than 40.0 %"
    )


def test_entropy():
    assert entropy([]) is None
    assert entropy([7]) == 0
    assert entropy([3] * 8) == pytest.approx(3)


FIRST = Monitors(
    instructions=100, responses=400, pass_rate=0.4, exact_duplicates=0.1, duplicate_rate=0.2, repeated=None,
    concepts=300, different_concepts=80, concept_entropy=6.0, instruction_words=40.0, instruction_words_deviation=9.0,
    response_characters=900.0, response_characters_deviation=100.0, pairs=50,
)  # fmt: skip
JUDGED = [  # what differs from round 1, limits, which are broken
    ({}, {}, []),
    ({"pass_rate": 0.2}, {}, []),  # a limit itself is not broken
    ({"pass_rate": 0.19}, {}, ["min_pass_rate"]),
    ({"pass_rate": 0.19}, {"min_pass_rate": None}, []),
    ({"pass_rate": None}, {}, ["min_pass_rate"]),
    ({"concept_entropy": 4.7}, {}, ["min_concept_entropy"]),
    ({"duplicate_rate": 0.51, "repeated": 0.6}, {}, ["max_duplicate_rate", "max_repeated"]),
    ({"repeated": 0.6}, {"max_repeated": 0.7}, []),
    ({"instruction_words": 19.0}, {}, ["length"]),
    ({"response_characters": 1801.0}, {}, ["length"]),
    ({"response_characters": 1801.0}, {"length": None}, []),
    ({"response_characters": 1801.0}, {"length": (0.1, 3)}, []),
    ({"pairs": 0}, {}, ["min_pairs"]),
    ({"pairs": 50}, {"min_pairs": 51}, ["min_pairs"]),
]


@pytest.mark.parametrize(("changes", "limits", "broken"), JUDGED)
def test_limits(changes, limits, broken):
    found = judge(2, replace(FIRST, **changes), FIRST, Limits(**limits))
    assert [one["limit"] for one in found["broken"]] == broken
    assert found["verdict"] == ("stop" if broken else "go")
    assert judge(1, replace(FIRST, pass_rate=0.0, pairs=0), None, Limits())["broken"][0]["limit"] == "min_pairs"


# What Snakemake plans


@pytest.fixture(scope="module")
def config() -> dict:
    config = yaml.safe_load((commands.ROOT / "recipes/demo-rounds.yaml").read_text())
    config["generations"]["self"]["shards"] = config["corpora"]["packages"]["parts"] = 1
    return config


@pytest.fixture(scope="module")
def stopped(config, tmp_path_factory) -> Path:
    """Return a folder with a run that ended with round 2, by a judgement of the real command on few rows."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = write_generation(tmp_path_factory.mktemp("rows"), [(LONG, None), (COPY, None)])
    judged = judge_round(rows, 2, max_duplicate_rate=0.2)
    assert judged["verdict"] == "stop"
    write_json(folder / "results/rounds/again/2.json", judged)
    pretend(folder, folder / "config.yaml")
    return folder


def named(found: Plan, rule: str) -> set[str]:
    """Return the entries for which a plan has jobs of a rule."""
    return {
        dict(wildcards).get("model") or dict(wildcards).get("number") for name, wildcards in found.jobs if name == rule
    }


def test_a_stopped_run_is_finished(stopped):
    found = plan(stopped, stopped / "config.yaml")
    assert found.needed == set()
    assert named(found, "judge_round") == {"1", "2"}
    assert named(found, "train_model") == {"aligned"}
    assert named(found, "score_benchmark") == {"base", "aligned"}
    assert any("self-round2" in str(wildcards) for _, wildcards in found.jobs)
    assert not any("round3" in str(wildcards) for _, wildcards in found.jobs)
    archived = plan(stopped, stopped / "config.yaml", targets=["archive"])
    assert named(archived, "train_model") == {"aligned"}
    assert {rule for rule, _ in archived.needed} == {"archive_run"}


def test_a_changed_limit_rejudges(config, stopped, tmp_path):
    limits = {"stop": {"max_duplicate_rate": 0.9}}
    changed = config | {"rounds": {"again": config["rounds"]["again"] | limits}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed))
    found = plan(stopped, tmp_path / "config.yaml")
    assert {rule for rule, _ in found.needed} == {"judge_round", "record_run", "write_report"}


def test_rounds_go_on(stopped, tmp_path):
    """As when a limit was changed and the round judged anew: what follows is made, and nothing else again."""
    shutil.copytree(stopped, folder := tmp_path / "run", symlinks=True)
    before = plan(folder, folder / "config.yaml")
    (folder / "results/rounds/again/2.json").write_text('{"verdict": "go", "broken": []}')
    found = plan(folder, folder / "config.yaml")
    new = {job for job in found.jobs if "-round2" in str(job) or "-round3" in str(job)} - before.jobs
    assert {name for name, _ in new} >= {"train_model", "generate_concepts", "select_pairs"}
    judged = {job for job in found.jobs if job[0] == "judge_round" and "3" in dict(job[1]).values()}
    assert len(judged) == 1
    assert found.needed == new | judged | {("record_run", ()), ("write_report", ())}
    assert named(found, "train_model") == {"aligned", "aligned-round2"}  # that of round 3 waits for its judgement


# The report


def test_the_report_of_a_stopped_run(tmp_path):
    """Files of a model that an earlier try made are there, and neither reported nor archived."""
    results = make_run(tmp_path, seeds=6)
    entry = {"generation": "self", "dataset": "verified", "model": "aligned", "rounds": 4, "base": "first"}
    config = expand_replicates(expand_rounds(CONFIG | {"replicates": 1, "rounds": {"again": entry}}))
    (results / "run_config.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False))
    for made in ("generations/self", "datasets/verified", "models/aligned", "scores/aligned"):
        for number in (2, 3):
            shutil.copytree(results / made, results / f"{made}-round{number}")
    for path in (results / "scores").glob("aligned-round*/*/scores.json"):
        write_json(path, read_json(path) | {"model": path.parent.parent.name})
    worse = replace(FIRST, repeated=0.1, pass_rate=0.1)
    for number, now in ((1, FIRST), (2, replace(FIRST, repeated=0.1)), (3, worse), (4, FIRST)):
        judged = judge(number, now, None if number == 1 else FIRST, Limits())
        write_json(results / f"rounds/again/{number}.json", judged)
    run = read_run(results, config)
    assert run.missing == []
    assert [trained.model for trained in run.trainings] == ["aligned", "control", "aligned-round2"]
    assert list(run.generations) == ["self", "self-round2", "self-round3"]
    items, left_out = run_files(results, reached(results, config))
    held = {item.path for item in items}
    assert {"results/rounds/again/3.json", "results/datasets/verified-round3/pairs.jsonl"} <= held
    assert {
        "rounds/again/4.json",
        "models/aligned-round3/training_log.jsonl",
        "scores/aligned-round3/demo/scores.json",
    } <= {*left_out}
    done = write(results, tmp_path / "report")
    assert (done.returncode, done.stderr) == (0, "")
    told = "the pass rate is 10.0 %, below 0.5 of round 1's 40.0 %"
    assert f"stopped after round 3, and no model of it: {told}" in done.stdout
    assert "not made" not in done.stdout
    page = (tmp_path / "report/index.html").read_text()
    assert told.replace("'", "&#x27;") in page
    assert "10 %, breaks a limit" in page
    assert (tmp_path / "report/figures/rounds_again.svg").is_file()
    table = (tmp_path / "report/tables/rounds.csv").read_text().splitlines()
    assert [row.split(",")[4:7] for row in table[1:]] == [
        ["aligned", "go", ""],
        ["aligned-round2", "go", ""],
        ["aligned-round3", "stop", "min_pass_rate"],
    ]
    (results / "rounds/again/2.json").write_text('{"verdict": "go", "round": 7}')
    with pytest.raises(ValueError, match=r"rounds/again/2.json: not the judgement of a round"):
        read_run(results, config)
