"""The tables of docs/reruns.md, and a change for every setting of the config that they name."""

import copy
import re
from collections.abc import Iterator

import yaml
from conftest import ROOT
from workflow_plans import Job, Plan

from selfalign.workflow.configuration import load_schema

DOCUMENT = ROOT / "docs/reruns.md"
CONFIG = ROOT / "tests/configs/reruns.yaml"
NAMED = {"corpora": "corpus", "generations": "generation", "datasets": "dataset", "models": "model"}
NAMED |= {"benchmarks": "benchmark"}  # table to the wildcard that its entries' names are
ENTRIES = {"corpora": "packages", "generations": "self", "datasets": "verified", "models": "aligned"}
ENTRIES |= {"benchmarks": "demo", "experiments": "filter", "rounds": "again"}  # those that are changed
SCHEMA = load_schema(ROOT)
BASE = yaml.safe_load(CONFIG.read_text())


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading of the document."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def first_column(heading: str) -> dict[str, str]:
    """Return a table's second column by each name that the first one quotes."""
    named = [(name, row[1]) for row in table(heading) for name in quoted(row[0])]
    assert len(named) == len(dict(named)), "named twice"
    return dict(named)


def keys(schema: dict, path: str = "") -> Iterator[tuple[str, dict]]:
    """Yield every key without keys of its own, `*` for a name that a config chooses."""
    if "$ref" in schema and schema["$ref"] != "#/$defs/table":
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if path == "corpora.*.filters":
        options = SCHEMA["$defs"]["filter"]["properties"]
        for name in options["name"]["enum"]:
            yield f"{path}.{name}", {}
        for option, subschema in options.items():
            for name in re.findall(r"(?:^|\. )(\w+): ", subschema["description"]):
                yield f"{path}.{name}.{option}", subschema
    elif "properties" in schema:
        for name, subschema in schema["properties"].items():
            yield from keys(subschema, f"{path}.{name}".removeprefix("."))
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from keys(schema["additionalProperties"], f"{path}.*")
    elif schema.get("items", {}).get("properties"):
        for name, subschema in schema["items"]["properties"].items():
            yield f"{path}.*.{name}", subschema
    else:
        yield path, schema


KEYS = dict(keys(SCHEMA))

# What is changed, where the general rule below gives nothing that this config can have
VALUES = {
    "run": "other",
    "corpora.*.source.kind": ("corpora.folder.source", {"kind": "python-packages", "packages": ["networkx"]}),
    "corpora.*.source.packages": ["datasketch"],
    "corpora.*.source.path": ("corpora.folder.source.path", "more-code"),
    "corpora.*.source.paths": ("corpora.archives.source.paths", ["code.zip", "more-code.zip"]),
    "corpora.*.source.dataset": ("corpora.hub.source.dataset", "owner/other"),
    "corpora.*.source.revision": ("corpora.hub.source.revision", "v2"),
    "corpora.*.source.data_dir": ("corpora.hub.source.data_dir", "data"),
    "corpora.*.source.data_files": ("corpora.hub.source.data_files", ["*.parquet"]),
    "corpora.*.source.split": ("corpora.hub.source.split", "train"),
    "corpora.*.unit": ("corpora.shards.unit", "snippets"),
    "corpora.*.source.licence": ("corpora.folder.source.licence", "Zlib"),
    "corpora.*.language": ("corpora.archives.language", "javascript"),
    "corpora.*.filters.bad_words.words": ["todo"],
    "corpora.*.filters.sandbox_imports.modules": ["socket"],
    "corpora.*.filters.licences.allowed": ["MIT"],
    "corpora.*.filters.type_check.checkers": ["ty"],
    "corpora.*.filters.docstring_judge.model": "given",
    "corpora.*.filters.docstring_judge.prompts": "other.yaml",
    "generations.*.corpus": "folder",
    "generations.*.generator": "given",
    "generations.*.prompts": "other.yaml",
    "generations.*.method": ("generations.from-seeds.method", "oss-instruct"),
    "generations.*.instructions": ("generations.evolved.instructions", "again"),
    "generations.*.adaptive.samples": [3],
    "datasets.*.generation": ("datasets.random.generation", "again"),
    "datasets.*.size": 5,
    "datasets.*.pass_rate": [0.1, 0.9],
    "datasets.*.near_duplicate_fields": ["response"],
    "models.*.pretrained": ("models.base.pretrained", "other-checkpoint"),
    "models.*.engine": ("models.scored.engine", {"dtype": "bfloat16"}),
    "models.*.base": "control",
    "models.*.dataset": ("models.control.dataset", "again"),
    "models.*.train.system_prompt": "Answer.",
    "models.*.train.max_grad_norm": 1.0,
    "benchmarks.*.kind": "mbpp",
    "benchmarks.*.path": "other.jsonl",
    "benchmarks.*.options": {"part": "other"},
    "benchmarks.*.sandbox": {"cpu_s": 9},
    "benchmarks.*.environment": "ds1000",
    "benchmarks.*.prompt": ("benchmarks.chat.prompt", "completion"),
    "benchmarks.*.prompts": "other.yaml",
    "benchmarks.*.system_prompt": "Answer.",
    "benchmarks.*.stop": ["\n\n"],
    "evaluate.*.models": ("evaluate", [*BASE["evaluate"], {"models": ["preferred"], "benchmarks": ["demo"]}]),
    "evaluate.*.benchmarks": ("evaluate", [*BASE["evaluate"], {"models": ["aligned"], "benchmarks": ["measured"]}]),
    "experiments.*.question": "Why?",
    "experiments.*.models": ["aligned", "control", "preferred"],
    "experiments.*.reference": "aligned",
    "experiments.*.benchmarks": ["demo", "measured"],
    "experiments.*.published": {"aligned": 65.2},
    "experiments.*.source": "elsewhere",
    **dict.fromkeys(  # all three, as they belong together
        ("rounds.*.generation", "rounds.*.dataset", "rounds.*.model"),
        ("rounds.again", {"generation": "self", "dataset": "random", "model": "control", "rounds": 2}),
    ),
    "rounds.*.stop.length": [0.1, 9],
    "engine.url": "http://localhost:8000/v1",
    "engine.model": "other",
    "engine.api_key_env": "KEY",
    "engine.vllm": {"enforce_eager": True},
    "sandbox.packages": ["numpy"],
    "pilot.tags": ["xml"],
}
VALUES |= {
    f"corpora.*.source.columns.{name}": ("corpora.shards.source.columns", {name: "other"})
    for name in ("content", "repository", "version", "path", "licence")
}


