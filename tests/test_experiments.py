"""Experiments: what the statistics say of known numbers, and the page made by the real command from a small run."""

import csv
import json
import random
import re
import shutil
from dataclasses import replace

import numpy
import pytest
import yaml
from reporting_run import CONFIG, HOSTILE, make_run
from scipy.stats import t as student
from test_reporting import Page, files, write

from selfalign.records.files import read_json, write_json, write_jsonl
from selfalign.reporting.answers import cell_rows, questions
from selfalign.reporting.artifacts import read_run
from selfalign.reporting.effects import effect, holm
from selfalign.reporting.experiments import read_experiments
from selfalign.reporting.model_costs import model_cost
from selfalign.reporting.write import read_config
from selfalign.workflow.replicates import expand_replicates

# The statistics


def test_the_interval_of_a_known_table():
    """Two seeds and three tasks by hand: mean squares 0.24 of seeds, 0.14 of tasks, 0.02 of the rest."""
    found = effect([[0.0, 0.4, 0.2], [0.2, 0.8, 0.8]], (-1, 1))
    terms = numpy.array([0.24, 0.14, 0.02]) / 6
    error = (terms[0] + terms[1] - terms[2]) ** 0.5
    freedom = error**4 / (terms**2 / [1, 2, 2]).sum()
    assert (found.mean, found.error, found.freedom) == pytest.approx((0.4, error, freedom))
    low = 0.4 - student.isf(0.025, freedom) * error
    assert (found.low, found.high) == pytest.approx((low, 1))  # 1.5 is more than there can be
    assert found.p == pytest.approx(2 * student.sf(0.4 / error, freedom))
    assert (found.by_seeds, found.by_tasks) == pytest.approx((0.22 / 0.36, 0.12 / 0.36))
    assert found.detectable() < found.detectable(4)
    assert effect([[0.0, 1.0], [1.0, 0.0]], (-1, 1)).error == pytest.approx(0.5)  # all is due to both together


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_same_everywhere_is_not_certain(seeds, value):
    found = effect([[value] * 20] * seeds, (-1, 1))
    assert found.low < value or found.high > value
    assert found.error > 0
    assert (found.p == 1) == (value == 0)


@pytest.mark.parametrize(("by_seed", "by_task"), [(0.05, 0.0), (0.0, 0.5), (0.05, 0.5)])
def test_the_interval_holds_the_truth(by_seed, by_task):
    """bench/experiment_coverage.py draws more; an interval without seeds would hold it in 40 to 85 % of these draws."""
    draw, inside = numpy.random.default_rng(1), 0
    for _ in range(200):
        noise = 0.3 * draw.standard_normal((5, 80))
        values = noise + by_seed * draw.standard_normal((5, 1)) + by_task * draw.standard_normal((1, 80))
        found = effect(values, (-9, 9))
        inside += found.low <= 0 <= found.high
    assert 182 <= inside <= 199


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]


# The page

