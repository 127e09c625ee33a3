"""Draw with matplotlib, byte for byte the same each time, and adapt the SVG to a page: its colours, ids and size.

Figures are drawn in the page's light colours. Inside the page each of these becomes a CSS variable, so that the same
figure follows the reader's light or dark setting.
"""

import io
import re
from collections.abc import Callable
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1f2328", "#667079", "#dfe3e6", "#fdfdfc"
KEPT, FLOW = "#1d7f74", "#d5e9e5"
LOST = ("#e5a06b", "#e8c492", "#d6b4c0", "#b5bcc6", "#d3d8dc")  # light enough for dark labels in both settings
LABEL = "#20242a"  # on LOST; the same in light and dark
SERIES = ("#2563a8", "#1b8076", "#c8672e", "#7b52a8", "#a8324a", "#6b7a1f")
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    KEPT: "kept",
    FLOW: "flow",
    **{colour: f"lost-{number}" for number, colour in enumerate(LOST)},
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES)},
}
WIDE, NARROW = 9.4, 4.4  # inches, at 72 points each: the text column of a desktop page and of a phone
_SETTINGS = {
    "svg.hashsalt": "selfalign",
    "svg.fonttype": "none",  # text stays text: small, selectable, readable aloud
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout does not depend on the machine
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid.axis": "x",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "text.parse_math": False,  # names come from configs and models: a dollar sign is a dollar sign
}


def draw(paint: Callable[[Figure], None], width: float) -> str:
    """Return the SVG of a figure that `paint` draws on, at a width in inches; `paint` sets the height."""
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width, 3), facecolor=PAPER)
        paint(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")
    return text[text.index("<svg") :]


def inline(svg: str, name: str, description: str) -> str:
    """Return the SVG for use inside a page: described, scalable, in the page's colours, with ids of its own."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|xlink:href="#)', rf"\1{name}-", svg)
    for colour, variable in VARIABLES.items():
        svg = re.sub(rf"\b(fill|stroke): {colour}\b", rf"\1: var(--{variable})", svg)
    opening = re.match(r"<svg[^>]*>", svg)[0]
    view = re.search(r'viewBox="[^"]*"', opening)[0]
    body = svg[len(opening) :]
    label = escape(description, quote=True)
    return f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {view} role="img" aria-label="{label}">{body}'
