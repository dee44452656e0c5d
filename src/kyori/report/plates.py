"""Each figure of a page as files of its own: a drawing, and the numbers in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from os import PathLike
from pathlib import Path

from ..files import write_atomic
from .data import stem
from .figures import INK, SOFT
from .page import Details, Figure, Legend, Panels, Section

__all__ = ["japanese_font", "write_figures"]

#: Families with Japanese characters, the ones made for screens first.
_JAPANESE = (
    "Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Yu Gothic", "Meiryo", "IPAexGothic", "IPAPGothic",
    "TakaoPGothic", "TakaoGothic", "VL PGothic", "VL Gothic", "Noto Serif CJK JP", "IPAexMincho", "MS Gothic",
)  # fmt: skip


def write_figures(sections: Sequence[Section], folder: str | PathLike[str], lang: str = "en") -> list[Path]:
    """Write every figure of the sections that has data: ``NAME.svg`` (where it is a plot), ``.csv`` and ``.json``.

    The drawings have their letters as outlines, so that they look the same everywhere. On a machine without a Japanese
    font a Japanese drawing names its axes by the columns of its data, in English, in place of empty boxes.

    Args:
        sections: Of a page.
        folder: Where to write; made if need be.
        lang: Language of the page.

    Returns:
        The files, in the order of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    taken: set[str] = set()
    for figure, legend in _figures(sections):
        if figure.data is None:
            continue
        name = _free(stem(figure.data.name), taken)
        facts = {"figure": figure.data.name, "title": figure.title, "caption": figure.caption}
        contents = {"csv": figure.data.csv(), "json": figure.data.json_text(**facts)}
        if figure.plot is not None:
            contents["svg"] = _drawing(figure, legend, lang)
        for ending, text in contents.items():
            path = folder / f"{name}.{ending}"
            write_atomic(path, lambda file, text=text: file.write(text.encode("utf-8", "replace")))  # type: ignore[misc]
            written.append(path)
    return written


def _figures(sections: Sequence[Section]) -> Iterator[tuple[Figure, Legend | None]]:
    for section in sections:
        if isinstance(section, Details):
            yield from _figures([section.content])
        elif isinstance(section, Panels):
            yield from ((figure, section.legend) for figure in section.figures)
        elif isinstance(section, Figure):
            yield section, None


def _free(name: str, taken: set[str]) -> str:
    """A name that no other figure has, also where a file system does not tell A from a."""
    free, number = name, 2
    while free.lower() in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(free.lower())
    return free


def _drawing(figure: Figure, legend: Legend | None, lang: str) -> str:
    """The plot with the words that stand around it on the page."""
    import matplotlib as mpl

    plot = figure.plot
    if plot is None:
        return ""
    japanese = japanese_font()
    fonts = [
        font for font in ((japanese, "DejaVu Sans") if lang == "ja" else ("DejaVu Sans", japanese)) if font
    ]
    said = lang != "ja" or japanese is not None
    columns = [*figure.data.columns, "", ""] if figure.data is not None else ["", ""]
    titles = (figure.axes[0] or figure.x_title, figure.axes[1] or figure.y_title)
    across, up = titles if said else (columns[0], columns[1])
    axes = plot.axes[0]
    added = [axes.set_xlabel(across, color=SOFT, size=7), axes.set_ylabel(up, color=SOFT, size=7)]
    added.append(axes.set_title(figure.title if said else "", color=INK, size=9))
    if legend is not None and said:
        height = plot.get_size_inches()[1]
        for i, key in enumerate(legend.keys):
            name = f"{key.mark} {key.name}".strip() if key.name != key.mark else key.name
            paint = _plain(key.colour)
            added.append(
                plot.text(1.0, 0.93 - i * 0.15 / height, f"\N{BLACK CIRCLE} {name}", color=paint, size=7)
            )
    for text in added:
        text.set_parse_math(False)
    file = BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "kyori"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # an emoji in the name of a class
        for text in (*added, *plot.findobj(mpl.text.Text)):
            text.set_fontfamily(fonts)
        plot.savefig(file, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    return file.getvalue().decode("utf-8")


def _plain(colour: str) -> str:
    """The light value of a colour of the page, ``var(--c0,#0072b2)``."""
    value = colour.removesuffix(")").rpartition(",")[2]
    return value if value.startswith("#") else SOFT


@lru_cache(maxsize=1)
def japanese_font() -> str | None:
    """Return the first installed font family with Japanese characters that matplotlib knows, or None."""
    from matplotlib import font_manager

    known = set(font_manager.get_font_names())
    return next((name for name in _JAPANESE if name in known), None)
