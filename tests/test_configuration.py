"""The config: every default documented, every mistake one clear line."""

import copy
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from selfalign.benchmarks.asking import AskSettings
from selfalign.engines.port import EngineSettings
from selfalign.records.rounds import round_entries
from selfalign.sandbox.settings import SandboxSettings
from selfalign.training.settings import TrainSettings
from selfalign.workflow.configuration import load_configuration, load_schema, scores_to_make

ROOT = Path(__file__).parent.parent


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((ROOT / "tests/configs/small.yaml").read_text())


def test_defaults_are_filled_in(config):
    loaded = load_configuration(config, ROOT)
    assert loaded["generations"]["self"]["temperature"] == 0.7
    assert loaded["models"]["aligned"]["train"]["optimizer"] == "adafactor"
    assert loaded["sandbox"]["cpu_s"] == 4
    assert "train" not in loaded["models"]["base"]
    assert load_configuration(loaded, ROOT) == loaded


def test_paper_settings_are_the_defaults(config):
    del config["generations"]["self"]["shots"], config["models"]["aligned"]["train"]
    loaded = load_configuration(config, ROOT)
    assert loaded["generations"]["self"]["shots"] == {"concepts": 8, "instruction": 8, "response": 1, "tests": 4}
    train = loaded["models"]["aligned"]["train"]
    assert (train["learning_rate"], train["batch_size"], train["max_tokens"]) == (1e-5, 64, 1280)
    assert (train["schedule"], train["warmup_ratio"], train["dropout"]) == ("linear", 0.05, 0)


