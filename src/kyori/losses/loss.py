"""What every loss is: a module that says what it computes, what its last step saw, and when it had nothing to do."""

import warnings
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, DegenerateWarning, nearest_name

__all__ = [
    "Loss",
    "Reduction",
    "check_choice",
    "check_matrix",
    "check_positive",
    "check_reduction",
    "reduce",
    "spread",
]

Reduction = Literal["mean", "sum", "none"]


class Loss(nn.Module):
    """Base of all losses: `loss(embeddings, labels)` on (n, d) floats and (n,) integers.

    Class attributes describe a loss to people and programs; `kyori losses` prints them.
    """

    name: ClassVar[str]
    """The name on the command line and in configurations."""
    formula: ClassVar[str]
    """One line."""
    paper: ClassVar[str]
    """Authors, title, venue, year."""
    cost: ClassVar[str]
    """Time of a step as an order in n (items), m (references), p (positives of an anchor), c (classes)."""
    needs_classes: ClassVar[bool] = False
    """Whether it has a vector for each class, and so is made with num_classes and embedding_size."""
    spherical: bool = True
    """Whether it compares directions only, so that its embeddings are best L2-normalised."""

    def __init__(self) -> None:
        super().__init__()
        self._starved: Tensor | int = 0
        self._warned = False

    @property
    def stats(self) -> dict[str, float]:
        """What the last step saw, by name; reading it waits for the device."""
        raise NotImplementedError(f"{type(self).__name__} must define stats")

    def _count_starved(self, starved: Tensor | int, on_cpu: bool) -> None:
        """Count a step with nothing to learn from, and say so the first time.

        On other devices the question would stall the device: there `stats` asks it.
        """
        if on_cpu and not torch.compiler.is_compiling():  # a question would break the graph: `stats` asks it
            self._starved = self._starved + int(starved)
            self._warn_if_starved()
        else:
            self._starved = self._starved + starved

    def _warn_if_starved(self) -> None:
        if self._warned or not self._starved:
            return
        self._warned = True
        warnings.warn(
            f"{type(self).__name__}: a batch has nothing to learn from: {self._starvation()} Further cases are "
            "counted in loss.stats['degenerate'].",
            DegenerateWarning,
            stacklevel=2,
        )

    def _starvation(self) -> str:
        """What a batch lacks that has nothing to learn from, and what to do."""
        return "it is empty."


def spread(x: Tensor) -> Tensor:
    """Root mean square distance of rows to their centre over their rms norm, 0 (collapsed) to 1."""
    if not len(x):
        return x.new_zeros(())
    norm = x.square().sum(1).mean()
    around = (x - x.mean(0)).square().sum(1).mean()
    return (around / norm.clamp(min=torch.finfo(x.dtype).tiny)).sqrt()


def check_matrix(x: Any, name: str, width: int | None = None) -> None:
    """Raise `ArgumentError` unless `x` is a float tensor (n, d), d = `width` if given."""
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point():
        got = f"{tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError(f"{name} must be a float tensor of shape (n, d); got {got}.")
    if width is not None and x.shape[1] != width:
        raise ArgumentError(
            f"{name} must have shape (m, {width}), as wide as embeddings; got {tuple(x.shape)}."
        )


def check_positive(value: float, name: str) -> None:
    """Raise `ArgumentError` unless `value` is above 0."""
    if not value > 0:
        raise ArgumentError(f"{name} must be above 0; got {value}.")


def check_choice(value: Any, name: str, choices: Any) -> None:
    """Raise `ArgumentError` unless `value` is one of `choices`, a `Literal` type or a collection of names."""
    known = get_args(choices) or tuple(choices)
    if value not in known:
        near = nearest_name(str(value), [k for k in known if isinstance(k, str)])
        raise ArgumentError(f"{name} must be one of {', '.join(map(str, known))}; got {value!r}{near}")


def reduce(values: Tensor, reduction: Reduction) -> Tensor:
    """Mean or sum of the items' losses (n,), or they themselves."""
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else values.mean()


def check_reduction(reduction: str) -> None:
    """Raise `ArgumentError` unless `reduction` is mean, sum or none."""
    check_choice(reduction, "reduction", Reduction)
