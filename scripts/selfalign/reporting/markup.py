"""The few HTML pieces that the page is built of. Everything that is not `Markup` is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def text(value: object) -> str:
    """Return a value as HTML: escaped, unless it is `Markup`. Control characters, which HTML forbids, are shown."""
    if isinstance(value, Markup):
        return value
    shown = "".join(char if char >= " " or char in "\n\t" else f"\\x{ord(char):02x}" for char in str(value))
    return escape(shown.encode("utf-8", "backslashreplace").decode(), quote=True)


def element(tag: str, content: object, **attributes: str) -> Markup:
    """Return an element; `class_` gives the attribute class, the rest keep their names."""
    given = "".join(f' {name.rstrip("_")}="{text(value)}"' for name, value in attributes.items())
    return Markup(f"<{tag}{given}>{text(content)}</{tag}>")


def join(pieces: Iterable[object], between: str = "\n") -> Markup:
    """Return the pieces, escaped where they are not `Markup`, with a separator between them."""
    return Markup(between.join(text(piece) for piece in pieces))


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Sequence[int] = (),
    cards: bool = False,
) -> Markup:
    """Return a table with a caption and headers; the first cell of a row is its header.

    Args:
        numeric: Columns that are set flush right, from 0.
        cards: On a phone show each row as a card, with the columns' names beside the values.
    """

    def cell(tag: str, place: int, value: object, scope: str | None = None) -> Markup:
        attributes = {"class_": "number"} if place in numeric else {}
        if cards and tag == "td":
            attributes["data-label"] = columns[place]
        return element(tag, value, **({"scope": scope} if scope else {}), **attributes)

    head = join((cell("th", place, name, "col") for place, name in enumerate(columns)), "")
    body = []
    for row in rows:
        cells = (
            cell("th", 0, value, "row") if not place else cell("td", place, value) for place, value in enumerate(row)
        )
        body.append(element("tr", join(cells, "")))
    opening = '<table class="cards">' if cards else "<table>"
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">{opening}'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{join(body)}</tbody></table></div>"
    )


def details(summary: object, content: object, *, opened: bool = False, id_: str = "") -> Markup:
    """Return content that the reader opens; links lead to its id."""
    attributes = (f' id="{text(id_)}"' if id_ else "") + (" open" if opened else "")
    return Markup(f"<details{attributes}><summary>{text(summary)}</summary>{text(content)}</details>")


def section(name: str, title: str, *content: object) -> Markup:
    """Return a section of the page with a heading that the navigation can point to."""
    return Markup(
        f'<section id="{text(name)}" aria-labelledby="{text(name)}-title">\n'
        f'<h2 id="{text(name)}-title">{text(title)}</h2>\n{join(content)}\n</section>'
    )


def paragraph(*pieces: object) -> Markup:
    """Return a paragraph."""
    return element("p", join(pieces, ""))


def definitions(items: Mapping[str, object]) -> Markup:
    """Return names with their values."""
    pairs = (join((element("dt", name), element("dd", value)), "") for name, value in items.items())
    return element("dl", join(element("div", pair) for pair in pairs))


def drawing(wide: str, narrow: str, caption: object) -> Markup:
    """Return a figure in two drawings, of which the style sheet shows the one that fits the screen."""
    return Markup(
        f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )
