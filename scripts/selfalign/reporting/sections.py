"""The sections of the page. Each returns None when the run has nothing to tell in it."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import yaml

from selfalign.prompts.documents import CATEGORIES, DIFFICULTIES
from selfalign.reporting.artifacts import Run, Score
from selfalign.reporting.comparisons import Comparison, other_pairs, points, show_p, win_rates
from selfalign.reporting.examples import Example
from selfalign.reporting.figures import duration, percent
from selfalign.reporting.funnels import REASONS_SHOWN, Stage
from selfalign.reporting.gallery import Drawing, show_figure
from selfalign.reporting.markup import Markup, definitions, details, element, join, paragraph, section, table
from selfalign.reporting.published import PAPER, PUBLISHED, published_columns
from selfalign.reporting.quality_section import quality_section
from selfalign.reporting.sampling import bands, format_failures, rounds
from selfalign.reporting.tables import interval

Drawings = Mapping[str, Drawing]


def _bar(share: float) -> Markup:
    return Markup(f'<span class="bar" aria-hidden="true" style="width: {8 * share:.2f}rem"></span> ')


def _note(*pieces: object) -> Markup:
    return element("p", join(pieces, ""), class_="note")


def scores(run: Run, compared: Sequence[Comparison], drawings: Drawings) -> Markup | None:
    """Return pass@1 of every model and the paired differences."""
    if not run.scores:
        return None
    copies = len(run.first_scores) < len(run.scores)
    rows = [
        (s.model, s.benchmark, f"{100 * s.pass_at_1:.1f} %", interval(s), f"{s.tasks:,}", s.samples, _failures(s))
        for s in run.scores
    ]
    columns = ("model", "benchmark", "pass@1", "95 % interval", "tasks", "samples", "most frequent failures")
    content = [
        show_figure(
            drawings, "scores", "pass@1: the share of tasks that the first answer solves. Bands are 95 % intervals."
        ),
        table("pass@1 of every model on every benchmark", columns, rows, numeric=(2, 3, 4, 5)),
        *_matrix(run.scores),
        *_left_out(run.scores),
    ]
    if compared:
        content += [
            element("h3", "Is the difference real?"),
            _differences("Paired differences of pass@1 over the same tasks, in points", compared),
        ]
    if others := other_pairs(run.first_scores, compared):
        caption = "Paired differences of all other models, in points"
        content.append(details(f"All other pairs of models ({len(others):,})", _differences(caption, others)))
    content += _by_group(run.scores)
    content.append(
        _note(
            "Intervals are over tasks, for this one seed: they do not cover the luck of training and sampling. p is "
            "of a two-sided permutation test on the same tasks; with many comparisons some are small by chance.",
            " Of replicates the first are compared here; experiments compare over all." if copies else "",
        )
    )
    return section("scores", "Scores", *content)


def _differences(caption: str, compared: Sequence[Comparison]) -> Markup:
    rows = [
        (c.label, points(c.difference), f"{points(c.low)} to {points(c.high)}", show_p(c.p), c.words, c.first.benchmark)
        for c in compared
    ]
    columns = ("difference", "points", "95 % interval", "p", "the interval", "benchmark")
    return table(caption, columns, rows, numeric=(1, 2, 3))


def _matrix(scores: Sequence[Score]) -> list[Markup]:
    """Return models x metrics, and below them the paper's models where it has the same benchmarks."""
    cells: dict[tuple[str, str], dict[str, str]] = {}  # (benchmark, metric) to model to text
    published: dict[tuple[str, str], str] = {}
    rates = win_rates(scores)
    for score in scores:
        for metric, found in score.data.get("metrics", {}).items():
            column = score.benchmark, metric
            low, high = found["interval"]
            shown = f"{100 * found['pass@1']:.1f} ({100 * low:.1f}–{100 * high:.1f})"
            cells.setdefault(column, {})[score.model] = shown
            if (name := published_columns(score).get(metric)) is not None:
                published[column] = name
        extra = {metric: found["value"] for metric, found in score.data.get("extra", {}).items()}
        if (key := (score.benchmark, score.model)) in rates:
            extra["win_rate"] = rates[key]
        for metric, value in extra.items():
            column = score.benchmark, metric
            shown = "none" if value is None else f"{100 * value:.1f}"
            cells.setdefault(column, {})[score.model] = shown
            if (name := published_columns(score).get(metric)) is not None:
                published[column] = name
    if len(cells) < 2 and not published:
        return []
    several = {benchmark for benchmark, _ in cells if sum(other == benchmark for other, _ in cells) > 1}
    names = [f"{benchmark}: {metric}" if benchmark in several else benchmark for benchmark, metric in cells]
    models = dict.fromkeys(score.model for score in scores)
    rows = [(model, *(column.get(model, "") for column in cells.values())) for model in models]
    tables = [
        table(
            "Models x benchmarks, in percent, with 95 % intervals, measured in this run",
            ("model", *names),
            rows,
            numeric=range(1, len(names) + 1),
        )
    ]
    if published:
        shown = [(names[place], published[column]) for place, column in enumerate(cells) if column in published]
        known = dict.fromkeys(model for _, name in shown for model in PUBLISHED[name][1])
        rows = [(model, *(PUBLISHED[name][1].get(model, "") for _, name in shown)) for model in known]
        headers = (f"{label} (table {PUBLISHED[name][0]}: {name})" for label, name in shown)
        tables.append(
            details(
                f"Published in {PAPER}, not measured here",
                join(
                    [
                        table(
                            f"Scores of other models as {PAPER} gives them, in percent; one run each, no intervals",
                            ("model, published", *headers),
                            rows,
                            numeric=range(1, len(shown) + 1),
                        ),
                        _note(
                            "Other prompts, versions and machines: a difference to a measured row has such causes, too."
                        ),
                    ]
                ),
                opened=True,
            )
        )
    return tables


