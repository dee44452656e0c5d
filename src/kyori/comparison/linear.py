"""Linear methods on a board: trained on the same items, judged on the same queries as the deep ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Preprocess, Source
from ..errors import DataError
from ..linear import LinearMetric, create
from ..models import Embedder
from ..training import RunConfig

__all__ = ["BATCH", "MOST_FEATURES", "MOST_ROWS", "config_of", "learn_linear"]

MOST_FEATURES = 100  # principal components that a linear method is given, at most
MOST_ROWS = 5_000  # above this, NCA and LMNN learn from batches
BATCH = 1_000

_BLOCK = 4096


def config_of(embedder: Embedder, config: RunConfig) -> RunConfig:
    """Return the configuration of a run whose embedder is the linear map: what opens it, and how its items come."""
    return RunConfig.from_options(
        config,
        **{
            "model.backbone": "linear",
            "model.embedding_size": embedder.embedding_size,
            "model.unit_norm": False,
        },
    )


def learn_linear(
    method: str,
    options: Mapping[str, Any],
    seed: int,
    source: Source,
    config: RunConfig,
    *,
    features: int = MOST_FEATURES,
) -> Embedder:
    """Learn a linear metric on the training items, as an embedder from raw items.

    The inputs are scaled as those of the networks are, laid out as vectors and turned to their principal components,
    at most ``features`` of them (those with a variance of at least 1e-6 of the first). NCA and LMNN learn from batches
    of 1,000 rows where there are more than 5,000.

    Args:
        method: A name of ``kyori.linear.LINEAR``.
        options: Options of the method.
        seed: Its ``random_state``, where it has one.
        source: The training items.
        config: For the scaling of the data.
        features: Principal components that the method is given, at most.
    """
    if source.labels is None:
        raise DataError(f"{source.name}: method '{method}' needs labels.")
    preprocess = Preprocess.fit(source) if config.data.scaling != "unit" else None
    empty = Embedder.create(
        "linear",
        source.item_shape if preprocess is None else preprocess,
        embedding_size=None,
        normalize=False,
    )
    if not isinstance(empty.preprocess, Preprocess):
        raise DataError(f"{source.name}: method '{method}' needs pictures or vectors; these are texts.")
    X = empty.encode(source, batch_size=_BLOCK).astype(np.float64)
    centre = X.mean(0)
    directions = _principal_directions(X - centre, features)
    metric = _create(method, options, seed, len(X))
    metric.fit((X - centre) @ directions.T, source.labels)
    return _embedder(metric.components_ @ directions, centre, source, empty.preprocess)


def _create(method: str, options: Mapping[str, Any], seed: int, n: int) -> LinearMetric:
    metric = create(method, **options)
    known = metric.get_params()
    if "random_state" in known and "random_state" not in options:
        metric.set_params(random_state=seed)
    if "batch_size" in known and "batch_size" not in options and n > MOST_ROWS:
        metric.set_params(batch_size=BATCH)
    return metric


def _principal_directions(X: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(X.T @ X / len(X))
    if not values[-1] > 0:
        raise DataError("the training items are all alike: there is nothing to learn.")
    kept = np.flatnonzero(values > 1e-6 * values[-1])[::-1][:most]
    return np.ascontiguousarray(vectors[:, kept].T)


def _embedder(
    L: NDArray[np.float64], centre: NDArray[np.float64], source: Source, preprocess: Preprocess
) -> Embedder:
    """The map x ↦ L(x − centre) as an embedder, from raw items."""
    names = [source.class_names[code] for code in np.unique(np.asarray(source.labels))]
    embedder = Embedder.create(
        "linear", preprocess, embedding_size=len(L), normalize=False, class_names=names
    )
    projection = embedder.head.projection
    with torch.no_grad():
        for parameter, value in zip(projection.parameters(), (L, -L @ centre), strict=True):
            parameter.copy_(torch.from_numpy(value))
    return embedder.eval()
