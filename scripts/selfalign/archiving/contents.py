"""Which files belong to a run, which of them an archive holds, and what of each may differ from run to run."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from selfalign.benchmarks.kinds import KINDS as BENCHMARKS
from selfalign.records.digests import SET_ASIDE
from selfalign.records.files import read_json
from selfalign.reporting.artifacts import evaluations
from selfalign.reporting.generations import shard_files
from selfalign.seeds.filters import JUDGE

DETERMINISTIC, RECORDED, VARYING, MACHINE, LOG = "deterministic", "recorded", "varying", "machine", "log"
KINDS = {
    DETERMINISTIC: "the same bytes wherever the same code runs with the same settings, versions and kind of processor",
    RECORDED: "the same but for named fields that hold times, memory, places or what was done since a kill; the "
    "content digest leaves them out. Of programs near a limit of the sandbox the verdict can differ, too",
    VARYING: "what a model on GPUs or a server gave, and all that follows from it: prompts and seeds are the same, but "
    "requests are put together to other batches each time, whose sums are rounded otherwise, so that now and then "
    "another token comes next, and another text after it",
    MACHINE: "tells of machine, versions or times, and so differs between any two runs",
    LOG: "what the commands printed, with rates and times",
}

VERDICT = ("cpu_s", "wall_s", "max_rss_mb", "core")
STATS = (
    *("wall_s", "cpu_s", "load_s", "tokens_per_s", "peak_memory_mb", "mfu", "device", "processes", "workers"),
    *("generated", "prompt_tokens", "completion_tokens", "cached_prompt_tokens"),  # since the last kill
)
PLACES = ("name_or_path", "trained_from.base.name_or_path")  # the digests beside them say which model it is
PATTERNS = [  # of paths below results/, the first that fits: its kind and the fields that its content is without
    (r"logs/.*\.benchmark\.tsv", MACHINE, ()),
    (r"logs/.*", LOG, ()),
    (r"provenance\.json|changes\.patch|sandbox\.json", MACHINE, ()),
    (r"report/(index\.html|experiment\.html|summary\.txt|\w+/stages\.\w+)", MACHINE, ()),
    (r"(generations/[^/]+/(verdicts|truth)/[^/]+|scores/.*/verdicts)\.jsonl", RECORDED, VERDICT),
    (r"scores/.*/measurements\.jsonl", RECORDED, ("values",)),
    (r"benchmarks/.*\.references\.jsonl", RECORDED, ("checks.*.cpu_s", "checks.*.slow")),
    (r"models/[^/]+/model\.json", RECORDED, PLACES),
    (r"corpora/[^/]+/(functions|judged)/[^/]+\.json", RECORDED, STATS),
    (r"generations/.*\.json", RECORDED, STATS),
    (r"models/[^/]+/training_stats\.json", RECORDED, STATS),
    (r"scores/.*/(completions|verdicts|measurements)\.json|benchmarks/.*\.references\.json", RECORDED, STATS),
]
WEIGHTS = re.compile(r"models/[^/]+/.*\.(safetensors|bin)")
PARTS = re.compile(r"corpora/[^/]+/(functions|filtered|judged)/[^/]+\.parquet")  # seeds and rejected have their rows
RULES = (  # whose logs are of a run
    *("check_sandbox", "complete_benchmark", "extract_functions", "fetch_model", "filter_functions"),
    *("generate_concepts", "generate_instructions", "generate_responses", "generate_tests", "judge_round"),
    *("judge_seeds", "list_seeds", "measure_completions", "measure_tests", "prepare_benchmark", "record_run"),
    *("run_references", "score_benchmark", "select_pairs", "select_seeds", "take_instructions", "take_rows"),
    *("train_model", "verify_completions", "verify_responses", "verify_truth", "write_report"),
)
CHECKPOINT = r"[\w.-]+\.(json|safetensors|bin|model|jinja|py)|(merges|vocab)\.txt|training_log\.jsonl|README\.md"
OURS = re.compile(  # all that a run makes below results/
    "|".join(
        (
            r"run_config\.yaml|provenance\.json|changes\.patch|sandbox\.json",
            rf"logs/({'|'.join(RULES)})(/[^/]+)*\.(log|benchmark\.tsv)",
            r"report/(index\.html|experiment\.html|summary\.txt|figures/[\w+.-]+\.svg|tables/\w+\.csv)",
            r"corpora/[^/]+/((functions|filtered|judged)/\d+(\.rejected)?\.(json|parquet)|(seeds|rejected)\.parquet)",
            r"corpora/[^/]+/(funnel\.json|contamination\.jsonl)",
            r"generations/[^/]+/(concepts|instructions|responses|verdicts|tests|truth|quality)/[\d.]+\.jsonl?",
            r"datasets/[^/]+/((pairs|rejected|negatives|preferences|difficulty|contamination)\.jsonl|funnel\.json)",
            r"datasets/[^/]+/README\.md",
            rf"models/[^/]+/({CHECKPOINT})",
            r"benchmarks/[^/]+\.(jsonl|references\.json|source\.json)",
            r"rounds/[^/]+/\d+\.json",
            r"scores/[^/]+/[^/]+/((completions|verdicts|measurements)\.jsonl?|scores\.json)",
        )
    )
)
OWN_LOG = "logs/archive_run.log"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file.

    Attributes:
        path: Its path in the archive.
        source: Where it is.
        kind: One of `KINDS`.
        without: Fields of its rows (or its one value) that the content digest leaves out; dotted, `*` is any key.
        included: Whether the archive holds it; of others it has the digest.
    """

    path: str
    source: Path
    kind: str
    without: tuple[str, ...] = ()
    included: bool = True