def _left_out(scores: Sequence[Score]) -> list[Markup]:
    """Name the tasks that are not scored, of each benchmark."""
    found: dict[str, dict[str, str]] = {}
    for score in scores:
        found.setdefault(score.benchmark, {}).update(score.data.get("left_out", {}))
    tasks = {score.benchmark: score.tasks for score in scores}
    return [
        details(
            f"{benchmark}: {len(left_out):,} of {tasks[benchmark] + len(left_out):,} tasks are not scored, as their "
            "reference solutions do not pass here",
            definitions(left_out),
        )
        for benchmark, left_out in found.items()
        if left_out
    ]


def _by_group(scores: Sequence[Score]) -> list[Markup]:
    """Return pass@1 by category, difficulty and the like: a table for each benchmark and field of several values."""
    tables = []
    for benchmark in dict.fromkeys(score.benchmark for score in scores):
        shown = [score for score in scores if score.benchmark == benchmark]
        for label in dict.fromkeys(field for score in shown for field in score.data["groups"]):
            found = [score.data["groups"].get(label, {}) for score in shown]
            groups = _known_order({name for one in found for name in one})
            if len(groups) < 2:
                continue
            rows = [(group, *(_group_score(one.get(group)) for one in found)) for group in groups]
            columns = (label, *(score.model for score in shown))
            tables.append(table(f"pass@1 on {benchmark} by {label}", columns, rows, numeric=range(1, len(columns))))
    return tables


def _group_score(found: Mapping | None) -> str:
    return f"{100 * found['pass@1']:.1f} % of {found['tasks']:,}" if found else "none"


def _known_order(names: Iterable[str]) -> list[str]:
    """Return categories and difficulties in their known order, unknown ones last."""
    known = (*CATEGORIES, *DIFFICULTIES)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def _failures(score: Score) -> str:
    failed = sorted(
        ((count, name) for name, count in score.verdicts.items() if name != "passed" and count), reverse=True
    )
    return ", ".join(f"{name} {count:,}" for count, name in failed[:3]) or "none"


def funnel_rows(caption: str, stages: Sequence[Stage]) -> Markup:
    """Return one row for each stage: what came in, what was kept, and why the rest was not."""
    rows = []
    for stage in stages:
        name = f"{stage.name} ({stage.times})" if stage.times else stage.name
        rows.append((name, f"{stage.input:,}", f"{stage.kept:,}", percent(stage.share), _reasons(stage), stage.part))
    return table(caption, ("stage", "in", "kept", "share", "dropped, by reason", "part"), rows, numeric=(1, 2, 3))


