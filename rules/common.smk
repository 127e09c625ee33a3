# What all rules share.
import json
import os
import platform
import re
import shlex
import sys
from glob import glob
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from selfalign.archiving.inputs import prompt_files
from selfalign.benchmarks.kinds import KINDS
from selfalign.engines.port import load_settings
from selfalign.generation.instructions import METHODS
from selfalign.languages import LANGUAGES
from selfalign.records.files import digest, file_digest
from selfalign.records.rounds import STOP, is_further, judgement_path, read_judgement, round_entries
from selfalign.records.shards import KINDS as ROWS
from selfalign.records.shards import benchmark_of, file_names, kinds_of, number_of_rounds, numbered, round_names
from selfalign.seeds.filters import CORPUS_FILTERS, JUDGE, ROW_FILTERS, DocstringJudge, parse_filters
from selfalign.seeds.sources import load_source
from selfalign.workflow.code_version import code_version
from selfalign.workflow.configuration import load_configuration, scores_to_make, selects_by
from selfalign.workflow.pilots import pilot_datasets, pilot_generations, pilot_name, pilot_targets
from selfalign.workflow.run_lock import require_writable

try:
    if workflow.is_main_process:
        require_writable()
    config = load_configuration(config, root=workflow.basedir)
    OWN_ENGINES = {
        name: config["engine"] | model["engine"] for name, model in config["models"].items() if "engine" in model
    }
    ENGINE = load_settings(json.dumps(config["engine"]))  # of all other models
    ENGINES = {name: load_settings(json.dumps(settings)) for name, settings in OWN_ENGINES.items()}
except ValueError as error:
    sys.exit(f"error: {error}")

for name, corpus in config["corpora"].items():
    try:
        # The whole list, of which each rule gets its own only
        parse_filters(json.dumps(corpus["filters"]), corpus["language"])
    except ValueError as error:
        sys.exit(f"error: corpora.{name}.{error}")

GENERATIONS = config["generations"] | pilot_generations(config)
OF_BENCHMARKS = {name: found for name, entry in GENERATIONS.items() if (found := benchmark_of(entry))}
DATASETS = config["datasets"] | pilot_datasets(config)

# Rules run `python` and `$SCRIPTS/{rule}.py`. Here, not in the rules, stands where both are, so that moving the
# repository reruns nothing. With --sdm conda the environment of the rule provides python. The engines' settings stand
# here, as rules have only those as params that completions depend on: the rest may change at any time.
if any(method.name == "CONDA" for method in workflow.deployment_settings.deployment_method):
    PATHS = {"core": "", "vllm": "", "ds1000": ""}
else:
    PATHS = {
        "core": f"{Path(sys.executable).parent}:",
        "vllm": f"{os.environ.get('SELFALIGN_VLLM_ENV', Path(workflow.basedir, '.venv-vllm'))}/bin:",
        "ds1000": f"{os.environ.get('SELFALIGN_DS1000_ENV', Path(workflow.basedir, '.venv-ds1000'))}/bin:",
    }


def variable_of_engine(model):
    """Return the environment variable that holds the engine's settings for a model; most models share one."""
    return f"ENGINE_OF_{model.encode().hex()}" if model in OWN_ENGINES else "ENGINE"


PROGRAM_LANGUAGES = " ".join(sorted({corpus["language"] for corpus in config["corpora"].values()}))
VARIABLES = {"ENGINE": config["engine"]} | {variable_of_engine(name): found for name, found in OWN_ENGINES.items()}
shell.prefix(
    f"set -euo pipefail; export SCRIPTS={str(Path(workflow.basedir, 'scripts'))!r} ROOT={workflow.basedir!r} "
    f"HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 PROGRAM_LANGUAGES={PROGRAM_LANGUAGES!r}; "
    + "".join(f"export {name}={shlex.quote(json.dumps(value))}; " for name, value in VARIABLES.items())
    .replace("{", "{{")
    .replace("}", "}}")
    + f"core='{PATHS['core']}'; vllm='{PATHS['vllm']}'; ds1000='{PATHS['ds1000']}'; export PATH=\"$core$PATH\"; "
)


def code(script):
    """Return the version of a script's code and of all our modules that it imports, so that an edit reruns its rule."""
    return code_version(Path(workflow.basedir, "scripts", f"{script}.py"), Path(workflow.basedir, "scripts"))


