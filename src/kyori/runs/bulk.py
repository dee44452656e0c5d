"""Embed a large corpus on a Ray cluster: each worker opens the run and the data, and encodes the items it is given."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentError, KyoriError
from ..optional import require
from ..vectors import VectorTable
from .fitting import open_part, table_from

__all__ = ["encode_on_ray"]

_BLOCK = 2048  # items given to a worker at a time


def encode_on_ray(
    folder: str | Path, data: str | Path, part: str = "all", *, workers: int | None = None
) -> tuple[VectorTable, str]:
    """Encode one part of ``data`` with the embedder of a run, on all processors of a Ray cluster.

    It is that of the environment variable RAY_ADDRESS, or else one that is started on this machine and stopped at the
    end. All its machines must see run and data under the paths given. Items are those of `encode_part`, in the same
    order; only positions and vectors travel.

    Args:
        folder: A run folder.
        data: A path or name that `kyori.open_source` opens on every machine.
        part: As in `open_part`.
        workers: Processes that encode; by default one a GPU of the cluster, or one a processor without GPUs.

    Returns:
        The vectors, and the name of the part that was taken.

    Raises:
        MissingExtraError: Ray is not installed.
        ArgumentError: ``workers`` is below 1.
        KyoriError: A worker failed; the message says why.
    """
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers must be at least 1; got {workers}.")
    ray = require("ray", extra="ray", purpose="embedding on a Ray cluster")
    ray_data = require("ray.data", extra="ray", purpose="embedding on a Ray cluster")
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _, source, used = open_part(folder, data, part)
    own = not ray.is_initialized()
    if own:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", configure_logging=False)
    try:
        context = ray_data.DataContext.get_current()
        context.enable_progress_bars = False
        gpus = int(ray.cluster_resources().get("GPU", 0))
        most = math.ceil(len(source) / _BLOCK)
        count = min(most, workers or gpus or int(ray.cluster_resources().get("CPU", 1)))
        found = ray_data.range(len(source), override_num_blocks=most).map_batches(
            _Encoder,
            fn_constructor_args=(str(_absolute(folder)), str(_absolute(data)), used),
            batch_size=_BLOCK,
            compute=ray_data.ActorPoolStrategy(size=count),
            num_gpus=1 if gpus else 0,
            num_cpus=0 if gpus else 1,
        )
        vectors, norms = _collect(found, len(source))
    except ray.exceptions.RayError as error:
        raise KyoriError(f"embedding on Ray failed: {_reason(error)}") from error
    finally:
        if own:
            ray.shutdown()
    return table_from(source, vectors, norms), used


class _Encoder:
    """A worker: opens once, encodes the positions it is given."""

    def __init__(self, folder: str, data: str, part: str):
        torch.set_num_threads(1)
        run, self.source, _ = open_part(folder, data, part)
        self.embedder = run.embedder.to("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        vectors, norms = self.embedder.encode_with_norms(self.source.take(batch["id"]))
        return {"id": batch["id"], "vector": vectors, "norm": norms}


def _collect(found: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    vectors: np.ndarray | None = None
    norms = np.zeros(n, dtype=np.float32)
    for batch in found.iter_batches(batch_size=None, batch_format="numpy"):
        if vectors is None:
            vectors = np.zeros((n, *batch["vector"].shape[1:]), dtype=batch["vector"].dtype)
        vectors[batch["id"]], norms[batch["id"]] = batch["vector"], batch["norm"]
    assert vectors is not None  # a part is never empty
    return vectors, norms


def _absolute(path: str | Path) -> str | Path:
    """A path that a worker, which runs elsewhere, can open; names of built-in data stay as they are."""
    return Path(path).absolute() if Path(path).exists() else path


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
