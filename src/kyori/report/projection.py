"""Vectors of any dimension as points of a plane, to be looked at."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..errors import ArgumentError, MissingExtraError, nearest_name
from ..optional import require

__all__ = ["Layout", "Projection", "layouts", "project"]

Layout = Literal["tsne", "umap", "pca"]

#: Up to here scikit-learn's Barnes-Hut tree is faster than openTSNE's Fourier grid.
_TREE_LIMIT = 3000


@dataclass(frozen=True)
class Projection:
    """Points of a plane for some of the vectors.

    Attributes:
        points: Positions ``(m, 2)`` float32.
        items: Which vectors they stand for ``(m,)``, ascending.
        total: How many vectors there were; ``m < total`` means that a sample is shown, and a caption must say so.
        method: ``"tsne"``, ``"umap"`` or ``"pca"``: what was drawn in the end.
    """

    points: np.ndarray
    items: np.ndarray
    total: int
    method: str


def project(
    vectors: np.ndarray,
    *,
    method: Layout = "tsne",
    seed: int = 0,
    max_items: int = 1000,
    iterations: int = 500,
) -> Projection:
    """Lay vectors ``(n, d)`` out on a plane so that neighbours stay neighbours.

    t-SNE (van der Maaten & Hinton 2008) starts from the two first principal components, which makes pictures of
    different methods comparable and the same seed give the same picture. It runs on at most 50 principal
    components. Fewer than 5 vectors, or vectors that are all equal, are drawn by PCA.

    Args:
        vectors: Finite numbers ``(n, d)``, n ≥ 1.
        method: ``"tsne"``, ``"pca"``, or ``"umap"`` (McInnes et al. 2018) where the package umap-learn is installed;
            it starts and samples like t-SNE. See :func:`layouts`.
        seed: Seed of the sample and of the layout.
        max_items: More vectors than this are sampled evenly at random.
        iterations: Steps of t-SNE; its picture hardly changes after 500.

    Raises:
        ArgumentError: Wrong shape, no vectors, numbers that are not finite, or an unknown method.
        MissingExtraError: ``"umap"`` without the package.

    >>> project(np.eye(3), method="pca").points.shape
    (3, 2)
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ArgumentError(f"vectors must have shape (n, d) with n ≥ 1 and d ≥ 1; got {vectors.shape}.")
    if not np.isfinite(vectors).all():
        raise ArgumentError("vectors must be finite; got NaN or infinity. Did the training diverge?")
    if method not in get_args(Layout):
        raise ArgumentError(
            f"method must be 'tsne', 'umap' or 'pca'; got {method!r}{nearest_name(str(method), get_args(Layout))}"
        )
    if method == "umap" and "umap" not in layouts():
        raise MissingExtraError(
            "UMAP needs the package umap-learn, which Kyori does not bring: pip install umap-learn, or take "
            "method='tsne'."
        )
    total = len(vectors)
    items = np.arange(total)
    if total > max_items:
        items = np.sort(np.random.default_rng(seed).choice(total, max_items, replace=False))
    components = _principal(vectors[items], seed)
    if method != "pca" and len(items) >= 5 and components.any():
        lay = _tsne if method == "tsne" else _umap
        return Projection(lay(components, seed, iterations), items, total, method)
    return Projection(components[:, :2], items, total, "pca")


def layouts() -> tuple[Layout, ...]:
    """Return the methods that can be used here: ``"umap"`` needs the package umap-learn."""
    installed = importlib.util.find_spec("umap") is not None
    return tuple(name for name in get_args(Layout) if name != "umap" or installed)


def _principal(vectors: np.ndarray, seed: int) -> np.ndarray:
    """At most 50 and at least 2 principal components; all zero where the vectors are all equal."""
    from sklearn.decomposition import PCA

    n, d = vectors.shape
    if n == 1 or (vectors == vectors[0]).all():
        return np.zeros((n, 2), np.float32)
    found = PCA(min(50, n, d), random_state=seed).fit_transform(vectors).astype(np.float32)
    return np.pad(found, ((0, 0), (0, max(0, 2 - found.shape[1]))))


def _start(components: np.ndarray, seed: int, size: float) -> np.ndarray:
    start = components[:, :2] / components[:, 0].std() * size
    # A little noise parts equal vectors, between which there is no force.
    noise = np.random.default_rng(seed).normal(scale=1e-3 * size, size=start.shape)
    return (start + noise).astype(np.float32)


def _umap(components: np.ndarray, seed: int, iterations: int) -> np.ndarray:
    umap = require("umap", extra="plot", purpose="a UMAP picture")
    map_ = umap.UMAP(
        n_neighbors=min(15, len(components) - 1),
        init=_start(components, seed, 3.0),
        n_epochs=iterations,
        random_state=seed,
        n_jobs=1,  # the same picture for the same seed needs one thread
    )
    return np.asarray(map_.fit_transform(components), dtype=np.float32)


def _tsne(components: np.ndarray, seed: int, iterations: int) -> np.ndarray:
    perplexity = min(30.0, (len(components) - 1) / 3)
    start = _start(components, seed, 1e-4)
    if len(components) > _TREE_LIMIT and importlib.util.find_spec("openTSNE") is not None:
        import openTSNE

        map_ = openTSNE.TSNE(
            n_iter=iterations, perplexity=perplexity, initialization=start, random_state=seed
        )
        return np.asarray(map_.fit(components), dtype=np.float32)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    map_ = TSNE(max_iter=iterations, perplexity=perplexity, init=start, random_state=seed)
    # One thread: a second gains nothing at this size, and on a busy machine the threads wait for each other
    # at the end of each of the 500 steps (measured: 8 s in place of 0.8 s).
    with threadpool_limits(1, user_api="openmp"):
        return np.asarray(map_.fit_transform(components), dtype=np.float32)