def as_json(value):
    """Return a value of the config as JSON, its keys sorted: what a rule gets does not change with their order."""
    return json.dumps(value, sort_keys=True)


def resource(path):
    """Return a path of the config: relative to the working directory, else to the repository."""
    return path if Path(path).exists() else str(Path(workflow.basedir, path))


def parts(corpus):
    """Return the names of a corpus's parts."""
    return numbered(config["corpora"][corpus]["parts"])


def of_generation(kind, generation):
    """Return one kind of file for all shards of a generation, and all rounds where there are several."""
    settings = GENERATIONS[generation]
    rounds = number_of_rounds(settings)
    names = [name for shard in numbered(settings["shards"]) for name in file_names(kind, shard, rounds)]
    return [f"results/generations/{generation}/{kind}/{name}.jsonl" for name in names]


def model_file(model):
    """Return the file that describes a model."""
    return f"results/models/{model}/model.json"


def names(entries):
    """Return a wildcard pattern that matches the given names only; nothing when there are none."""
    return "|".join(re.escape(name) for name in entries) or "(?!)"


# Seeds


def corpus_source(corpus):
    """Return a corpus's source as JSON, its paths as they lead from the working directory."""
    source = config["corpora"][corpus]["source"]
    if "path" in source:
        source = source | {"path": resource(source["path"])}
    if "paths" in source:
        source = source | {
            "paths": [path if glob(path, recursive=True) else resource(path) for path in source["paths"]]
        }
    return as_json(source)


def corpus_unit(wildcards):
    """Return the options that make a corpus of snippets; nothing for one of functions."""
    unit = config["corpora"][wildcards.corpus]["unit"]
    return [] if unit == "functions" else ["--unit", unit, "--run-seed", str(config["seed"])]


def corpus_files(wildcards):
    """Return the files that a part is read from, so that an edited one reruns its extraction; some sources have none."""
    parts = config["corpora"][wildcards.corpus]["parts"]
    try:
        suffixes = LANGUAGES[config["corpora"][wildcards.corpus]["language"]].suffixes
        return load_source(corpus_source(wildcards.corpus)).files(int(wildcards.part), parts, suffixes)
    except ValueError as error:
        sys.exit(f"error: {error}")


def source_versions(wildcards):
    """Return the versions of what a corpus is read with and, for installed packages, of these."""
    packages = config["corpora"][wildcards.corpus]["source"].get("packages", [])
    installed = [name for name in packages if any(metadata.distributions(name=name))]  # stdlib is of Python itself
    return [PYTHON_VERSION, *(f"{name} {metadata.version(name)}" for name in installed)]


def language_of(corpus):
    """Return the option that says a corpus's language, for what is not Python; a benchmark's tasks are."""
    language = config["corpora"][corpus]["language"] if corpus else "python"
    return [] if language == "python" else ["--language", language]


def of_corpus(pattern, corpus):
    """Return one kind of file for all parts of a corpus."""
    return expand(f"results/corpora/{corpus}/{pattern}", part=parts(corpus))


def of_steps(pattern, steps, corpus):
    """Return one kind of file for all parts of a corpus, of each of the given steps in turn."""
    return [path for step in steps for path in of_corpus(f"{step}/{pattern}", corpus)]


def filters_of(corpus, stage):
    """Return those filters of a corpus that run in a stage, so that a change of others does not rerun it."""
    return [item for item in config["corpora"][corpus]["filters"] if item["name"] in stage]


def judge_of(corpus):
    """Return the judge among a corpus's filters, with the default of its prompt file; None when there is none."""
    judges = filters_of(corpus, JUDGE)
    return {"prompts": DocstringJudge.prompts} | judges[0] if judges else None


def filter_steps(corpus):
    """Return the folders through which a corpus's functions go: what the last one kept are the candidates for seeds."""
    return ["filtered", "judged"] if judge_of(corpus) else ["filtered"]


# Engines


def asked_model(wildcards):
    """Return the name of the asked model, which is that of a generation, of a corpus with a judge, or of a score."""
    if "generation" in wildcards.keys():
        return generation_of(wildcards)["generator"]
    return judge_of(wildcards.corpus)["model"] if "corpus" in wildcards.keys() else wildcards.model


def engine_of(wildcards):
    """Return the engine's settings for the model that a rule asks."""
    return ENGINES.get(asked_model(wildcards), ENGINE)


