"""The report's figures. Each function paints on a figure whose width is set, and sets the height itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import MaxNLocator

from selfalign.reporting.artifacts import Score, Training
from selfalign.reporting.costs import Cost
from selfalign.reporting.funnels import Stage
from selfalign.reporting.svg import FLOW, GRID, INK, KEPT, LABEL, LOST, MUTED, NARROW, PAPER, SERIES


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One line of the figure of differences."""

    group: str
    name: str
    mean: float
    low: float
    high: float
    decided: bool


EM = 0.62  # mean width of a DejaVu Sans character, as a fraction of its size


def percent(share: float) -> str:
    """Return a share as a percentage, with one digit below 10 % and where it would else round to 100 %."""
    value = 100 * share
    if 99.5 <= value < 100:
        return f"{min(value, 99.9):.1f} %"
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def duration(seconds: float) -> str:
    """Return a time as a person says it: 0.4 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def _fit(text: str, inches: float, size: float) -> bool:
    return len(text) * size * EM / 72 < inches


def _margin(names: Sequence[str], width: float) -> float:
    """Return the inches that the longest name needs left of the axes, at most half of the figure."""
    return min(0.25 + max(map(len, names)) * 10 * EM / 72, width / 2)


def _beside(axes, value: float, place: int, text: str) -> None:
    """Write a value to the right of the end of its bar."""
    axes.annotate(text, (value, place), (4, 0), textcoords="offset points", va="center", size=8.5, color=MUTED)


def _axes(figure: Figure, height: float, *, left: float, right: float, top: float, bottom: float):
    """Set the figure's height and return axes with the given margins, all in inches."""
    width = figure.get_figwidth()
    figure.set_figheight(height)
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure.add_axes(box)


def funnel(figure: Figure, stages: Sequence[Stage]) -> None:
    """Draw one bar per stage, its input as 100 %; the kept part widens into the bar of the next stage.

    A stage that drops nothing has a thin bar.
    """
    width = figure.get_figwidth()
    caption, flow = 0.30, 0.24  # inches above and below a bar
    heights = [0.30 if stage.dropped else 0.08 for stage in stages]
    tops = [-caption - sum(heights[:number]) - (caption + flow) * number for number in range(len(stages))]
    end = tops[-1] - heights[-1]
    axes = _axes(figure, 0.15 - end, left=0.02, right=0.02, top=0.05, bottom=0.1)
    span = width - 0.04
    axes.set_xlim(0, span)
    axes.set_ylim(end, 0)
    axes.axis("off")
    for number, (stage, top, height) in enumerate(zip(stages, tops, heights, strict=True)):
        bottom = top - height
        times = f"  ({stage.times})" if stage.times else ""
        name = axes.text(0, top + 0.07, f"{stage.name}{times}", weight="bold", va="bottom", color=INK)
        if number == 0 or stages[number - 1].part != stage.part:
            axes.annotate(
                f"  {stage.part}",
                (1, 0),
                xycoords=name,
                textcoords="offset points",
                xytext=(4, 0),
                color=MUTED,
                va="bottom",
            )
        counts = f"{stage.input:,} → {stage.kept:,} ({percent(stage.share)})"
        axes.text(span, top + 0.07, counts, va="bottom", ha="right", color=MUTED)
        kept = span * stage.share
        axes.add_patch(Rectangle((0, bottom), kept, top - bottom, color=KEPT, linewidth=0))
        start = kept
        losses = sorted(stage.dropped.items(), key=lambda item: -item[1])
        for place, (reason, count) in enumerate(losses):
            part = span * count / stage.input
            colour = LOST[min(place, len(LOST) - 1)]
            axes.add_patch(
                Rectangle((start, bottom), part, top - bottom, facecolor=colour, edgecolor=PAPER, linewidth=0.6)
            )
            label = next((text for text in (f"{reason} {count:,}", reason) if _fit(text, part - 0.1, 8)), None)
            if label:
                axes.text(start + 0.06, (top + bottom) / 2, label, va="center", size=8, color=LABEL)
            start += part
        if number + 1 < len(stages):
            below = tops[number + 1]
            corners = [(0, bottom), (kept, bottom), (span, below + caption - 0.03), (span, below), (0, below)]
            axes.add_patch(Polygon(corners, closed=True, facecolor=FLOW, edgecolor="none", zorder=0))


