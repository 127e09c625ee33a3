"""What experiments say in words, and the small pieces that all sections of their page use."""

from selfalign.reporting.comparisons import points, show_p
from selfalign.reporting.effects import Effect
from selfalign.reporting.experiments import Cell, Experiment
from selfalign.reporting.markup import Markup, element, join

TOLD = 4  # comparisons that the answer of an experiment names one by one


def span(effect: Effect) -> str:
    """Return the interval of a difference in points."""
    return f"{points(effect.low)} to {points(effect.high)}"


def share(value: float) -> str:
    """Return a share in percent with one digit, as scores are told."""
    return f"{100 * value:.1f} %"


def under(value: object, *below: object) -> Markup:
    """Return a value with smaller lines below it."""
    return join((value, *(element("span", line, class_="of") for line in below)), "")


def note(*pieces: object) -> Markup:
    """Return a paragraph that stands back."""
    return element("p", join(pieces, ""), class_="note")


def anchor(cell: Cell) -> str:
    """Return the id of a cell's rows."""
    return f"rows-{cell.arm.model}-on-{cell.benchmark}"


def link(cell: Cell, label: object) -> Markup:
    """Return a label that leads to a cell's rows."""
    return element("a", label, href=f"#{anchor(cell)}")


def answer(experiment: Experiment) -> str:
    """Return in words what the comparisons of an experiment say."""
    compared = experiment.comparisons
    if not compared:
        return "Not answered yet: its scores have not been made."
    if len(compared) <= TOLD:
        told = (_told(cell, len(compared), several=len(experiment.benchmarks) > 1) for cell in compared)
        return f"Against {experiment.reference}: {'; '.join(told)}."
    decided = [cell for cell in compared if cell.decided]
    first = f"{len(decided)} of {len(compared)} comparisons with {experiment.reference} are more than noise"
    if not decided:
        return f"{first}."
    most = max(decided, key=lambda cell: abs(cell.difference.mean))
    return (
        f"{first}; the largest is {most.arm.model} on {most.benchmark} with {points(most.difference.mean)} points "
        f"(95 % interval {span(most.difference)})."
    )


def _told(cell: Cell, comparisons: int, *, several: bool) -> str:
    """Return one comparison in words: how far apart, and whether that is more than noise."""
    found = cell.difference
    where = f" on {cell.benchmark}" if several else ""
    apart = f"{cell.arm.model} {points(found.mean)} points{where} (95 % interval {span(found)})"
    if cell.decided:
        return f"{apart}, {'better' if found.mean > 0 else 'worse'}"
    by_chance = found.low > 0 or found.high < 0  # one of several comparisons looks like more, now and then
    among = f" among {comparisons} comparisons (p {show_p(cell.p)})" if by_chance else ""
    least = f"{100 * cell.detectable:.1f} points" if cell.detectable < 1 else "no difference, however large"
    return f"{apart}, which is noise{among}: this experiment could have seen {least}"
