"""The report's tables as CSV, and the result table that ends a run as text."""

import csv
import io
from collections.abc import Iterable, Sequence

from selfalign.reporting.artifacts import Run
from selfalign.reporting.comparisons import Comparison, other_pairs, points, show_p
from selfalign.reporting.experiment_text import answer
from selfalign.reporting.experiments import Experiment
from selfalign.reporting.figures import duration, percent
from selfalign.reporting.quality_section import confusion_rows, quality_rows
from selfalign.reporting.rounds import csv_rows


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return stream.getvalue()


def csv_tables(run: Run, compared: Sequence[Comparison], experiments: Sequence[Experiment] = ()) -> dict[str, str]:
    """Return file name to content: scores, differences, funnel, responses, stages; experiments and rounds if any."""
    chains = [(name, stage) for name, dataset in run.datasets.items() for stage in dataset.chain]
    if not chains:
        parts = [*run.corpora.items(), *((name, found.stages) for name, found in run.generations.items())]
        chains = [(name, stage) for name, stages in parts for stage in stages]
    more = {"experiments.csv": _experiments(experiments)} if experiments else {}
    more |= {"rounds.csv": _csv(*csv_rows(run.rounds))} if run.rounds else {}
    return (
        more
        | _quality_tables(run)
        | {
            "scores.csv": _csv(
                ("model", "benchmark", "tasks", "samples", "pass_at_1", "low", "high"),
                (
                    (score.model, score.benchmark, score.tasks, score.samples, score.pass_at_1, score.low, score.high)
                    for score in run.scores
                ),
            ),
            "differences.csv": _csv(
                (
                    "first",
                    "second",
                    "first_benchmark",
                    "second_benchmark",
                    "difference",
                    "low",
                    "high",
                    "p",
                    "excludes_0",
                ),
                (
                    (
                        c.first.model,
                        c.second.model,
                        c.first.benchmark,
                        c.second.benchmark,
                        c.difference,
                        c.low,
                        c.high,
                        c.p,
                        str(c.decided).lower(),
                    )
                    for c in (*compared, *other_pairs(run.first_scores, compared))
                ),
            ),
            "funnel.csv": _csv(
                ("artifact", "part", "stage", "input", "kept", "reason", "dropped"),
                (
                    (name, stage.part, stage.name, stage.input, stage.kept, reason, count)
                    for name, stage in chains
                    for reason, count in (stage.dropped.items() or [("", 0)])
                ),
            ),
            "responses.csv": _csv(
                ("generation", "outcome", "responses"),
                (
                    (name, outcome, count)
                    for name, found in run.generations.items()
                    for outcome, count in found.outcomes.items()
                ),
            ),
            "stages.csv": _csv(
                ("stage", "artifact", "jobs", "rows", "wall_s", "cpu_s", "rows_per_s", "tokens", "tokens_per_s"),
                (
                    (
                        cost.stage,
                        cost.artifact,
                        cost.jobs,
                        cost.rows,
                        cost.wall_s,
                        cost.cpu_s,
                        cost.rate(cost.rows),
                        cost.tokens,
                        cost.rate(cost.tokens),
                    )
                    for cost in run.costs
                ),
            ),
        }
    )


def _experiments(experiments: Sequence[Experiment]) -> str:
    made = ("base", "generator", "method", "corpus", "generation", "dataset", "selection")
    columns = ("experiment", "benchmark", "model", *made, "pairs", "seeds", "tasks", "pass_at_1", "low", "high")
    apart = ("difference", "difference_low", "difference_high", "standard_error", "degrees_of_freedom", "by_seeds")
    apart += ("by_tasks", "p", "p_corrected", "detectable", "verdict", "published")
    rows = []
    for found in experiments:
        for cell in found.cells:
            arm, result, other = cell.arm, cell.result, cell.difference
            row = [found.name, cell.benchmark, arm.model, *(arm.made[key] for key in made), arm.pairs]
            row += [result.seeds, result.tasks, result.mean, result.low, result.high]
            row += [other.mean, other.low, other.high, other.error, other.freedom] if other else [None] * 5
            row += [other.by_seeds, other.by_tasks, other.p] if other else [None] * 3
            rows.append([*row, cell.p, cell.detectable, cell.verdict, cell.published])
    return _csv((*columns, *apart), rows)


def _quality_tables(run: Run) -> dict[str, str]:
    """Return the tables of test quality, of runs that measured it."""
    kept = ("generation", "asked_for", "least", "kept", "passed", "right", "judged", "low", "high")
    confusion = ("generation", "passed_own_tests", "right", "responses")
    tables = {
        "test_quality.csv": (kept, quality_rows(run.quality)),
        "false_passes.csv": (confusion, confusion_rows(run.quality)),
    }
    return {name: _csv(columns, rows) for name, (columns, rows) in tables.items() if rows}


def align(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Return rows as aligned text; `right` names the columns that are set flush right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def title(run: Run) -> str:
    """Return run, seed and commit as one line."""
    git = (run.provenance or {}).get("git")
    commit = f", commit {git['commit'][:10]}{' with local changes' if git['dirty'] else ''}" if git else ""
    return f"Run {run.config['run']}, seed {run.config['seed']}{commit}"


def summary(run: Run, compared: Sequence[Comparison], experiments: Sequence[Experiment], pages: Sequence[str]) -> str:
    """Return the result table that ends a run; for a terminal, so a minus is a hyphen.

    Args:
        pages: Where the page is, and that of the experiments if there is one.
    """
    lines = [title(run), ""]
    if run.scores:
        rows = [("model", "benchmark", "tasks", "pass@1", "95 % interval")]
        rows += [
            (score.model, score.benchmark, f"{score.tasks:,}", f"{100 * score.pass_at_1:.1f} %", interval(score))
            for score in run.scores
        ]
        lines += [*align(rows, right=(2, 3, 4)), ""]
    if compared:
        rows = [("paired difference", "benchmark", "points", "95 % interval", "p", "the interval")]
        rows += [
            (
                c.label,
                c.first.benchmark,
                points(c.difference),
                f"{points(c.low)} to {points(c.high)}",
                show_p(c.p),
                c.words,
            )
            for c in compared
        ]
        lines += [*align(rows, right=(2, 3, 4)), ""]
    facts = [
        (f"pairs in {name}", f"{dataset.pairs:,}, {percent(dataset.passed_share)} of them verified")
        for name, dataset in run.datasets.items()
    ]
    for name, found in run.generations.items():
        passed = found.outcomes.get("passed", 0)
        facts.append((f"responses of {name}", f"{passed:,} of {found.responses:,} passed ({percent(found.pass_rate)})"))
    if run.costs:
        facts.append(("wall time", f"{duration(run.wall_s)}, all jobs summed"))
    facts += [(f"rounds {found.name}", found.outcome) for found in run.rounds]
    facts += [("not made", ", ".join(run.missing))] if run.missing else []
    facts += zip(("report", "experiments"), pages, strict=False)
    for found in experiments:
        lines += [f"{found.name}: {found.question}", f"  {answer(found)}", ""]
    return "\n".join([*lines, *align(facts, right=())]).replace("−", "-") + "\n"


def interval(score) -> str:
    """Return a score's interval as text."""
    return f"{100 * score.low:.1f} to {100 * score.high:.1f} %"
