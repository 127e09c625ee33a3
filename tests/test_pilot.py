"""The pilot: its entries beside those of the config, its numbers on a run of known ones, its advice, its commands."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from selfalign.records.files import read_json, write_json, write_jsonl, write_table
from selfalign.records.rows import Concepts, Function, Instruction, Negative, Pair, Response, Verdict
from selfalign.records.settings import load_settings
from selfalign.reporting.pilot import read_pilot, report_pilots, suggest_samples
from selfalign.reporting.pilot_text import pilot_text
from selfalign.seeds.part import FUNCTION_COLUMNS
from selfalign.selection.pairs import Settings
from selfalign.workflow.configuration import load_configuration, load_schema
from selfalign.workflow.pilots import pilot_datasets, pilot_generations, pilot_name, pilot_targets

ROOT = Path(__file__).parent.parent


@pytest.fixture
def config() -> dict:
    return load_configuration(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")), ROOT)


# Its entries


def test_entries_are_the_configs_own_but_small(config):
    config["generations"]["other"] = config["generations"]["self"] | {"seeds": 50, "shards": 9, "tags": "headings"}
    found = pilot_generations(config)
    assert list(found) == [f"_pilot-{name}-{tags}" for name in ("self", "other") for tags in ("xml", "headings")]
    for name, seeds in (("self", 200), ("other", 50)):
        for tags in ("xml", "headings"):
            own = {"seeds": seeds, "shards": 1, "tags": tags}
            assert found[pilot_name(name, tags)] == config["generations"][name] | own
    assert set(pilot_datasets(config)) == set(found)


def test_no_entry_of_a_config_can_have_the_name_of_a_pilot():
    pattern = load_schema(ROOT)["$defs"]["table"]["propertyNames"]["pattern"]
    assert re.match(pattern, "self")
    assert not re.match(pattern, pilot_name("self", "xml"))


DATASETS = [
    ({}, {}),
    ({"d": {"select": "random", "size": 5, "per_instruction": 2}}, {"per_instruction": 2}),
    ({"a": {"select": "random", "size": 5}, "d": {"select": "passed", "per_instruction": 3}}, {"per_instruction": 3}),
]


@pytest.mark.parametrize(("datasets", "expected"), DATASETS)
def test_the_dataset_takes_the_settings_of_one_of_the_generation(config, datasets, expected):
    config["datasets"] = {"x": {"generation": "no", "per_instruction": 9}}
    config["datasets"] |= {name: entry | {"generation": "self"} for name, entry in datasets.items()}
    found = pilot_datasets(config)["_pilot-self-xml"]
    assert found == {"generation": "_pilot-self-xml", "select": "passed", "size": None} | expected
    load_settings(Settings, json.dumps({key: found[key] for key in found if key != "generation"}), "settings")


def test_what_a_trained_model_generates_has_no_pilot(config):
    config["generations"]["second"] = config["generations"]["self"] | {"generator": "aligned"}
    assert pilot_targets(config) == (["self"], {"second": "aligned"})


# Its numbers


SETTINGS = {
    "corpus": "code",
    "generator": "base",
    "seeds": None,
    "shards": 3,
    "tags": "xml",
    "samples": {"concepts": 1, "instruction": 1, "response": 2},
    "adaptive": {"samples": [], "until_passed": 1},
}
COMMON = {"shots": ["a"], "seed": 1, "finish_reason": "stop"}


def write_pilot(results: Path, name: str, outcomes: list[list[str]], generated: float = 1.0) -> None:
    """Write a pilot of one instruction for each seed.

    Args:
        outcomes: For each seed what became of its responses: a verdict, or `length`, which is none.
        generated: Share of the rows that the stats were measured on.
    """
    folder, dataset = results / "generations" / name, results / "datasets" / name
    ids = [f"{number:016x}" for number in range(len(outcomes))]
    rows = {"concepts": [], "instructions": [], "responses": [], "verdicts": []}
    pairs, negatives, preferences = [], [], []
    for seed, found in zip(ids, outcomes, strict=True):
        task = f"{seed}-c0-i0"
        drop = None if found else "empty"
        rows["concepts"].append(
            Concepts(id=f"{seed}-c0", parent=seed, text="sums", concepts=["sums"] * bool(found), drop=drop, **COMMON)
        )
        if not found:
            continue
        rows["instructions"].append(
            Instruction(
                id=task,
                parent=f"{seed}-c0",
                category="function",
                difficulty="easy",
                concepts=["sums"],
                instruction="Add.",
                drop=None,
                **COMMON,
            )
        )
        for k, outcome in enumerate(found):
            row_id, drop = f"{task}-r{k}", "length" if outcome == "length" else None
            rows["responses"].append(
                Response(id=row_id, parent=task, text="x" * 100, response="code", tests="test", drop=drop, **COMMON)
            )
            if not drop:
                rows["verdicts"].append(
                    Verdict(
                        id=row_id,
                        verdict=outcome,
                        detail="",
                        cpu_s=36.0,
                        wall_s=1.0,
                        max_rss_mb=9.0,
                        assertions=1,
                        core="c",
                    )
                )
        pair = {
            "instruction": "Add.",
            "response": "code",
            "tests": "test",
            "category": "function",
            "difficulty": "easy",
            "concepts": ["sums"],
            "instruction_id": task,
            "concepts_id": f"{seed}-c0",
            "seed_id": seed,
            "pass_rate": 0.5,
            "samples": 2,
            "package": "p",
            "path": "p.py",
            "line": 1,
            "licence": "MIT",
        }
        if "passed" in found:
            pairs.append(Pair(id=f"{task}-r{found.index('passed')}", verdict="passed", **pair).dump())
        if "assertion" in found:
            failed = Negative(id=task, verdict="assertion", detail="", passes_other_tests=False, **pair)
            negatives.append(failed.dump())
            preferences += [{"instruction_id": task}] if "passed" in found else []
    for kind, made in rows.items():
        write_jsonl(folder / kind / "00000.jsonl", [row.dump() for row in made])
        stats = {"stage": kind, "rows": len(made), "wall_s": 46.0, "cpu_s": 9.0}
        if kind != "verdicts":
            measured = {"generated": int(generated * len(made)), "load_s": 10.0, "cached_prompt_tokens": 300}
            stats |= measured | {"prompt_tokens": 1000, "completion_tokens": 500}
        write_json(folder / kind / "00000.json", stats)
    write_jsonl(dataset / "pairs.jsonl", pairs)
    write_jsonl(dataset / "negatives.jsonl", negatives)
    write_jsonl(dataset / "preferences.jsonl", preferences)


OUTCOMES = [["passed", "passed"], ["assertion", "passed"], ["assertion", "length"], []]


def report(results: Path, *pilots: tuple[str, str], **changes) -> dict:
    settings = SETTINGS | changes
    read = [read_pilot(results, name, settings | {"shards": 1, "tags": tags}) for tags, name in pilots]
    return report_pilots(read, generation="self", settings=settings, corpus_seeds=400, gpus=2, run_seed=7)


def test_numbers_of_a_pilot_and_the_full_run(tmp_path):
    write_pilot(tmp_path, "p", OUTCOMES)
    found = report(tmp_path, ("xml", "p"))
    pilot = found["pilots"]["xml"]
    assert pilot["seeds"] == 4
    assert pilot["stages"] == {
        "concepts": {"completions": 4, "in form": 3, "format failures": {"empty": 1}},
        "instructions": {"completions": 3, "in form": 3, "format failures": {}},
        "responses": {"completions": 6, "in form": 5, "format failures": {"length": 1}},
    }
    assert pilot["outcomes"] == {"passed": 3, "assertion": 2, "length": 1}
    assert pilot["pass rate"]["value"] == 0.5
    low, high = pilot["pass rate"]["interval"]
    assert 0 <= low < 0.5 < high <= 1
    assert (pilot["instructions"], pilot["instructions with a pass"]) == (3, 2)
    assert pilot["yields"] == {"pairs": 2, "preferences": 1, "negatives": 2}
    assert pilot["samples"] == {"solved_by": [1, 2], "samples": 2, "is_limit": True, "until_passed": 5 / 6}
    # 400 seeds are a hundred times as many; each of 3 stages took 36 s on 2 GPUs beside the loading in each of 3 shards
    full = found["full run"]
    assert full["seeds"] == 400
    values = {name: found["value"] for name, found in full["xml"].items()}
    assert values == pytest.approx(
        {
            "responses": 600,
            "passed responses": 300,
            "prompt tokens": 300_000,
            "completion tokens": 150_000,
            "engine hours": 100 * 3 * 36 * 2 / 3600 + 3 * 3 * 10 * 2 / 3600,
            "sandbox CPU hours": 100 * 9 / 3600,
            "pairs": 200,
            "preferences": 100,
            "negatives": 200,
            # a pair has 8 characters, and 500 tokens wrote 600
            "training tokens per epoch": 200 * 8 * 500 / 600,
        }
    )
    for estimate in full["xml"].values():
        low, high = estimate["interval"]
        assert low <= estimate["value"] <= high
    low, high = full["xml"]["pairs"]["interval"]
    assert (low, high) == (0, 400)  # all four seeds as the third, or as the first
    assert report(tmp_path, ("xml", "p"), seeds=40)["full run"]["seeds"] == 40
    assert report(tmp_path, ("xml", "p"), seeds=999)["full run"]["seeds"] == 400


def test_what_a_killed_stage_did_not_measure_is_scaled(tmp_path):
    write_pilot(tmp_path, "whole", OUTCOMES * 2)
    write_pilot(tmp_path, "half", OUTCOMES * 2, generated=0.5)
    whole, half = (report(tmp_path, ("xml", name))["full run"]["xml"] for name in ("whole", "half"))
    for name in ("prompt tokens", "completion tokens"):
        assert half[name]["value"] == pytest.approx(2 * whole[name]["value"])
    loading = 3 * 3 * 10 * 2 / 3600
    hours = [found["engine hours"]["value"] - loading for found in (whole, half)]
    assert hours[1] == pytest.approx(2 * hours[0])
    write_pilot(tmp_path, "none", OUTCOMES, generated=0)
    with pytest.raises(ValueError, match=r"concepts/00000\.json: all rows were made before a kill"):
        report(tmp_path, ("xml", "none"))


STYLES = [
    # outcomes with headings, configured tags, what is advised, whether the difference is clear
    ([["assertion"] * 2] * 40, "xml", "Keep tags: xml.", True),
    ([["assertion"] * 2] * 40, "headings", "Set tags: xml.", True),
    ([["passed", "passed"]] * 40, "xml", "Set tags: headings.", True),
    ([["passed", "assertion"]] * 40, "xml", "Keep tags: xml.", False),
    ([["passed", "assertion"]] * 40, "headings", "Keep tags: headings.", False),
]


@pytest.mark.parametrize(("headings", "configured", "advice", "decided"), STYLES)
def test_the_better_style_is_advised_where_the_difference_is_clear(tmp_path, headings, configured, advice, decided):
    write_pilot(tmp_path, "a", [["passed", "assertion"]] * 39 + [["assertion", "assertion"]])
    write_pilot(tmp_path, "b", headings)
    found = report(tmp_path, ("xml", "a"), ("headings", "b"), tags=configured)
    (comparison,) = found["comparisons"]
    assert comparison["decided"] is decided
    assert advice in pilot_text(found).splitlines()


def test_the_difference_of_two_styles_is_that_of_their_pass_rates(tmp_path):
    """Seeds whose concepts or instruction were dropped have no response, and say nothing of the style."""
    lost = [[]] * 30
    write_pilot(tmp_path, "a", [["passed", "passed", "passed", "assertion"]] * 10 + lost)
    write_pilot(tmp_path, "b", [["passed", "assertion", "assertion", "length"]] * 10 + lost)
    found = report(tmp_path, ("xml", "a"), ("headings", "b"))
    (comparison,) = found["comparisons"]
    assert comparison["difference"] == pytest.approx(0.5)
    unlike = 1 - 0.025 ** (1 / 10)  # all ten seeds say the same, and others may say from -1 to 1
    assert comparison["interval"] == pytest.approx([0.5 - 1.5 * unlike, 0.5 + 0.5 * unlike])
    rates = [pilot["pass rate"]["value"] for pilot in found["pilots"].values()]
    assert rates == pytest.approx([0.75, 0.25])
    for name in ("c", "d"):
        write_pilot(tmp_path, name, lost)
    (comparison,) = report(tmp_path, ("xml", "c"), ("headings", "d"))["comparisons"]
    assert (comparison["difference"], comparison["decided"]) == (0, False)


ADVICE = [
    # outcomes, what the config sets, what is said of the samples
    ([["passed", "assertion"]] * 2, {}, ["With samples.response: 1, 2 of the 2 instructions are solved that 2 "
                                         "responses solve."]),
    ([["assertion", "passed"]], {}, ["The last of 2 responses still solves instructions that the others do not: more "
                                     "may solve more; try samples.response: 4."]),
    ([["passed"]], {"samples": SETTINGS["samples"] | {"response": 1}},
     ["One response says nothing of how many are worth drawing: raise samples.response for a pilot."]),
    ([["assertion"] * 2], {}, ["No response passed: look at the kinds above, and try another prompt file or model."]),
]  # fmt: skip


@pytest.mark.parametrize(("outcomes", "changes", "expected"), ADVICE)
def test_advice_on_samples(tmp_path, outcomes, changes, expected):
    write_pilot(tmp_path, "p", outcomes)
    lines = pilot_text(report(tmp_path, ("headings", "p"), **changes)).splitlines()
    assert [line for line in lines if line in expected] == expected
    assert not any("tags: " in line for line in lines), "there is nothing to compare with"


CURVES = [
    # first passing sample of each instruction, samples drawn
    ([], 3, None),
    ([0, 0], 3, None),
    ([1, 1, 0], 3, {"solved_by": [2, 2, 2], "samples": 1, "is_limit": False, "until_passed": 5 / 9}),
    ([1, 2, 4, 0], 4, {"solved_by": [1, 2, 2, 3], "samples": 4, "is_limit": True, "until_passed": 11 / 16}),
    ([1] * 9 + [3], 3, {"solved_by": [9, 9, 10], "samples": 1, "is_limit": False, "until_passed": 12 / 30}),
    ([1] * 8 + [2, 3], 3, {"solved_by": [8, 9, 10], "samples": 2, "is_limit": False, "until_passed": 13 / 30}),
]


@pytest.mark.parametrize(("solved_at", "most", "expected"), CURVES)
def test_suggested_samples(solved_at, most, expected):
    assert suggest_samples(solved_at, most) == expected


def test_the_command_writes_text_and_numbers(tmp_path):
    results = tmp_path / "results"
    write_pilot(results, "a", OUTCOMES)
    write_pilot(results, "b", [["length", "length"]] * 4)
    function = Function(id="0", code="", name="", imports="", docstring="", package="", version="", path="", line=1,
                        licence="")  # fmt: skip
    write_table(tmp_path / "seeds.parquet", [function.dump()] * 8, FUNCTION_COLUMNS)
    command = [sys.executable, ROOT / "scripts/report_pilot.py", "--results", results, "--generation", "self",
               "--settings", json.dumps(SETTINGS), "--pilots", "xml=a", "headings=b", "--seeds",
               tmp_path / "seeds.parquet", "--gpus", "1", "--run-seed", "7", "--text", tmp_path / "out.txt", "--data",
               tmp_path / "out.json"]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out.txt").read_text(encoding="utf-8")
    lines = {re.split(r"  +", line.strip())[0]: re.split(r"  +", line.strip())[1:] for line in text.splitlines()}
    assert text.startswith("Pilot of generation self: 4 of the 8 seeds of code, model base, seed 7\n")
    assert lines["responses in form"] == ["5 of 6 (83 %)", "0 of 8 (0 %)"]
    assert lines["length"] == ["1 of 6 (17 %)", "8 of 8 (100 %)"]
    assert lines["responses that passed"] == ["3 of 6 (50 %)", "0 of 8 (0 %)"]
    assert lines["pairs"] == ["4 (0 to 8)", "0"]
    assert lines["verdicts"][0] in ("5", "0")
    assert "Keep tags: xml." in text or "Set tags" in text
    assert max(map(len, text.splitlines())) <= 120
    data = read_json(tmp_path / "out.json")
    assert data["pilots"]["headings"]["samples"] is None
    assert "training tokens per epoch" not in data["full run"]["headings"]

    (results / "datasets/a/pairs.jsonl").write_text("{", encoding="utf-8")
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*a/pairs\.jsonl, row 1: not valid JSON.*\n", done.stderr)
