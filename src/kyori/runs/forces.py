"""The forces of the loss that a run was trained with, as values for a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .. import losses
from ..errors import KyoriError
from ..report import Settled, Spring
from ..results import Results

__all__ = ["spring_of"]

_MOST_CLASSES = 50  # orthogonal class vectors that the forces are computed with


def spring_of(results: Results, *, classes: int | None = None) -> Spring | None:
    """Return the springs of the loss that the results' provenance names, and how points settle under it.

    Args:
        results: Of a run, whose provenance holds the loss with its options.
        classes: Number of classes of the data, for a loss with class vectors; at most 50 are taken.

    Returns:
        The forces; None for what was trained without a loss, by a version that did not write the options down, or
        with a loss that has no force between single pairs.
    """
    training = results.provenance.get("training")
    if not isinstance(training, Mapping) or "loss" not in training or "options" not in training:
        return None
    name, options = str(training["loss"]), dict(training["options"])
    classes = max(2, min(classes or 2, _MOST_CLASSES))
    try:
        loss = _create(name, classes, classes + 1, options)
        forces = losses.springs(loss, reach=_reach(results))
    except KyoriError:
        return None
    distance, pull, push = (values.numpy() for values in (forces.distance, forces.pull, forces.push))
    return Spring(distance, pull, push, forces.angles, settled_of(name, options))


def settled_of(name: str, options: Mapping[str, Any]) -> Settled | None:
    """Return how points settle under a loss; None where it takes no labelled points of the plane."""
    try:
        moments = losses.settle(_create(name, 3, 2, options))
    except KyoriError:
        return None
    arrays = {key: np.asarray(value) for key, value in moments._asdict().items() if key != "spherical"}
    return Settled(**arrays, spherical=moments.spherical)


def _create(name: str, classes: int, size: int, options: Mapping[str, Any]) -> losses.Loss:
    with torch.random.fork_rng(devices=[]):  # first class vectors are drawn, and overwritten here
        torch.default_generator.manual_seed(0)
        return losses.create(name, num_classes=classes, embedding_size=size, **options)


def _reach(results: Results) -> float | None:
    """The largest distance of the test items, and a little more."""
    edges = results.curves.get("histogram", {}).get("edges")
    if edges is None or not len(edges) or not np.isfinite(edges[-1]) or not edges[-1] > 0:
        return None
    return float(edges[-1]) * 1.02
