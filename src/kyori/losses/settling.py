"""A toy that shows what a loss wants: points of a plane that move where its forces push them, until they balance."""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ArgumentError
from .loss import Loss

__all__ = ["Settling", "settle"]

_REACH = 0.06  # no point moves further in one step; the picture is 2 wide


class Settling(NamedTuple):
    """Points of a plane under the forces of a loss, from a disordered start to where they come to rest.

    Attributes:
        points: (t, n, 2) positions at t moments, the first one the start.
        labels: (n,) class of each point.
        vectors: (t, m, 2) positions of the class vectors; m is 0 for a loss without them.
        vector_labels: (m,) class of each of them.
        values: (t,) value of the loss.
        spherical: Whether only directions count; all points then lie on the unit circle.
    """

    points: Tensor
    labels: Tensor
    vectors: Tensor
    vector_labels: Tensor
    values: Tensor
    spherical: bool


def settle(
    loss: Loss, *, classes: int = 3, per_class: int = 6, steps: int = 210, frames: int = 36, seed: int = 0
) -> Settling:
    """Let points of the plane follow the forces of a loss, −∂L/∂x, by gradient descent.

    The strongest force of the first step moves its point by 0.06, no later step moves one further, and the last third
    of the steps becomes shorter and shorter. Class vectors move in the same way; other numbers that a loss learns
    stay as they are.

    Args:
        loss: Any loss of `LOSSES` that takes a batch with one label an item; its state is not changed. A loss with
            class vectors must have ``num_classes=classes, embedding_size=2``.
        classes: Number of classes, ≥ 2.
        per_class: Points of each, ≥ 2.
        steps: Steps of gradient descent.
        frames: Moments that are kept, evenly over the steps, ≥ 2.
        seed: Seed of the start.

    Raises:
        ArgumentError: The loss does not take such a batch, has class vectors of another size, or does not stay finite.

    >>> from kyori.losses import ContrastiveLoss
    >>> found = settle(ContrastiveLoss(margin=1.0), per_class=4)
    >>> tuple(found.points.shape), bool(found.values[-1] < found.values[0])
    ((36, 12, 2), True)
    """
    if classes < 2 or per_class < 2 or frames < 2 or steps < frames - 1:
        raise ArgumentError(
            f"classes, per_class and frames must be at least 2, and steps at least frames − 1; got {classes}, "
            f"{per_class}, {frames} and {steps}."
        )
    probe: Any = copy.deepcopy(loss).double().eval()
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(per_class)
    weight = _class_vectors(loss, probe, classes, generator)
    spherical = loss.spherical and _same_at_any_length(probe, labels)
    points = _start(labels, classes, spherical, generator)
    moving = [points.requires_grad_()] + ([] if weight is None else [weight])
    kept = {round(i * steps / (frames - 1)) for i in range(frames)}
    history: list[tuple[Tensor, Tensor, Tensor]] = []
    rate = None
    for step in range(steps + 1):
        value, forces = _forces(probe, moving, labels)
        if step in kept:
            history.append((points.detach().clone(), _flat(weight), value))
        strongest = max(float(force.norm(dim=-1).max()) for force in forces)
        if rate is None and strongest > 0:
            rate = _REACH / strongest
        slower = min(1.0, 3 * (1 - step / steps))
        with torch.no_grad():
            for where, force in zip(moving, forces, strict=True):
                move = force * (rate or 0.0)
                length = move.norm(dim=-1, keepdim=True).clamp(min=1e-12)
                where += slower * move * (_REACH / length).clamp(max=1)
                if spherical:  # a class vector may be of any length, but looks best on the circle, too
                    where /= where.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    ways = 0 if weight is None else weight.numel() // 2
    return Settling(
        torch.stack([frame[0] for frame in history]),
        labels,
        torch.stack([frame[1] for frame in history]),
        torch.arange(ways) // max(1, ways // classes),
        torch.stack([frame[2] for frame in history]),
        spherical,
    )


def _start(labels: Tensor, classes: int, spherical: bool, generator: torch.Generator) -> Tensor:
    """Each class around a direction of its own, and so far around it that the classes lie mixed."""
    noise = torch.randn(len(labels), 2, generator=generator, dtype=torch.float64)
    directions = 2 * math.pi * labels.double() / classes
    if spherical:
        angles = directions + 0.9 * noise[:, 0]
        return torch.stack([angles.cos(), angles.sin()], dim=1)
    return 0.25 * torch.stack([directions.cos(), directions.sin()], dim=1) + 0.35 * noise


def _class_vectors(loss: Loss, probe: Any, classes: int, generator: torch.Generator) -> Tensor | None:
    if not loss.needs_classes:
        return None
    weight: Tensor = probe.weight
    if weight.shape[0] != classes or weight.shape[-1] != 2:
        raise ArgumentError(
            f"a loss with class vectors must be made with num_classes={classes}, embedding_size=2 to settle in the "
            f"plane; its class vectors have shape {tuple(weight.shape)}."
        )
    shape = weight.shape[:-1]
    turned = torch.arange(classes, dtype=torch.float64) * (2 * math.pi / classes) + 0.9
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    angles = turned.reshape(-1, *[1] * (len(shape) - 1)) + 0.35 * noise
    with torch.no_grad():
        weight.copy_(torch.stack([angles.cos(), angles.sin()], dim=-1))
    return weight


def _same_at_any_length(probe: Any, labels: Tensor) -> bool:
    """Whether the lengths of the embeddings do not count. Softmax, for one, is given features of any length."""
    angles = (
        torch.arange(len(labels), dtype=torch.float64).square() / 7
    )  # no two distances equal: mining has no ties
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    with torch.enable_grad():
        values = [
            _forces(probe, [where.clone().requires_grad_()], labels)[0] for where in (points, 1.7 * points)
        ]
    return bool(torch.isclose(values[0], values[1], rtol=1e-6))


def _forces(probe: Any, moving: list[Tensor], labels: Tensor) -> tuple[Tensor, list[Tensor]]:
    try:
        value = probe(moving[0], labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{type(probe).__name__} takes no batch of labelled points: {error}") from error
    found = torch.autograd.grad(value, moving, allow_unused=True)
    forces = [
        torch.zeros_like(where) if g is None else -(g.to_dense() if g.is_sparse else g)
        for where, g in zip(moving, found, strict=True)
    ]
    if not (torch.isfinite(value) and all(torch.isfinite(force).all() for force in forces)):
        raise ArgumentError(f"the forces of {type(probe).__name__} are not finite on points of a plane.")
    return value.detach(), forces


def _flat(weight: Tensor | None) -> Tensor:
    return (
        torch.zeros(0, 2, dtype=torch.float64) if weight is None else weight.detach().reshape(-1, 2).clone()
    )
