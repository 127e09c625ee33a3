"""Rounds on the page: their monitors side by side, which limit ended them, and what each round's model scores."""

from collections.abc import Callable, Mapping

from selfalign.reporting.artifacts import Run
from selfalign.reporting.figures import percent
from selfalign.reporting.gallery import Drawing, show_figure
from selfalign.reporting.markup import Markup, element, join, paragraph, section, table
from selfalign.reporting.rounds import Round, Rounds

Show = Callable[[float], str]
COLUMNS = (  # header, monitor, how it is shown; what stands below it: monitor, and how that is shown
    ("passed", "pass_rate", percent, None, None),
    ("like another", "duplicate_rate", percent, "exact_duplicates", lambda share: f"exactly {percent(share)}"),
    ("had before", "repeated", percent, None, None),
    ("entropy", "concept_entropy", "{:.2f} bits".format, "different_concepts", "{:,} concepts".format),
    ("words", "instruction_words", "{:.1f}".format, "instruction_words_deviation", "± {:.1f}".format),
    (
        "characters",
        "response_characters",
        "{:,.0f}".format,
        "response_characters_deviation",
        "± {:,.0f}".format,
    ),
    ("pairs", "pairs", "{:,}".format, None, None),
)


def rounds(run: Run, drawings: Mapping[str, Drawing]) -> Markup | None:
    """Return the section on rounds."""
    if not run.rounds:
        return None
    content = [
        paragraph(
            "In each round the model of the round before generates. Shares are of the round's instructions, ± is the "
            "standard deviation. Limits tell collapse; no round is chosen by its score."
        )
    ]
    for found in run.rounds:
        content += [
            element("h3", found.name),
            paragraph(f"{found.outcome[:1].upper()}{found.outcome[1:]}."),
        ]
        if (name := f"rounds_{found.name}") in drawings:
            content.append(show_figure(drawings, name, "What was watched, by round; a ring is what broke a limit."))
        content.append(_table(run, found))
    return section("rounds", "Rounds", *content)


def _table(run: Run, found: Rounds) -> Markup:
    scores = found.scores(run.scores)
    benchmarks = list(dict.fromkeys(name for of in scores.values() for name in of))
    rows = []
    for one in found.rounds:
        judged = join(("stop" if one.broken else "go", element("span", one.entries["model"], class_="of")), "")
        cells = [_cell(one, *column[1:]) for column in COLUMNS]
        scored = [percent(scores[one.number][name]) if name in scores[one.number] else "none" for name in benchmarks]
        rows.append((one.number, judged, *cells, *scored))
    shown = (*(column[0] for column in COLUMNS), *(f"pass@1, {name}" for name in benchmarks))
    columns = ("round", "judged, model", *shown)
    return table(
        f"Rounds of {found.name}: words of instructions, characters of responses",
        columns,
        rows,
        numeric=(0, *range(2, len(columns))),
    )


def _cell(one: Round, monitor: str, show: Show, below: str | None, show_below: Show | None) -> Markup:
    value = one.monitors[monitor]
    told = "none" if value is None else show(value)
    pieces = [element("strong", f"{told}, breaks a limit") if one.breaks(monitor) else told]
    if below is not None and show_below is not None and (more := one.monitors[below]) is not None:
        pieces.append(element("span", show_below(more), class_="of"))
    return join(pieces, "")
