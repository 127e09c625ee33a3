"""The run's experiments: which models answer a question, what each was made of, and how far apart they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from selfalign.reporting.artifacts import Run, Score, replicate_number
from selfalign.reporting.effects import LEVEL, Effect, effect, holm

NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One model of an experiment, with all its replicates.

    Attributes:
        model: Its name in the config.
        models: It and its copies.
        made: What it was made of: base, generator, method, corpus, generation, dataset, selection; `NONE` where it has
            no such thing.
        generations, datasets: Those of its replicates; empty for a given model.
        pairs: Mean number of training pairs; None for a given model.
    """

    model: str
    models: tuple[str, ...]
    made: Mapping[str, str]
    generations: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    pairs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm on one benchmark.

    Attributes:
        scores: By number of the replicate, from 1.
        result: pass@1 over seeds and tasks.
        difference: To the reference, over the same seeds and tasks; None for the reference itself.
        p: That of the difference, corrected for the comparisons of the experiment.
        detectable: The smallest difference that would have been found in 80 % of such experiments.
        better, worse: Tasks on which it is ahead of the reference and behind it, in the mean over seeds.
        published: What others report for the same, in percent.
    """

    arm: Arm
    benchmark: str
    scores: Mapping[int, Score]
    result: Effect
    difference: Effect | None = None
    p: float | None = None
    detectable: float | None = None
    better: int = 0
    worse: int = 0
    published: float | None = None

    @property
    def decided(self) -> bool:
        """Whether the difference is more than noise: 0 is outside of its interval, and p holds after correction."""
        found = self.difference
        return found is not None and self.p is not None and self.p < LEVEL and (found.low > 0 or found.high < 0)

    @property
    def verdict(self) -> str:
        """The difference in words."""
        if self.difference is None:
            return "reference"
        if not self.decided:
            return "noise"
        return f"decided: {'better' if self.difference.mean > 0 else 'worse'}"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One question with what the run says to it; `cells` has no cell for a model that was not scored."""

    name: str
    question: str
    reference: str
    benchmarks: tuple[str, ...]
    arms: tuple[Arm, ...]
    cells: tuple[Cell, ...]
    layout: Mapping[str, str] | None = None
    source: str | None = None

    @property
    def comparisons(self) -> list[Cell]:
        """The cells that are compared with the reference."""
        return [cell for cell in self.cells if cell.difference is not None]

    @property
    def seeds(self) -> int:
        """The most seeds of any cell."""
        return max((cell.result.seeds for cell in self.cells), default=1)


def replicates(table: Mapping[str, Mapping], name: str) -> dict[int, str]:
    """Return an entry of the config and its copies by their number, from 1."""
    entries = {other: entry for other, entry in table.items() if other == name or entry.get("replicate_of") == name}
    return {replicate_number(other, entry): other for other, entry in entries.items()}


def read_experiments(run: Run) -> list[Experiment]:
    """Return the experiments of a run in the config's order."""
    return [_experiment(run, name, entry) for name, entry in run.config.get("experiments", {}).items()]


def _experiment(run: Run, name: str, entry: Mapping) -> Experiment:
    arms = tuple(_arm(run, model) for model in entry["models"])
    scores = {(score.model, score.benchmark): score for score in run.scores}
    cells = []
    for benchmark in entry["benchmarks"]:
        row = [
            _cell(arm, benchmark, entry, {number: scores[model, benchmark] for number, model in numbered.items()})
            for arm in arms
            for numbered in [_scored(run, arm.model, benchmark, scores)]
            if numbered
        ]
        reference = next((cell for cell in row if cell.arm.model == entry["reference"]), None)
        cells += [cell if reference is None or cell is reference else _compared(cell, reference) for cell in row]
    return Experiment(
        name=name,
        question=entry["question"],
        reference=entry["reference"],
        benchmarks=tuple(entry["benchmarks"]),
        arms=arms,
        cells=tuple(_corrected(cells)),
        layout=entry.get("layout"),
        source=entry.get("source"),
    )


