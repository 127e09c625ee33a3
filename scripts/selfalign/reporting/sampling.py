"""Tables on how the responses of a generation were sampled: how hard its instructions are, rounds, format failures."""

from collections import Counter

from selfalign.prompts.documents import DIFFICULTIES
from selfalign.records.rows import BANDS
from selfalign.reporting.artifacts import Run
from selfalign.reporting.figures import percent
from selfalign.reporting.funnels import REASONS_SHOWN
from selfalign.reporting.generations import Generation
from selfalign.reporting.markup import Markup, paragraph, table


def bands(run: Run, generation: str) -> list[Markup]:
    """Return how many instructions lie in each band of pass rates, by the difficulty that was asked for."""
    found = next((dataset for dataset in run.datasets.values() if dataset.generation == generation), None)
    if found is None:
        return []
    counts = Counter((row.band, row.difficulty) for row in found.difficulties)
    rows = [(band, *(f"{counts[band, asked]:,}" for asked in DIFFICULTIES)) for band in BANDS]
    columns = ("pass rate", *(f"asked to be {asked}" for asked in DIFFICULTIES))
    caption = "Instructions by the passed share of their verified responses"
    return [table(caption, columns, rows, numeric=range(1, len(columns)))]


def rounds(made: Generation) -> list[Markup]:
    """Return what each round of responses brought, where there are several."""
    if len(made.rounds) < 2:
        return []
    rows = [
        (number, f"{found.asked:,}", f"{found.responses:,}", f"{found.passed:,}", f"{found.enough:,}")
        for number, found in enumerate(made.rounds)
    ]
    columns = ("round", "instructions asked", "responses", "passed", "instructions with enough then")
    return [
        table("Rounds of responses", columns, rows, numeric=range(5)),
        paragraph(
            "Later rounds are of harder instructions, so the pass rates above are lower than those of one round."
        ),
    ]


def format_failures(made: Generation) -> list[Markup]:
    """Return how many completions of each stage could not be used, by kind."""
    rows = [
        (stage.name, reason, f"{stage.dropped[reason]:,}", percent(stage.dropped[reason] / stage.input))
        for stage in made.stages
        if stage.name != "verdicts"
        for reason in stage.commonest_reasons(REASONS_SHOWN)
    ]
    caption = f"Format failures; response documents are marked by {made.tags}"
    return (
        [table(caption, ("stage", "kind", "completions", "share of the stage"), rows, numeric=(2, 3))] if rows else []
    )
