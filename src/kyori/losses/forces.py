"""The spring view of a loss: the force between two items as a function of their distance.

A loss pulls and pushes: −∂L/∂D, the force along the distance D of one pair while the rest of the batch stands still,
says how. Below 0 the two are pulled together, above 0 pushed apart, at 0 the spring is slack.
"""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ArgumentError
from .loss import Loss
from .pairwise import PairwiseLoss

__all__ = ["Springs", "springs"]

_POINTS = 61
_SIZE = 8  # dimensions; more than the probe needs


class Springs(NamedTuple):
    """Forces of a loss on one pair, over the distance between the two.

    Attributes:
        distance: (g,) distances; angles to a class vector in radians where `angles`.
        pull: (g,) force between an anchor and its positive (or an item and its own class vector).
        push: (g,) force between an anchor and a negative (or an item and another class's vector; NaN where no
            item can be at that angle to the one and at `rest` to the other).
        rest: Where the other one of the two stands meanwhile.
        angles: Whether distances are angles to class vectors.
    """

    distance: Tensor
    pull: Tensor
    push: Tensor
    rest: float
    angles: bool


def springs(loss: Loss, *, reach: float | None = None) -> Springs:
    """The forces of a loss on a positive and on a negative, as functions of their distance.

    A loss of pairs sees one anchor with one positive and one negative as references: the one moves, the other rests
    at distance 1. A loss of classes sees one item and orthogonal class vectors: its angle to one of them changes,
    the other one stays at 60°.

    Args:
        loss: Any loss of `LOSSES`; its state is not changed.
        reach: Largest distance, > 0; 3 if left out. On the sphere it is always 2, and class vectors have angles.

    Raises:
        ArgumentError: `reach` is not above 0, or the loss has no force between single pairs, such as those on
            statistics of whole batches.

    >>> from kyori.losses import ContrastiveLoss
    >>> s = springs(ContrastiveLoss(margin=1.0))
    >>> at = lambda force, d: round(force[(s.distance - d).abs().argmin()].item(), 1)
    >>> at(s.pull, 1.0), at(s.push, 0.2)  # half of −D and of m − D: a mean over two pairs
    (-0.5, 0.4)
    """
    if reach is not None and not reach > 0:
        raise ArgumentError(f"reach must be a distance above 0; got {reach}.")
    if isinstance(loss, PairwiseLoss):
        return _between_items(loss, reach or 3.0)
    if loss.needs_classes:
        return _to_classes(loss)
    raise ArgumentError(f"{type(loss).__name__} has no force between single pairs, so no springs.")


def _between_items(loss: PairwiseLoss, reach: float) -> Springs:
    distances = torch.linspace(0.01, 1.99 if loss.spherical else reach, _POINTS, dtype=torch.float64)
    rest = torch.tensor(1.0, dtype=torch.float64)

    probe = copy.deepcopy(loss).double().eval()

    def force(which: int) -> Tensor:
        forces = []
        for moving in distances:
            D = moving.clone().requires_grad_()
            there = [D, rest] if which == 0 else [rest, D]
            anchor = _axis(0)
            others = torch.stack([_at(anchor, axis, d, loss.spherical) for axis, d in enumerate(there, 1)])
            value = probe(
                anchor[None],
                torch.tensor([0]),
                references=others,
                reference_labels=torch.tensor([0, 1]),
            )
            forces.append(-torch.autograd.grad(value, D)[0])
        return torch.stack(forces)

    return Springs(distances, force(0), force(1), 1.0, angles=False)


def _to_classes(loss: Loss) -> Springs:
    angles = torch.linspace(0.01, 3.13, _POINTS, dtype=torch.float64)
    rest = torch.tensor(torch.pi / 3, dtype=torch.float64)
    probe: Any = copy.deepcopy(loss).double().eval()
    classes, size = probe.weight.shape[0], probe.weight.shape[-1]
    if classes + 1 > size:
        raise ArgumentError(
            f"springs need an embedding_size above num_classes, so that class vectors can be orthogonal; got {size} "
            f"and {classes}."
        )
    vectors = torch.eye(classes, size)
    with torch.no_grad():  # several vectors a class all point the same way
        probe.weight.copy_(vectors if probe.weight.ndim == 2 else vectors[:, None])

    def force(which: int) -> Tensor:
        forces = []
        for moving in angles:
            angle = moving.clone().requires_grad_()
            own, other = (angle, rest) if which == 0 else (rest, angle)
            x = torch.zeros(size, dtype=torch.float64).index_put((torch.tensor([0]),), own.cos())
            if which == 0:  # away from its own class, towards none of the others
                x = x.index_put((torch.tensor([classes]),), own.sin())
            else:
                room = 1 - own.cos().square() - other.cos().square()
                if not room > 0:  # no direction has both angles
                    forces.append(torch.full_like(rest, torch.nan))
                    continue
                x = x.index_put((torch.tensor([1, classes]),), torch.stack([other.cos(), room.sqrt()]))
            value = probe(x[None], torch.tensor([0]))
            forces.append(-torch.autograd.grad(value, angle)[0])
        return torch.stack(forces)

    return Springs(angles, force(0), force(1), float(rest), angles=True)


def _axis(i: int) -> Tensor:
    axis = torch.zeros(_SIZE, dtype=torch.float64)
    axis[i] = 1.0
    return axis


def _at(anchor: Tensor, axis: int, distance: Tensor, spherical: bool) -> Tensor:
    """The point at a distance from the anchor: along the sphere if there is one, else through the origin."""
    if not spherical:
        return anchor * (1 - distance)
    angle = 2 * torch.asin(distance / 2)
    return anchor * angle.cos() + _axis(axis) * angle.sin()
