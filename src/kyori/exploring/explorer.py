"""The explorer behind a port of this machine."""

from __future__ import annotations

import threading
from typing import Literal

from ..errors import ArgumentError, nearest_name
from ..report import Words
from ..serving.service import Host
from .app import create_app
from .columns import column_names
from .desk import Desk
from .layouts import Layouts, choose_layout
from .scene import Scene

__all__ = ["Explorer"]


class Explorer(Host):
    """A server of one scene, on this machine only.

    :meth:`run` serves until SIGINT or SIGTERM; as a context manager it serves from a thread, for notebooks and tests.

    Args:
        scene: What is explored.
        port: TCP port; 0 takes a free one.
        projection: ``"tsne"``, ``"umap"`` or ``"pca"`` of all items; by default t-SNE up to 20,000 items, PCA beyond.
        colour: Column to start with; by default the label, where there is one.
        metric: Distance of the neighbours, ``"euclidean"`` or ``"cosine"``.
        lang: ``"en"`` or ``"ja"``.
        seed: Of the layout.

    Raises:
        ArgumentError: An unknown projection, column, metric or language, or the port is taken.
        MissingExtraError: The server's packages, or umap-learn for ``"umap"``, are not installed.

    >>> from kyori import VectorTable
    >>> from kyori.exploring import Looks, Scene
    >>> table = VectorTable(vectors=[[0.0, 1.0], [1.0, 0.0]], labels=["cat", "dog"])
    >>> with Explorer(Scene(table, Looks(table, None), "two"), port=0) as explorer:
    ...     explorer.address.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        scene: Scene,
        *,
        port: int = 8001,
        projection: str | None = None,
        colour: str | None = None,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        lang: str = "en",
        seed: int = 0,
    ):
        Words(lang)
        layout = choose_layout(projection, len(scene.table))
        known = column_names(scene.table)
        if colour is not None and colour not in known:
            raise ArgumentError(
                f"--color must be one of the columns {', '.join(known) or '(there are none)'}; got"
                f" {colour!r}{nearest_name(colour, known)}"
            )
        if metric not in ("euclidean", "cosine"):
            raise ArgumentError(f"--metric must be euclidean or cosine; got {metric!r}.")
        self.desk: Desk

        def build() -> object:
            self.desk = Desk(scene, Layouts(scene.table.vectors, layout, seed), metric, colour)
            return create_app(self.desk, lang=lang)

        super().__init__(build, port=port, purpose="kyori explore")
        self.desk.layouts.start()
        threading.Thread(target=self.desk.nearness.prepare, name="kyori-neighbors", daemon=True).start()

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        try:
            super().run()
        finally:
            self.desk.layouts.stop()
