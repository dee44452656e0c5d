"""Linear methods on a board: trained on the same items, judged on the same queries as the deep ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data import Preprocess, Source, Split
from ..errors import DataError, KyoriError
from ..evaluation import evaluate
from ..linear import LinearMetric, create
from ..models import Embedder
from ..results import Results
from ..runs import table_of, unit_of
from ..training import RunConfig
from ..vectors import VectorTable
from .board import Cell

__all__ = ["LinearMap", "linear_cell"]

MOST_FEATURES = 100  # principal components that a linear method is given, at most
MOST_ROWS = 5_000  # above this, NCA and LMNN learn from batches
BATCH = 1_000

_BLOCK = 4096
_RESULTS, _VECTORS = "results.json", "vectors.parquet"


class LinearMap(nn.Flatten):
    """The backbone of a linear method: the pixels or features themselves, row by row; the head does the rest.

    An embedder that was saved by a comparison opens with ``Embedder.load(folder, backbone=LinearMap())``.
    """


def linear_cell(
    name: str,
    method: str,
    options: Mapping[str, Any],
    seed: int,
    split: Split,
    config: RunConfig,
    folder: Path | None,
) -> Cell:
    """Learn a linear metric on the training items and measure it on the test items.

    The inputs are scaled as those of the networks are, laid out as vectors and turned to their principal components,
    at most 100 (those with a variance of at least 1e-6 of the first). NCA and LMNN learn from batches of 1,000 rows
    where there are more than 5,000.

    Args:
        name: The name on the board.
        method: A name of ``kyori.linear.LINEAR``.
        options: Options of the method.
        seed: Its ``random_state``, where it has one.
        split: The items.
        config: For the scaling of the data and the unit of the intervals.
        folder: Where the model, the vectors and the results go; what is finished there is taken from there. None
            writes nothing.
    """
    facts = {
        "linear": method,
        "options": dict(options),
        "seed": seed,
        "scaling": config.data.scaling,
        "parts": {part: getattr(split, part).fingerprint() for part in ("train", "test")},
    }
    found = _finished(folder, facts)
    if found is None:
        start = time.perf_counter()
        embedder = _learn(method, options, seed, split.train, config)
        seconds = time.perf_counter() - start
        table = table_of(embedder, split.test)
        measured = evaluate(table, seed=seed, unit=unit_of(config))
        training = {**facts, "seconds": seconds, "parameters": embedder.parameter_count}
        results = Results(
            list(measured.values()),
            curves=measured.curves,
            provenance={**measured.provenance, "training": training},
        )
        if folder is not None:
            embedder.save(folder)
            table.save(folder / _VECTORS)
            results.to_json(folder / _RESULTS)  # last: a cell with results is complete
        found = results, table
    results, table = found
    known = results.provenance["training"]
    return Cell(
        method=name,
        seed=seed,
        results=results,
        table=table,
        seconds=float(known["seconds"]),
        parameters=int(known["parameters"]),
        folder=folder,
    )


def _finished(folder: Path | None, facts: Mapping[str, Any]) -> tuple[Results, VectorTable] | None:
    if folder is None or not (folder / _RESULTS).exists():
        return None
    try:
        results = Results.from_json(folder / _RESULTS)
        known = results.provenance["training"]
        same = all(known[key] == value for key, value in facts.items())
        return (results, VectorTable.load(folder / _VECTORS)) if same else None
    except (KyoriError, KeyError, TypeError, OSError):
        return None


def _learn(method: str, options: Mapping[str, Any], seed: int, source: Source, config: RunConfig) -> Embedder:
    if source.labels is None:
        raise DataError(f"{source.name}: method '{method}' needs labels.")
    preprocess = Preprocess.fit(source) if config.data.scaling == "standardize" else None
    empty = Embedder.create(
        LinearMap(),
        source.item_shape if preprocess is None else preprocess,
        embedding_size=None,
        normalize=False,
    )
    X = empty.encode(source, batch_size=_BLOCK).astype(np.float64)
    centre = X.mean(0)
    directions = _principal_directions(X - centre)
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


def _principal_directions(X: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(X.T @ X / len(X))
    if not values[-1] > 0:
        raise DataError("the training items are all alike: there is nothing to learn.")
    kept = np.flatnonzero(values > 1e-6 * values[-1])[::-1][:MOST_FEATURES]
    return np.ascontiguousarray(vectors[:, kept].T)


def _embedder(
    L: NDArray[np.float64], centre: NDArray[np.float64], source: Source, preprocess: Preprocess
) -> Embedder:
    """The map x ↦ L(x − centre) as an embedder, from raw items."""
    names = [source.class_names[code] for code in np.unique(np.asarray(source.labels))]
    embedder = Embedder.create(
        LinearMap(), preprocess, embedding_size=len(L), normalize=False, class_names=names
    )
    projection = embedder.head.projection
    with torch.no_grad():
        for parameter, value in zip(projection.parameters(), (L, -L @ centre), strict=True):
            parameter.copy_(torch.from_numpy(value))
    return embedder.eval()