EXPERIMENT = {
    "question": "Does it help?",
    "models": ["base", "aligned"],
    "reference": "base",
    "benchmarks": ["demo"],
    "published": {"aligned": 67.1, "base": {"demo": 45}},
    "source": "a paper",
    "layout": {"rows": "base", "columns": "generator"},
}
ANSWERS = {
    "method": "answers",
    "instructions": "benchmark:demo",
    "generator": "base",
    "prompts": "resources/prompts/demo.yaml",
}
ROUNDS = {"generation": "self", "dataset": "verified", "model": "aligned", "rounds": 3}
ANSWERED = {"method": "answers", "instructions": "self", "generator": "base"}
MISTAKES = [
    # path of the key, wrong value (or "delete"), what the message must say
    ("generations.self.temperatur", 0.5, "generations.self: unknown key 'temperatur'; did you mean 'temperature'?"),
    ("corpus", {}, "unknown key 'corpus'; did you mean 'corpora'?"),
    ("seed", "x", "seed: expected integer, found str 'x'"),
    ("generations.self.temperature", "hot", "generations.self.temperature: expected number, found str 'hot'"),
    ("generations.self.temperature", -1, "generations.self.temperature: -1 is less than the minimum of 0"),
    ("generations.self.tags", "html", "'html' is not allowed; did you mean 'xml'? Allowed: xml, headings"),
    ("generations.self.seeds", 0, "generations.self.seeds: 0 is less than the minimum of 1"),
    ("generations.self.adaptive", {"samples": [0]}, "generations.self.adaptive.samples.0: 0 is less than the minimum"),
    ("generations.self.adaptive", {"rounds": 2}, "unknown key 'rounds'; Known keys: samples, until_passed"),
    ("pilot", {"tags": []}, "pilot.tags: [] should be non-empty"),
    ("generations._pilot-self-xml", {}, "does not match '^[A-Za-z0-9]"),
    ("generations.self.corpus", "stdlip", "generations.self.corpus: corpora has no entry 'stdlip'"),
    ("generations.self.corpus", "delete", "generations.self: the key 'corpus' is missing"),
    ("generations.self.prompts", "no/such.yaml", "generations.self.prompts: no/such.yaml does not exist"),
    (
        "generations.self.prompts",
        "resources/prompts/demo-javascript.yaml",
        "generations.self.prompts: resources/prompts/demo-javascript.yaml is for javascript, and the corpus",
    ),
    ("datasets.verified.select", "pased", "'pased' is not allowed; did you mean 'passed'?"),
    ("datasets.random.size", "like:verifed", "datasets has no entry 'verifed'; did you mean 'verified'?"),
    ("datasets.verified.size", "like:random", "an artifact is made from itself"),
    ("generations.self.generator", "aligned", "an artifact is made from itself"),
    ("models.base.pretrained", "./nowhere", "models.base.pretrained: ./nowhere does not exist"),
    ("models.base.train", {}, "models.base.train: a pretrained model is not trained here"),
    ("models.aligned.train", {"objective": "dpo", "sharding": "full"}, "train.sharding: 'full' is not allowed"),
    ("models.aligned.train", {"objective": "dpo", "dtype": "bfloat16"}, "train.dtype: 'bfloat16' is not allowed"),
    ("models.aligned.train", {"max_grad_norm": 0}, "train.max_grad_norm: -1 was expected, and 0 is less than or"),
    ("models.aligned.train", {"max_grad_norm": -2}, "train.max_grad_norm: -1 was expected, and -2 is less than"),
    ("models.aligned.train", {"micro_batch_tokens": 0}, "0 is less than the minimum of 1"),
    ("models.aligned.dataset", "delete", "models.aligned: the key 'dataset' is missing"),
    ("corpora.packages.source", {"kind": "folder", "path": "no/corpus"}, "source.path: no/corpus does not exist"),
    ("corpora.packages.source", {"kind": "folder"}, "kind folder needs the key 'path'"),
    ("corpora.packages.filters.0.name", "return_value", "did you mean 'returns_value'?"),
    ("evaluate.0.models", ["bas"], "evaluate.0.models: models has no entry 'bas'; did you mean 'base'?"),
    ("benchmarks.demo.prompt", "few-shot", "benchmarks.demo: 'prompts' belongs to 'prompt: few-shot'"),
    ("models", [1], "models: expected object, found list [1]"),
    ("models.base.seed", 1, "models.base.seed: a pretrained model is not trained here"),
    ("replicates", 0, "replicates: 0 is less than the minimum of 1"),
    ("models.aligned.replicate_of", "x", "models.aligned: unknown key 'replicate_of'"),
    ("experiments.e.model", ["base"], "experiments.e: unknown key 'model'; did you mean 'models'?"),
    ("experiments.e.models", ["base", "alined"], "experiments.e.models: models has no entry 'alined'; did you mean"),
    ("experiments.e.models", ["base", "aligned.2"], "experiments.e.models: models has no entry 'aligned.2'; did you"),
    ("experiments.e.benchmarks", ["dmo"], "experiments.e.benchmarks: benchmarks has no entry 'dmo'; did you mean"),
    ("experiments.e.reference", "control", "experiments.e.reference: 'control' is none of the experiment's models"),
    ("experiments.e.source", "delete", "experiments.e.published: needs the key 'source' beside it"),
    ("experiments.e.published", {"control": 1}, "experiments.e.published: 'control' is none of the experiment's"),
    ("experiments.e.published", {"base": 101}, "experiments.e.published.base: expected a number in percent"),
    ("experiments.e.published", {"base": {"x": 1}}, "experiments.e.published.base: 'x' is none of the experiment's"),
    ("rounds.r.rounds", 1, "rounds.r.rounds: 1 is less than the minimum of 2"),
    ("rounds.r.base", "last", "rounds.r.base: 'last' is not allowed; Allowed: first, previous"),
    ("rounds.r.stop", {"min_pass_rat": 1}, "rounds.r.stop: unknown key 'min_pass_rat'; did you mean 'min_pass_rate'?"),
    ("rounds.r.stop", {"length": [1.5, 2]}, "rounds.r.stop.length: [1.5, 2] leaves out 1, the length of round 1"),
    ("rounds.r.model", "alined", "rounds.r.model: models has no entry 'alined'; did you mean 'aligned'?"),
    ("rounds.r.model", "control", "rounds.r.model: control is trained on random; name the model that is trained on"),
    ("rounds.r.model", "base", "rounds.r.model: base is a given model; name the model that is trained on verified"),
    ("rounds.r.dataset", "random", "rounds.r.model: aligned is trained on verified; name the model that is trained"),
    ("rounds.r.generation", "answered", "rounds.r.dataset: verified is selected from self; name a dataset of answered"),
    ("rounds.r.generation", "answered", "rounds.r.generation: answered has the instructions of self, so no further"),
    ("rounds.s", ROUNDS, "rounds.s.model: aligned has the rounds r already; give each rounds entry its own models"),
    ("models.aligned-round3", {"pretrained": "resources/demo-base"}, "models.aligned-round3: rounds.r makes round 3"),
    ("models.aligned.round_of", "x", "models.aligned: unknown key 'round_of'"),
    ("evaluate.0.models", ["aligned-round2"], "evaluate.0.models: models has no entry 'aligned-round2'; did you"),
    ("generations.self.generator", "aligned-round2", "models has no entry 'aligned-round2'; did you"),
    ("experiments.e.layout.rows", "size", "experiments.e.layout.rows: 'size' is not allowed"),
    ("generations.self.corpus", "delete", "generations.self: the key 'corpus' is missing"),
    ("generations.self.instructions", "benchmark:demo", "generations.self: 'instructions' belongs to the methods"),
    (
        "generations.self",
        ANSWERS | {"instructions": "benchmark:dem"},
        "benchmarks has no entry 'dem'; did you mean 'demo'?",
    ),
    ("generations.self", ANSWERS | {"method": "evol-instruct"}, "set method: answers"),
    ("generations.self", ANSWERS, "datasets.verified.generation: self answers the tasks of"),
    (
        "datasets.verified.min_agreement",
        0.5,
        "datasets.verified.min_agreement: nothing of the kind is measured; set "
        "generations.self.tests.independent or generations.self.tests.cross_execute",
    ),
    ("datasets.verified.consensus", True, "datasets.verified.consensus: nothing of the kind is measured"),
    ("datasets.verified.min_mutation_score", 0.5, "set generations.self.tests.mutants"),
    ("datasets.verified.min_coverage", 0.0, "set generations.self.tests.coverage"),
    ("datasets.verified.pass_rate", [0.5, 0.1], "datasets.verified.pass_rate: the lowest share, 0.5, is above"),
    ("datasets.verified.pass_rate", [0.5], "datasets.verified.pass_rate: [0.5] is too short"),
]


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES, ids=[f"{key}={value}" for key, value, _ in MISTAKES])
def test_a_mistake_is_named(config, key, value, message):
    *way, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    config["experiments"] = {"e": copy.deepcopy(EXPERIMENT)}
    config["rounds"] = {"r": dict(ROUNDS)}
    config["generations"]["answered"] = ANSWERED | {"prompts": config["generations"]["self"]["prompts"]}
    entry = config
    for part in way:
        entry = entry[part]
    if value == "delete":
        del entry[last]
    else:
        entry[last] = value
    before = copy.deepcopy(config)
    with pytest.raises(ValueError, match="the config is wrong") as caught:
        load_configuration(config, ROOT)
    assert message in str(caught.value)
    assert config == before


