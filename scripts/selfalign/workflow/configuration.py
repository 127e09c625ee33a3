"""The config, checked against its closed schema: every error at once, each with its key and what is allowed."""

import copy
import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import jsonschema
import yaml

from selfalign.records.shards import benchmark_of
from selfalign.workflow import replicates, rounds
from selfalign.workflow.experiments import crosses_of_experiments, experiment_mistakes

SCHEMA = "rules/schemas/config.schema.yaml"
TAKES_INSTRUCTIONS = ("evol-instruct", "answers")  # methods that take the instructions of another generation
SHARED = ("corpus", "seeds", "shards", "samples.concepts", "samples.instruction")  # which then are the other's, too
SNIPPET_FILTERS = ("size", "bad_words", "licences", "benchmarks", "near_duplicates")  # which need no definition
LANGUAGE = re.compile(r"^language: *[\"']?(\w+)", re.MULTILINE)  # in a prompt file, which is read whole by what uses it
TABLES = ("corpora", "generations", "datasets", "models", "benchmarks")
SELECTED_BY = {  # setting of a dataset to those of generations.*.tests that have it measured, any of which is enough
    "min_agreement": ("independent", "cross_execute"),
    "consensus": ("independent", "cross_execute"),
    "min_mutation_score": ("mutants",),
    "min_coverage": ("coverage",),
}
ANSWERED = ("demo", "evalplus", "humaneval", "mbpp")  # kinds of benchmarks that a generation can answer
SOURCE_KEYS = {  # kind to the keys that it needs and those that it may have
    "python-packages": (("packages",), ()),
    "folder": (("path",), ("licence",)),
    "archives": (("paths",), ("licence",)),
    "shards": (("paths",), ("columns", "licence")),
    "hub": (("dataset", "revision"), ("data_dir", "data_files", "split", "columns", "licence")),
}


def _properties_with_defaults(validator, properties, instance, schema):
    """Validate properties after filling in defaults, and numbers that come as text.

    YAML reads 1e-5 as text, and Snakemake's --config gives every nested value as text.
    """
    if isinstance(instance, dict):
        for name, subschema in properties.items():
            if "default" in subschema:
                instance.setdefault(name, copy.deepcopy(subschema["default"]))
            number = {"number": float, "integer": int}.get(str(subschema.get("type")))
            if number and isinstance(instance.get(name), str):
                try:
                    instance[name] = number(instance[name])
                except ValueError:
                    continue  # stays text, so that the type check below reports it
    yield from jsonschema.Draft202012Validator.VALIDATORS["properties"](validator, properties, instance, schema)


_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"properties": _properties_with_defaults})


def load_schema(root: str | Path) -> dict:
    """Read the schema of the repository at root."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # every job of Snakemake reads the schema again
    return yaml.load(Path(root, SCHEMA).read_text(encoding="utf-8"), Loader=loader)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""


def _explain(error: jsonschema.ValidationError) -> Iterator[str]:
    path = ".".join(str(part) for part in error.absolute_path)
    at = f"{path}: " if path else ""
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"])
        for name in sorted(set(error.instance) - set(known)):
            yield f"{at}unknown key {name!r}; {_nearest(str(name), known)}Known keys: {', '.join(known)}"
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield f"{at}the key {name!r} is missing"
    elif error.validator == "type":
        wanted = error.validator_value
        wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
        yield f"{at}expected {wanted}, found {type(error.instance).__name__} {error.instance!r}"
    elif error.validator == "enum":
        known = [str(value) for value in error.validator_value]
        near = _nearest(str(error.instance), known)
        yield f"{at}{error.instance!r} is not allowed; {near}Allowed: {', '.join(known)}"
    elif error.validator == "anyOf":
        yield f"{at}{', and '.join(part.message for part in error.context)}"
    else:
        yield f"{at}{error.message}"


def selects_by(dataset: Mapping) -> list[str]:
    """Return the settings of a dataset that need the quality of its generation's tests to be measured."""
    return [key for key in SELECTED_BY if (value := dataset.get(key)) is not None and value is not False]


