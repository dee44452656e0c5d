"""Sampled classes: a step that touches a share of the class vectors, and their row-sparse gradient."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["draw_classes", "pick_rows"]


def draw_classes(labels: Tensor, classes: int, share: float, seed: int, step: int) -> Tensor:
    """Class numbers for one step, ascending: all that occur in `labels`, filled up to ⌈share · classes⌉ by chance.

    A function of (labels, seed, step), drawn on the CPU whatever the device.

    >>> draw_classes(torch.tensor([7, 7, 2]), 10, 0.3, seed=0, step=0).shape
    torch.Size([3])
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    present = labels.unique().cpu()
    order = torch.rand(classes, generator=generator)
    order[present] = 2.0
    count = max(math.ceil(share * classes), len(present))
    return order.topk(count, sorted=False).indices.sort().values.to(labels.device)


def pick_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """`weight[rows]` for distinct ascending rows, with a gradient that is sparse: it holds these rows alone."""
    return _PickRows.apply(weight, rows)


class _PickRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return weight[rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(
            rows[None], gradient, ctx.shape, is_coalesced=True, check_invariants=False
        ), None