def test_a_benchmark_that_no_generation_can_answer(config):
    config["benchmarks"]["classes"] = {"kind": "classeval"}
    config["generations"]["judged"] = ANSWERS | {"instructions": "benchmark:classes"}
    config["generations"]["again"] = ANSWERS | {"instructions": "judged", "method": "evol-instruct"}
    with pytest.raises(
        ValueError, match=r"judged.instructions: benchmark classes is of the kind classeval; a gen"
    ) as caught:
        load_configuration(config, ROOT)
    assert "generations.again.instructions: judged answers the tasks of a benchmark, from which" in str(caught.value)


def test_numbers_that_come_as_text(config):
    config["models"]["aligned"]["train"] = {"learning_rate": "1e-4", "epochs": "2"}
    train = load_configuration(config, ROOT)["models"]["aligned"]["train"]
    assert (train["learning_rate"], train["epochs"]) == (1e-4, 2)


def test_dates_without_quotes_are_texts(config):
    config["benchmarks"]["contests"] = yaml.safe_load("{kind: livecodebench, options: {start_date: 2023-09-01}}")
    options = load_configuration(config, ROOT)["benchmarks"]["contests"]["options"]
    assert json.dumps(options) == '{"start_date": "2023-09-01"}'


def test_scores_are_made_once():
    crosses = [{"models": ["a", "b"], "benchmarks": ["x"]}, {"models": ["b"], "benchmarks": ["x", "y"]}]
    assert scores_to_make({"evaluate": crosses}) == [("a", "x"), ("b", "x"), ("b", "y")]


def test_replicates(config):
    """Copies lead to copies of their number, and what is given is there once; a merged config gives the same again."""
    config["generations"]["second"] = config["generations"]["self"] | {"generator": "aligned"}
    config["generations"]["answered"] = ANSWERED | {"prompts": config["generations"]["self"]["prompts"]}
    config["datasets"]["second"] = {"generation": "second", "seed": 5}
    config["experiments"] = {"e": EXPERIMENT | {"models": ["base", "aligned", "control"]}}
    config["evaluate"] = []
    single = load_configuration(config, ROOT)
    assert single["evaluate"] == [{"models": ["base", "aligned", "control"], "benchmarks": ["demo"]}]
    loaded = load_configuration(config | {"replicates": 3}, ROOT)
    assert load_configuration(loaded, ROOT) == loaded
    assert load_configuration(loaded | {"replicates": 1}, ROOT) == single
    for table in ("generations", "datasets", "models"):
        originals = dict(single[table])
        assert {name: loaded[table][name] for name in originals} == originals
        given = {"base"} if table == "models" else set()
        assert set(loaded[table]) - set(originals) == {f"{name}.{n}" for name in set(originals) - given for n in (2, 3)}
    assert loaded["generations"]["self.2"]["generator"] == "base"
    assert loaded["generations"]["second.2"]["generator"] == "aligned.2"
    assert loaded["generations"]["answered.2"]["instructions"] == "self.2"
    assert loaded["datasets"]["random.3"]["size"] == "like:verified.3"
    assert loaded["datasets"]["random.3"]["generation"] == "self.3"
    assert (loaded["models"]["aligned.3"]["base"], loaded["models"]["aligned.3"]["dataset"]) == ("base", "verified.3")
    assert loaded["models"]["aligned.3"]["replicate_of"] == "aligned"
    seeds = [loaded["generations"][name]["seed"] for name in ("self.2", "self.3")]
    assert [loaded["models"][name]["seed"] for name in ("aligned.2", "aligned.3")] == seeds
    assert len({single["seed"], *seeds, *(loaded["datasets"][f"second{n}"]["seed"] for n in ("", ".2", ".3"))}) == 6
    assert [name for _, name in scores_to_make(loaded)] == ["demo"] * 7


