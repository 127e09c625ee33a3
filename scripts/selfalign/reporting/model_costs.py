"""What one model cost: its generation, its selection and its training, the mean of its replicates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from selfalign.records.files import read_json
from selfalign.records.shards import KINDS
from selfalign.reporting.artifacts import Run
from selfalign.reporting.costs import Cost
from selfalign.reporting.experiments import Arm

SAMPLED = KINDS[:3]  # stages of a generation in which the model runs


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """Means over replicates; hours are those of the jobs, summed.

    Attributes:
        gpu_hours: None where no GPU worked.
        pairs_per_hour: Training pairs for each wall hour of generation, verification and selection.
    """

    prompt_tokens: float
    completion_tokens: float
    wall_hours: float
    cpu_hours: float
    gpu_hours: float | None
    pairs_per_hour: float | None


def model_cost(run: Run, arm: Arm) -> ModelCost | None:
    """Return what a trained model took, beyond its base and its corpus; None for a given model.

    What several models share, such as one generation, counts in full for each of them.
    """
    if not arm.datasets:
        return None
    count = len(arm.models)
    made = {stage for name in arm.generations for stage in _stages(run.config["generations"], name, KINDS)}
    selected = {("select_pairs", name) for name in arm.datasets}
    data = [cost for cost in run.costs if (cost.stage, cost.artifact) in made | selected]
    trainings = [cost for cost in run.costs if cost.stage == "training" and cost.artifact in arm.models]
    whole = [*data, *trainings]
    hours = sum(cost.wall_s for cost in data) / 3600
    pairs = sum(run.datasets[name].pairs for name in set(arm.datasets) if name in run.datasets)
    return ModelCost(
        prompt_tokens=sum(cost.prompt_tokens or 0 for cost in data) / count,
        completion_tokens=sum(cost.tokens or 0 for cost in data) / count,
        wall_hours=sum(cost.wall_s for cost in whole) / 3600 / count,
        cpu_hours=sum(cost.cpu_s or 0 for cost in whole) / 3600 / count,
        gpu_hours=_gpu_hours(run, arm, data, trainings, count),
        pairs_per_hour=pairs / hours if hours else None,
    )


def _stages(generations: Mapping[str, Mapping], name: str, kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield stage and generation of all that a generation stands on: also what gave it its instructions."""
    yield from ((kind, name) for kind in kinds)
    if other := generations[name].get("instructions"):
        yield from _stages(generations, other, ("concepts", "instructions"))


def _gpu_hours(run: Run, arm: Arm, data: Sequence[Cost], trainings: Sequence[Cost], count: int) -> float | None:
    """Return the hours of GPUs, known from where the trainings ran; an engine's job has them for all of its time."""
    stats: dict[str, Mapping] = {}
    for name in arm.models:
        path = run.results / "models" / name / "training_stats.json"
        if path.is_file():
            stats[name] = read_json(path)
    on_gpu = {name: found for name, found in stats.items() if found.get("device", "cpu") != "cpu"}
    if not on_gpu:
        return None
    generated = sum(cost.wall_s * _gpus(run.config, cost.artifact) for cost in data if cost.stage in SAMPLED)
    trained = sum(
        cost.wall_s * on_gpu[cost.artifact].get("processes", 1) for cost in trainings if cost.artifact in on_gpu
    )
    return (generated + trained) / 3600 / count


def _gpus(config: Mapping, generation: str) -> int:
    """Return the GPUs of one job of a generation, on a machine that has some."""
    engine = config["engine"] | config["models"][config["generations"][generation]["generator"]].get("engine", {})
    several = engine["tensor_parallel_size"] * engine["data_parallel_size"]
    return {"vllm": several, "transformers": 1, "openai": 0}[engine["kind"]]
