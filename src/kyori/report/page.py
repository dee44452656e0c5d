"""A self-contained HTML page out of a few kinds of section.

Everything a person or a file name can bring in goes through :func:`tag`, which escapes it; only text that is
already :class:`Markup` passes untouched. A page asks the network for nothing: styles, script and pictures are
inside it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from ..files import write_atomic
from .data import Data, stem

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

__all__ = [
    "Code",
    "Details",
    "Facts",
    "Figure",
    "Gallery",
    "Heading",
    "Key",
    "Legend",
    "Markup",
    "Panels",
    "Prose",
    "Section",
    "Table",
    "Tile",
    "render",
    "tag",
    "write_page",
]

_VOID = frozenset({"img", "meta", "br", "hr", "col"})

#: Control characters and lone surrogates (of undecodable file names) cannot stand in a document; characters that
#: turn the direction of writing would reach beyond the name that holds them.
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def _safe(content: object) -> str:
    if isinstance(content, Markup):
        return content
    return html.escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", str(content)), quote=True)


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return one element; children and attribute values are escaped unless they are :class:`Markup`.

    A trailing underscore of an attribute name is dropped and inner ones become hyphens; ``None`` and ``False``
    leave the attribute out, ``True`` gives it without a value.

    >>> tag("p", "1 < 2", class_="note", data_series=3)
    '<p class="note" data-series="3">1 &lt; 2</p>'
    """
    parts = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{_safe(value)}"')
    opening = f"<{' '.join(parts)}>"
    if name in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{''.join(_safe(child) for child in children)}</{name}>")


class Section(Protocol):
    """Anything that can draw itself as HTML."""

    def html(self) -> Markup:
        """Return the section as markup."""
        ...


@dataclass(frozen=True)
class Heading:
    """A heading of the page, with an anchor for the list of contents."""

    text: str
    anchor: str
    note: str = ""

    def html(self) -> Markup:
        """Return an ``h2`` and, below it, the note that says what to look for."""
        note = tag("p", self.note, class_="note") if self.note else Markup()
        return Markup(tag("h2", self.text, id=self.anchor) + note)


@dataclass(frozen=True)
class Prose:
    """Paragraphs of text."""

    paragraphs: Sequence[object]
    kind: Literal["plain", "lead", "note"] = "plain"

    def html(self) -> Markup:
        """Return one ``p`` a paragraph."""
        return Markup("".join(tag("p", text, class_=self.kind) for text in self.paragraphs))


_LONG = 48  # characters of a fact that takes a row of its own


@dataclass(frozen=True)
class Facts:
    """Short facts: a label and its value, side by side or (``kind="terms"``) as a list of terms."""

    pairs: Sequence[tuple[object, object]]
    kind: Literal["strip", "terms"] = "strip"

    def html(self) -> Markup:
        """Return a definition list."""
        items = (
            tag("div", tag("dt", label), tag("dd", value), class_="long" if len(str(value)) > _LONG else None)
            for label, value in self.pairs
        )
        return tag("dl", *items, class_=f"facts {self.kind}")


@dataclass(frozen=True)
class Table:
    """A table with a header row; it scrolls sideways where the screen is narrow.

    The page's script sorts it by the column whose title is chosen: by an element's ``data-value`` in the cell, else
    by the number that the cell begins with, else by its text.

    Attributes:
        columns: Titles; those after the first ``text_columns`` hold numbers and are set flush right.
        rows: Cells, one sequence a row; the first cell is the row's heading.
        caption: Says what the table shows; read out first by a screen reader.
        best: Rows to emphasise.
        text_columns: How many columns hold text.
        title: Stands above it, where several tables stand under one heading.
    """

    columns: Sequence[object]
    rows: Sequence[Sequence[object]]
    caption: str
    best: frozenset[int] = frozenset()
    text_columns: int = 1
    title: str = ""

    def html(self) -> Markup:
        """Return the table in a box of its own."""
        titles = (tag("th", title, scope="col", class_=self._kind(i)) for i, title in enumerate(self.columns))
        body = (self._row(i, row) for i, row in enumerate(self.rows))
        table = tag(
            "table",
            tag("caption", self.caption),
            tag("thead", tag("tr", *titles)),
            tag("tbody", *body),
        )
        box = tag("div", table, class_="scroll", role="region", tabindex=0, aria_label=self.caption)
        return tag("section", tag("h3", self.title), box) if self.title else box

    def _kind(self, column: int) -> str | None:
        return "number" if column >= self.text_columns else None

    def _row(self, index: int, cells: Sequence[object]) -> Markup:
        first, *rest = cells
        drawn = [tag("th", first, scope="row")]
        drawn += [tag("td", cell, class_=self._kind(i)) for i, cell in enumerate(rest, 1)]
        return tag("tr", *drawn, class_="best" if index in self.best else None)


