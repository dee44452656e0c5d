"""Where the items stand on the map: by principal components at once, and better when the better map is ready."""

from __future__ import annotations

import logging
import subprocess
import threading
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, MissingExtraError, nearest_name
from ..report import Layout, layouts, placing, project

__all__ = ["PATIENT", "Layouts", "Places", "choose_layout", "place"]

log = logging.getLogger("kyori.exploring")

_AT_ONCE = 1000  # items whose better map takes about a second, and is made before anything is shown

#: Items up to which t-SNE is taken unasked; it takes half a minute of a core for 10,000, and minutes for 100,000.
PATIENT = 20_000


@dataclass(frozen=True, eq=False)
class Places:
    """A map of all items.

    Attributes:
        points: ``(n, 2)`` float32 in [−1, 1], both axes on one scale.
        method: ``"pca"``, ``"tsne"`` or ``"umap"``.
    """

    points: NDArray[np.float32]
    method: str


def choose_layout(asked: str | None, n: int) -> Layout:
    """Return how ``n`` items are laid out: as asked, else by t-SNE up to 20,000 items and by PCA beyond.

    Raises:
        ArgumentError: There is no such layout.
        MissingExtraError: UMAP, and umap-learn is not installed.

    >>> choose_layout(None, 100), choose_layout(None, 10**6), choose_layout("tsne", 10**6)
    ('tsne', 'pca', 'tsne')
    """
    if asked is None:
        return "tsne" if n <= PATIENT else "pca"
    known: dict[str, Layout] = {"tsne": "tsne", "pca": "pca", "umap": "umap"}
    if asked not in known:
        raise ArgumentError(
            f"--projection must be one of {', '.join(known)}; got {asked!r}{nearest_name(asked, list(known))}"
        )
    if known[asked] not in layouts():
        raise MissingExtraError(
            "UMAP needs the package umap-learn, which Kyori does not bring: pip install umap-learn, or take"
            " --projection tsne."
        )
    return known[asked]


class Layouts:
    """The map of a table, which starts as PCA and, where t-SNE or UMAP is wanted, is replaced by it.

    That is made by a process of its own: t-SNE holds Python's lock for seconds, and nobody would be answered.

    Args:
        vectors: ``(n, d)``, n ≥ 1; every one of them gets a place.
        method: What is wanted in the end.
        seed: Of the layout.
    """

    def __init__(self, vectors: NDArray[np.float32], method: Layout, seed: int = 0):
        self._vectors, self._method, self._seed = vectors, method, seed
        self._later = method != "pca" and len(vectors) > _AT_ONCE
        self._current = place(vectors, "pca" if self._later else method, seed)
        self._state: Literal["ready", "working", "failed"] = "working" if self._later else "ready"
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    @property
    def current(self) -> Places:
        """The best map that there is by now."""
        return self._current

    @property
    def state(self) -> str:
        """``"working"`` while a better map is to come, ``"failed"`` if that went wrong, else ``"ready"``."""
        return self._state

    @property
    def wanted(self) -> str:
        """The layout that was asked for."""
        return self._method

    def start(self) -> None:
        """Begin with the better map, where one is to come."""
        if not self._later or self._process is not None:
            return
        self._process = placing.start(self._method, self._seed, self._vectors.shape)
        self._thread = threading.Thread(target=self._take, args=(self._process,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being made."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Give a map up that is still being made."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
            self.wait()

    def _take(self, process: subprocess.Popen[bytes]) -> None:
        numbers = self._vectors.data.cast("B")  # without a copy
        said, errors = process.communicate(numbers)  # type: ignore[arg-type]
        if process.returncode == 0:
            points, method = placing.unpacked(said)
            self._current = Places(_fitted(points), method)
            self._state = "ready"
        elif not self._stopped:
            lines = errors.decode(errors="replace").strip().splitlines() or ["no reason given"]
            log.error("no %s map (exit code %d): %s", self._method, process.returncode, lines[-1])
            self._state = "failed"


def place(vectors: NDArray[np.float32], method: Layout, seed: int) -> Places:
    """Return a map of all of the vectors ``(n, d)``."""
    found = project(vectors, method=method, seed=seed, max_items=len(vectors))
    return Places(_fitted(found.points), found.method)


def _fitted(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move and scale points into [−1, 1] × [−1, 1], with one scale for both axes.

    >>> _fitted(np.array([[0.0, 0.0], [4.0, 2.0]]))
    array([[-1. , -0.5],
           [ 1. ,  0.5]], dtype=float32)
    """
    low, high = points.min(axis=0), points.max(axis=0)
    reach = float((high - low).max()) / 2
    return np.asarray((points - (low + high) / 2) / (reach or 1.0), np.float32)
