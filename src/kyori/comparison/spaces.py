"""What a hyper-parameter search may choose: one documented space a method, and the learning rates.

A space is a table of names and ranges. The names are options of the loss (or of the linear method) itself; every number
among them has a range here or a reason in ``LEFT_ALONE``. Ranges hold the default wherever it is a number.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..linear import LINEAR
from ..losses import LOSSES
from ..training import RunConfig
from .methods import Method

__all__ = [
    "FEATURES",
    "LEFT_ALONE",
    "LINEAR_SPACES",
    "LOSS_SPACES",
    "Range",
    "Space",
    "defaults_of",
    "space_of",
]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``.

    Attributes:
        low: The smallest value.
        high: The largest value.
        log: Search evenly in the logarithm.
        whole: Whole numbers only.

    >>> str(Range(0.1, 10, log=True))
    '0.1 – 10, log'
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kinds = ["log"] * self.log + ["whole"] * self.whole
        return ", ".join([f"{self.low:g} – {self.high:g}", *kinds])

    def __contains__(self, value: object) -> bool:
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and self.low <= value <= self.high
        )


Space = Mapping[str, Range]

_MARGIN = Range(0.05, 1.0, log=True)  # between distances of unit vectors, which are at most 2
_ANGLE = Range(0.05, 0.8)  # radians, or cosines
_SCALE = Range(8, 128, log=True)
_TEMPERATURE = Range(0.02, 0.5, log=True)
_SHARPNESS = Range(0.002, 0.1, log=True)  # temperature of a smoothed rank
_RATE = Range(0.001, 0.1, log=True)
_BINS = Range(5, 30, whole=True)
_STEEP = Range(5, 100, log=True)
_SHRINKAGE = Range(1e-4, 0.5, log=True)

#: The space of every loss, by name. The learning rates (``LEARNING_RATES``) come to each of them.
LOSS_SPACES: dict[str, Space] = {
    "contrastive": {"margin": Range(0.25, 2.0), "positive_margin": Range(0, 0.5)},
    "onlinecontrastive": {"margin": Range(0.1, 1.0)},
    "intrapairvariance": {
        "positive_slack": Range(0.001, 0.1, log=True),
        "negative_slack": Range(0.001, 0.1, log=True),
    },
    "thresholdconsistent": {
        "positive_similarity": Range(0.7, 0.99),
        "negative_similarity": Range(0.2, 0.69),
        "positive_weight": Range(0.25, 4, log=True),
        "negative_weight": Range(0.25, 4, log=True),
    },
    "margin": {"margin": Range(0.05, 0.5), "beta": Range(0.6, 1.6), "regularization": Range(0, 0.01)},
    "triplet": {"margin": _MARGIN},
    "centroidtriplet": {"margin": _MARGIN},
    "angular": {"angle": Range(math.radians(30), math.radians(60))},
    "npairs": {},
    "tuplet": {"margin": Range(0.02, 0.3), "scale": _SCALE},
    "lifted": {"margin": Range(0.3, 3, log=True), "positive_margin": Range(0, 0.5)},
    "generalizedlifted": {"margin": Range(0.3, 3, log=True), "positive_margin": Range(0, 0.5)},
    "multisimilarity": {
        "alpha": Range(0.5, 10, log=True),
        "beta": Range(10, 100, log=True),
        "base": Range(0.2, 0.8),
        "epsilon": Range(0.01, 0.3),
    },
    "circle": {"margin": Range(0.1, 0.5), "scale": Range(16, 256, log=True)},
    "rankedlist": {
        "margin": Range(0.1, 0.8),
        "alpha": Range(0.9, 1.6),
        "balance": Range(0.2, 0.8),
        "temperature": Range(1, 20, log=True),
        "positive_temperature": Range(0, 10),
    },
    "fastap": {"bins": _BINS},
    "smoothap": {"temperature": _SHARPNESS},
    "pnp": {"alpha": Range(1, 8), "b": Range(1, 4), "temperature": _SHARPNESS},
    "recallk": {"temperature": _SHARPNESS, "k_temperature": Range(0.25, 4, log=True)},
    "histogram": {"bins": Range(25, 200, log=True, whole=True)},
    "dynamicsoftmargin": {"bins": _BINS, "rate": _RATE},
    "ge2e": {"scale": Range(2, 50, log=True), "bias": Range(-10, 0)},
    "ntxent": {"temperature": _TEMPERATURE},
    "supcon": {"temperature": _TEMPERATURE},
    "mnr": {"scale": _STEEP},
    "gist": {"scale": Range(20, 200, log=True), "guide_margin": Range(0, 0.2)},
    "siglip": {"scale": Range(2, 50, log=True), "bias": Range(-15, -1)},
    "megabatchmargin": {"positive_margin": Range(0.5, 0.95), "negative_margin": Range(0, 0.49)},
    "vicreg": {
        "invariance": Range(5, 50, log=True),
        "variance": Range(5, 50, log=True),
        "covariance": Range(0.1, 10, log=True),
    },
    "barlowtwins": {"redundancy": Range(5e-4, 0.05, log=True)},
    "ladder": {"margin": Range(0.05, 0.5, log=True)},
    "cosent": {"scale": _STEEP},
    "angle": {"scale": _STEEP},
    "cosinemse": {},
    "softmax": {},
    "normface": {"scale": Range(4, 64, log=True)},
    "l2softmax": {"alpha": Range(4, 64, log=True)},
    "largemargin": {"margin": Range(1, 5)},
    "sphereface": {"margin": Range(1, 5)},
    "cosface": {"margin": _ANGLE, "scale": _SCALE},
    "arcface": {"margin": _ANGLE, "scale": _SCALE},
    "combined": {"m1": Range(1, 1.5), "m2": Range(0, 0.7), "m3": Range(0, 0.4), "scale": _SCALE},
    "subcenterarcface": {"margin": _ANGLE, "scale": _SCALE, "subcenters": Range(1, 5, whole=True)},
    "adaface": {"margin": _ANGLE, "concentration": Range(0.1, 0.6), "rate": _RATE, "scale": _SCALE},
    "magface": {"strength": Range(5, 100, log=True), "scale": _SCALE},
    "curricularface": {"margin": _ANGLE, "scale": _SCALE, "rate": _RATE},
    "adacos": {},
    "p2sgrad": {},
    "uniformface": {"margin": _ANGLE, "scale": _SCALE, "strength": Range(0.1, 10, log=True)},
    "center": {"strength": Range(3e-4, 0.03, log=True), "rate": Range(0.1, 1)},
    "nca": {"scale": Range(0.25, 16, log=True)},
    "proxynca": {"scale": Range(2, 32, log=True)},
    "proxynca++": {"temperature": _TEMPERATURE},
    "proxyanchor": {"alpha": Range(8, 64, log=True), "margin": Range(0.02, 0.3)},
    "softtriple": {
        "scale": Range(5, 64, log=True),
        "margin": Range(0.001, 0.1, log=True),
        "temperature": Range(0.03, 0.5, log=True),
        "subcenters": Range(1, 20, whole=True),
        "strength": Range(0.02, 2, log=True),
    },
}

#: What a linear method is searched over beside ``FEATURES``.
LINEAR_SPACES: dict[str, Space] = {
    "nca": {"max_iter": Range(10, 200, log=True, whole=True)},
    "lmnn": {"n_neighbors": Range(1, 7, whole=True), "push": Range(0.1, 0.9)},
    "lfda": {"k": Range(2, 15, whole=True), "shrinkage": _SHRINKAGE},
    "lda": {"shrinkage": _SHRINKAGE},
    "itml": {"gamma": Range(0.01, 100, log=True)},
    "mmc": {"shrinkage": _SHRINKAGE},
    "sdml": {"balance": Range(0.01, 1, log=True), "sparsity": Range(0.001, 0.1, log=True)},
    "scml": {"beta": Range(1e-7, 1e-2, log=True)},
    "lsml": {},
    "rca": {"chunk_size": Range(2, 10, whole=True)},
    "covariance": {},
}

#: Principal components that a linear method is given: searched for each of them, as the learning rate is for a loss.
FEATURES = Range(10, 100, log=True, whole=True)

#: Factors on the configured learning rate: of the network, and of the weights that a head brings.
LEARNING_RATES = {"lr": Range(0.1, 10, log=True), "head_lr": Range(0.1, 100, log=True)}

#: Numbers that no search touches, and why.
LEFT_ALONE: dict[str, str] = {
    "block_rows": "memory, not the value",
    "chunk_classes": "memory, not the value",
    "sample": "an approximation for many classes",
    "trim": "for wrong labels",
    "filter_above": "for wrong labels",
    "label_smoothing": "would suit every cross-entropy alike",
    "seed": "the cell's own",
    "triplets": "how many are drawn: cost",
    "hardness": "counts with another harden= only: another method",
    "epsilon": "of vicreg: keeps a square root from zero",
    "n_components": "the dimension is the board's to set",
    "n_pairs": "how many are drawn: cost",
    "n_triplets": "how many are drawn: cost",
    "n_chunks": "how many are drawn: cost",
    "n_basis": "how many are drawn: cost",
    "tol": "when to stop",
    "max_iter": "when to stop; searched for nca, which overfits",
    "batch_size": "cost",
    "epochs": "cost",
    "learning_rate": "counts in batches only, on more than 5,000 items",
    "scale": "of sphereface: None keeps the norms, a number is another method",
    "random_state": "the cell's own",
}


def space_of(method: Method, config: RunConfig) -> dict[str, Range]:
    """Return the ranges that a search over ``method`` draws from, by the name of the setting.

    What the method sets itself is not searched. Learning rates are factors of the configured one.

    >>> from kyori.comparison import METHODS
    >>> {name: str(found) for name, found in space_of(METHODS["arcface"], RunConfig()).items()}
    {'margin': '0.05 – 0.8', 'scale': '8 – 128, log', 'lr': '0.0001 – 0.01, log', 'head_lr': '0.0001 – 0.1, log'}
    """
    if method.linear is not None:
        space = {**LINEAR_SPACES[method.linear], "features": FEATURES}
        return {name: found for name, found in space.items() if name not in method.options}
    if method.loss is None:
        return {}
    base = config.optimizer.lr
    rates = {
        name: Range(base * found.low, base * found.high, log=True)
        for name, found in LEARNING_RATES.items()
        if name == "lr" or LOSSES[method.loss].needs_classes
    }
    given = {name.rpartition(".")[2] for name in method.options}
    space = {**LOSS_SPACES[method.loss], **rates}
    return {name: found for name, found in space.items() if name not in given}


def defaults_of(method: Method, config: RunConfig) -> dict[str, Any]:
    """Return the value that each setting of the space has without a search."""
    if method.linear is not None:
        known = {**LINEAR[method.linear]().get_params(), "features": FEATURES.high}
    elif method.loss is not None:
        parameters = inspect.signature(LOSSES[method.loss]).parameters
        optimizer = config.optimizer
        known = {name: parameter.default for name, parameter in parameters.items()}
        known |= config.loss.options
        known |= {"lr": optimizer.lr, "head_lr": optimizer.head_rate(known.get("sample"))}
    else:
        known = {}
    return {name: known[name] for name in space_of(method, config)}