def engine_variable(wildcards):
    """Return the environment variable that holds these settings."""
    return variable_of_engine(asked_model(wildcards))


def engine_identity(wildcards):
    """Return those settings of the engine that completions depend on."""
    return as_json(engine_of(wildcards).identity())


def engine_gpus(wildcards):
    """Return the GPUs of a job that asks a model."""
    return engine_of(wildcards).gpus()


def engine_environment(wildcards):
    """Return the name of the environment of a job that asks a model."""
    return "vllm" if engine_of(wildcards).kind == "vllm" else "core"


def engine_conda(wildcards):
    """Return the file of the environment of a job that asks a model."""
    return f"../envs/{engine_environment(wildcards)}.yaml"


# Generation and selection


def seed_of(entry):
    """Return the seed of a generation, dataset or model: its own, else the run's."""
    return entry.get("seed", config["seed"])


def generation_of(wildcards):
    """Return the config entry of a rule's generation."""
    return GENERATIONS[wildcards.generation]


def of_methods(*methods):
    """Return the names of the generations of some methods, but of those that answer a benchmark's tasks."""
    return [
        name
        for name, generation in GENERATIONS.items()
        if generation["method"] in methods and name not in OF_BENCHMARKS
    ]


def drawn_seeds(wildcards):
    """Return the option that draws some of the corpus's seeds, or of a benchmark's tasks, if some are."""
    seeds = generation_of(wildcards)["seeds"]
    return ["--draw", str(seeds)] if seeds else []


def method_input(wildcards):
    """Return what a generation's method reads beside its concepts, by name."""
    generation = generation_of(wildcards)
    paths = {
        "seeds": f"results/corpora/{generation['corpus']}/seeds.parquet",
        "instructions": f"results/generations/{generation['instructions']}/instructions/{wildcards.shard}.jsonl",
    }
    reads = METHODS[generation["method"]].reads
    return {reads: paths[reads]} if reads else {}


def method_option(wildcards):
    """Return the option of a method; apart from its files, as no change of what comes from inputs reruns."""
    method = generation_of(wildcards)["method"]
    return ["--method", method] if METHODS[method].reads else []


def method_files(wildcards, input):
    """Return the options for what a generation's method reads beside its concepts."""
    reads = METHODS[generation_of(wildcards)["method"]].reads
    return [f"--{reads}", str(input[reads])] if reads else []


def round_of(wildcards):
    """Return the shard and the number of the round that a file of responses or verdicts is named for."""
    shard, _, number = wildcards.shard.partition(".")
    return shard, int(number or 0)


def of_shard(kind, wildcards):
    """Return one kind of file of a shard, of all rounds; nothing where the generation has no such files."""
    settings = generation_of(wildcards)
    folder = f"results/generations/{wildcards.generation}/{kind}"
    files = file_names(kind, wildcards.shard, number_of_rounds(settings)) if kind in kinds_of(settings) else []
    return [f"{folder}/{name}.jsonl" for name in files]


def measures_of(wildcards):
    """Return what is measured of a generation's tests; independent suites are there as files."""
    return {key: value for key, value in generation_of(wildcards)["tests"].items() if key != "independent"}


def earlier_rounds(kind, wildcards):
    """Return one kind of file for all rounds of a shard before this one."""
    shard, number = round_of(wildcards)
    return [f"results/generations/{wildcards.generation}/{kind}/{name}.jsonl" for name in round_names(shard, number)]


def earlier_options(wildcards, input):
    """Return the command-line options that hold the rounds before a further one."""
    if not input.earlier_responses:
        return []
    return ["--earlier-responses", *input.earlier_responses, "--earlier-verdicts", *input.earlier_verdicts]


def until_passed(wildcards):
    """Return the option of a further round; apart from its files, as no change of what comes from inputs reruns."""
    _, number = round_of(wildcards)
    return ["--until-passed", str(generation_of(wildcards)["adaptive"]["until_passed"])] if number else []


def samples_of(wildcards, stage):
    """Return how many samples a stage draws for each of its input rows, in the round that is asked for."""
    generation = generation_of(wildcards)
    if stage == "tests":
        return generation["tests"]["independent"]
    _, number = round_of(wildcards)
    return generation["adaptive"]["samples"][number - 1] if number else generation["samples"][stage]