def outcomes(figure: Figure, counts: Mapping[str, int]) -> None:
    """Draw what became of the responses, one bar per verdict or drop reason, the most frequent first."""
    total = sum(counts.values())
    names = sorted(counts, key=lambda name: (name != "passed", -counts[name]))
    axes = _axes(
        figure, 0.34 * len(names) + 0.35, left=_margin(names, figure.get_figwidth()), right=1.15, top=0.05, bottom=0.3
    )
    axes.barh(
        names,
        [100 * counts[name] / total for name in names],
        height=0.62,
        color=[KEPT if name == "passed" else LOST[0] for name in names],
    )
    for row, name in enumerate(names):
        _beside(axes, 100 * counts[name] / total, row, f"{counts[name]:,} ({percent(counts[name] / total)})")
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.xaxis.set_major_formatter("{x:.0f} %")
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def passes(figure: Figure, counts: Mapping[int, int], samples: Sequence[int]) -> None:
    """Draw how many instructions have 0, 1, ... passing responses.

    Args:
        samples: Responses per instruction after each round.
    """
    axes = _axes(figure, 2.6, left=0.7, right=0.1, top=0.3, bottom=0.55)
    places = range(samples[-1] + 1)
    heights = [counts.get(place, 0) for place in places]
    axes.bar(places, heights, width=0.7, color=[LOST[0] if place == 0 else KEPT for place in places])
    for place, height in zip(places, heights, strict=True):
        axes.text(place, height, f"{height:,}", ha="center", va="bottom", size=8.5, color=MUTED)
    axes.set_xticks(list(places))
    axes.set_xlabel(f"responses that passed, of {' or '.join(map(str, samples))} per instruction")
    axes.set_ylabel("instructions")
    axes.tick_params(length=0)