def _reasons(stage: Stage) -> str:
    """Return why a stage dropped rows, the commonest reasons first; words and licences can make hundreds of them."""
    commonest = stage.commonest_reasons(REASONS_SHOWN)
    told = [f"{reason} {stage.dropped[reason]:,}" for reason in commonest]
    if len(commonest) < len(stage.dropped):
        rest = sum(stage.dropped.values()) - sum(stage.dropped[reason] for reason in commonest)
        told.append(f"{len(stage.dropped) - len(commonest):,} other reasons {rest:,}")
    return ", ".join(told or ["none dropped"]) + (f"; {stage.changed:,} changed" if stage.changed else "")


def funnel(run: Run, drawings: Drawings) -> Markup | None:
    """Return the way from functions to pairs, for every dataset."""
    if not run.corpora and not run.generations and not run.datasets:
        return None
    bars = "Each bar is all that enters a stage; the green part is kept and widens into the next bar. "
    checked = "Kept and dropped add up in every stage, and so do the stages: this was checked."
    content = [paragraph(bars if run.datasets else "", checked)]
    for place, (name, dataset) in enumerate(run.datasets.items()):
        told = f"From the functions of the corpus to the {dataset.pairs:,} pairs of {name}."
        beside = " and ".join(f"{count:,} {kind}" for kind, count in dataset.others.items())
        body = join(
            (
                show_figure(drawings, f"funnel_{name}", told),
                funnel_rows(f"Stages of {name}", dataset.chain),
                _note(f"Beside the pairs: {beside}, of all instructions."),
            )
        )
        content.append(details(f"{name}: {dataset.pairs:,} pairs", body, opened=place == 0))
    if not run.datasets:
        parts = [*run.corpora.items(), *((name, made.stages) for name, made in run.generations.items())]
        content += [funnel_rows(f"Stages of {name}", stages) for name, stages in parts]
    return section("funnel", "From functions to pairs", *content)


def responses(run: Run, drawings: Drawings) -> Markup | None:
    """Return pass rates and drop reasons of the responses of every generation."""
    if not run.generations:
        return None
    content = []
    for name, made in run.generations.items():
        if not made.responses:
            content += [element("h3", name), paragraph("No response was sampled: no instruction was kept.")]
            continue
        passed = made.outcomes.get("passed", 0)
        content += [
            element("h3", name),
            paragraph(
                element("strong", f"{passed:,} of {made.responses:,} responses passed"),
                f" the tests that the model wrote with them ({percent(made.pass_rate)}).",
            ),
            show_figure(
                drawings,
                f"responses_{name}",
                "What became of the responses: passed, the sandbox's verdict, or the "
                "reason why a response could not be run.",
            ),
        ]
        for kind, shares in (("category", made.by_category), ("difficulty", made.by_difficulty)):
            rows = [
                (value, f"{total:,}", f"{passed:,}", join((_bar(passed / total), percent(passed / total)), ""))
                for value in _known_order(shares)
                for passed, total in [shares[value]]
            ]
            content.append(
                table(f"Pass rate by {kind}", (kind, "responses", "passed", "pass rate"), rows, numeric=(1, 2))
            )
        few = show_figure(drawings, f"passes_{name}", "Instructions by how many of their responses passed.")
        content.append(element("div", few, class_="half"))
        content += [*bands(run, name), *rounds(made), *format_failures(made)]
    return section("responses", "Verification", *content)


def quality(run: Run, drawings: Drawings) -> Markup | None:
    """Return what the tests of the generations are worth."""
    caption = "Each line asks for more from right to left: fewer responses are left, and more of them are right."
    drawn = {name: f"quality_{name}" for name in run.quality if f"quality_{name}" in drawings}
    return quality_section(run.quality, {name: show_figure(drawings, key, caption) for name, key in drawn.items()})


def training(run: Run, drawings: Drawings) -> Markup | None:
    """Return the loss curves."""
    if not run.trainings:
        return None
    rows = []
    for trained in run.trainings:
        dataset = run.datasets.get(trained.dataset)
        told = f": {dataset.pairs:,} pairs, {percent(dataset.passed_share)} verified" if dataset else ""
        first, last = trained.losses[0], trained.losses[-1]
        rows.append(
            (
                trained.model,
                trained.base,
                f"{trained.dataset}{told}",
                f"{last[0]:,}",
                f"{first[1]:.3f}",
                f"{last[1]:.3f}",
            )
        )
    columns = ("model", "base", "dataset", "steps", "first loss", "last loss")
    return section(
        "training",
        "Training",
        show_figure(drawings, "loss", "Loss on the responses, by optimizer step."),
        table("Trained models", columns, rows, numeric=(3, 4, 5)),
    )


