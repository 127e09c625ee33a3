"""Test quality on the page: the section, its tables and its figure."""

from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure

from selfalign.reporting.figures import percent
from selfalign.reporting.markup import Markup, element, paragraph, section, table
from selfalign.reporting.quality import CONSENSUS, MEASURES, Kept, Share, TestQuality
from selfalign.reporting.svg import GRID, INK, SERIES


def _told(share: Share) -> str:
    """Return a share with its interval and counts as text."""
    if not share.of:
        return "none counted"
    low, high = share.interval
    return f"{percent(share.part / share.of)} ({percent(low)} to {percent(high)}; {share.part:,} of {share.of:,})"


def _asked(row: Kept) -> str:
    name = MEASURES.get(row.measure, row.measure)
    return name if row.least is None else f"{name} at least {row.least:g}"


def quality_section(found: Mapping[str, TestQuality], figure: Mapping[str, Markup]) -> Markup | None:
    """Return the section of the page.

    Args:
        figure: Of generations with a known truth.
    """
    if not found:
        return None
    content = []
    for name, made in found.items():
        means = "; ".join(f"{MEASURES[one]} {percent(mean)}" for one, (mean, _) in made.means.items()) or "nothing more"
        content += [
            element("h3", name),
            paragraph(
                f"{made.passed:,} of {made.responses:,} verified responses passed their own tests. On average these "
                f"have: {means}."
            ),
        ]
        if made.suites:
            rows = [(reason or "could be used", f"{count:,}") for reason, count in made.suites.items()]
            content.append(table("Test suites written from the instruction alone", ("", "suites"), rows, numeric=(1,)))
        if made.confusion:
            rows = [
                (own, *(f"{made.confusion.get((passed, right), 0):,}" for right in (True, False)))
                for own, passed in (("passed its own tests", True), ("failed its own tests", False))
            ]
            rates = [(told, _told(rate)) for told, rate in made.rates.items()]
            content += [
                table("Responses by their own tests and the benchmark's", ("", "right", "wrong"), rows, numeric=(1, 2)),
                table("What their own tests say", ("", "share, 95 % interval over tasks"), rates),
            ]
        if len(made.kept) > 1:
            rows = [
                (
                    _asked(row),
                    f"{row.kept:,}",
                    percent(row.kept / made.passed),
                    *([_told(row.right)] if made.confusion else []),
                )
                for row in made.kept
            ]
            columns = ("asked for", "responses", "of those that passed", *(["right"] if made.confusion else []))
            content.append(table("What is left when more is asked for", columns, rows, numeric=(1, 2)))
        if name in figure:
            content.append(figure[name])
    return section("quality", "Test quality", *content)


def quality_rows(found: Mapping[str, TestQuality]) -> list[tuple]:
    """Return the rows of the CSV table: generation, asked for, least, kept, passed, right, judged, low, high."""
    return [
        (
            name,
            row.measure,
            row.least,
            row.kept,
            made.passed,
            *((row.right.part, row.right.of, *(row.right.interval or (None, None))) if row.right else (None,) * 4),
        )
        for name, made in found.items()
        for row in made.kept
    ]


def confusion_rows(found: Mapping[str, TestQuality]) -> list[tuple]:
    """Return the rows of the CSV table: generation, passed its own tests, is right, responses."""
    return [
        (name, str(passed).lower(), str(right).lower(), made.confusion.get((passed, right), 0))
        for name, made in found.items()
        if made.confusion
        for passed in (True, False)
        for right in (True, False)
    ]


def paint(figure: Figure, made: TestQuality) -> None:
    """Draw which share is right against which share is kept, a line for each measure."""
    width, height = figure.get_figwidth(), 3.6
    figure.set_figheight(height)
    top = 0.15 + 0.22 * (len(made.means) + 1 if width < 6 else 2 + len(made.means) // 2)
    axes = figure.add_axes((0.8 / width, 0.5 / height, 1 - 1.0 / width, 1 - (0.5 + top) / height))
    whole = made.kept[0]

    def points(rows: Iterable[Kept]) -> tuple[list[float], list[float]]:
        rows = [row for row in rows if row.right.of]
        return [row.kept / whole.kept for row in rows], [row.right.part / row.right.of for row in rows]

    for number, (measure, name) in enumerate(MEASURES.items()):
        if measure in made.means:
            rows = [whole, *(row for row in made.kept if row.measure == measure)]
            axes.plot(*points(rows), "o-", color=SERIES[number], linewidth=1.6, markersize=4, label=name)
    rest = [row for row in made.kept if row.measure == CONSENSUS]
    axes.plot(*points(rest), "D", color=INK, markersize=6, label=CONSENSUS)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("kept of the responses that passed their own tests")
    axes.set_ylabel("right")
    axes.grid(True, axis="both", color=GRID)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1 if width < 6 else 2, frameon=False, borderaxespad=0.2)
    axes.tick_params(length=0)
