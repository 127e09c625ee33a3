"""What reruns what: docs/reruns.md is the expectation, and Snakemake is asked."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, checkout
from rerun_tables import (
    BASE,
    CONFIG,
    ENGINE,
    KEYS,
    ONE_VALUE,
    SETTINGS,
    VALUES,
    all_modules,
    change,
    expected,
    expected_of_setting,
    first_column,
    other,
    quoted,
    rules_of,
    table,
)
from workflow_plans import Plan, plan, pretend, touch

from selfalign.engines.port import EngineSettings
from selfalign.workflow.code_version import code_version


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Return a folder with a finished run of the config."""
    folder = tmp_path_factory.mktemp("reruns")
    for name in ("code", "more-code", "checkpoint", "other-checkpoint"):
        (folder / name).mkdir()
    for name in ("code/a.py", "more-code/a.py", "more-code/b.py"):
        (folder / name).write_text("x = 1\n")
    for name in ("checkpoint", "other-checkpoint"):
        (folder / name / "config.json").write_text(json.dumps(name))
    for name in (
        "generation.yaml",
        "methods.yaml",
        "judge.yaml",
        "few-shot.yaml",
        "other.yaml",
        "demo.jsonl",
        "other.jsonl",
        "code.jsonl",
    ):
        (folder / name).write_text(f"{name}\n")
    for name in ("code.zip", "more-code.zip"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("a.py", "x = 1\n")
    shutil.copy2(CONFIG, folder / "config.yaml")
    pretend(folder, folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def before(finished) -> Plan:
    """Return the plan in which nothing has changed."""
    return plan(finished, finished / "config.yaml")


def test_the_tables_name_every_setting():
    assert set(SETTINGS) | set(ENGINE) == set(KEYS) - set(ONE_VALUE)
    assert not set(SETTINGS) & set(ENGINE)


def test_what_is_made_from_what(before):
    said = {(row[0].strip("`"), reader) for row in table("What is made from what") for reader in quoted(row[1])}
    found = {(job[0], reader[0]) for job, readers in before.readers.items() for reader in readers}
    assert {pair for pair in said if "size" not in pair[1]} == found
    assert {row[0].strip("`") for row in table("What is made from what")} == {job[0] for job in before.jobs}


def test_nothing_reruns_when_nothing_changed(before):
    assert before.needed == set()
    assert len(before.jobs) > 70


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ONE_VALUE])
def test_a_setting(key, finished, before, tmp_path):
    path, config = change(BASE, key)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    now = plan(finished, tmp_path / "config.yaml")
    assert now.needed == expected_of_setting(key, path, now, before)


@pytest.mark.parametrize(("column", "kind"), [(0, "transformers"), (1, "vllm"), (2, "openai")])
def test_a_setting_of_another_engine(column, kind):
    """The test above has seen that what is in the identity reruns, and nothing else."""
    base = {"kind": kind, "url": "http://localhost:8000/v2"}
    for key, cells in ENGINE.items():
        name = key.removeprefix("engine.")
        value = VALUES[key] if key in VALUES else other(KEYS[key], KEYS[key].get("default"))
        if name == "kind":
            value = next(other for other in KEYS[key]["enum"] if other != kind)
        changed = EngineSettings(**base | {name: value}).identity() != EngineSettings(**base).identity()
        assert changed == (cells[column] == "reruns"), key


FILES = {  # setting to the path of an entry that has such a file, and the file
    "generations.*.prompts": ("generations.self", "generation.yaml"),
    "corpora.*.filters.docstring_judge.prompts": ("corpora.packages", "judge.yaml"),
    "benchmarks.*.prompts": ("benchmarks.demo", "few-shot.yaml"),
    "benchmarks.*.path": ("benchmarks.demo", "demo.jsonl"),
    "corpora.*.source.path": ("corpora.folder", "code/a.py"),
    "corpora.*.source.paths": ("corpora.shards", "code.jsonl"),
    "models.*.pretrained": ("models.base", "checkpoint/config.json"),
}


def test_the_table_of_files_is_whole():
    assert set(first_column("Files of yours")) == set(FILES)


@pytest.mark.parametrize("setting", FILES)
def test_an_edited_file(setting, finished, before):
    path, name = FILES[setting]
    text = (finished / name).read_text()
    (finished / name).write_text(text)
    assert plan(finished, finished / "config.yaml").needed == set()  # touched only
    (finished / name).write_text(text + "# more\n")
    now = plan(finished, finished / "config.yaml")
    (finished / name).write_text(text)
    users = [path]
    if name in ("generation.yaml", "checkpoint/config.json", "demo.jsonl"):  # other entries of the config have it too
        table_of, other = path.split(".")[0], {"self": "again", "base": "given", "demo": "chat"}[path.split(".")[1]]
        users.append(f"{table_of}.{other}")
    cell = first_column("Files of yours")[setting]
    assert now.needed - REPORT == set().union(*[expected(cell, user, now, before) for user in users]) - REPORT