def _quality(config: dict) -> Iterator[str]:
    """Yield what is wrong about answering benchmarks, and datasets that select by what is not measured."""
    for name, generation in config["generations"].items():
        if benchmark_of(generation) and generation["method"] != "answers":
            yield f"generations.{name}.method: the tasks of a benchmark are answered as they are; set method: answers"
        if benchmark_of(config["generations"].get(generation["instructions"], {})):
            yield (
                f"generations.{name}.instructions: {generation['instructions']} answers the tasks of a benchmark, from "
                "which nothing else is made; name the benchmark itself to answer it with another model"
            )
        benchmark = config["benchmarks"].get(benchmark_of(generation))
        if benchmark and benchmark["kind"] not in ANSWERED:
            yield (
                f"generations.{name}.instructions: benchmark {benchmark_of(generation)} is of the kind "
                f"{benchmark['kind']}; a generation can answer those of the kinds {', '.join(ANSWERED)}"
            )
    for name, dataset in config["datasets"].items():
        source = config["generations"].get(dataset["generation"])
        if source is None:
            continue
        if benchmark_of(source):
            yield (
                f"datasets.{name}.generation: {dataset['generation']} answers the tasks of the benchmark "
                f"{benchmark_of(source)}, which no model may be trained on; name another generation"
            )
        for key in selects_by(dataset):
            if not any(source["tests"][needed] for needed in SELECTED_BY[key]):
                wanted = " or ".join(f"generations.{dataset['generation']}.tests.{one}" for one in SELECTED_BY[key])
                yield f"datasets.{name}.{key}: nothing of the kind is measured; set {wanted}"
        if dataset["pass_rate"] and dataset["pass_rate"][0] > dataset["pass_rate"][1]:
            yield f"datasets.{name}.pass_rate: the lowest share, {dataset['pass_rate'][0]}, is above the highest"