def scores(figure: Figure, rows: Sequence[Score]) -> None:
    """Draw pass@1 with its 95 % interval, one line per model, grouped by benchmark."""
    benchmarks = list(dict.fromkeys(row.benchmark for row in rows))
    models = list(dict.fromkeys(row.model for row in rows))
    lines = len(rows) + len(benchmarks)
    left = _margin(models, figure.get_figwidth())
    axes = _axes(figure, 0.36 * lines + 0.5, left=left, right=0.75, top=0.05, bottom=0.45)
    place, ticks = 0, []
    for benchmark in benchmarks:
        axes.text(0, place, benchmark, weight="bold", va="center", ha="left")
        for row in rows:
            if row.benchmark == benchmark:
                place += 1
                colour = SERIES[models.index(row.model) % len(SERIES)]
                axes.plot(
                    [100 * row.low, 100 * row.high],
                    [place, place],
                    color=colour,
                    linewidth=5,
                    alpha=0.35,
                    solid_capstyle="butt",
                )
                axes.plot([100 * row.pass_at_1], [place], "o", color=colour, markersize=8, clip_on=False, zorder=3)
                axes.text(
                    1.02,
                    place,
                    f"{100 * row.pass_at_1:.1f} %",
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    color=INK,
                )
                ticks.append((place, row.model))
        place += 1
    axes.set_yticks([tick for tick, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlim(0, max(10, min(100, 108 * max(row.high for row in rows))))
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter("{x:.0f} %")
    axes.set_xlabel("pass@1, with 95 % interval")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)


def differences(figure: Figure, rows: Sequence[Difference]) -> None:
    """Draw differences with their intervals beside a line at 0, grouped; a hollow mark is one that is not decided.

    Names stand left of the lines, or above them where there is no room.
    """
    groups = list(dict.fromkeys(row.group for row in rows))
    names = list(dict.fromkeys(row.name for row in rows))
    heads, width = len(groups) > 1, figure.get_figwidth()
    above = not _fit(max(names, key=len), width / 2 - 0.25, 10)
    step = 0.52 if above else 0.36  # inches
    lines = len(rows) * step + (0.36 * len(groups) if heads else 0)
    left = 0.15 if above else _margin(names, width)
    axes = _axes(figure, lines + 0.6, left=left, right=0.6, top=0.05, bottom=0.55)
    low, high = min(0, *(row.low for row in rows)), max(0, *(row.high for row in rows))
    axes.set_xlim(100 * (low - 0.05 * (high - low)), 100 * (high + 0.05 * (high - low)))
    axes.set_ylim(lines, 0)
    beside = axes.get_yaxis_transform()  # across in parts of the axes, down in inches as set above

    def label(text: str, down: float, weight: str = "normal", *, flush: bool = above) -> None:
        shift, side = (0, "left") if flush else (-6, "right")  # points
        where = {"xycoords": beside, "textcoords": "offset points", "ha": side, "va": "center"}
        axes.annotate(text, (0, down), (shift, 0), weight=weight, color=INK, **where)

    top = 0.0
    for group in groups:
        if heads:
            label(group, top + 0.18, "bold", flush=True)
            top += 0.36
        for row in (row for row in rows if row.group == group):
            place = top + step - 0.18
            label(row.name, top + 0.13 if above else place)
            colour = SERIES[names.index(row.name) % len(SERIES)]
            ends, mean = [100 * row.low, 100 * row.high], 100 * row.mean
            axes.plot(ends, [place, place], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
            inside = colour if row.decided else PAPER
            axes.plot([mean], [place], "o", color=colour, mfc=inside, mew=1.8, markersize=8, zorder=3)
            told = f"{mean:+.1f}".replace("-", "−")
            axes.text(1.02, place, told, transform=beside, va="center", color=INK)
            top += step
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_yticks([])
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("difference of pass@1, points")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)


def losses(figure: Figure, trainings: Sequence[Training], models: Sequence[str]) -> None:
    """Draw the loss of every trained model; `models` fixes the colours, as in the scores."""
    columns = 3 if figure.get_figwidth() <= NARROW else 6
    legend = 0.1 + 0.22 * -(-len(trainings) // columns)
    axes = _axes(figure, 2.9 + legend, left=0.6, right=0.15, top=legend, bottom=0.5)
    for training in trainings:
        steps, values = zip(*training.losses, strict=True)
        colour = SERIES[list(models).index(training.model) % len(SERIES)]
        marker = "o" if len(steps) < 3 else None
        axes.plot(steps, values, color=colour, linewidth=1.8, marker=marker, label=training.model)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, borderaxespad=0.2, handlelength=1.2
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(True, axis="both", color=GRID)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss on the responses")
    axes.tick_params(length=0)


def costs(figure: Figure, rows: Sequence[Cost]) -> None:
    """Draw the wall time of every stage, the jobs of one stage summed."""
    narrow = figure.get_figwidth() <= NARROW
    names = [f"{row.stage}\n{row.artifact}" if narrow else f"{row.stage}, {row.artifact}" for row in rows]
    axes = _axes(
        figure,
        (0.46 if narrow else 0.34) * len(rows) + 0.45,
        left=_margin([line for name in names for line in name.split("\n")], figure.get_figwidth()),
        right=1.0,
        top=0.05,
        bottom=0.4,
    )
    axes.barh(range(len(rows)), [row.wall_s for row in rows], height=0.62, color=SERIES[0])
    axes.set_yticks(range(len(rows)), names, size=8.5)
    for place, row in enumerate(rows):
        _beside(axes, row.wall_s, place, duration(row.wall_s))
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlabel("wall time of the jobs, summed (s)")
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
