"""What answers the explorer's questions: about one item, a page of them, a column, or all of them."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance
from ..report.sections import class_name
from .columns import Classes, Numbers, column_names, read_column
from .finding import Finder
from .layouts import PATIENT, Layouts
from .nearness import Nearness
from .scene import Scene
from .words import words_of

__all__ = ["Desk"]


class Desk:
    """Answers about the items of a scene; safe to ask from several threads.

    Args:
        scene: The items.
        layouts: Where they stand on the map.
        metric: Distance of the neighbours, ``"euclidean"`` or ``"cosine"``.
        colour: The column to start with; by default the label, where there is one.
    """

    def __init__(
        self, scene: Scene, layouts: Layouts, metric: Distance = "euclidean", colour: str | None = None
    ):
        self.scene, self.layouts = scene, layouts
        self.columns = column_names(scene.table)
        self.colour = colour or next((name for name in self.columns if name == "label"), None)
        self.nearness = Nearness(scene.table.vectors, metric)
        self.finder = Finder(scene.table, scene.looks)
        self._read: dict[str, Classes | Numbers] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.scene.table)

    @property
    def has_texts(self) -> bool:
        """Whether the items are texts."""
        return self.scene.looks.text(0) is not None

    def about(self, lang: str) -> dict[str, Any]:
        """Return what the page must know before it draws, and what it says."""
        table, layouts = self.scene.table, self.layouts
        state = layouts.state  # before the layout: a map that is ready is then the one named
        return {
            "name": self.scene.name,
            "items": len(table),
            "classes": None if table.labels is None else len(np.unique(table.labels)),
            "columns": self.columns,
            "colour": self.colour,
            "metric": self.nearness.metric,
            "layout": layouts.current.method,
            "wanted": layouts.wanted,
            "state": state,
            "patient": PATIENT,
            "lang": lang,
            "words": words_of(lang),
        }

    def column(self, name: str) -> Classes | Numbers:
        """Return one of ``columns`` as colours."""
        with self._lock:
            if name not in self._read:
                self._read[name] = read_column(self.scene.table, name)
            return self._read[name]

    def label(self, row: int) -> str | None:
        """Return the name of an item's class; None where there are no labels."""
        table = self.scene.table
        return None if table.labels is None else class_name(table, int(table.labels[row]))

    def brief(self, row: int) -> dict[str, Any]:
        """Return what a gallery shows of an item."""
        id_, label = self.scene.table.ids[row].item(), self.label(row)
        named = str(id_) if label is None else f"{id_} · {label}"
        return {"row": row, "id": str(id_), "label": label, "picture": self.scene.looks.thumbnail(row, named)}

    def item(self, row: int, k: int) -> dict[str, Any]:
        """Return an item with its columns, its text, and its ``k`` nearest neighbours."""
        found = self.nearness.of(row, k)
        labels = self.scene.table.labels
        neighbors = [
            {
                **self.brief(other),
                "distance": distance,
                "same": None if labels is None else bool(labels[other] == labels[row]),
            }
            for other, distance in zip(found.ids[0].tolist(), found.distances[0].tolist(), strict=True)
        ]
        columns = {name: _plain(values[row].item()) for name, values in self.scene.table.columns.items()}
        text = self.scene.looks.text(row)
        return {**self.brief(row), "columns": columns, "text": text, "neighbors": neighbors}

    def written(self, rows: NDArray[np.int64]) -> dict[str, list[Any]]:
        """Return ids, labels and columns of some items by title, for a file."""
        table = self.scene.table
        labels = {} if table.labels is None else {"label": [self.label(row) for row in rows.tolist()]}
        columns = {name: values[rows].tolist() for name, values in table.columns.items()}
        return {"id": table.ids[rows].tolist(), **labels, **columns}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are none become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
