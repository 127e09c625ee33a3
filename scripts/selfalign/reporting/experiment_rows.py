"""The way down from a score of an experiment: tasks, verdicts, and answers with what the sandbox saw."""

from collections.abc import Sequence

from selfalign.reporting.answers import FAILURES, PASSED, PASSES, Rows, Shown
from selfalign.reporting.experiment_text import anchor, note, share
from selfalign.reporting.experiments import Cell
from selfalign.reporting.markup import Markup, details, element, join, paragraph, section, table


def rows(cells: Sequence[tuple[Cell, Rows]]) -> Markup:
    """Return the tasks behind every cell, which the reader opens."""
    content = [
        paragraph(
            "Behind each score: the verdict on every task for each seed, and some answers with what the sandbox saw. "
            "They are chosen by the hash of the task's id, so that models are shown on the same tasks where these fail."
        )
    ]
    content += [_cell_rows(cell, found) for cell, found in cells]
    return section("rows", "Tasks and answers", *content)


def _cell_rows(cell: Cell, found: Rows) -> Markup:
    passed = [task for task, verdicts in found.verdicts.items() if set(verdicts) == {PASSED}]
    other = [(task, *verdicts) for task, verdicts in found.verdicts.items() if set(verdicts) != {PASSED}]
    content: list[object] = []
    if cell.difference is not None:
        content.append(note(f"Ahead of the reference on {cell.better} tasks, behind on {cell.worse}."))
    if passed:
        always = " with every seed" if len(cell.scores) > 1 else ""
        content.append(paragraph(element("strong", f"Passed{always} ({len(passed):,}): "), ", ".join(passed)))
    if other:
        columns = ("task", *(f"seed {number}" for number in cell.scores))
        verdicts = table("What became of the answers, by task and seed", columns, other)
        content.append(details(f"The other {len(other):,} tasks, seed by seed", verdicts))
    content += [_shown(one) for one in found.shown]
    told = " and ".join(f"at most {count} that {what}" for count, what in ((FAILURES, "failed"), (PASSES, "passed")))
    files = join((element("code", folder) for folder in found.folders), ", ")
    content.append(
        note(
            f"Shown are {told}, of {found.failures:,} and {found.passes:,}. All of them: completions.jsonl and "
            "verdicts.jsonl in ",
            files,
        )
    )
    seeds = f", {len(cell.scores)} seeds" if len(cell.scores) > 1 else ""
    title = join(
        (
            f"{cell.arm.model} on {cell.benchmark}: {share(cell.result.mean)}",
            element("span", f"{seeds}, {len(found.verdicts):,} tasks", class_="note"),
        ),
        "",
    )
    return details(title, join(content), id_=anchor(cell))


def _shown(shown: Shown) -> Markup:
    blocks = [
        element(
            "div",
            join((element("b", block.label), element("pre", block.text, class_="code" if block.code else "prose")), ""),
            class_="block",
        )
        for block in shown.blocks
    ]
    title = join((shown.task, element("span", f" · seed {shown.seed} · {shown.verdict}", class_="note")), "")
    return details(title, join(blocks))
