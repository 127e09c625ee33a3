"""Two runs are compared: settings, versions, counts, scores, files; and nothing where nothing differs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from commands import run
from reporting_run import CONFIG, make_run

from selfalign.archiving.archive import archive_run
from selfalign.benchmarks.statistics import paired_difference
from selfalign.records.files import read_json, read_jsonl, write_json, write_jsonl, write_text

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """Return the results of a run; tests do not change them."""
    return make_run(tmp_path_factory.mktemp("first"))


@pytest.fixture
def second(first: Path, tmp_path: Path) -> Path:
    """Return a copy of them to change."""
    shutil.copytree(first, tmp_path / "results")
    return tmp_path / "results"


def compare(one: Path, other: Path) -> tuple[str, dict]:
    """Return what the command tells, as text and as data."""
    output = other.parent / "differences.json"
    done = run("compare_runs", one, other, "--output", output)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, json.loads(output.read_text())


def test_nothing_differs(first: Path, second: Path) -> None:
    told, data = compare(first, second)
    assert told.splitlines()[3] == "Nothing differs."
    assert "Settings: the same\n" in told
    assert "Counts: the same at every stage\n" in told
    assert "Scores: the same, all 4\n" in told
    assert data["none"] is True
    assert [data[name] for name in ("settings", "versions", "counts", "scores")] == [[], [], [], []]


def test_archives_and_folders_compare_alike(first: Path, second: Path, tmp_path: Path) -> None:
    config = CONFIG | {"seed": 1}
    write_text(second / "run_config.yaml", yaml.safe_dump(config, sort_keys=False))
    for name, results in (("a", first), ("b", second)):
        archive_run(results, tmp_path / f"{name}.tar.zst", root=ROOT, locks=[])
    found = []
    for one in (first, tmp_path / "a.tar.zst"):
        for other in (second, tmp_path / "b.tar.zst"):
            data = compare(one, other)[1]
            del data["names"]
            found.append(data)
    assert found[0]["settings"] == [{"what": "seed", "first": 3407, "second": 1}]
    assert found[0]["files"]["different"] == ["results/run_config.yaml"]
    assert found[1:] == [found[0]] * 3


def test_times_alone_are_no_difference(first: Path, second: Path) -> None:
    stats = second / "generations/self/concepts/00000.json"
    write_json(stats, read_json(stats) | {"wall_s": 99.0})
    verdicts = second / "generations/self/verdicts/00001.jsonl"
    write_jsonl(verdicts, [row | {"cpu_s": 1.5, "max_rss_mb": 99.0} for row in list(read_jsonl(verdicts))])
    told, data = compare(first, second)
    assert "The results do not differ; what does is below." in told
    assert data["none"] is True
    assert data["files"]["recorded"] == [
        "results/generations/self/concepts/00000.json",
        "results/generations/self/verdicts/00001.jsonl",
    ]


def edited(results: Path, way: str, value: object) -> None:
    config = json.loads(json.dumps(CONFIG))
    *path, last = way.split(".")
    entry = config
    for part in path:
        entry = entry[part]
    if value is None:
        del entry[last]
    else:
        entry[last] = value
    write_text(results / "run_config.yaml", yaml.safe_dump(config, sort_keys=False))


SETTINGS = [
    ("seed", 1, "  seed: 3,407 -> 1 (-3,406)"),
    ("models.aligned.train.epochs", 4, "  models.aligned.train.epochs: 3 -> 4 (+1)"),
    ("generations.self.temperature", 0.5, "  generations.self.temperature: (not there) -> 0.5"),
    ("models.aligned.train.epochs", None, "  models.aligned.train.epochs: 3 -> (not there)"),
    ("corpora.stdlib.source.packages", ["x"], '  corpora.stdlib.source.packages: ["stdlib"] -> ["x"]'),
]


@pytest.mark.parametrize(("way", "value", "line"), SETTINGS)
def test_a_setting(first: Path, second: Path, way: str, value: object, line: str) -> None:
    edited(second, way, value)
    told, data = compare(first, second)
    lines = told.splitlines()
    assert "differ" in lines[3]
    assert lines[3].startswith("Settings: 1 differ")
    assert lines[4] == line
    assert data["none"] is False
    assert [change["what"] for change in data["settings"]] == [way]
    assert "Counts: the same at every stage" in told


def test_versions_and_machine(first: Path, second: Path) -> None:
    made = read_json(second / "provenance.json")
    made["packages"] |= {"torch": "2.14.0", "new": "1"}
    made["git"] |= {"commit": "f" * 40, "dirty": True}
    write_json(second / "provenance.json", made | {"cpu": "Another", "seed": 9})
    told, data = compare(first, second)
    assert "Code, versions and machine: 5 differ" in told
    for line in (
        f'  git.commit: "0123456789abcdef0123456789abcdef01234567" -> "{"f" * 40}"',
        "  git.dirty: false -> true",
        '  cpu: "A processor" -> "Another"',
        '  packages.torch: "2.13.0" -> "2.14.0"',
        '  packages.new: (not there) -> "1"',
    ):
        assert line in told.splitlines()
    assert "The results do not differ; what does is below." in told
    assert data["none"] is True, "another machine is no other result"
    assert data["files"]["by_nature"] == {"results/provenance.json": "machine"}


def test_counts_stage_by_stage(first: Path, second: Path) -> None:
    funnel = second / "corpora/stdlib/funnel.json"
    stages = read_json(funnel)["stages"]
    stages[0] |= {"input": stages[0]["input"] + 5, "dropped": {"no argument": 9, "too long": 2}}
    assert stages[0]["input"] == stages[0]["kept"] + 11, "as the fixture has it: 6 of these were there"
    write_json(funnel, {"stages": stages})
    told, _ = compare(first, second)
    at = "corpora.stdlib.has_argument"
    assert f"  {at}.input: 30 -> 35 (+5)" in told.splitlines()
    assert f"  {at}.dropped.no argument: 6 -> 9 (+3)" in told.splitlines()
    assert f"  {at}.dropped.too long: (not there) -> 2" in told.splitlines()
    assert "Counts: 3 differ" in told
    assert "  different: results/corpora/stdlib/funnel.json" in told


def test_scores_with_their_paired_difference(first: Path, second: Path) -> None:
    path = second / "scores/aligned/demo/scores.json"
    score = read_json(path)
    before = dict(score)
    failed = [task for task, passed in sorted(score["per_task"].items()) if not passed][:12]
    score["per_task"] = score["per_task"] | dict.fromkeys(failed, 1.0)
    score["pass@1"] = sum(score["per_task"].values()) / score["tasks"]
    score["interval"] = [score["pass@1"] - 0.1, min(1.0, score["pass@1"] + 0.1)]
    write_json(path, score)
    shutil.rmtree(second / "scores/control/demo")
    told, data = compare(first, second)
    row, gone = data["scores"]
    expected = paired_difference(score, before)
    assert row["paired"] == {key: expected[key] for key in ("difference", "interval", "p")}
    assert row["paired"]["difference"] == pytest.approx(12 / 40)
    assert row["paired"]["interval"][0] > 0
    assert (gone["score"], gone["second"], gone["paired"]) == ("control on demo", None, None)
    assert "Scores: 2 differ, 2 are the same" in told
    assert "paired difference +30.0 points, 95 % interval +" in told
    assert "excludes 0" in told
    assert "Not made in B: score control on demo" in told
    assert "  in A only: results/scores/control/demo/scores.json" in told


def test_scores_of_other_tasks_are_not_paired(first: Path, second: Path) -> None:
    path = second / "scores/aligned/demo/scores.json"
    score = read_json(path)
    task = next(iter(score["per_task"]))
    score["per_task"]["demo/other"] = score["per_task"].pop(task)
    write_json(path, score)
    told, data = compare(first, second)
    assert data["scores"][0]["paired"] is None
    assert "; not of the same tasks" in told


def test_a_file_of_one_run_alone(first: Path, second: Path) -> None:
    write_text(second / "models/aligned/more.json", "{}")
    told, data = compare(first, second)
    assert "  in B only: results/models/aligned/more.json" in told
    assert data["none"] is False
    assert "Nothing differs" not in told


def test_many_changes_are_cut_on_the_screen_only(first: Path, second: Path) -> None:
    made = read_json(second / "provenance.json")
    made["packages"] |= {f"package-{number}": "1" for number in range(100)}
    write_json(second / "provenance.json", made)
    told, data = compare(first, second)
    assert "  and 60 more (--output has all)" in told
    assert len(data["versions"]) == 100


ODD = [
    # change of the config, what is told
    (lambda config: config["generations"]["self"].pop("shards"), "config.generations.self has no key 'shards', so the"),
    (
        lambda config: config["corpora"]["stdlib"].pop("parts"),
        "config.corpora.stdlib has no key 'parts', so the run is",
    ),
    (lambda config: config.update(models=["base"]), "not a merged config: models is no table of tables"),
    (lambda config: config["datasets"].update(random=None), "not a merged config: datasets is no table of tables"),
]


@pytest.mark.parametrize(("change", "told"), ODD)
def test_a_config_of_another_version_is_one_clear_error(first: Path, second: Path, change, told: str) -> None:
    config = json.loads(json.dumps(CONFIG))
    change(config)
    write_text(second / "run_config.yaml", yaml.safe_dump(config, sort_keys=False))
    done = run("compare_runs", first, second)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert told in done.stderr


def test_what_is_no_run(first: Path, tmp_path: Path) -> None:
    done = run("compare_runs", first, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path}: no run in it (results/run_config.yaml")


def test_a_config_cannot_steer_the_terminal(first: Path, second: Path) -> None:
    write_text(second / "run_config.yaml", yaml.safe_dump(CONFIG | {"\x9b2J\n": "\x9b2J"}, sort_keys=False))
    told, _ = compare(first, second)
    assert '  \\x9b2J\\n: (not there) -> "\\x9b2J"\n' in told
    assert not {"\x1b", "\x9b"} & set(told)
