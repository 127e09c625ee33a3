"""The sections of the experiment page that answer: question, answer, figure, tables."""

from collections.abc import Mapping, Sequence

from selfalign.reporting.comparisons import points, show_p
from selfalign.reporting.experiment_text import answer, link, note, share, span, under
from selfalign.reporting.experiments import Cell, Experiment
from selfalign.reporting.figures import percent
from selfalign.reporting.gallery import Drawing, show_figure
from selfalign.reporting.markup import Markup, details, element, join, section, table

FEW_SEEDS = {
    1: "One seed: intervals are over tasks, and the luck of training and sampling is not in them. Set replicates to 3 "
    "or more to see it.",
    2: "Two seeds tell little of the luck of training and sampling: how far seeds lie apart is known from one "
    "difference alone, so intervals are wide, and now and then too narrow. Set replicates to 3 or more.",
}


def one(experiment: Experiment, figures: Mapping[str, Drawing]) -> Markup:
    """Return an experiment: question, answer, figure, tables."""
    seeds = experiment.seeds
    count = f"{seeds} seeds" if seeds > 1 else "one seed"
    content = [
        element("p", experiment.question, class_="question"),
        element("p", answer(experiment), class_="finding"),
    ]
    if seeds in FEW_SEEDS:
        content.append(note(FEW_SEEDS[seeds]))
    if (name := f"experiment_{experiment.name}") in figures:
        content.append(
            show_figure(
                figures,
                name,
                f"Differences to {experiment.reference} in points of pass@1, with 95 % intervals over {count} and "
                "tasks; hollow marks are noise.",
            )
        )
    for benchmark in experiment.benchmarks:
        cells = [cell for cell in experiment.cells if cell.benchmark == benchmark]
        if cells:
            content.append(_models(experiment, benchmark, cells))
            if experiment.layout:
                content.append(_matrix(experiment, benchmark, cells))
    content += _certainty(experiment)
    missing = len(experiment.arms) * len(experiment.benchmarks) - len(experiment.cells)
    if missing:
        content.append(note(f"{missing} of the scores of this experiment have not been made."))
    return section(f"experiment-{experiment.name}", experiment.name, *content)


def _models(experiment: Experiment, benchmark: str, cells: Sequence[Cell]) -> Markup:
    published = any(cell.published is not None for cell in cells)
    rows = []
    for cell in cells:
        made, found = cell.arm.made, cell.difference
        rows.append(
            (
                link(cell, cell.arm.model),
                under(share(cell.result.mean), f"{share(cell.result.low)[:-2]} to {share(cell.result.high)}"),
                *([f"{cell.published:g} %" if cell.published is not None else ""] if published else []),
                under(points(found.mean), span(found)) if found else "",
                show_p(cell.p) if cell.p is not None else "",
                cell.verdict,
                "" if cell.arm.pairs is None else f"{cell.arm.pairs:,.0f}",
                *(made[key] for key in ("base", "generator", "method", "selection")),
            )
        )
    columns = ("model", "pass@1", *(["published"] if published else []), "difference", "p", "verdict", "pairs")
    caption = (
        f"pass@1 on {benchmark}, mean over seeds, and the difference to {experiment.reference} in points, with 95 % "
        "intervals; p is corrected for the experiment's comparisons (Holm)"
    )
    numbers = [place for place, name in enumerate(columns) if name not in ("model", "verdict")]
    shown = [table(caption, (*columns, "base", "generator", "method", "selection"), rows, numeric=numbers, cards=True)]
    if published:
        shown.append(note(f"Published: {experiment.source}; not measured here."))
    return join(shown)


def _matrix(experiment: Experiment, benchmark: str, cells: Sequence[Cell]) -> Markup:
    across, down = experiment.layout["columns"], experiment.layout["rows"]
    columns = list(dict.fromkeys(cell.arm.made[across] for cell in cells))
    rows = []
    for row in dict.fromkeys(cell.arm.made[down] for cell in cells):
        shown = []
        for column in columns:
            here = [cell for cell in cells if (cell.arm.made[down], cell.arm.made[across]) == (row, column)]
            shown.append(join((_square(cell, several=len(here) > 1) for cell in here), ""))
        rows.append((row, *shown))
    caption = (
        f"pass@1 on {benchmark}: rows are {down}, columns {across}; below, the difference to {experiment.reference}"
    )
    return table(caption, (f"{down} \\ {across}", *columns), rows, numeric=range(1, len(columns) + 1))


def _square(cell: Cell, *, several: bool) -> Markup:
    told = "reference" if cell.difference is None else f"{points(cell.difference.mean)}, {cell.verdict}"
    below = [cell.arm.model] if several else []
    below += [told] + ([f"published {cell.published:g} %"] if cell.published is not None else [])
    return element("div", under(link(cell, share(cell.result.mean)), *below))


def _certainty(experiment: Experiment) -> list[Markup]:
    """Return how sure each comparison is, and what that is due to."""
    rows = []
    for cell in experiment.comparisons:
        found = cell.difference
        rows.append(
            (
                f"{cell.arm.model} on {cell.benchmark}" if len(experiment.benchmarks) > 1 else cell.arm.model,
                found.seeds,
                f"{found.tasks:,}",
                f"{100 * found.error:.1f}",
                f"{found.freedom:.1f}",
                "" if found.by_seeds is None else percent(found.by_seeds),
                "" if found.by_tasks is None else percent(found.by_tasks),
                f"{100 * cell.detectable:.1f}",
                f"{cell.better} / {cell.worse}",
            )
        )
    if not rows:
        return []
    columns = ("model", "seeds", "tasks", "standard error", "degrees of freedom", "due to seeds", "due to tasks")
    columns += ("detectable", "tasks better / worse")
    told = (
        "Standard error and detectable difference in points. The latter is the smallest true one that 80 % of such "
        "experiments would find, after the correction for their comparisons. What is due to neither seeds nor tasks is "
        "due to both together; more seeds make the first smaller, more tasks the second."
    )
    body = join((table("How sure the differences are", columns, rows, numeric=range(1, 9)), note(told)))
    return [details("How sure is this, and what would make it surer?", body)]


def overview(experiments: Sequence[Experiment]) -> Markup:
    """Return every model on every benchmark."""
    cells = {(cell.arm.model, cell.benchmark): cell for found in experiments for cell in found.cells}
    arms = {arm.model: arm for found in experiments for arm in found.arms}
    benchmarks = list(dict.fromkeys(name for found in experiments for name in found.benchmarks))
    rows = []
    for model, arm in arms.items():
        shown = []
        for benchmark in benchmarks:
            cell = cells.get((model, benchmark))
            low, high = (share(cell.result.low)[:-2], share(cell.result.high)) if cell else ("", "")
            shown.append(under(link(cell, share(cell.result.mean)), f"{low} to {high}") if cell else "")
        rows.append((model, arm.made["dataset"], len(arm.models), *shown))
    return section(
        "overview",
        "Models and benchmarks",
        table(
            "pass@1 with 95 % intervals, mean over seeds",
            ("model", "dataset", "seeds", *benchmarks),
            rows,
            numeric=range(2, len(benchmarks) + 3),
        ),
    )
