"""The workflow around the stages: code versions, names, and plain commands."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from workflow_plans import plan

from selfalign.workflow.code_version import code_version

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))

EDITS = [
    # file, text to replace, by what, whether behaviour may change
    ("stage.py", "return helper.double(2)", "return helper.double(3)", True),
    ("room/helper.py", "value * 2", "value + value", True),
    ("room/deep.py", "FACTOR = 2", "FACTOR = 4", True),
    ("stage.py", "# a comment", "# another comment", False),
    ("stage.py", '"""Say what it does."""', '"""Say it better."""', False),
    ("room/helper.py", "value * 2", "(value   *  2)", False),
    ("room/unused.py", "x = 1", "x = 2", False),
    ("room/core.c", "int x = 1;", "int x = 2;", True),
]


@pytest.mark.parametrize(("file", "old", "new", "changes"), EDITS)
def test_code_version_follows_behaviour(tmp_path, file, old, new, changes):
    sources = {
        "stage.py": 'from room import helper\n\ndef main():\n    """Say what it does."""\n'
        "    return helper.double(2)  # a comment\n",
        "room/__init__.py": "",
        "room/helper.py": "from .deep import FACTOR\n\ndef double(value):\n    return value * 2\n",
        "room/deep.py": "FACTOR = 2\n",
        "room/unused.py": "x = 1\n",
        "room/core.c": "int x = 1;\n",
    }
    versions = []
    for number, edit in enumerate([None, (old, new)]):
        root = tmp_path / str(number)
        for name, text in sources.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace(*edit) if edit and name == file else text)
        versions.append(code_version(root / "stage.py", root))
    assert (versions[0] != versions[1]) == changes


RULE = r"^(?:rule|checkpoint) (\w+):\n(.*?)(?=^(?:rule|checkpoint) |\Z)"


def test_a_rule_its_script_and_its_log_share_a_name():
    rules = {}
    for file in (ROOT / "rules").glob("*.smk"):
        for name, body in re.findall(RULE, file.read_text(), re.MULTILINE | re.DOTALL):
            rules[name] = body
    for name, body in rules.items():
        assert f"$SCRIPTS/{name}.py" in body, name
        assert f"results/logs/{name}" in body, name
        assert body.lstrip().startswith('"""'), name
        assert "conda:" in body, name
    plain = {
        "verify_programs",
        "make_demo_benchmark",
        "verify_archive",
        "compare_runs",
        "trace_pair",
    }  # commands that people call, not rules
    assert set(rules) | plain == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_commands_that_shadow_nothing(script):
    assert script not in sys.stdlib_module_names
    tree = ast.parse((ROOT / f"scripts/{script}.py").read_text())
    assert ast.get_docstring(tree)
    result = subprocess.run(
        [sys.executable, ROOT / f"scripts/{script}.py", "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


ROOMS = {
    # room: the rooms of ours that it may import; anything else is an error
    "records": set(),
    "languages": set(),
    "prompts": {"records", "languages"},
    "matching": {"records"},
    "engines": {"records"},
    "sandbox": {"records", "languages", "prompts"},
    "workflow": {"records"},
    "seeds": {"records", "languages", "matching", "prompts", "engines"},
    "generation": {"records", "prompts", "engines"},
    "quality": {"records", "prompts", "sandbox", "benchmarks"},
    "selection": {"records", "languages", "matching", "prompts"},
    "rounds": {"records", "matching"},
    "training": {"records", "prompts", "engines"},
    "benchmarks": {"records", "languages", "prompts", "engines", "sandbox"},
    "reporting": {"records", "prompts", "benchmarks"},
    "archiving": {"records", "seeds", "generation", "benchmarks", "reporting"},
    "demo": {"records", "languages", "prompts", "engines", "sandbox"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_between_rooms(room):
    assert {path.parent.name for path in (ROOT / "scripts/selfalign").glob("*/__init__.py")} == set(ROOMS)
    for path in (ROOT / "scripts/selfalign" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            assert not any(module.split(".")[0] == "snakemake" for module in modules), path
            entered = {module.split(".")[1] for module in modules if module.startswith("selfalign.")}
            assert entered <= ROOMS[room] | {room}, f"{path} imports {entered - ROOMS[room] - {room}}"


def snakemake(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_lint_has_nothing_to_say():
    result = snakemake("--lint")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_corpus_that_is_not_there_is_one_line(tmp_path):
    recipe = str(ROOT / "recipes" / "pypi.yaml")
    result = snakemake("-n", "-s", str(ROOT / "Snakefile"), "--configfile", recipe, "--directory", str(tmp_path))
    assert result.returncode == 1
    assert re.search(r"^error: corpus archives .*: no such file or folder; give the path", result.stderr, re.MULTILINE)
    assert "Traceback" not in result.stdout + result.stderr


def test_every_recipe_gives_a_plan(tmp_path):
    recipes = sorted((ROOT / "recipes").glob("*.yaml"))
    assert recipes
    (tmp_path / "archives").mkdir()  # what recipes/pypi.yaml says to download
    with zipfile.ZipFile(tmp_path / "archives" / "x-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("x/__init__.py", "")
    for recipe in recipes:
        assert ("write_report", ()) in plan(tmp_path, recipe, ROOT).needed, recipe


PILOTS = [
    # recipe, exit code, what is said
    ("laptop", 0, r"report_pilot +1\n"),
    ("benchmarks", 1, r"^error: pilot: the config has no generation whose model is given"),
]


@pytest.mark.parametrize(("recipe", "code", "said"), PILOTS)
def test_a_recipe_has_a_pilot_if_it_generates(recipe, code, said, tmp_path):
    recipe = str(ROOT / f"recipes/{recipe}.yaml")
    arguments = ("-n", "-s", str(ROOT / "Snakefile"), "--configfile", recipe, "--directory", str(tmp_path))
    result = snakemake(*arguments, "--", "pilot")
    assert result.returncode == code
    assert re.search(said, result.stdout + result.stderr, re.MULTILINE)
    assert "write_report" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


ENGINES = [
    ('{"kind": "vllm", "tensor_parallel_size": 2, "data_parallel_size": 4}', {"gpu=8"}),
    ('{"kind": "openai", "url": "http://localhost:8000/v1"}', {"gpu=0"}),
]


@pytest.mark.parametrize(("engine", "gpus"), ENGINES)
def test_jobs_that_ask_a_model_take_the_gpus_of_its_engine(engine, gpus, tmp_path):
    options = ["--directory", str(tmp_path), "--quiet", "host", "--config", f"engine={engine}"]
    result = snakemake("-n", "-s", str(ROOT / "Snakefile"), *options)
    assert result.returncode == 0, result.stderr
    plan = (result.stdout + result.stderr).split("\nrule ")
    for rule in ("generate_concepts", "generate_instructions", "generate_responses", "complete_benchmark"):
        jobs = [job for job in plan if job.startswith(f"{rule}:")]
        assert jobs, f"{rule} is not in the plan"
        assert {found for job in jobs for found in re.findall(r"gpu=\d+", job)} == gpus
    assert "gpu=1" in next(job for job in plan if job.startswith("train_model:"))


def test_training_gets_the_gpus_of_its_job_and_the_preferences_of_its_dataset(tmp_path):
    config = yaml.safe_load((ROOT / "tests/configs/small.yaml").read_text())
    config["models"]["preferred"] = {"base": "aligned", "dataset": "verified", "train": {"objective": "dpo"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = ["-n", "-p", "-s", str(ROOT / "Snakefile"), "--configfile", "config.yaml", "--quiet", "host"]
    options += ["--directory", str(tmp_path), "--set-resources", "train_model:gpu=8"]
    result = snakemake("results/models/preferred/model.json", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    commands = [line for line in (result.stdout + result.stderr).splitlines() if "train_model.py" in line]
    assert [line.count("--gpus 8") for line in commands] == [1, 1]
    preferred = [line for line in commands if "train/preferred" in line]
    assert "--base results/models/aligned/model.json" in preferred[0]
    assert "--preferences results/datasets/verified/preferences.jsonl" in preferred[0]
    assert sum("--preferences" in line for line in commands) == 1


def test_a_training_takes_its_threads_of_the_cores(tmp_path):
    config = yaml.safe_load((ROOT / "tests/configs/small.yaml").read_text())
    config["models"]["aligned"]["train"]["threads"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = ["-n", "-s", str(ROOT / "Snakefile"), "--configfile", "config.yaml", "--quiet", "host", "--cores", "4"]
    result = snakemake("results/models/aligned/model.json", *options, "--directory", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    job = (result.stdout + result.stderr).split("\nrule train_model:")[1].split("\nrule ")[0]
    assert "threads: 3" in job


def test_a_wrong_config_is_one_clear_error(tmp_path):
    result = snakemake("-n", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "--config", "sead=1")
    assert result.returncode == 1
    assert "unknown key 'sead'; did you mean 'seed'?" in result.stderr
    assert "Traceback" not in result.stderr


def test_setup_says_what_to_install_when_it_may_not(tmp_path):
    """Run the installer as an ordinary user with neither bubblewrap nor pip's bootstrap in reach."""
    tools = ["bash", "dirname", "apt-get"]
    for tool in tools:
        (tmp_path / tool).symlink_to(shutil.which(tool) or "/bin/true")
    python = tmp_path / "python3"
    python.write_text("#!/bin/bash\nexit 1\n")
    python.chmod(0o755)
    shutil.copytree(ROOT / "envs", tmp_path / "repo/envs")
    for path in (tmp_path, tmp_path / "repo", tmp_path / "repo/envs"):
        path.chmod(0o755)
    for folder in tmp_path.parents[:3]:
        folder.chmod(0o755)
    identity = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    result = subprocess.run(
        [tmp_path / "bash", tmp_path / "repo/envs/install.sh"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        **identity,
    )
    assert result.returncode == 1
    assert "sudo apt-get install bubblewrap python3-venv" in result.stderr
