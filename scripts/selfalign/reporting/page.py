"""The page: head, headline, navigation, and the sections that the run has data for."""

from collections.abc import Mapping, Sequence

from selfalign.reporting import sections
from selfalign.reporting.artifacts import Run
from selfalign.reporting.comparisons import Comparison, points
from selfalign.reporting.examples import Example
from selfalign.reporting.figures import duration, percent
from selfalign.reporting.gallery import Drawing
from selfalign.reporting.markup import Markup, element, join, paragraph, text
from selfalign.reporting.round_sections import rounds
from selfalign.reporting.style import CSS

EXPERIMENTS = "The experiments of this run, with their answers"


def _finding(run: Run, compared: Sequence[Comparison]) -> Markup | None:
    """Return in words the first comparison, and the one with a model that was trained otherwise, if there is one."""
    if not compared:
        return None
    found = compared[0]
    pieces = [
        f"On {found.first.benchmark}, ",
        element("strong", found.first.model),
        f" solves {100 * found.first.pass_at_1:.1f} % of the tasks and {found.second.model} "
        f"{100 * found.second.pass_at_1:.1f} %: a difference of ",
        *_difference(found),
    ]
    models = run.config["models"]
    for other in compared[1:]:
        if other.first == found.first and "dataset" in models[other.second.model]:
            pieces += [
                f" Against {other.second.model}, trained on the dataset {models[other.second.model]['dataset']} "
                f"({100 * other.second.pass_at_1:.1f} %), the difference is ",
                *_difference(other),
            ]
            break
    return element("p", join(pieces, ""), class_="finding")


def _difference(found: Comparison) -> tuple[Markup, str]:
    told = (
        f" (95 % interval {points(found.low)} to {points(found.high)}{'' if found.decided else ', which includes 0'})."
    )
    return element("strong", f"{points(found.difference)} points"), told


def _tiles(run: Run) -> Markup:
    tiles = [
        (f"{100 * score.pass_at_1:.1f} %", f"pass@1 of {score.label}")
        for score in run.scores
        if score.benchmark == run.scores[0].benchmark
    ][:3]
    tiles += [
        (percent(made.pass_rate), f"of {made.responses:,} responses verified, {name}")
        for name, made in list(run.generations.items())[:1]
    ]
    tiles += [(f"{found.pairs:,}", f"training pairs, {name}") for name, found in list(run.datasets.items())[:1]]
    if run.costs:
        tiles.append((duration(run.wall_s), "wall time, all jobs summed"))
    items = (element("li", join((element("strong", value), element("span", label)), "")) for value, label in tiles)
    return element("ul", join(items), class_="tiles") if tiles else Markup("")


def meta(run: Run) -> str:
    """Return seed, commit, versions and machine as one line."""
    made = run.provenance or {}
    git = made.get("git")
    packages = made.get("packages", {})
    facts = [f"seed {run.config['seed']}"]
    facts += [f"commit {git['commit'][:10]}{' with local changes' if git['dirty'] else ''}"] if git else []
    facts += [f"Python {made['python']}"] if "python" in made else []
    facts += [f"{name} {packages[name]}" for name in ("torch", "transformers", "vllm", "snakemake") if name in packages]
    facts += [f"{made['cpu']}, {made['cores']} cores"] if made.get("cpu") else []
    return " · ".join(facts)


def render_page(
    run: Run,
    compared: Sequence[Comparison],
    drawings: Mapping[str, Drawing],
    kept: Sequence[Example],
    dropped: Sequence[Example],
) -> str:
    """Return the whole page of a run as HTML."""
    found = [
        ("scores", "Scores", sections.scores(run, compared, drawings)),
        ("funnel", "Funnel", sections.funnel(run, drawings)),
        ("responses", "Verification", sections.responses(run, drawings)),
        ("quality", "Test quality", sections.quality(run, drawings)),
        ("training", "Training", sections.training(run, drawings)),
        ("rounds", "Rounds", rounds(run, drawings)),
        ("throughput", "Time", sections.throughput(run, drawings)),
        ("examples", "Rows", sections.examples(kept, dropped)),
        ("settings", "Settings", sections.settings(run)),
    ]
    name = run.config["run"]
    header = [
        element("h1", f"Run {name}"),
        _finding(run, compared) or paragraph("A base code model teaches itself: concepts, tasks, verified answers."),
        *([paragraph(element("a", EXPERIMENTS, href="experiment.html"))] if run.config.get("experiments") else []),
        element("p", meta(run), class_="meta"),
        _tiles(run),
    ]
    return document(f"{name} · selfalign report", header, found)


def document(
    title: str,
    header: Sequence[Markup],
    found: Sequence[tuple[str, str, Markup | None]],
    style: str = CSS,
    script: str = "",
) -> str:
    """Return a page as HTML: nothing is loaded.

    Args:
        found: Each section's id, its name in the navigation, and the section; None is left out.
        style, script: Of the page; without the script all of it works, too.
    """
    shown = [(name, label, body) for name, label, body in found if body is not None]
    links = join(element("li", element("a", label, href=f"#{name}")) for name, label, _ in shown)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<p class="kicker">selfalign</p>
{join(header)}
</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main id="main">
{join(body for _, _, body in shown)}
</main>
<footer><p>Made by selfalign from the files of this run; beside it: tables/ (CSV) and figures/ (SVG).</p></footer>
{f"<script>{script}</script>" if script else ""}</body>
</html>
"""
