"""The methods that ``kyori compare`` knows by name: a loss or a linear method, and its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentError, nearest_name
from ..linear import LINEAR, create
from ..losses import LOSSES

__all__ = ["BASELINES", "DEFAULT_METHODS", "METHODS", "Method", "resolve"]


@dataclass(frozen=True)
class Method:
    """A way to get vectors: a loss with options, a linear method with options, or neither for the raw input.

    Attributes:
        name: The name on the leaderboard.
        loss: A name of ``kyori.losses.LOSSES``; None trains no network.
        options: Options of the loss or of the training (``margin``, ``lr``, …) or of the linear method that differ
            from the defaults.
        linear: A name of ``kyori.linear.LINEAR`` that learns from classes.
    """

    name: str
    loss: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    linear: str | None = None

    def __post_init__(self) -> None:
        if self.linear is None:
            return
        if self.loss is not None:
            raise ArgumentError(f"method '{self.name}' must have a loss or be linear; got both.")
        if self.linear not in _LINEAR:
            raise ArgumentError(f"unknown linear method '{self.linear}'{nearest_name(self.linear, _LINEAR)}")
        try:
            create(self.linear, **self.options)
        except ArgumentError as error:
            raise ArgumentError(f"method '{self.name}': {error}") from error


#: Linear methods for a board; the others learn from numbers, not classes.
_LINEAR = tuple(name for name, method in LINEAR.items() if method.supervision != "targets")


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("raw", None),
        # On the sphere: raw distances start far above the margin, and on hard data they shrink before they part.
        Method("contrastive", "contrastive", {"normalize": True}),
        Method("triplet", "triplet", {"mining": "semihard"}),
        Method("triplet-semihard", "triplet", {"mining": "semihard"}),
        Method("triplet-all", "triplet", {"mining": "all"}),
        Method("triplet-hard", "triplet", {"mining": "hard"}),
        Method("triplet-batch-hard", "triplet", {"mining": "batch_hard"}),
        Method("triplet-facenet", "triplet", {"mining": "facenet"}),
        Method("triplet-random", "triplet", {"mining": "random"}),
        *(Method(name, None, linear=name) for name in _LINEAR),
    )
}
#: Every other loss is a method by its own name, with its defaults. (The name nca is the linear method's.)
METHODS |= {name: Method(name, name) for name in LOSSES if name not in METHODS}

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
            ``{"name": "wide margin", "loss": "triplet", "margin": 0.5}`` or ``{"linear": "nca", "n_components": 8}``.

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
        if "linear" in options and "loss" not in options:
            linear = str(options.pop("linear"))
            return Method(str(options.pop("name", linear)), None, options, linear)
        if "loss" not in options:
            raise ArgumentError(
                f"a method given as a mapping needs the key 'loss' or 'linear'; got keys {sorted(options)}."
            )
        loss = options.pop("loss")
        return Method(str(options.pop("name", loss)), loss, options)
    if method not in METHODS:
        raise ArgumentError(f"unknown method '{method}'{nearest_name(method, METHODS)}")
    return METHODS[method]