def _references(config: dict, root: Path) -> Iterator[str]:
    """Yield what the schema cannot see: names that lead nowhere, entries of mixed kind, files that are not there."""

    def known(table: str, name: str, at: str) -> Iterator[str]:
        if name not in config[table]:
            names = sorted(config[table])
            yield f"{at}: {table} has no entry {name!r}; {_nearest(name, names)}Entries: {', '.join(names) or 'none'}"

    def present(path: str, at: str) -> Iterator[str]:
        if not Path(path).exists() and not (root / path).exists():
            places = dict.fromkeys([str(Path.cwd()), str(root)])
            yield f"{at}: {path} does not exist; looked in {' and '.join(places)}"

    def of_one_language(generation: dict, at: str) -> Iterator[str]:
        prompts = generation["prompts"]
        path = Path(prompts) if Path(prompts).exists() else root / prompts
        corpus = config["corpora"].get(generation.get("corpus"))
        if corpus and path.is_file():
            stated = LANGUAGE.search(path.read_text(encoding="utf-8", errors="replace"))
            found, wanted = stated[1] if stated else "python", corpus["language"]
            if found != wanted:
                yield (
                    f"{at}.prompts: {prompts} is for {found}, and the corpus {generation['corpus']} is {wanted}; give "
                    f"it a prompt file whose language is {wanted}"
                )

    for name, corpus in config["corpora"].items():
        source = corpus["source"]
        needed, allowed = SOURCE_KEYS[source["kind"]]
        for key in needed:
            if key not in source:
                yield f"corpora.{name}.source: kind {source['kind']} needs the key {key!r}"
        for key in sorted(set(source) - {"kind", *needed, *allowed}):
            yield f"corpora.{name}.source.{key}: not used by kind {source['kind']}"
        if "path" in source:
            yield from present(source["path"], f"corpora.{name}.source.path")
        for number, item in enumerate(corpus["filters"]):
            if corpus["unit"] == "snippets" and item["name"] not in SNIPPET_FILTERS:
                allowed = ", ".join(SNIPPET_FILTERS)
                yield f"corpora.{name}.filters.{number}: {item['name']} is for functions; snippets can have {allowed}"
            if item["name"] == "docstring_judge":
                at = f"corpora.{name}.filters.{number}"
                if "model" in item:
                    yield from known("models", item["model"], f"{at}.model")
                else:
                    yield f"{at}: the key 'model' is missing"
                yield from present(item["prompts"], f"{at}.prompts") if "prompts" in item else ()
    for name, generation in config["generations"].items():
        if benchmark := benchmark_of(generation):
            yield from known("benchmarks", benchmark, f"generations.{name}.instructions")
        elif "corpus" in generation:
            yield from known("corpora", generation["corpus"], f"generations.{name}.corpus")
        yield from known("models", generation["generator"], f"generations.{name}.generator")
        yield from present(generation["prompts"], f"generations.{name}.prompts")
        yield from of_one_language(generation, f"generations.{name}")
        if not any(generation["categories"].values()):
            yield f"generations.{name}.categories: every weight is 0"
        other, method = generation["instructions"], generation["method"]
        if (other is not None) != (method in TAKES_INSTRUCTIONS):
            takes = " and ".join(TAKES_INSTRUCTIONS)
            yield f"generations.{name}: 'instructions' belongs to the methods {takes}; the method here is {method}"
        elif other is not None and not benchmark_of(generation):
            yield from known("generations", other, f"generations.{name}.instructions")
    for name, dataset in config["datasets"].items():
        yield from known("generations", dataset["generation"], f"datasets.{name}.generation")
        if isinstance(dataset["size"], str):
            other = dataset["size"].removeprefix("like:")
            yield from known("datasets", other, f"datasets.{name}.size")
    for name, model in config["models"].items():
        at = f"models.{name}"
        if ("pretrained" in model) == ("base" in model):
            yield f"{at}: needs either 'pretrained' (a given model) or 'base' and 'dataset' (a trained one)"
        elif "pretrained" in model:
            for key in sorted({"dataset", "train", "seed"} & set(model)):
                yield f"{at}.{key}: a pretrained model is not trained here; give it 'base' and 'dataset' instead"
            if "engine" in model:
                schema = load_schema(root)["properties"]["engine"]
                for error in _Validator(schema).iter_errors(config["engine"] | model["engine"]):
                    yield from (f"{at}.engine.{line}" for line in _explain(error))
            path = model["pretrained"]
            if path.startswith((".", "/", "resources/")) or path.count("/") > 1:  # a hub id is NAME or OWNER/NAME
                yield from present(path, f"{at}.pretrained")
        else:
            if "engine" in model:
                yield f"{at}.engine: belongs to given models; a trained one runs on the run's engine"
            yield from known("models", model["base"], f"{at}.base")
            if "dataset" in model:
                yield from known("datasets", model["dataset"], f"{at}.dataset")
            else:
                yield f"{at}: the key 'dataset' is missing"
    for name, benchmark in config["benchmarks"].items():
        yield from present(benchmark["path"], f"benchmarks.{name}.path") if benchmark["path"] else ()
        if (benchmark["prompt"] == "few-shot") != (benchmark["prompts"] is not None):
            yield f"benchmarks.{name}: 'prompts' belongs to 'prompt: few-shot', and that needs it"
        elif benchmark["prompts"] is not None:
            yield from present(benchmark["prompts"], f"benchmarks.{name}.prompts")
    for number, cross in enumerate(config["evaluate"]):
        for model in cross["models"]:
            yield from known("models", model, f"evaluate.{number}.models")
        for benchmark in cross["benchmarks"]:
            yield from known("benchmarks", benchmark, f"evaluate.{number}.benchmarks")
    further = rounds.first_models(config)
    yield from experiment_mistakes(config, lambda table, name, at: () if name in further else known(table, name, at))
    yield from rounds.round_mistakes(config, known)
    yield from replicates.clashes(config)