def throughput(run: Run, drawings: Drawings) -> Markup | None:
    """Return wall time, rows and tokens per second of every stage."""
    if not run.costs:
        return None
    rows = []
    for cost in run.costs:
        cached = (
            cost.cached_prompt_tokens / cost.prompt_tokens if cost.cached_prompt_tokens and cost.prompt_tokens else None
        )
        rows.append(
            (
                join((cost.stage, element("span", cost.artifact, class_="of")), ""),
                cost.jobs,
                duration(cost.wall_s),
                _shown(cost.cpu_s, duration),
                _shown(cost.rows, "{:,}".format),
                _shown(cost.rate(cost.rows), "{:,.1f}".format),
                _shown(cost.tokens, "{:,}".format),
                _shown(cost.rate(cost.tokens), "{:,.0f}".format),
                _shown(cached, percent),
            )
        )
    columns = ("stage", "jobs", "wall time", "CPU time", "rows", "rows/s", "tokens", "tokens/s", "prompt cached")
    return section(
        "throughput",
        "Time and throughput",
        paragraph(
            f"All jobs together took {duration(run.wall_s)} of wall time; jobs that ran side by side each count."
        ),
        show_figure(drawings, "stages", "Wall time by stage."),
        table("Work and time by stage", columns, rows, numeric=tuple(range(1, 9))),
        _note("Rates are per second of the jobs' wall time, model loading included."),
    )


def _shown(value: float | None, form: Callable[[float], str]) -> str:
    return "" if value is None else form(value)


def _example(example: Example) -> Markup:
    blocks = []
    for block in example.blocks:
        body = element("pre", block.text or "(empty)", class_="code" if block.code else "prose", tabindex="0")
        blocks.append(element("div", join((element("b", block.label), body), ""), class_="block"))
    return join(blocks)


def examples(kept: Sequence[Example], dropped: Sequence[Example]) -> Markup | None:
    """Return a few kept rows and one dropped row for each reason."""
    if not kept and not dropped:
        return None
    content = [paragraph("Chosen by the hash of their ids, not by eye; the same in every rerun.")]
    if kept:
        content.append(element("h3", "Kept: from a seed to a pair"))
        for place, example in enumerate(kept):
            title = join((example.origin, element("span", f" · {example.id}", class_="note")), "")
            content.append(details(title, _example(example), opened=place == 0))
    for stage in dict.fromkeys(example.stage for example in dropped):
        content.append(element("h3", f"Dropped: {stage}"))
        for example in (example for example in dropped if example.stage == stage):
            title = join((example.reason, element("span", f" · {example.origin} · {example.id}", class_="note")), "")
            content.append(details(title, _example(example)))
    return section("examples", "Rows, kept and dropped", *content)


def settings(run: Run) -> Markup:
    """Return the merged config and what the run was made with."""
    made = run.provenance or {}
    git = made.get("git")
    facts = {
        "run": run.config["run"],
        "seed": run.config["seed"],
        "commit": git["commit"] + (" with local changes" if git["dirty"] else "") if git else "not recorded",
        "Python": made.get("python"),
        "processor": made.get("cpu"),
        "cores": made.get("cores"),
        "memory": f"{made['memory_gib']} GiB" if made.get("memory_gib") else None,
        "system": made.get("platform"),
    }
    facts = {name: value for name, value in facts.items() if value is not None}
    facts |= {f"rounds {found.name}": found.outcome for found in run.rounds}
    if run.missing:
        facts["not made"] = ", ".join(run.missing)
    config = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True, width=100)
    content = [definitions(facts), details("The merged config", element("pre", config, tabindex="0"))]
    if made.get("packages"):
        content.append(
            details("Package versions", table("Installed packages", ("package", "version"), made["packages"].items()))
        )
    if made.get("locks"):
        content.append(
            details("Lock files", table("SHA-256 of the lock files", ("file", "SHA-256"), made["locks"].items()))
        )
    return section("settings", "Settings and versions", *content)
