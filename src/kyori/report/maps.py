"""Maps: the vectors of each method as points of a plane, items and colours the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..vectors import VectorTable
from . import figures
from .data import Data
from .page import Figure, Heading, Key, Legend, Panels, Section
from .projection import Layout, Projection, project
from .sections import Method, class_name, panel, value_text
from .sheet import sheet
from .words import Words

__all__ = ["maps"]

_MARKED = 20  # classes that get a colour of their own


def maps(
    methods: Sequence[Method],
    measure: str,
    words: Words,
    *,
    items: Any = None,
    layout: Layout = "tsne",
    max_items: int = 1000,
) -> list[Section]:
    """A picture of each method's vectors; the same items, seed and colours in all of them.

    Args:
        methods: In the order of the panels. Those whose first trial has other items than the best method's are left
            out, and the note says so.
        measure: The measure below each panel.
        words: The language.
        items: What can ``read(index)`` an item, to show the item under the pointer; None shows its name only.
        layout: How the plane is found.
        max_items: More items than this are sampled.
    """
    table = next(
        (m for m in methods if m.best), methods[0]
    ).first.table  # `items` are those of the best method
    others = [m.name for m in methods if not np.array_equal(m.first.table.ids, table.ids)]
    methods = [m for m in methods if m.name not in others]
    groups, legend = _class_groups(table, words)
    marks = [key.mark for key in legend.keys if key.series != "-1"] if legend else []
    found = [project(m.first.table.vectors, method=layout, seed=0, max_items=max_items) for m in methods]
    panels = [_map_panel(m, f, groups, marks, measure, words) for m, f in zip(methods, found, strict=True)]
    drawn = next((f.method for f in found if f.method != "pca"), "pca")
    note = words(f"map.note.{drawn}", seed=methods[0].first.seed)
    shown, total = len(found[0].items), found[0].total
    if shown < total:
        note = words.sentences(note, words("map.sampled", shown=shown, total=total))
    if others:  # a cell that failed leaves a method with other folds or data
        note = words.sentences(note, words("map.left_out", methods=", ".join(map(words.method, others))))
    pictures = sheet(items, found[0].items, words("map.sheet")) if items is not None else None
    return [
        Heading(words("map.heading"), "map", note),
        Panels(panels, legend, sheet=pictures),
    ]


def _map_panel(
    method: Method, found: Projection, groups: np.ndarray, marks: Sequence[str], measure: str, words: Words
) -> Figure:
    table = method.first.table
    drawing = figures.scatter(found.points, groups[found.items], marks=marks)
    label = words("map.alt", method=words.method(method.name), shown=len(found.items))
    value = value_text(measure, method.first.results[measure].value)
    caption = words("map.caption", measure=words.measure(measure), value=value)
    names = (
        [""] * len(found.items)
        if table.labels is None
        else [class_name(table, int(code)) for code in table.labels[found.items]]
    )
    columns = {
        "id": table.ids[found.items],
        "label": names,
        "series": groups[found.items],
        "x": found.points[:, 0],
        "y": found.points[:, 1],
    }
    data = Data(f"map-{method.name}", columns)
    facts = {"kind": "map", "scale": figures.scale(drawing)}
    return panel(method, drawing, label, words, caption=caption, data=data, facts=facts)


def _class_groups(table: VectorTable, words: Words) -> tuple[np.ndarray, Legend | None]:
    """The colour group of each item, the biggest classes first in line for a colour, and the legend."""
    if table.labels is None:
        return np.full(len(table), -1), None
    classes, counts = np.unique(table.labels, return_counts=True)
    chosen = np.sort(classes[np.argsort(-counts, kind="stable")[:_MARKED]])
    groups = np.full(len(table), -1)
    for group, code in enumerate(chosen):
        groups[table.labels == code] = group
    names = [class_name(table, int(code)) for code in chosen]
    short = all(len(name) <= 3 and name.isascii() and name.isprintable() for name in names)
    keys = [
        Key(str(i), "" if short else name, figures.colour(i), mark=name if short else str(i + 1))
        for i, name in enumerate(names)
    ]
    if len(classes) > len(chosen):
        keys.append(Key("-1", words("map.others", count=len(classes) - len(chosen)), "var(--neutral)"))
    return groups, Legend(keys)