def _cycles(config: dict) -> Iterator[str]:
    """Yield each artifact that would be made from itself."""

    def sources(node: tuple[str, str]) -> list[tuple[str, str]]:
        table, name = node
        entry = config[table][name]
        if table == "corpora":
            return [("models", item["model"]) for item in entry["filters"] if "model" in item]
        if table == "generations":
            if benchmark_of(entry):
                return [("models", entry["generator"])]
            other = [("generations", entry["instructions"])] if entry["instructions"] else []
            return [("corpora", entry["corpus"]), ("models", entry["generator"]), *other]
        if table == "datasets":
            like = [("datasets", entry["size"].removeprefix("like:"))] if isinstance(entry["size"], str) else []
            return [("generations", entry["generation"]), *like]
        return [("models", entry["base"]), ("datasets", entry["dataset"])] if "base" in entry else []

    done: set[tuple[str, str]] = set()

    def visit(node: tuple[str, str], way: tuple[tuple[str, str], ...]) -> Iterator[str]:
        if node in way:
            loop = [*way[way.index(node) :], node]
            yield "an artifact is made from itself: " + " <- ".join(".".join(part) for part in loop)
        elif node not in done:
            for source in sources(node):
                yield from visit(source, (*way, node))
            done.add(node)

    for table in ("generations", "datasets", "models"):
        for name in config[table]:
            yield from visit((table, name), ())


def _plain(value: object) -> object:
    """Return a value of YAML with its dates as texts, as JSON needs them: 2023-09-01 is a date without quotes."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def _share_settings(config: dict) -> Iterator[str]:
    """Fill in what a generation shares with the one that its instructions are of; yield what contradicts that."""
    generations = config.get("generations")
    if not isinstance(generations, dict) or not all(isinstance(entry, dict) for entry in generations.values()):
        return

    def value(entry: dict, key: str) -> object:
        table, _, part = key.rpartition(".")
        inner = entry.get(table, {}) if table else entry
        return inner.get(part) if isinstance(inner, dict) else None

    def visit(name: str, way: tuple[str, ...]) -> Iterator[str]:
        entry = generations[name]
        other = entry.get("instructions")
        if other not in generations or other in way:
            return  # which is refused elsewhere
        yield from visit(other, (*way, other))
        for key in SHARED:
            theirs, own = value(generations[other], key), value(entry, key)
            if theirs is None and own is None:
                continue
            if own is not None and own != theirs:
                yield f"generations.{name}.{key}: is {own!r}, but {other}, whose instructions these are, has {theirs!r}"
            else:
                table, _, part = key.rpartition(".")
                (entry.setdefault(table, {}) if table else entry)[part] = theirs

    found = [line for name in generations for line in visit(name, (name,))]
    yield from dict.fromkeys(found)


def load_configuration(config: dict, root: str | Path) -> dict:
    """Return the config with all defaults filled in, and with what `rounds` and `replicates` add.

    A config that has it already, the `run_config.yaml` of a run, gives the same again.

    Args:
        config: The config as read from YAML and the command line.
        root: The repository, which holds the schema; paths in the config may be relative to it.

    Raises:
        ValueError: the config is wrong; lists every error with the path of its key.
    """
    root = Path(root)
    config = replicates.without_made(_plain(copy.deepcopy(config)), "replicate_of", replicates.ENDING)
    config = replicates.without_made(config, "round_of", rounds.ENDING)
    for model in config.get("models", {}).values() if isinstance(config.get("models"), dict) else ():
        if isinstance(model, dict) and "base" in model:
            model.setdefault("train", {})
    refused = list(_share_settings(config))
    errors = sorted(_Validator(load_schema(root)).iter_errors(config), key=lambda error: str(error.absolute_path))
    lines = [line for error in errors for line in _explain(error)]
    lines = lines + refused or [*_references(config, root), *_quality(config)] or list(_cycles(config))
    if lines:
        raise ValueError("the config is wrong:\n" + "\n".join(f"  {line}" for line in lines))
    config["evaluate"] += crosses_of_experiments(config)
    return replicates.expand_replicates(rounds.expand_rounds(config))


def scores_to_make(config: dict) -> list[tuple[str, str]]:
    """Return every (model, benchmark) of the config's evaluate list once, in its order."""
    crosses = (
        (model, name) for cross in config["evaluate"] for model in cross["models"] for name in cross["benchmarks"]
    )
    return list(dict.fromkeys(crosses))
