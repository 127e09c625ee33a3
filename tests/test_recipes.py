"""The recipes fit the schema and the code that reads their settings, and hold the numbers that they claim to hold."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from selfalign.engines.port import load_settings as load_engine_settings
from selfalign.prompts.documents import load_prompts
from selfalign.records.settings import load_settings
from selfalign.records.shards import benchmark_of
from selfalign.sandbox.settings import SandboxSettings
from selfalign.training.settings import TrainSettings
from selfalign.workflow import replicates, rounds
from selfalign.workflow.configuration import load_configuration, load_schema

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
CONFIGS = [ROOT / "config.yaml", *RECIPES]
OF_THE_PAPER = ("starcoder2-15b", "codeqwen1.5-7b")


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def loaded(name: str) -> dict:
    return load_configuration(read(ROOT / "recipes" / f"{name}.yaml"), ROOT)


def trained(config: dict) -> dict[str, dict]:
    return {name: model for name, model in config["models"].items() if "base" in model}


def test_the_recipes_are_all_here() -> None:
    assert {path.stem for path in RECIPES} >= {"laptop", *OF_THE_PAPER}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_fits_the_schema(path: Path) -> None:
    config = read(path)
    jsonschema.Draft202012Validator(load_schema(ROOT)).validate(config)
    # Loading fills in the defaults; the result fits as well but for added entries, and a wrong key does not.
    full = load_configuration(config, ROOT)
    for mark, ending in (("replicate_of", replicates.ENDING), ("round_of", rounds.ENDING)):
        full = replicates.without_made(full, mark, ending)
    jsonschema.Draft202012Validator(load_schema(ROOT)).validate(full)
    for table in ("corpora", "generations", "datasets", "models", "benchmarks"):
        wrong = read(path)
        if not wrong[table]:  # a recipe that only evaluates
            continue
        next(iter(wrong[table].values()))["no_such_key"] = 1
        with pytest.raises(ValueError, match="unknown key 'no_such_key'"):
            load_configuration(wrong, ROOT)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_commands_accept_the_settings(path: Path) -> None:
    """What the schema allows must be what the commands take: rules hand these settings over as JSON."""
    config = load_configuration(read(path), ROOT)
    assert load_engine_settings(json.dumps(config["engine"])).kind == config["engine"]["kind"]
    sandbox = load_settings(SandboxSettings, json.dumps(config["sandbox"]), "sandbox settings")
    assert sandbox.cpu_s == config["sandbox"]["cpu_s"]
    for name, model in trained(config).items():
        settings = load_settings(TrainSettings, json.dumps(model["train"]), name)
        assert settings.learning_rate == model["train"]["learning_rate"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_everything_is_used(path: Path) -> None:
    config = load_configuration(read(path), ROOT)
    generations = config["generations"].values()
    answered = {name: found for name, entry in config["generations"].items() if (found := benchmark_of(entry))}
    used = {
        "corpora": {entry["corpus"] for entry in generations if "corpus" in entry},
        "generations": {entry["generation"] for entry in config["datasets"].values()} | set(answered),
        "datasets": {model["dataset"] for model in trained(config).values()},
        "models": {name for cross in config["evaluate"] for name in cross["models"]}
        | {entry["generator"] for entry in generations},
        "benchmarks": {name for cross in config["evaluate"] for name in cross["benchmarks"]} | set(answered.values()),
    }
    for table, names in used.items():
        assert names == set(config[table]), table


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_prompt_files_have_enough_examples(path: Path) -> None:
    config = load_configuration(read(path), ROOT)
    for generation in config["generations"].values():
        prompts = load_prompts(ROOT / generation["prompts"])
        assert max(generation["shots"].values()) <= len(prompts.shots)
        if generation["method"] == "evol-instruct":
            assert generation["shots"]["instruction"] <= len(prompts.evolutions)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_control_differs_from_aligned_in_its_data_only(path: Path) -> None:
    config = load_configuration(read(path), ROOT)
    if "control" not in config["models"]:  # its experiments or rounds say what differs, or nothing is trained
        assert config["experiments"] or config["rounds"] or not trained(config)
        return
    aligned, control = config["models"]["aligned"], config["models"]["control"]
    assert {**aligned, "dataset": None} == {**control, "dataset": None}
    assert config["datasets"][control["dataset"]]["size"] == f"like:{aligned['dataset']}"
    assert config["datasets"][control["dataset"]]["select"] == "random"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_says_how_it_is_run_and_whether_it_has_been(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"--configfile recipes/{path.name}" in text
    assert "NOT been run by us" in text or "Run by us on 20" in text
    assert read(path)["run"] == path.stem
    assert all(len(line) <= 140 for line in text.splitlines())


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_settings_of_the_paper(name: str) -> None:
    config = loaded(name)
    generation = config["generations"]["self"]
    assert generation["prompts"] == "resources/prompts/python.yaml"
    assert generation["shots"] == {"concepts": 8, "instruction": 8, "response": 1, "tests": 4}
    assert generation["samples"] == {"concepts": 1, "instruction": 1, "response": 10}
    assert set(generation["max_tokens"].values()) == {1536}
    assert generation["temperature"] == 0.7
    assert generation["categories"] == {"function": 0.5, "class": 0.25, "program": 0.25}
    assert config["engine"]["kind"] == "vllm"
    train = config["models"]["aligned"]["train"]
    assert (train["optimizer"], train["learning_rate"], train["schedule"]) == ("adafactor", 1e-5, "linear")
    assert (train["warmup_ratio"], train["batch_size"], train["max_tokens"]) == (0.05, 64, 1280)
    assert (train["epochs"], train["dropout"], train["max_grad_norm"]) == (4, 0, -1)
    filters = [step["name"] for step in config["corpora"]["python"]["filters"]]
    assert filters[-2:] == ["benchmarks", "near_duplicates"]


def test_the_ablation_of_the_paper_is_in_the_config() -> None:
    """Table 9: the same responses, selected in four ways."""
    config = loaded("codeqwen1.5-7b")
    selections = {config["datasets"][model["dataset"]]["select"] for model in trained(config).values()}
    assert selections == {"passed", "failed", "random", "all"}
    settings = [model["train"] for model in trained(config).values()]
    assert all(train == settings[0] for train in settings)