def other(schema: dict, now: object) -> object:
    """Return another value than the one there is now, by the schema."""
    if "enum" in schema:
        return next(value for value in schema["enum"] if value not in (now, None))
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "boolean" in kinds:
        return not now
    if "integer" in kinds:
        return (now or schema["minimum"]) + 1
    assert "number" in kinds, f"VALUES does not say what to change here: {schema}"
    return now / 2 if now else 0.5


def put(config: dict, path: str, value: object) -> None:
    *way, last = path.split(".")
    for part in way:
        config = config.setdefault(part, {})
    config[last] = value


def get(config: dict, path: str) -> object:
    for part in path.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def change(config: dict, key: str) -> tuple[str, dict]:
    """Return the path of a changed setting and the config with the change."""
    config = copy.deepcopy(config)
    head, *rest = key.split(".")
    if key.startswith("corpora.*.filters."):
        name, *option = rest[2:]
        filters = config["corpora"]["packages"]["filters"]
        entry = next(item for item in filters if item["name"] == name)
        if option:
            entry[option[0]] = VALUES[key] if key in VALUES else other(KEYS[key], KEYS[key].get("default"))
        else:
            filters.remove(entry)
        return "corpora.packages", config
    path = ".".join([head, *(ENTRIES[head] if part == "*" and head in ENTRIES else part for part in rest)])
    if isinstance(VALUES.get(key), tuple):
        path, value = VALUES[key]
    else:
        now = get(config, path)
        value = VALUES[key] if key in VALUES else other(KEYS[key], KEYS[key].get("default") if now is None else now)
    put(config, path, value)
    return path, config


def of_entry(job: Job, path: str) -> bool:
    """Return whether a job belongs to the entry of the config that a path leads into."""
    head, *rest = path.split(".")
    return head not in NAMED or dict(job[1]).get(NAMED[head]) == rest[0]


def expected(cell: str, path: str, now: Plan, before: Plan) -> set[Job]:
    """Return the jobs that the document says run: those of the rules it names, and what is made from their files."""
    first = {("record_run", ())}
    for rule, of in re.findall(r"`(\w+)`(?: \(([^)]*)\))?", cell):
        jobs = {job for job in now.jobs if job[0] == rule and of_entry(job, path)}
        if of == "further rounds":
            jobs = {job for job in jobs if "." in dict(job[1])["shard"]}
        elif of == "of further rounds":
            jobs = {job for job in jobs if "-round" in dict(job[1])["model"]}
        elif of == "new ones":
            jobs -= before.jobs
        else:
            assert of in ("", "where tests are measured"), f"the test does not know what {of!r} is"
        assert jobs or of == "where tests are measured", f"{rule} has no job to rerun"
        first |= jobs
    return now.following(first)


SETTINGS = first_column("Settings")
ENGINE = {row[0].strip("`"): row[1:] for row in table("The engine")}
# The rules that the document names before its table
ASK = "`judge_seeds`, `complete_benchmark`, `generate_concepts`, `generate_instructions`, `generate_responses`, "
ASK += "`generate_tests`"
ONE_VALUE = [key for key, schema in KEYS.items() if len(schema.get("enum", ())) == 1]


def all_modules() -> list[str]:
    folder = ROOT / "scripts/selfalign"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".py", ".c", ".js"))


def rules_of(module: str) -> str:
    """Return what the document says of a module: by its name, else by its room."""
    named = first_column("Modules")
    return named[module] if module in named else named[f"{module.split('/')[0]}/*"]


def expected_of_setting(key: str, path: str, now: Plan, before: Plan) -> set[Job]:
    """Return the jobs that the document says run when a setting has changed, with the engine transformers."""
    cell = SETTINGS[key] if key in SETTINGS else {"reruns": ASK, "": ""}[ENGINE[key][0]]
    return expected(cell, path, now, before)