def varies(results: Path, config: Mapping) -> bool:
    """Tell whether what the run's models give differs from run to run: not that of transformers on a processor.

    Where transformers ran on a GPU, the trainings that were there, too, tell of it.
    """
    if config.get("engine", {}).get("kind", "transformers") != "transformers":
        return True
    stats = [results / "models" / name / "training_stats.json" for name in config["models"]]
    return any(read_json(path).get("device", "cpu") != "cpu" for path in stats if path.is_file())


def of_a_model(name: str, config: Mapping) -> bool:
    """Tell whether what is in a file, named from results/, depends on what a model gave."""
    table, *rest = name.split("/")
    if table == "corpora":
        filters = config["corpora"].get(rest[0], {}).get("filters", ())
        before = rest[1] in ("functions", "filtered")
        return not before and any(item["name"] in JUDGE for item in filters)
    if table == "models":
        return "base" in config["models"].get(rest[0], {})
    return table in ("generations", "datasets", "rounds", "scores", "report")


def classify(name: str, config: Mapping, *, varying: bool = False) -> tuple[str, tuple[str, ...]]:
    """Return the kind of a file, named from results/, and the fields that its content is without.

    Args:
        varying: The run's models give something else each time.
    """
    kind, fields = _classify(name, config)
    results = kind in (DETERMINISTIC, RECORDED)
    return (VARYING if varying and results and of_a_model(name, config) else kind), fields


def _classify(name: str, config: Mapping) -> tuple[str, tuple[str, ...]]:
    if name.startswith("scores/") and name.endswith("/scores.json"):
        benchmark = config["benchmarks"].get(name.split("/")[2])
        if benchmark and BENCHMARKS[benchmark["kind"]].measures:
            return RECORDED, ("extra",)
        return DETERMINISTIC, ()
    found = ((kind, fields) for pattern, kind, fields in PATTERNS if re.fullmatch(pattern, name))
    return next(found, (DETERMINISTIC, ()))


def membership(config: Mapping) -> Callable[[str], bool]:
    """Return what tells if a file, named from results/, is of this config's run: not of an earlier one or a pilot."""
    asked = set(evaluations(config))
    shards: dict[tuple[str, str], set[str]] = {}
    for name, entry in config["generations"].items():
        for files in shard_files(Path(), entry):
            for kind, paths in files.items():
                shards.setdefault((name, kind), set()).update(path.stem for path in paths)

    def belongs(name: str) -> bool:
        table, *rest = name.split("/")
        if not OURS.fullmatch(name):
            return False
        if not rest or table == "report":
            return True
        if table == "logs":
            return "/_pilot-" not in name
        if table == "benchmarks":
            return any(rest[0].startswith(f"{benchmark}.") for benchmark in config["benchmarks"])
        if table == "scores":
            return tuple(rest[:2]) in asked
        if table == "rounds":
            entry = config.get(table, {}).get(rest[0])
            return entry is not None and int(Path(rest[1]).stem) <= entry["rounds"]
        if table not in ("corpora", "generations", "datasets", "models") or rest[0] not in config[table]:
            return False
        if table == "generations" and tuple(rest[:2]) in shards:
            return rest[-1].rpartition(".")[0] in shards[rest[0], rest[1]]
        if table == "corpora" and (number := rest[-1].partition(".")[0]).isdecimal():
            return int(number) < config["corpora"][rest[0]]["parts"]
        return True

    return belongs


def run_files(results: Path, config: Mapping, *, include_models: bool = False) -> tuple[list[Item], list[str]]:
    """Return the files of a run by path, and the names of those below results/ that are not of it.

    Args:
        include_models: Let the archive hold the weights of trained models.
    """
    items, others, belongs, varying = [], [], membership(config), varies(results, config)
    for name in sorted(_visible(results)):
        if not belongs(name):
            others.append(name)
            continue
        kind, without = classify(name, config, varying=varying)
        left_out = PARTS.fullmatch(name) or (WEIGHTS.fullmatch(name) and not include_models)
        items.append(
            Item(path=f"results/{name}", source=results / name, kind=kind, without=without, included=not left_out)
        )
    return items, others


def _visible(folder: Path) -> Iterator[str]:
    """Yield the files of a results folder: no hidden, unfinished or set-aside ones, and no archives with their log."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        no_result = any(part.startswith(".") for part in name.parts) or name.suffix == SET_ASIDE
        if path.is_file() and not no_result and name.parts[0] != "archive" and name.as_posix() != OWN_LOG:
            yield name.as_posix()
