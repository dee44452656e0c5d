"""The methods that ``kyori compare`` knows by name: a loss and the options that differ from its defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentError, nearest_name

__all__ = ["BASELINES", "DEFAULT_METHODS", "METHODS", "Method", "resolve"]


@dataclass(frozen=True)
class Method:
    """A way to get vectors: a loss with options, or ``loss=None`` for the raw input.

    Attributes:
        name: The name on the leaderboard.
        loss: A name of ``kyori.losses.LOSSES``; None leaves the items as they are.
        options: Options of the loss or of the training (``margin``, ``lr``, …) that differ from the defaults.
    """

    name: str
    loss: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("raw", None),
        Method("softmax", "softmax"),
        # On the sphere: raw distances start far above the margin, and on hard data they shrink before they part.
        Method("contrastive", "contrastive", {"normalize": True}),
        Method("triplet", "triplet", {"mining": "semihard"}),
        Method("triplet-semihard", "triplet", {"mining": "semihard"}),
        Method("triplet-all", "triplet", {"mining": "all"}),
        Method("triplet-hard", "triplet", {"mining": "hard"}),
        Method("triplet-batch-hard", "triplet", {"mining": "batch_hard"}),
        Method("triplet-facenet", "triplet", {"mining": "facenet"}),
        Method("triplet-random", "triplet", {"mining": "random"}),
        Method("normface", "normface"),
        Method("l2softmax", "l2softmax"),
        Method("sphereface", "sphereface"),
        Method("cosface", "cosface"),
        Method("arcface", "arcface"),
    )
}

#: Methods that learn nothing: shown on a board, never recommended.
BASELINES = ("raw",)

DEFAULT_METHODS = (
    "raw",
    "softmax",
    "contrastive",
    "triplet-semihard",
    "l2softmax",
    "sphereface",
    "cosface",
    "arcface",
)


def resolve(methods: Iterable[str | Method | Mapping[str, Any]]) -> list[Method]:
    """Turn names, :class:`Method` values and mappings into methods.

    Args:
        methods: Names of ``METHODS``, or mappings such as
            ``{"name": "wide margin", "loss": "triplet", "margin": 0.5}``.

    Raises:
        ArgumentError: A name is unknown or stands twice, or no method is given.

    >>> [m.loss for m in resolve(["raw", {"name": "wide", "loss": "triplet", "margin": 0.5}])]
    [None, 'triplet']
    """
    if isinstance(methods, str | Mapping | Method):
        raise ArgumentError(f"methods must be a list; got {methods!r}. Write [{methods!r}].")
    found = [_resolve_one(method) for method in methods]
    names = [method.name for method in found]
    if not found:
        raise ArgumentError(f"methods is empty; name at least one of: {', '.join(METHODS)}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(f"methods must have different names; {', '.join(twice)} stands twice.")
    return found


def _resolve_one(method: str | Method | Mapping[str, Any]) -> Method:
    if isinstance(method, Method):
        return method
    if isinstance(method, Mapping):
        options = dict(method)
        if "loss" not in options:
            raise ArgumentError(
                f"a method given as a mapping needs the key 'loss'; got keys {sorted(options)}."
            )
        loss = options.pop("loss")
        return Method(str(options.pop("name", loss)), loss, options)
    if method not in METHODS:
        raise ArgumentError(f"unknown method '{method}'{nearest_name(method, METHODS)}")
    return METHODS[method]
