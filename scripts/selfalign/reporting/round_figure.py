"""The figure of rounds: one small panel for each thing that is watched, and one for the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from selfalign.reporting.rounds import Rounds
from selfalign.reporting.svg import GRID, INK, NARROW, SERIES


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values by round; `broken` are the rounds in which a limit was broken by this."""

    name: str
    values: Mapping[int, float]
    broken: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines that share an axis."""

    title: str
    lines: tuple[Line, ...]


def panels(found: Rounds, scores: Mapping[int, Mapping[str, float]]) -> list[Panel]:
    """Return what there is to draw.

    Args:
        scores: pass@1 by round and benchmark.
    """

    def line(name: str, monitor: str, factor: float = 100) -> Line:
        values = {one.number: one.monitors[monitor] for one in found.rounds}
        return Line(
            name=name,
            values={number: factor * value for number, value in values.items() if value is not None},
            broken=tuple(one.number for one in found.rounds if one.breaks(monitor)),
        )

    def relative(name: str, monitor: str) -> Line:
        first = found.rounds[0].monitors[monitor]
        return line(name, monitor, 100 / first if first else 0)

    benchmarks = dict.fromkeys(name for of in scores.values() for name in of)
    wanted = [
        ("responses passed, %", [line("", "pass_rate")]),
        ("instructions, %", [line("like another", "duplicate_rate"), line("had before", "repeated")]),
        ("entropy of concepts, bits", [line("", "concept_entropy", 1)]),
        (
            "length, % of round 1",
            [relative("instructions", "instruction_words"), relative("responses", "response_characters")],
        ),
        ("pairs", [line("", "pairs", 1)]),
        (
            "pass@1, %",
            [
                Line(name=name, values={number: 100 * of[name] for number, of in scores.items() if name in of})
                for name in benchmarks
            ],
        ),
    ]
    drawn = [(title, tuple(one for one in lines if one.values)) for title, lines in wanted]
    return [Panel(title=title, lines=lines) for title, lines in drawn if lines]


def draw_rounds(figure: Figure, shown: Sequence[Panel], most: int) -> None:
    """Draw the panels, three in a row where there is room, else two.

    Args:
        most: Of the rounds; the same axis for all panels.
    """
    width = figure.get_figwidth()
    columns = 2 if width <= NARROW else 3
    rows = -(-len(shown) // columns)
    high, left, gap = 2.1, 0.45, 0.12  # inches
    figure.set_figheight(high * rows)
    for place, panel in enumerate(shown):
        row, column = divmod(place, columns)
        wide = width / columns
        legend = 0.2 * len(panel.lines) if len(panel.lines) > 1 else 0
        box = (column * wide + left, high * (rows - row - 1) + 0.4, wide - left - gap, high - 0.4 - 0.32 - legend)
        axes = figure.add_axes((box[0] / width, box[1] / (high * rows), box[2] / width, box[3] / (high * rows)))
        for number, line in enumerate(panel.lines):
            colour = SERIES[number % len(SERIES)]
            points = list(zip(*line.values.items(), strict=True))
            axes.plot(*points, "o-", color=colour, linewidth=1.8, label=line.name, clip_on=False)
            for broken in line.broken:
                if broken in line.values:
                    axes.plot([broken], [line.values[broken]], "o", markersize=12, fillstyle="none", color=SERIES[4])
        if legend:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.1, handlelength=1.2,
                        fontsize=8.5, labelspacing=0.15)  # fmt: skip
        axes.annotate(panel.title, (0, 1), (0, 72 * legend + 8), xycoords="axes fraction", textcoords="offset points",
                      weight="bold", size=9, color=INK)  # fmt: skip
        axes.set_xlim(0.7, most + 0.3)
        highest = max(value for line in panel.lines for value in line.values.values())
        axes.set_ylim(0, 1.15 * highest or 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round")
        axes.grid(True, axis="both", color=GRID)
        axes.tick_params(length=0)