EXPERIMENTS = {
    "filter": {
        "question": "Does it help to train on what passed? <b>",
        "models": ["base", "aligned", "control"],
        "reference": "base",
        "benchmarks": ["demo"],
        "published": {"aligned": 65.2},
        "source": "a paper",
        "layout": {"rows": "base", "columns": "selection"},
    }
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the results of a run with two replicates: `aligned` solves most tasks, `control` as many as the base."""
    results = make_run(tmp_path_factory.mktemp("run"))
    config = CONFIG | {"replicates": 2, "experiments": EXPERIMENTS, "engine": {"kind": "transformers"}}
    config["engine"] |= {"tensor_parallel_size": 1, "data_parallel_size": 1}
    config = json.loads(json.dumps(expand_replicates(config)))
    (results / "run_config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    tasks, draw = [f"demo/{number}" for number in range(60)], random.Random(2)
    write_jsonl(results / "benchmarks/demo.jsonl", [{"id": task, "instruction": f"Do {task}."} for task in tasks])
    for table in ("generations", "datasets"):
        for name, entry in config[table].items():
            if "replicate_of" in entry:
                (results / table / name).symlink_to(results / table / entry["replicate_of"])
    for path in results.glob("generations/self/*/*.json"):
        stats = json.loads(path.read_text())
        write_json(path, stats | {"stage": path.parent.name})
    for name, entry in config["models"].items():
        if "replicate_of" in entry:
            (results / "models" / name).symlink_to(results / "models" / entry["replicate_of"])
        share = {"base": 0.3, "aligned": 0.9, "control": 0.3}[entry.get("replicate_of", name)]
        passed = {task: draw.random() < share for task in tasks}
        folder = results / "scores" / name / "demo"
        rate = sum(passed.values()) / len(tasks)
        score = {"model": name, "benchmark": "demo", "tasks": 60, "samples": 1, "pass@1": rate}
        score |= {"interval": [rate, rate], "verdicts": {}, "groups": {}, "left_out": {}}
        write_json(folder / "scores.json", score | {"per_task": {task: float(passed[task]) for task in tasks}})
        answers = [
            {"id": f"{task}-s0", "task": task, "k": 0, "texts": ["x"], "code": f"x = {task!r}\n"} for task in tasks
        ]
        answers[0] |= {"code": "", "texts": [HOSTILE.replace("\ud800", "")], "drop": "no code"}
        write_jsonl(folder / "completions.jsonl", [{"drop": None} | row for row in answers])
        verdicts = [
            {"id": f"{task}-s0/tests", "verdict": "passed" if good else "exception", "detail": "" if good else "E: <i>"}
            for task, good in passed.items()
        ]
        write_jsonl(folder / "verdicts.jsonl", verdicts)
    return results


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    """Return the report's folder and what the command printed."""
    folder = tmp_path_factory.mktemp("report")
    done = write(run, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_the_table_and_what_is_said(report):
    folder, told = report
    rows = {row["model"]: row for row in csv.DictReader((folder / "tables/experiments.csv").open())}
    assert [rows[name]["verdict"] for name in ("base", "aligned", "control")] == [
        "reference",
        "decided: better",
        "noise",
    ]
    assert [rows[name]["seeds"] for name in ("base", "aligned", "control")] == ["1", "2", "2"]
    apart = {name: float(rows[name]["pass_at_1"]) - float(rows["base"]["pass_at_1"]) for name in ("aligned", "control")}
    assert {name: float(rows[name]["difference"]) for name in apart} == pytest.approx(apart)
    assert (rows["aligned"]["base"], rows["aligned"]["selection"], rows["aligned"]["pairs"]) == (
        "base",
        "passed",
        "13.0",
    )
    assert float(rows["control"]["p_corrected"]) >= float(rows["control"]["p"])
    assert re.search(
        r"filter: Does it help .*\n  Against base: aligned \+\d.* better; control .* is noise: this exp", told
    )
    assert re.search(rf"^experiments +{folder}/experiment.html$", told, re.MULTILINE)
    assert 'href="experiment.html"' in (folder / "index.html").read_text()
    assert {"figures/experiment_filter.svg", "experiment.html"} <= files(folder).keys()


def test_the_page(report):
    source = (report[0] / "experiment.html").read_text(encoding="utf-8")
    page, ids = Page(source), set(re.findall(r' id="([^"]+)"', source))
    words = " ".join(page.words)
    links = [values["href"] for tag, values in page.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= ids | {"index.html"}
    assert "#rows-aligned-on-demo" in links
    assert not any(values.get("src") or tag in ("link", "img") for tag, values in page.tags)
    assert "<b>" not in source.replace("<b>Task</b>", "").replace("<b>Answer</b>", "").replace(
        "<b>What the sandbox", ""
    )
    for text in ("decided: better", "noise", "65.2 %", "Published: a paper", "due to seeds", "CPU hours", "seed 2"):
        assert text in words, text
    for name in ("scores/aligned/demo/", "scores/aligned.2/demo/", "E: <i>", "Do demo/", "no code"):
        assert name in words, name
    assert source.count("<script>") == 1
    assert len(source) < 200_000


def test_costs_and_rows(run, tmp_path):
    """Costs are of one replicate; on GPUs generation and training have hours of them, by how many each had."""
    results = shutil.copytree(run, tmp_path / "results")
    stats = json.loads((results / "models/aligned.2/training_stats.json").read_text())
    write_json(results / "models/aligned.2/training_stats.json", stats | {"device": "NVIDIA H100", "processes": 4})
    path = results / "scores/base/demo/scores.json"
    scores = json.loads(path.read_text())
    write_json(path, scores | {"samples": 4, "per_task": scores["per_task"] | {"demo/10": 0.5}})
    made = read_run(results, read_config(results / "run_config.yaml"))
    (found,) = read_experiments(made)
    base, aligned, control = found.arms
    stages = [read_json(path) for path in (results / "generations/self").glob("*/*.json")]
    asked = [stage for stage in stages if stage["stage"] != "verdicts"]
    cost = model_cost(made, aligned)
    assert model_cost(made, base) is None
    assert cost.prompt_tokens == sum(stage["prompt_tokens"] for stage in asked)
    assert cost.completion_tokens == sum(stage["completion_tokens"] for stage in asked)
    assert cost.wall_hours == pytest.approx((sum(stage["wall_s"] for stage in stages) + 31.5) / 3600)
    assert cost.pairs_per_hour == pytest.approx(13 * 3600 / sum(stage["wall_s"] for stage in stages))
    assert cost.gpu_hours == pytest.approx((sum(stage["wall_s"] for stage in asked) + 4 * 31.5 / 2) / 3600)
    assert model_cost(made, control).gpu_hours is None
    made.config["generations"]["self.2"]["instructions"] = "self"  # whose concepts and instructions it then stands on
    again = model_cost(made, replace(control, generations=("self.2",)))
    assert again.prompt_tokens == sum(s["prompt_tokens"] * (1 + (s["stage"] != "responses")) for s in asked) / 2
    rows = cell_rows(made, found.cells[0], questions(made, "demo"))
    assert list(rows.verdicts)[8:12] == ["demo/8", "demo/9", "demo/10", "demo/11"]
    assert rows.verdicts["demo/10"] == ("2 of 4",)
    assert rows.failures + rows.passes == 60
    assert [one.verdict in ("4 of 4", "passed") for one in rows.shown] == [False] * 10 + [True] * 3
