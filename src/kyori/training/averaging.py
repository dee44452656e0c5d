"""An exponential moving average of the network's weights, which often embeds better than the last weights do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Mean of the weights over the steps so far, the newest counting most: a ← d·a + (1 − d)·w after each step.

    The decay d rises as (1 + t) / (10 + t) with the step t up to its full value, so that the first random weights are
    soon forgotten (as TensorFlow's ExponentialMovingAverage does). Buffers, such as the statistics of batch
    normalisation, are averages already and stay those of the training.

    Args:
        module: Whose weights are averaged; it trains on undisturbed.
        decay: d in [0, 1); about 1 − 1 / (steps that count).

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage(layer, 0.9)
    >>> with average.applied():
    ...     inside = layer.weight.item()
    >>> inside == layer.weight.item()
    True
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step ``step``, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), list(self.weights.values()), 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The context in which the module has the averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def keep(self) -> None:
        """Leave the averaged weights in the module."""
        for name, weight in self.weights.items():
            weight.copy_(self.average[name])

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back an average as `average` holds it."""
        for name, mean in self.average.items():
            mean.copy_(tensors[name])

    def _exchange(self) -> None:
        for name, weight in self.weights.items():
            weight.data, self.average[name] = self.average[name], weight.data