@dataclass(frozen=True)
class Details:
    """A section that is folded away until the reader asks for it (printed unfolded)."""

    summary: str
    content: Section

    def html(self) -> Markup:
        """Return a ``details`` element."""
        return tag("details", tag("summary", self.summary), self.content.html())


@dataclass(frozen=True)
class Code:
    """A command to copy."""

    text: str

    def html(self) -> Markup:
        """Return a ``pre`` element."""
        return tag("pre", tag("code", self.text), tabindex=0)


@dataclass(frozen=True)
class Key:
    """One entry of a legend: its number among the series of the page's figures, a name, a colour."""

    series: str
    name: str
    colour: str
    mark: str = ""
    dashed: bool = False

    def html(self) -> Markup:
        """Return the swatch and the name."""
        swatch = tag("i", class_="swatch dashed" if self.dashed else "swatch", style=f"color:{self.colour}")
        mark = tag("b", self.mark) if self.mark else Markup()
        return tag("li", swatch, mark, tag("span", self.name), data_series=self.series)


@dataclass(frozen=True)
class Legend:
    """Names of the series; pointing at one brings it out in all figures of the same ``figure-set``."""

    keys: Sequence[Key]
    note: str = ""

    def html(self) -> Markup:
        """Return a list of swatches."""
        note = [tag("li", self.note, class_="more")] if self.note else []
        return tag("ul", *(key.html() for key in self.keys), *note, class_="legend")


@dataclass(frozen=True, eq=False)
class Figure:
    """A drawing with its titles set in HTML, so that they take the page's fonts and language.

    Attributes:
        drawing: The picture as markup.
        title: Stands above it.
        caption: Stands below it.
        y_title: What is measured upwards; on the page.
        x_title: What is measured to the right; on the page.
        best: Whether it belongs to the best method.
        data: The numbers that are drawn; the page offers them as a file.
        data_label: Text of the link to them.
        plot: What a file of its own is drawn from.
        axes: Names of the axes in that file, where the page leaves them out.
        facts: Values for the page's script, by the names of ``data-`` attributes.
    """

    drawing: Markup
    title: str = ""
    caption: str = ""
    y_title: str = ""
    x_title: str = ""
    best: bool = False
    data: Data | None = None
    data_label: str = "data"
    plot: Plot | None = None
    axes: tuple[str, str] = ("", "")
    facts: Mapping[str, object] = field(default_factory=dict)

    def html(self) -> Markup:
        """Return a ``figure`` element."""
        caption = tag("figcaption", self.caption) if self.caption else ""
        parts = [
            tag("h3", self.title) if self.title else "",
            tag("div", self.y_title, class_="axis") if self.y_title else "",
            self.drawing,
            tag("div", self.x_title, class_="axis below") if self.x_title else "",
            tag("div", *(p for p in (caption, self._link()) if p), class_="under"),
        ]
        facts = {f"data_{name}": value for name, value in self.facts.items()}
        return tag("figure", *(p for p in parts if p), class_="best" if self.best else None, **facts)

    def _link(self) -> Markup:
        if self.data is None:
            return Markup()
        name, label = f"{stem(self.data.name)}.csv", f"{self.data_label}: {self.title or self.data.name}"
        return tag("a", self.data_label, href=self.data.uri(), download=name, class_="data", aria_label=label)


