"""Read the artifacts that a config names. What has not been made is left out; what is corrupt is an error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selfalign.records.files import read_json, read_jsonl
from selfalign.records.rounds import reached
from selfalign.records.rows import Difficulty, Pair, load_rows
from selfalign.records.shards import kinds_of
from selfalign.reporting.costs import Cost, job_costs, sum_costs
from selfalign.reporting.funnels import Stage, check_chain, join_chain, read_funnel
from selfalign.reporting.generations import Generation, read_generation, shard_files
from selfalign.reporting.quality import TestQuality, read_quality
from selfalign.reporting.rounds import Rounds, read_rounds


@dataclass(frozen=True, kw_only=True)
class Score:
    """One model on one benchmark; `data` is the content of its `scores.json`."""

    model: str
    benchmark: str
    tasks: int
    samples: int
    pass_at_1: float
    low: float
    high: float
    verdicts: Mapping[str, int]
    per_task: Mapping[str, float]
    data: Mapping

    @property
    def label(self) -> str:
        """Model and benchmark as one label."""
        return f"{self.model} on {self.benchmark}"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A trained model and its loss, as (step, loss) in order."""

    model: str
    base: str
    dataset: str
    losses: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset's own stages (from responses to pairs) and the whole chain from functions to pairs.

    Attributes:
        passed: Pairs whose response passed verification.
        others: Rows of the files beside the pairs: preferences, negatives.
        difficulties: Of the instructions with verified responses; those of datasets of one generation are the same.
    """

    name: str
    generation: str
    select: str
    pairs: int
    passed: int
    others: Mapping[str, int]
    difficulties: tuple[Difficulty, ...]
    stages: tuple[Stage, ...]
    chain: tuple[Stage, ...]

    @property
    def passed_share(self) -> float:
        """The share of its pairs that passed verification, from 0 to 1."""
        return self.passed / self.pairs if self.pairs else 0.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything the report tells; a list that is empty means a section that the page leaves out.

    Attributes:
        missing: What the config names and is not there; without what a round that was the last one leaves unmade.
    """

    results: Path
    config: Mapping
    provenance: Mapping | None
    corpora: Mapping[str, tuple[Stage, ...]] = field(default_factory=dict)
    generations: Mapping[str, Generation] = field(default_factory=dict)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    trainings: Sequence[Training] = ()
    scores: Sequence[Score] = ()
    rounds: Sequence[Rounds] = ()
    costs: Sequence[Cost] = ()
    quality: Mapping[str, TestQuality] = field(default_factory=dict)
    missing: Sequence[str] = ()

    @property
    def first_scores(self) -> list[Score]:
        """The scores of the config's own entries, without copies: what the run's page compares."""
        models = self.config["models"]
        return [score for score in self.scores if replicate_number(score.model, models[score.model]) == 1]

    @property
    def wall_s(self) -> float:
        """The wall time of all recorded jobs, summed: more than the run took where jobs ran side by side."""
        return sum(cost.wall_s for cost in self.costs)


def replicate_number(name: str, entry: Mapping) -> int:
    """Return which replicate an entry of the config is: 1 for an original, 2 for its first copy."""
    return int(name.removeprefix(f"{entry['replicate_of']}.")) if "replicate_of" in entry else 1


def evaluations(config: Mapping) -> list[tuple[str, str]]:
    """Return the (model, benchmark) pairs that the config evaluates, benchmarks grouped, in the config's order."""
    asked = {(model, name) for group in config["evaluate"] for model in group["models"] for name in group["benchmarks"]}
    return [(model, name) for name in config["benchmarks"] for model in config["models"] if (model, name) in asked]


def read_score(path: Path) -> Score:
    """Read and check a `scores/{model}/{benchmark}/scores.json`."""
    data = read_json(path)
    try:
        low, high = data["interval"]
        score = Score(
            model=path.parent.parent.name,
            benchmark=path.parent.name,
            tasks=data["tasks"],
            samples=data["samples"],
            pass_at_1=float(data["pass@1"]),
            low=float(low),
            high=float(high),
            verdicts=dict(data["verdicts"]),
            per_task=dict(data["per_task"]),
            data=data,
        )
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a score ({error!r}); delete it and run again to remake it") from error
    slack = 1e-9  # of rounding
    in_order = -slack <= score.low <= score.pass_at_1 + slack <= score.high + 2 * slack <= 1 + 3 * slack
    if len(score.per_task) != score.tasks or not in_order:
        raise ValueError(f"{path}: tasks, pass@1 and interval contradict one another; delete it and run again")
    return score


def read_losses(path: Path) -> tuple[tuple[int, float], ...]:
    """Read the (step, loss) rows of a training log; other rows are left out.

    Raises:
        ValueError: no row has both a step and a loss.
    """
    rows = [row for row in read_jsonl(path) if "loss" in row and "step" in row]
    if not rows:
        raise ValueError(f"{path}: no row with step and loss; delete the model's folder and run again")
    return tuple((int(row["step"]), float(row["loss"])) for row in rows)