def generation_options(wildcards, stage):
    """Return the command-line options that the three generation stages share."""
    generation = generation_of(wildcards)
    options = {
        "shots": generation["shots"][stage],
        "shot-sets": generation["shot_sets"],
        "temperature": generation["temperature"],
        "top-p": generation["top_p"],
        "max-tokens": generation["max_tokens"][stage],
        "samples": samples_of(wildcards, stage),
        "run-seed": seed_of(generation),
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def dataset_of(wildcards):
    """Return the config entry of a rule's dataset."""
    return DATASETS[wildcards.dataset]


def generation_folder(wildcards):
    """Return the command-line options for the files of a dataset's generation."""
    name = dataset_of(wildcards)["generation"]
    shards, rounds = GENERATIONS[name]["shards"], number_of_rounds(GENERATIONS[name])
    return ["--generation", f"results/generations/{name}", "--shards", str(shards), "--rounds", str(rounds)]


def like(wildcards):
    """Return the pairs of the dataset whose size this one takes, if it takes one."""
    size = dataset_of(wildcards)["size"]
    return [f"results/datasets/{size.removeprefix('like:')}/pairs.jsonl"] if isinstance(size, str) else []


def quality_files(wildcards):
    """Return the measured quality of a dataset's generation, if the dataset selects by it."""
    return of_generation("quality", dataset_of(wildcards)["generation"]) if selects_by(dataset_of(wildcards)) else []


def selection_settings(wildcards):
    """Return a dataset's settings; the size of another dataset and the seed are none, they come with options."""
    others = ("generation", "seed", "replicate_of", "round_of")
    settings = {key: value for key, value in dataset_of(wildcards).items() if key not in others}
    return {**settings, "size": None} if isinstance(settings["size"], str) else settings


def may_be_empty(wildcards):
    """Return the option that lets a pilot or a further round end without pairs, since it has to tell of that."""
    further = wildcards.dataset not in config["datasets"] or is_further(dataset_of(wildcards))
    return ["--may-be-empty"] if further else []


# Pilot


def pilots_of(generation):
    """Return the names of a generation's pilots by style of tags."""
    return {tags: pilot_name(generation, tags) for tags in config["pilot"]["tags"]}


def pilot_files(wildcards):
    """Return what the pilots of this config tell, one text for each generation whose model is given."""
    targets, _ = pilot_targets(config)
    if not targets:
        sys.exit("error: pilot: the config has no generation whose model is given; there is nothing to try")
    return expand("results/pilot/{generation}.txt", generation=targets)


# Models and scores


def folder_version(pretrained):
    """Return a digest of a given model's folder, of names and sizes only where files are large; none for a hub id."""
    folder = Path(resource(pretrained))
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return digest(
        [
            (str(path.relative_to(folder)), size if size > 64e6 else file_digest(path))
            for path in files
            for size in [path.stat().st_size]
        ]
    )[:12]


def preferences(wildcards):
    """Return the preferences that a model is trained on, if it is."""
    model = config["models"][wildcards.model]
    return [f"results/datasets/{model['dataset']}/preferences.jsonl"] if model["train"]["objective"] == "dpo" else []


def benchmark_prompts(wildcards):
    """Return the prompt file of a few-shot benchmark."""
    prompts = config["benchmarks"][wildcards.benchmark]["prompts"]
    return [resource(prompts)] if prompts else []


def completion_settings(wildcards):
    """Return how a benchmark is asked."""
    settings = config["benchmarks"][wildcards.benchmark]
    others = ("kind", "path", "options", "sandbox", "environment")
    settings = {key: value for key, value in settings.items() if key not in others}
    return settings | ({"prompts": resource(settings["prompts"])} if settings["prompts"] else {})


def benchmark_path(wildcards):
    """Return a benchmark's own file or folder; nothing where it is fetched."""
    path = config["benchmarks"][wildcards.benchmark]["path"]
    return [resource(path)] if path else []


def benchmark_measurements(wildcards):
    """Return the measurements of a model's answers, for benchmarks that have some."""
    measures = KINDS[config["benchmarks"][wildcards.benchmark]["kind"]].measures
    return [f"results/scores/{wildcards.model}/{wildcards.benchmark}/measurements.jsonl"] if measures else []


def benchmark_sandbox(benchmark):
    """Return the sandbox's settings for a benchmark as JSON."""
    return as_json(config["sandbox"] | config["benchmarks"][benchmark]["sandbox"])


def benchmark_environment(wildcards):
    """Return the name of the environment in which a benchmark's programs run."""
    benchmark = config["benchmarks"][wildcards.benchmark]
    name = benchmark["environment"] or KINDS[benchmark["kind"]].environment
    folder = PATHS[name].removesuffix(":")
    if folder and not workflow.dryrun and not Path(folder, "python").exists():
        sys.exit(
            f"error: benchmarks.{wildcards.benchmark}: {folder} is not there, the environment of its programs; make it "
            f"with envs/install.sh {name} .venv-{name}, or take the benchmark out of evaluate"
        )
    return name


def benchmark_conda(wildcards):
    """Return the file of the environment in which a benchmark's programs run."""
    return f"../envs/{benchmark_environment(wildcards)}.yaml"


# Rounds and what a run reports


def of_round(wildcards):
    """Return the generation, dataset and model of a round."""
    return round_entries(config, wildcards.rounds, int(wildcards.number))


def first_samples(generation):
    """Return the rows of a generation, without what adaptive sampling adds."""
    shards = numbered(GENERATIONS[generation]["shards"])
    return [f"results/generations/{generation}/{kind}/{shard}.jsonl" for kind in ROWS for shard in shards]


def earlier_generations(wildcards):
    """Return the generations of the rounds before one."""
    numbers = range(1, int(wildcards.number))
    return [round_entries(config, wildcards.rounds, number)["generation"] for number in numbers]


def first_judgement(wildcards):
    """Return the judgement of round 1, for a further one."""
    return [f"results/{judgement_path(wildcards.rounds, 1)}"] if wildcards.number != "1" else []


def earlier_round_options(wildcards):
    """Return the command-line options that hold the rounds before a further one."""
    folders = [f"results/generations/{generation}" for generation in earlier_generations(wildcards)]
    return ["--first", *first_judgement(wildcards), "--earlier", *folders] if folders else []


def judged_rounds(name):
    """Return the input function for all that further rounds make, as far as judgements let them."""

    def artifacts(wildcards):
        found = []
        for number in range(1, config["rounds"][name]["rounds"] + 1):
            entries = round_entries(config, name, number)
            path = checkpoints.judge_round.get(rounds=name, number=number).output[0]
            last = read_judgement(Path(path))["verdict"] == STOP
            found.append(path)
            if number > 1:  # round 1 is in the config itself
                found += artifacts_of([entries["generation"]], [entries["dataset"]], [] if last else [entries["model"]])
            if last:
                break
        return found

    return artifacts


def artifacts_of(generations, datasets, models):
    """Return what there is to report of some entries."""
    return [
        *[
            path.replace(".jsonl", suffix)
            for generation in generations
            for kind in kinds_of(GENERATIONS[generation])
            for path in of_generation(kind, generation)
            for suffix in (".jsonl", ".json")
        ],
        *expand("results/datasets/{dataset}/funnel.json", dataset=datasets),
        *expand("results/models/{model}/model.json", model=models),
        *expand("results/models/{model}/training_log.jsonl", model=[name for name in models if name in TRAINED]),
        *[
            f"results/scores/{model}/{benchmark}/scores.json"
            for model, benchmark in scores_to_make(config)
            if model in models
        ],
    ]


def reported_artifacts(wildcards):
    """Return every artifact that the config names, without those of further rounds."""
    tables = ("generations", "datasets", "models")
    own = [[name for name, entry in config[table].items() if not is_further(entry)] for table in tables]
    return [*expand("results/corpora/{corpus}/funnel.json", corpus=config["corpora"]), *artifacts_of(*own)]


BENCHMARK_FILES = expand("results/benchmarks/{benchmark}.jsonl", benchmark=config["benchmarks"])
PRETRAINED = [name for name, model in config["models"].items() if "pretrained" in model]
TRAINED = [name for name, model in config["models"].items() if "base" in model]
ROUNDS = [judged_rounds(name) for name in config["rounds"]]  # one for each, as each waits for its own judgements
PYTHON_VERSION = platform.python_version()
SANDBOX = as_json(config["sandbox"])


wildcard_constraints:
    corpus=names(config["corpora"]),
    generation=names(GENERATIONS),
    dataset=names(DATASETS),
    model=names(config["models"]),
    benchmark=names(config["benchmarks"]),
    part=r"\d{5}",
    rounds=names(config["rounds"]),
    number=r"\d+",
    shard=r"\d{5}",