@dataclass(frozen=True, eq=False)
class Panels:
    """Figures side by side: small multiples, with one legend for all.

    Attributes:
        figures: The figures.
        legend: Names of their series.
        size: How much room each of them takes.
        sheet: Thumbnails of the items in the figures, see :mod:`kyori.report.sheet`.
    """

    figures: Sequence[Figure]
    legend: Legend | None = None
    size: Literal["small", "large"] = "small"
    sheet: Markup | None = None

    def html(self) -> Markup:
        """Return the legend and a grid of figures."""
        legend = self.legend.html() if self.legend else ""
        size = "few" if self.size == "small" and len(self.figures) < 3 else self.size
        grid = tag("div", *(figure.html() for figure in self.figures), class_=f"panels {size}")
        return tag("div", legend or Markup(), grid, self.sheet or Markup(), class_="figure-set")


@dataclass(frozen=True)
class Tile:
    """Pictures that belong together, with a line below them.

    Attributes:
        pictures: Thumbnails with their captions.
        caption: The line below.
        verdict: ``"right"`` and ``"wrong"`` give a green or a red edge; the caption says it in words too.
    """

    pictures: Sequence[object]
    caption: object = ""
    verdict: Literal["right", "wrong", "plain"] = "plain"

    def html(self) -> Markup:
        """Return the pictures in a row."""
        caption = tag("figcaption", self.caption) if self.caption else Markup()
        return tag("figure", tag("div", *self.pictures, class_="row"), caption, class_=f"tile {self.verdict}")


@dataclass(frozen=True)
class Gallery:
    """Tiles under a small title."""

    title: str
    tiles: Sequence[Tile]
    note: str = ""
    kind: Literal["tiles", "small", "rows"] = "tiles"

    def html(self) -> Markup:
        """Return the tiles, wrapped over as many lines as they need."""
        note = tag("p", self.note, class_="note") if self.note else Markup()
        tiles = tag("div", *(tile.html() for tile in self.tiles), class_=f"gallery {self.kind}")
        return tag("section", tag("h3", self.title), note, tiles)


def render(
    title: str,
    sections: Sequence[Section],
    *,
    lang: str,
    kicker: str = "",
    contents: str = "",
    footer: Sequence[object] = (),
) -> Markup:
    """Return a whole HTML document.

    Args:
        title: Title of the document and its ``h1``.
        sections: Drawn in this order; each :class:`Heading` is listed in the contents.
        lang: The document's language, for screen readers and for the choice of fonts.
        kicker: The small line above the title.
        contents: Label of the list of contents.
        footer: Paragraphs at the foot.

    >>> "<h1>a &lt; b</h1>" in render("a < b", [Prose(["text"])], lang="en")
    True
    """
    headings = [section for section in sections if isinstance(section, Heading)]
    links = [tag("a", heading.text, href=f"#{heading.anchor}") for heading in headings]
    parts = _chapters(sections)
    if links:
        parts.insert(1, tag("nav", *links, aria_label=contents))
    header = tag("header", tag("p", kicker, class_="kicker") if kicker else Markup(), tag("h1", title))
    foot = tag("footer", *(tag("p", text) for text in footer)) if footer else Markup()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(_asset("page.css"))),
    )
    script = Markup(_asset("page.js") + _asset("pictures.js"))
    body = tag("body", tag("main", header, *parts, foot), tag("script", script))
    return Markup(f"<!doctype html>\n{tag('html', head, body, lang=lang)}\n")


def _chapters(sections: Sequence[Section]) -> list[Markup]:
    """Group the sections: what stands before the first heading, then one ``section`` a heading."""
    groups: list[list[Markup]] = [[]]
    for section in sections:
        if isinstance(section, Heading):
            groups.append([])
        groups[-1].append(section.html())
    first, *rest = (Markup("".join(group)) for group in groups)
    return [
        tag("div", first, class_="opening"),
        *(tag("section", chapter, class_="chapter") for chapter in rest),
    ]


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def write_page(path: str | PathLike[str], page: str) -> Path:
    """Write the page in one step, so that a reader never sees half of it, and return its path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, lambda file: file.write(page.encode("utf-8")))
    return target
