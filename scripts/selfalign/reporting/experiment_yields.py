"""What experiments took and yielded: the ways from functions to pairs side by side, and the cost of each model."""

from collections.abc import Sequence

from selfalign.reporting.answers import PASSED
from selfalign.reporting.artifacts import Run
from selfalign.reporting.experiment_text import note, under
from selfalign.reporting.experiments import Arm
from selfalign.reporting.figures import percent
from selfalign.reporting.markup import Markup, section, table
from selfalign.reporting.model_costs import model_cost


def funnels(run: Run, arms: Sequence[Arm]) -> Markup | None:
    """Return the ways from functions to pairs side by side, each the mean of its replicates."""
    columns: dict[str, list[dict[str, tuple[float, float]]]] = {}
    for arm in arms:
        if arm.datasets and arm.made["dataset"] not in columns:
            steps = [_steps(run, name) for name in dict.fromkeys(arm.datasets) if name in run.datasets]
            if steps:
                columns[arm.made["dataset"]] = steps
    if not columns:
        return None
    names = list(dict.fromkeys(step for found in columns.values() for steps in found for step in steps))
    rows = [
        (name, *(_step([steps[name] for steps in found if name in steps]) for found in columns.values()))
        for name in names
    ]
    generation = {arm.made["dataset"]: arm.made["generation"] for arm in arms}
    heads = [name if name == generation[name] else f"{name} (of {generation[name]})" for name in columns]
    return section(
        "funnels",
        "From functions to pairs",
        table(
            "Rows after each step, with their share of what came in; means over seeds",
            ("step", *heads),
            rows,
            numeric=range(1, len(heads) + 1),
        ),
    )


def _steps(run: Run, dataset: str) -> dict[str, tuple[float, float]]:
    """Return each step's rows and what came in."""
    found = run.datasets[dataset]
    entry = run.config["generations"][found.generation]
    stages = run.corpora.get(entry["corpus"], ())
    steps = (
        {"functions": (stages[0].input, stages[0].input), "seeds": (stages[-1].kept, stages[0].input)} if stages else {}
    )
    if drawn := next((stage for stage in found.chain if stage.name == "draw"), None):
        steps["drawn"] = (drawn.kept, drawn.input)
    made = run.generations.get(found.generation)
    candidates = found.stages[0].kept
    if made:
        steps |= {stage.name: (stage.kept, stage.input) for stage in made.stages if stage.name != "verdicts"}
        passed, ran = (
            made.outcomes.get(PASSED, 0),
            sum(stage.input for stage in made.stages if stage.name == "verdicts"),
        )
        steps[PASSED] = (passed, ran)
        candidates = {"passed": passed, "failed": ran - passed}.get(found.select, ran)
    return steps | {"pairs": (found.pairs, candidates)}


def _step(found: Sequence[tuple[float, float]]) -> Markup | str:
    if not found:
        return ""
    kept, whole = (sum(column) / len(found) for column in zip(*found, strict=True))
    return under(f"{kept:,.0f}", f"{percent(kept / whole)} of {whole:,.0f}" if whole and whole != kept else "all")


def costs(run: Run, arms: Sequence[Arm]) -> Markup | None:
    """Return what each trained model took."""
    found = [(arm, cost) for arm in arms if (cost := model_cost(run, arm))]
    if not found:
        return None
    gpus = any(cost.gpu_hours is not None for _, cost in found)
    rows = [
        (
            arm.model,
            f"{cost.prompt_tokens:,.0f}",
            f"{cost.completion_tokens:,.0f}",
            _hours(cost.wall_hours),
            _hours(cost.cpu_hours),
            *([_hours(cost.gpu_hours)] if gpus else []),
            "" if arm.pairs is None else f"{arm.pairs:,.0f}",
            "" if cost.pairs_per_hour is None else f"{cost.pairs_per_hour:,.0f}",
        )
        for arm, cost in found
    ]
    columns = (
        "model",
        "prompt tokens",
        "completion tokens",
        "wall hours",
        "CPU hours",
        *(["GPU hours"] if gpus else []),
    )
    columns += ("pairs", "pairs per hour")
    return section(
        "costs",
        "What each model took",
        table(
            "Generation, verification, selection and training; means over seeds",
            columns,
            rows,
            numeric=range(1, 8),
            cards=True,
        ),
        note(
            "Hours of all jobs, summed. A generation that several models share counts in full for each of them; base "
            "and corpus do not count. Pairs per hour are of generation, verification and selection."
        ),
    )


def _hours(hours: float | None) -> str:
    return "" if hours is None else f"{hours:,.3f}" if hours < 1 else f"{hours:,.1f}"