def _scored(run: Run, model: str, benchmark: str, scores: Mapping[tuple[str, str], Score]) -> dict[int, str]:
    found = replicates(run.config["models"], model)
    return {number: found[number] for number in sorted(found) if (found[number], benchmark) in scores}


def _arm(run: Run, model: str) -> Arm:
    config, models = run.config, run.config["models"]
    entry, names = models[model], tuple(replicates(models, model).values())
    if "pretrained" in entry:
        made = dict.fromkeys(("generator", "method", "corpus", "generation", "dataset", "selection"), NONE)
        return Arm(model=model, models=names, made={"base": model} | made)
    dataset = config["datasets"][entry["dataset"]]
    generation = config["generations"][dataset["generation"]]
    datasets = tuple(models[name]["dataset"] for name in names)
    pairs = [run.datasets[name].pairs for name in datasets if name in run.datasets]
    return Arm(
        model=model,
        models=names,
        made={
            "base": entry["base"],
            "generator": generation["generator"],
            "method": generation.get("method", NONE),
            "corpus": generation["corpus"],
            "generation": dataset["generation"],
            "dataset": entry["dataset"],
            "selection": dataset["select"],
        },
        generations=tuple(config["datasets"][name]["generation"] for name in datasets),
        datasets=datasets,
        pairs=sum(pairs) / len(pairs) if pairs else None,
    )


def _cell(arm: Arm, benchmark: str, entry: Mapping, scores: Mapping[int, Score]) -> Cell:
    published = entry.get("published", {}).get(arm.model)
    first = next(iter(scores.values()))
    result = effect(_matrix(scores, first), (0, 1))
    if len(scores) == 1:  # its own interval knows how much each task counts
        result = replace(result, mean=first.pass_at_1, low=first.low, high=first.high)
    return Cell(
        arm=arm,
        benchmark=benchmark,
        scores=scores,
        result=result,
        published=published.get(benchmark) if isinstance(published, dict) else published,
    )


def _matrix(scores: Mapping[int, Score], first: Score) -> list[list[float]]:
    """Return the passed share of each task, for each replicate; the tasks are those of the score `first`."""
    for score in scores.values():
        if others := score.per_task.keys() ^ first.per_task.keys():
            raise ValueError(f"{first.label} and {score.label}: {len(others)} tasks are not in both; score both anew")
    return [[score.per_task[task] for task in sorted(first.per_task)] for _, score in sorted(scores.items())]


def _compared(cell: Cell, reference: Cell) -> Cell:
    """Compare a cell with the reference, seed by seed; a single score stands beside every seed of the other one."""
    both = cell.scores.keys() & reference.scores.keys()
    if 1 in (len(cell.scores), len(reference.scores)):
        both = max(cell.scores, reference.scores, key=len).keys()

    def of(scores: Mapping[int, Score]) -> dict[int, Score]:
        return {number: scores[number] if len(scores) > 1 else next(iter(scores.values())) for number in both}

    first = next(iter(reference.scores.values()))
    own, other = (_matrix(of(scores), first) for scores in (cell.scores, reference.scores))
    apart = [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(own, other, strict=True)]
    by_task = [sum(column) for column in zip(*apart, strict=True)]
    return replace(
        cell,
        difference=effect(apart, (-1, 1)),
        better=sum(value > 0 for value in by_task),
        worse=sum(value < 0 for value in by_task),
    )


def _corrected(cells: Sequence[Cell]) -> list[Cell]:
    compared = [cell for cell in cells if cell.difference is not None]
    corrected = iter(holm([cell.difference.p for cell in compared]))
    return [
        cell
        if cell.difference is None
        else replace(cell, p=next(corrected), detectable=cell.difference.detectable(len(compared)))
        for cell in cells
    ]
