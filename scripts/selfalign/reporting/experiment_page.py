"""The experiment page: questions, their answers, and the way down to single answers. One file, without a server."""

from collections.abc import Mapping, Sequence

from selfalign.reporting.answers import cell_rows, questions
from selfalign.reporting.artifacts import Run
from selfalign.reporting.experiment_rows import rows
from selfalign.reporting.experiment_sections import one, overview
from selfalign.reporting.experiment_text import anchor
from selfalign.reporting.experiment_yields import costs, funnels
from selfalign.reporting.experiments import Experiment
from selfalign.reporting.gallery import Drawing
from selfalign.reporting.markup import element, paragraph
from selfalign.reporting.page import document, meta
from selfalign.reporting.style import CSS

STYLE = """
header, main, footer, nav ul { max-width: 72rem; }
.question { font-size: 1.05rem; margin: 0 0 .5rem; }
section .finding { border-left: 3px solid var(--accent); padding-left: .9rem; }
section p:has(strong) { overflow-wrap: anywhere; max-width: none; }
@media (min-width: 42rem) { tbody th { min-width: 9rem; } }
td .of { white-space: normal; } .number .of { white-space: nowrap; }
caption { max-width: min(60rem, calc(100vw - 4rem)); }
@media (max-width: 42rem) {
  .cards, .cards tbody, .cards tr, .cards th, .cards td, .cards caption { display: block; width: auto; min-width: 0; }
  .cards thead { display: none; } .cards tr { border-bottom: 1px solid var(--grid); padding: .5rem 0; }
  .cards th, .cards td { border: 0; padding: .1rem 0; max-width: none; text-align: left; }
  .cards .number + :not(.number) { padding-left: 0; }
  .cards td { display: flex; flex-wrap: wrap; gap: 0 .5rem; } .cards td:empty { display: none; }
  .cards td::before { content: attr(data-label); flex: 0 0 6.5rem; color: var(--muted); }
}
details details { margin-left: .75rem; }
"""
# A link to rows that are closed opens them; without it the reader does
SCRIPT = """
const open = () => { const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (found && found.tagName === "DETAILS") { found.open = true; found.scrollIntoView(); } };
addEventListener("hashchange", open); open();
"""


def render_experiments(run: Run, experiments: Sequence[Experiment], drawings: Mapping[str, Drawing]) -> str:
    """Return the experiment page as HTML."""
    arms = list({arm.model: arm for found in experiments for arm in found.arms}.values())
    cells = {anchor(cell): cell for found in experiments for cell in found.cells}
    tasks = {benchmark: questions(run, benchmark) for benchmark in {cell.benchmark for cell in cells.values()}}
    behind = [(cell, cell_rows(run, cell, tasks[cell.benchmark])) for cell in cells.values()]
    header = [
        element("h1", f"Experiments of {run.config['run']}"),
        paragraph(element("a", "The report of the run", href="index.html")),
        element("p", meta(run), class_="meta"),
    ]
    sections = [
        *((f"experiment-{found.name}", found.name, one(found, drawings)) for found in experiments),
        ("overview", "Models and benchmarks", overview(experiments)),
        ("funnels", "Funnels", funnels(run, arms)),
        ("costs", "Costs", costs(run, arms)),
        ("rows", "Answers", rows(behind) if behind else None),
    ]
    return document(f"{run.config['run']} · selfalign experiments", header, sections, CSS + STYLE, SCRIPT)
