"""Draw every figure of a run, in the two widths that the page chooses from, with a description for those who listen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from selfalign.reporting import figures
from selfalign.reporting.artifacts import Run
from selfalign.reporting.experiments import Experiment
from selfalign.reporting.markup import Markup, drawing
from selfalign.reporting.quality_section import paint
from selfalign.reporting.round_figure import draw_rounds, panels
from selfalign.reporting.svg import NARROW, WIDE, draw, inline


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure in two widths."""

    name: str
    description: str
    wide: str
    narrow: str


def _draw(name: str, description: str, paint: Callable[[Figure], None], wide: float = WIDE) -> Drawing:
    return Drawing(name=name, description=description, wide=draw(paint, wide), narrow=draw(paint, NARROW))


def show_figure(drawings: Mapping[str, Drawing], name: str, caption: object) -> Markup:
    """Return a figure for the page; ids hold the name, so both drawings can stand in one page."""
    found = drawings[name]
    label = "".join(char if char.isalnum() else "-" for char in name)
    wide, narrow = (
        inline(svg, f"{label}-{kind}", found.description)
        for kind, svg in (("wide", found.wide), ("narrow", found.narrow))
    )
    return drawing(wide, narrow, caption)


def draw_experiments(experiments: Sequence[Experiment]) -> dict[str, Drawing]:
    """Return a figure of the differences of each experiment that has some."""
    found = {}
    for experiment in experiments:
        rows = [
            figures.Difference(
                group=cell.benchmark,
                name=cell.arm.model,
                mean=cell.difference.mean,
                low=cell.difference.low,
                high=cell.difference.high,
                decided=cell.decided,
            )
            for cell in experiment.comparisons
        ]
        if rows:
            name = f"experiment_{experiment.name}"
            told = "; ".join(f"{row.name} on {row.group} {100 * row.mean:+.1f}" for row in rows)
            description = f"Differences to {experiment.reference} in points: {told}"
            found[name] = _draw(name, description, lambda f, rows=rows: figures.differences(f, rows))
    return found


def draw_figures(run: Run) -> dict[str, Drawing]:
    """Return the figures that the run has data for, by file name without suffix."""
    found = []
    if run.scores:
        told = "; ".join(f"{s.label} {100 * s.pass_at_1:.1f} %" for s in run.scores)
        found.append(_draw("scores", f"pass@1 with 95 % intervals: {told}", lambda f: figures.scores(f, run.scores)))
    for name, dataset in run.datasets.items():
        told = "; ".join(f"{stage.name} {stage.input:,} to {stage.kept:,}" for stage in dataset.chain)
        found.append(
            _draw(f"funnel_{name}", f"Funnel of {name}: {told}", lambda f, rows=dataset.chain: figures.funnel(f, rows))
        )
    for name, made in run.generations.items():
        if not made.responses:
            continue
        told = "; ".join(f"{outcome} {count:,}" for outcome, count in made.outcomes.items())
        found.append(
            _draw(
                f"responses_{name}",
                f"What became of the responses of {name}: {told}",
                lambda f, made=made: figures.outcomes(f, made.outcomes),
            )
        )
        told = "; ".join(f"{count:,} instructions with {passed}" for passed, count in made.passes.items())
        found.append(
            _draw(
                f"passes_{name}",
                f"Passing responses per instruction of {name}: {told}",
                lambda f, made=made: figures.passes(f, made.passes, made.samples),
                wide=6,
            )
        )
    for name, made in run.quality.items():
        if made.confusion and made.passed:
            told = f"Share of right responses against the share that is kept, {name}"
            found.append(_draw(f"quality_{name}", told, lambda f, made=made: paint(f, made)))
    if run.trainings:
        told = "; ".join(f"{t.model} from {t.losses[0][1]:.3f} to {t.losses[-1][1]:.3f}" for t in run.trainings)
        models = list(run.config["models"])
        found.append(_draw("loss", f"Training loss: {told}", lambda f: figures.losses(f, run.trainings, models)))
    for rounds in run.rounds:
        shown, most = panels(rounds, rounds.scores(run.scores)), len(rounds.rounds)
        lines = [(f"{panel.title} {line.name}".strip(), line.values) for panel in shown for line in panel.lines]
        told = "; ".join(f"{name} {', '.join(f'{value:.4g}' for value in of.values())}" for name, of in lines)
        found.append(
            _draw(
                f"rounds_{rounds.name}",
                f"Rounds of {rounds.name}: {told}",
                lambda f, shown=shown, most=most: draw_rounds(f, shown, most),
            )
        )
    if run.costs:
        told = "; ".join(f"{c.stage} of {c.artifact} {figures.duration(c.wall_s)}" for c in run.costs)
        found.append(_draw("stages", f"Wall time by stage: {told}", lambda f: figures.costs(f, run.costs)))
    return {drawing.name: drawing for drawing in found}
