"""The explorer's page: its frame in HTML, and the files it loads, all of them from here."""

from __future__ import annotations

from importlib import resources

from ..report.page import Markup, tag
from .words import words_of

__all__ = ["ASSETS", "POLICY", "frame", "read_asset"]

#: What a browser may load and run. regl compiles its drawing commands in the browser, hence 'unsafe-eval'; scripts
#: come from this server only, and none stands in the page.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self'; img-src data:; connect-src 'self';"
    " worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
#: name: (package, file in it, content type). There is no other way to a file.
ASSETS: dict[str, tuple[str, str, str]] = {
    "page.css": ("kyori.report", "page.css", _STYLE),
    "explorer.css": (__package__, "explorer.css", _STYLE),
    "explorer.js": (__package__, "explorer.js", _SCRIPT),
    "legend.js": (__package__, "legend.js", _SCRIPT),
    "map.js": (__package__, "map.js", _SCRIPT),
    "panel.js": (__package__, "panel.js", _SCRIPT),
    "words.js": (__package__, "words.js", _SCRIPT),
    "regl-scatterplot.min.js": (__package__, "vendor/regl-scatterplot.min.js", _SCRIPT),
}


def read_asset(name: str) -> bytes:
    """Return one of the files that the page loads."""
    package, file, _ = ASSETS[name]
    return (resources.files(package) / file).read_bytes()


def frame(name: str, lang: str, *, texts: bool) -> Markup:
    """Return the page before its script fills it.

    Args:
        name: What is explored.
        lang: ``"en"`` or ``"ja"``.
        texts: Whether the items are texts that can be searched.
    """
    words = words_of(lang)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", words["title"].format(name=name)),
        Markup('<link rel="icon" href="data:,">'),
        *(Markup(f'<link rel="stylesheet" href="{css}">') for css in ("page.css", "explorer.css")),
        tag("script", type="module", src="explorer.js"),
    )
    parts = [_bar(name, words, texts=texts), _legend(words), _map(words), _panel(words)]
    body = tag("body", *parts, tag("div", id="tip", class_="tip", hidden=True))
    return Markup(f"<!doctype html>\n{tag('html', head, body, lang=lang)}\n")


def _bar(name: str, words: dict[str, str], *, texts: bool) -> Markup:
    said = words["search" if texts else "search.ids"]
    search = tag(
        "form",
        tag("input", type="search", id="search", placeholder=said, aria_label=said, autocomplete="off"),
        tag("button", words["search.button"]),
        id="find",
        role="search",
    )
    colour = tag("label", tag("span", words["colour"]), tag("select", id="colour"))
    title = tag("div", tag("p", words["kicker"], class_="kicker"), tag("h1", name), class_="name")
    return tag("header", title, tag("p", id="count"), search, colour)


def _legend(words: dict[str, str]) -> Markup:
    find = tag("input", type="search", id="class-filter", placeholder=words["legend.filter"])
    buttons = tag(
        "div",
        tag("button", words["legend.all"], type="button", id="show-all"),
        tag("button", words["legend.none"], type="button", id="hide-all"),
        class_="buttons",
    )
    return tag(
        "aside",
        tag("h2", words["legend"], id="legend-title"),
        tag("div", find, buttons, id="class-tools"),
        tag("p", id="legend-note", class_="note", hidden=True),
        tag("ul", id="classes"),
        tag("div", id="scale", hidden=True),
        id="legend",
        aria_labelledby="legend-title",
    )


def _map(words: dict[str, str]) -> Markup:
    tools = tag(
        "div",
        tag("button", words["map.move"], type="button", id="move", aria_pressed="true"),
        tag("button", words["map.lasso"], type="button", id="lasso", aria_pressed="false"),
        tag("button", words["map.reset"], type="button", id="reset"),
        class_="tools",
    )
    canvas = tag("canvas", id="canvas", tabindex=0, role="application", aria_label=words["map.label"])
    return tag(
        "main",
        tag(
            "div",
            canvas,
            tag("div", id="ring", hidden=True),
            tag("p", id="message", role="status"),
            id="plot",
        ),
        tools,
        tag("p", id="method", class_="note", title=words["map.hint"]),
    )


def _panel(words: dict[str, str]) -> Markup:
    return tag(
        "aside",
        tag("p", words["item.start"], id="start", class_="note"),
        tag("article", id="item", hidden=True, aria_live="polite"),
        tag("section", id="selection", hidden=True),
        id="panel",
    )