@pytest.mark.parametrize("base", ["first", "previous"])
def test_rounds(config, base):
    """Further rounds lead to the round before, copies to copies; a merged config gives the same again."""
    config["experiments"] = {"e": EXPERIMENT | {"models": ["base", "aligned-round2"], "published": {}}}
    config["evaluate"] = []
    plain = load_configuration(config | {"experiments": {}}, ROOT)
    config["rounds"] = {"r": ROUNDS | {"base": base}}
    single = load_configuration(config, ROOT)
    assert single["evaluate"] == [
        {"models": ["base", "aligned", "aligned-round2", "aligned-round3"], "benchmarks": ["demo"]}
    ]
    loaded = load_configuration(config | {"replicates": 2}, ROOT)
    assert load_configuration(loaded, ROOT) == loaded
    assert load_configuration(loaded | {"replicates": 1}, ROOT) == single
    fewer = load_configuration(loaded | {"replicates": 1, "rounds": {}, "experiments": {}}, ROOT)
    assert fewer == plain | {"evaluate": [{"models": ["base", "aligned"], "benchmarks": ["demo"]}]}
    generations, datasets, models = (loaded[table] for table in ("generations", "datasets", "models"))
    assert [generations[f"self{name}"]["generator"] for name in ("", "-round2", "-round3", "-round3.2")] == [
        *("base", "aligned", "aligned-round2", "aligned-round2.2")
    ]
    assert datasets["verified-round3.2"]["generation"] == "self-round3.2"
    assert models["aligned-round3.2"]["dataset"] == "verified-round3.2"
    assert models["aligned-round3.2"]["base"] == ("base" if base == "first" else "aligned-round2.2")
    entries = {name: round_entries(loaded, name, 3) for name in ("r", "r.2")}
    assert entries["r"] == {"generation": "self-round3", "dataset": "verified-round3", "model": "aligned-round3"}
    assert entries["r.2"] == {key: f"{name}.2" for key, name in entries["r"].items()}
    same = ("seed", "generator", "round_of", "replicate_of")
    for name in ("self", "self-round2", "self.2", "self-round2.2"):
        others = {key: value for key, value in generations[name].items() if key not in same}
        assert others == {key: value for key, value in generations["self"].items() if key not in same}
    seeds = [models[name].get("seed", 7) for name in models if name.startswith("aligned")]
    assert len(set(seeds)) == 6


def test_a_name_that_replicates_need(config):
    config |= {"replicates": 2}
    config["models"]["aligned.2"] = config["models"]["base"]
    with pytest.raises(ValueError, match=r"models.aligned.2: replicates: 2 makes a copy of models.aligned with this"):
        load_configuration(config, ROOT)


def _keys(schema: dict, path: str = ""):
    for name, subschema in schema.get("properties", {}).items():
        yield f"{path}.{name}", subschema
        yield from _keys(subschema, f"{path}.{name}")
    for name, subschema in schema.get("$defs", {}).items():
        yield from _keys(subschema, f"{path}.{name}")
    if "items" in schema:
        yield from _keys(schema["items"], f"{path}.items")


def test_every_key_is_described_and_every_object_closed():
    schema = load_schema(ROOT)
    keys = dict(_keys(schema))
    assert len(keys) > 60
    assert [key for key, subschema in keys.items() if "description" not in subschema] == []
    objects = [key for key, subschema in keys.items() if "properties" in subschema and "$ref" not in subschema]
    assert [key for key in objects if keys[key].get("additionalProperties") is not False] == []


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        (EngineSettings, ("properties", "engine")),
        (SandboxSettings, ("properties", "sandbox")),
        (TrainSettings, ("$defs", "train")),
        (AskSettings, ("$defs", "benchmark")),
    ],
)
def test_schema_and_code_have_the_same_keys_and_defaults(settings, way):
    schema = load_schema(ROOT)
    for part in way:
        schema = schema[part]
    others = ("kind", "path", "options", "sandbox", "environment")  # what is no setting of these
    keys = {name: key.get("default") for name, key in schema["properties"].items() if name not in others}
    defaults = asdict(settings())
    assert keys == {name: value for name, value in defaults.items() if name != "kind"}