REPORT = {("record_run", ()), ("write_report", ())}  # everything that reruns ends there


def test_the_table_of_modules_names_only_what_is_there():
    rooms = {f"{module.split('/')[0]}/*" for module in all_modules() if "/" in module}
    assert set(first_column("Modules")) <= set(all_modules()) | rooms


def test_every_module(before, tmp_path):
    """Edit each one in a copy, and see which scripts have another version then."""
    scripts = tmp_path / "scripts"
    shutil.copytree(ROOT / "scripts", scripts, ignore=shutil.ignore_patterns("__pycache__"))
    rules = {job[0] for job in before.jobs} - {"check_sandbox"}  # which has no version, as the document says

    def versions() -> dict[str, str]:
        return {rule: code_version(scripts / f"{rule}.py", scripts) for rule in rules}

    unedited, wrong = versions(), []
    for module in all_modules():
        path = scripts / "selfalign" / module
        text = path.read_bytes()
        path.write_bytes(text + (b"\nEDITED = True\n" if module.endswith(".py") else b"\nlet edited;\n"))
        edited = {rule for rule, version in versions().items() if version != unedited[rule]}
        path.write_bytes(text)
        said = set(quoted(rules_of(module)))
        jobs, jobs_said = ({job for job in before.jobs if job[0] in names} for names in (edited, said))
        if not said <= edited or before.following(jobs) != before.following(jobs_said):
            wrong.append(f"{module}: {rules_of(module)}, but the versions of {sorted(edited)} change")
    assert wrong == [], "\n".join(wrong)


@pytest.fixture(scope="module")
def moved(tmp_path_factory) -> Path:
    """Return a checkout with a finished run in it, moved to another place since."""
    folder = checkout(tmp_path_factory.mktemp("checkout") / "first")
    pretend(folder, folder / "tests/configs/small.yaml", folder)
    return folder.rename(folder.parent / "second")


def test_a_moved_repository_with_a_new_lock(moved):
    for name in ("core.lock", "core.yaml"):
        (moved / "envs" / name).write_text((moved / "envs" / name).read_text() + "# new\n")
    assert plan(moved, moved / "tests/configs/small.yaml", moved).needed == set()


ASIDE = [
    # a file that was set aside as damaged; rules that a finished run then needs
    ("scores/base/demo/completions.jsonl", {"complete_benchmark", "verify_completions", "score_benchmark"}),
    ("datasets/random/pairs.jsonl", {"select_pairs", "train_model"}),
    ("corpora/packages/filtered/00001.parquet", {"filter_functions", "select_seeds"}),
    ("generations/self/responses/00007.jsonl", set()),  # it had more shards before
    ("scores/gone/demo/completions.jsonl", set()),  # of a model that the config had
]


@pytest.mark.parametrize(("name", "rules"), ASIDE)
def test_what_was_set_aside_is_made_anew_though_all_that_follows_is_there(moved, name, rules):
    path = moved / "results" / name
    kept = path.with_name(f"{path.name}.changed")
    kept.parent.mkdir(parents=True, exist_ok=True)
    path.rename(kept) if rules else kept.touch()
    try:
        needed = {rule for rule, _ in plan(moved, moved / "tests/configs/small.yaml", moved).needed}
    finally:
        kept.rename(path) if rules else kept.unlink()
    assert needed >= rules
    assert bool(needed) == bool(rules)


@pytest.mark.parametrize("module", ["records/files.py", "sandbox/core.c", "selection/card.py", "workflow/run_lock.py"])
def test_an_edited_module(module, moved):
    path, config = moved / "scripts/selfalign" / module, moved / "tests/configs/small.yaml"
    text = path.read_bytes()
    path.write_bytes(text + (b"\nEDITED = True\n" if module.endswith(".py") else b"\nlet edited;\n"))
    now = plan(moved, config, moved)
    path.write_bytes(text + b"\n" if module.endswith(".py") else text)  # layout
    same = plan(moved, config, moved)
    path.write_bytes(text)
    first = {job for job in now.jobs if job[0] in quoted(rules_of(module))}
    assert now.needed == now.following(first)
    assert same.needed == set()


def test_what_reruns_nothing(finished, tmp_path):
    config = tmp_path / "config.yaml"
    text = yaml.safe_dump(BASE, sort_keys=True)  # other order, other layout, no comments
    config.write_text(f"# a comment\n{text}")
    (finished / "results/corpora/packages/functions/00000.parquet").unlink()
    os.utime(finished / "results/sandbox.json")
    shutil.rmtree(finished / "results/logs", ignore_errors=True)
    now = plan(finished, config, cores=7)
    assert now.needed <= REPORT  # the config's order is that of the record


def test_a_touched_run_is_of_the_present_code(moved):
    path, config = moved / "scripts/selfalign/generation/stages.py", moved / "tests/configs/small.yaml"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert plan(moved, config, moved).needed
    touch(moved, config, moved)
    assert plan(moved, config, moved).needed == set()
