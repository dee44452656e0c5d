"""Gradient caching: the gradient of a large batch on the memory of a small one.

A loss over pairs needs all embeddings of the batch at once, but the network needs no more than a chunk of its items
at a time: embed all chunks without gradient, take the gradient of the loss with respect to the embeddings, then
embed each chunk again and send its part of that gradient through the network. The result is the gradient of
the whole batch, not an approximation, at the price of a second forward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from ..errors import ArgumentError

__all__ = ["cached_backward"]

_SAME = 1e-2  # rounding may differ between the passes under autocast; another embedding differs by more


def cached_backward(
    loss: Callable[..., Tensor],
    embed: Callable[[Any], Tensor],
    chunks: Sequence[Any],
    *args: Any,
    scale: Callable[[Tensor], Tensor] | None = None,
    **options: Any,
) -> Tensor:
    """Do what `loss(embeddings of all chunks, *args, **options).backward()` does, in the memory of one chunk.

    Gao et al., "Scaling deep contrastive learning batch size under memory limited setup" (GradCache), 2021. Dropout
    draws the same numbers in both passes. Gradients are added to those that are there, of the embedder and of the
    loss's own parameters.

    Args:
        loss: Any loss, with class vectors or without.
        embed: From a chunk to its embeddings (b, d); its parameters get their gradient.
        chunks: The inputs, e.g. `images.split(64)`; their embeddings are put together in this order.
        *args: What the loss gets beside the embeddings, e.g. the labels of all items.
        scale: Applied to the loss before its backward pass, e.g. `scaler.scale` of mixed precision.
        **options: Keyword arguments of the loss, e.g. `ids=`.

    Returns:
        The loss, detached and not scaled.

    Raises:
        ArgumentError: No chunks; `embed` runs batch normalisation in training mode, where a chunk's embedding would
            depend on its chunk; or it gives other vectors the second time.

    >>> from kyori.losses import NTXentLoss
    >>> network, images = nn.Linear(4, 2), torch.arange(24.0).view(6, 4).sin()
    >>> value = cached_backward(NTXentLoss(), network, images.split(2), torch.tensor([0, 0, 1, 1, 2, 2]))
    >>> network.weight.grad.shape
    torch.Size([2, 4])
    """
    chunks = list(chunks)
    if not chunks:
        raise ArgumentError("chunks must hold at least one chunk of inputs; got none.")
    states, parts = [], []
    with torch.no_grad(), _no_batch_norm():
        for chunk in chunks:
            states.append(_RandomState.now(chunk))
            parts.append(embed(chunk))
    after = _RandomState.now(chunks[-1])
    embeddings = torch.cat(parts).detach().requires_grad_()
    value = loss(embeddings, *args, **options)
    (value if scale is None else scale(value)).backward()
    gradients = torch.zeros_like(embeddings) if embeddings.grad is None else embeddings.grad
    moved = []
    for chunk, state, first, gradient in zip(
        chunks, states, parts, gradients.split([len(part) for part in parts]), strict=True
    ):
        state.restore()
        again = embed(chunk)
        moved.append(((again.detach() - first).norm() / first.norm().clamp(min=1e-12)).nan_to_num(0.0))
        if again.requires_grad:
            again.backward(gradient)
    after.restore()
    if (largest := float(torch.stack(moved).max())) > _SAME:
        raise ArgumentError(
            "embed must give the same embeddings for the same chunk and random state; they moved by "
            f"{largest:.0%} between the two passes. Look for layers that change when they are used."
        )
    return value.detach()


@contextmanager
def _no_batch_norm() -> Iterator[None]:
    """Raise where batch normalisation runs in training mode, wherever in `embed` it is."""

    def check(module: nn.Module, _: Any) -> None:
        if isinstance(module, _BatchNorm) and module.training:
            raise ArgumentError(
                f"embed must not run batch normalisation in training mode ({type(module).__name__}): it mixes "
                "the items of a chunk, and the gradient would not be that of the whole batch. Put these layers in "
                "evaluation mode, use a network with group or layer normalisation, or train without gradient caching."
            )

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


class _RandomState:
    """Random numbers of the CPU and of the device that a chunk is on."""

    def __init__(self, cpu: Tensor, device: torch.device | None, state: Tensor | None):
        self.cpu, self.device, self.state = cpu, device, state

    @classmethod
    def now(cls, chunk: Any) -> "_RandomState":
        device = _device(chunk)
        if device is None or not hasattr(getattr(torch, device.type, None), "get_rng_state"):
            return cls(torch.get_rng_state(), None, None)
        module = getattr(torch, device.type)
        return cls(torch.get_rng_state(), device, _get(module, device))

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.device is not None and self.state is not None:
            module = getattr(torch, self.device.type)
            if self.device.type == "mps":
                module.set_rng_state(self.state)
            else:
                module.set_rng_state(self.state, self.device)


def _get(module: Any, device: torch.device) -> Tensor:
    state: Tensor = module.get_rng_state() if device.type == "mps" else module.get_rng_state(device)
    return state


def _device(chunk: Any) -> torch.device | None:
    """The device of the first tensor in a chunk, which may be a tensor, or a dict or sequence of them."""
    if isinstance(chunk, Tensor):
        return chunk.device
    parts = chunk.values() if isinstance(chunk, dict) else chunk if isinstance(chunk, (list, tuple)) else ()
    return next((device for part in parts if (device := _device(part)) is not None), None)