def _join_dataset(
    name: str, entry: Mapping, results: Path, corpora: Mapping, generations: Mapping, config: Mapping
) -> Dataset | None:
    folder = results / "datasets" / name
    path = folder / "pairs.jsonl"
    if not (folder / "funnel.json").is_file() or not path.is_file():
        return None
    stages = read_funnel(folder / "funnel.json", "selection")
    verdicts = [row.verdict for row in load_rows(Pair, read_jsonl(path), str(path))]
    pairs = len(verdicts)
    if stages[-1].kept != pairs:
        raise ValueError(
            f"{folder}: funnel.json ends with {stages[-1].kept:,} rows and pairs.jsonl has {pairs:,}; "
            "delete the folder and run again"
        )
    generation = generations.get(entry["generation"])
    chain = stages
    if generation is not None:
        settings = config["generations"][generation.name]
        try:
            chain = join_chain(corpora.get(settings["corpus"], ()), generation.stages, stages, settings["seeds"])
        except ValueError as error:
            raise ValueError(f"{folder / 'funnel.json'}: {error}") from error
    check_chain(chain, str(folder / "funnel.json"))
    rates = folder / "difficulty.jsonl"
    return Dataset(
        name=name,
        generation=entry["generation"],
        select=entry["select"],
        pairs=pairs,
        passed=verdicts.count("passed"),
        others={kind: sum(1 for _ in read_jsonl(folder / f"{kind}.jsonl")) for kind in ("preferences", "negatives")},
        difficulties=tuple(load_rows(Difficulty, read_jsonl(rates), str(rates))),
        stages=stages,
        chain=chain,
    )


def read_provenance(path: Path) -> Mapping | None:
    """Read what `record_run` wrote; None where it is not there.

    Raises:
        ValueError: it is no JSON object.
    """
    if not path.is_file():
        return None
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object; delete it and run again to remake it")
    return data


def read_run(results: Path, config: Mapping) -> Run:
    """Read every artifact that the config names, but those that are of no round that was reached.

    Raises:
        ValueError: an artifact is corrupt or contradicts another; names the file.
    """
    whole, config = config, reached(results, config)
    missing: list[str] = []

    def note(kind: str, name: str, found: object) -> bool:
        if found is None:
            missing.append(f"{kind} {name}")
        return found is not None

    logs = results / "logs"
    corpora, costs = {}, []
    for name, entry in config["corpora"].items():
        folder = results / "corpora" / name
        path = folder / "funnel.json"
        found = read_funnel(path, "seeds") if path.is_file() else None
        if note("corpus", name, found):
            corpora[name] = found
        parts = [f"{part:05}" for part in range(entry["parts"])]
        costs += sum_costs(name, [folder / "functions" / f"{part}.json" for part in parts])
        costs += job_costs("filter_functions", name, [logs / f"filter_functions/{name}/{part}" for part in parts])
        costs += sum_costs(name, [folder / "judged" / f"{part}.json" for part in parts])
        costs += job_costs("select_seeds", name, [logs / f"select_seeds/{name}"])
    generations, quality = {}, {}
    for name, entry in config["generations"].items():
        folder = results / "generations" / name
        found = read_generation(folder, name, entry)
        if note("generation", name, found):
            generations[name] = found
        shards = shard_files(folder, entry)
        measured = [path for shard in shards for path in shard.get("quality", ())]
        if measured and all(path.is_file() for path in measured):
            quality[name] = read_quality(measured, [path for shard in shards for path in shard.get("tests", ())])
        for kind in kinds_of(entry):
            files = [path for shard in shard_files(folder, entry, ".json") for path in shard[kind]]
            costs += sum_costs(name, files)
    datasets = {}
    for name, entry in config["datasets"].items():
        found = _join_dataset(name, entry, results, corpora, generations, config)
        if note("dataset", name, found):
            datasets[name] = found
        costs += job_costs("select_pairs", name, [logs / f"select_pairs/{name}"])
    trainings = []
    for name, entry in config["models"].items():
        log = results / "models" / name / "training_log.jsonl"
        if "base" in entry and note("model", name, True if log.is_file() else None):
            trainings.append(
                Training(model=name, base=entry["base"], dataset=entry["dataset"], losses=read_losses(log))
            )
        costs += sum_costs(name, [results / "models" / name / "training_stats.json"])
    scores = []
    for model, benchmark in evaluations(config):
        folder = results / "scores" / model / benchmark
        found = read_score(folder / "scores.json") if (folder / "scores.json").is_file() else None
        if note("score", f"{model} on {benchmark}", found):
            scores.append(found)
        costs += sum_costs(f"{model} on {benchmark}", [folder / "completions.json", folder / "verdicts.json"])
    rounds = read_rounds(results, whole)
    for one in rounds:
        costs += job_costs("judge_round", one.name, [logs / f"judge_round/{one.name}/{k.number}" for k in one.rounds])
    return Run(
        results=results,
        config=whole,
        provenance=read_provenance(results / "provenance.json"),
        corpora=corpora,
        generations=generations,
        datasets=datasets,
        trainings=trainings,
        scores=scores,
        rounds=rounds,
        costs=costs,
        quality=quality,
        missing=missing,
    )
