"""A network for sets of vectors, whose features do not depend on the order of the vectors."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, nearest_name
from .texts import TOKEN_POOLINGS

__all__ = ["SET_BACKBONES", "SET_POOLINGS", "DeepSets", "check_padding"]

SET_POOLINGS = ("mean", "sum", "max", "attention")


class DeepSets(nn.Module):
    """Dense layers for each vector, a pooling over the set, dense layers for the whole: ρ(pool φ(x)).

    Each layer is followed by ReLU, and by dropout where another one comes. Zaheer, Kottur, Ravanbakhsh, Póczos,
    Salakhutdinov & Smola, "Deep Sets", 2017; attention as in Ilse, Tomczak & Welling, "Attention-based deep multiple
    instance learning", 2018: the weights softmax(wᵀ tanh(V φ(x))) within a set.

    Args:
        input_shape: Shape of a set, whose last number f is the width of a vector.
        widths: Units of the layers φ, all ≥ 1; none leaves the vectors as they are.
        pooling: ``"mean"``, ``"sum"`` (which knows how many there are), ``"max"`` or ``"attention"``.
        set_widths: Units of the layers ρ, all ≥ 1; none gives what was pooled.
        dropout: Share of the units dropped between layers in training, in [0, 1).

    Raises:
        ArgumentError: An unknown pooling, or a size or share out of its range.

    >>> DeepSets((2, 3))(torch.zeros(4, 5, 3)).shape
    torch.Size([4, 128])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        widths: Sequence[int] = (128, 128),
        pooling: str = "mean",
        set_widths: Sequence[int] = (128,),
        dropout: float = 0.1,
    ):
        super().__init__()
        for name, units in (("widths", widths), ("set_widths", set_widths)):
            if any(isinstance(unit, bool) or not isinstance(unit, int) or unit < 1 for unit in units):
                raise ArgumentError(f"{name} must be whole numbers ≥ 1, one per layer; got {list(units)}.")
        if pooling not in SET_POOLINGS:
            raise ArgumentError(f"unknown pooling of sets '{pooling}'{nearest_name(pooling, SET_POOLINGS)}")
        if not 0 <= dropout < 1:
            raise ArgumentError(f"dropout must be a share in [0, 1); got {dropout}.")
        self.pooling = pooling
        inner = [input_shape[-1], *widths]
        outer = [inner[-1], *set_widths]
        self.each = _layers(inner, dropout)
        self.score: nn.Module = nn.Identity()
        if pooling == "attention":
            self.score = nn.Sequential(nn.Linear(inner[-1], inner[-1]), nn.Tanh(), nn.Linear(inner[-1], 1))
        self.whole = _layers(outer, dropout)
        self.out_features = outer[-1]

    def forward(self, sets: Tensor) -> Tensor:
        """Return features (b, out_features) of sets (b, m, f), in which NaN fills up what a set has less than m."""
        real = ~sets[..., :1].isnan()
        states = self.each(torch.where(real, sets, torch.zeros_like(sets)))
        return self.whole(self._pool(states, real))

    def _pool(self, states: Tensor, real: Tensor) -> Tensor:
        mask = real.to(states.dtype)
        if self.pooling == "sum":
            return (states * mask).sum(1)
        if self.pooling == "attention":
            scores = self.score(states).masked_fill(~real, torch.finfo(states.dtype).min)
            return (scores.softmax(1) * states).sum(1)
        return TOKEN_POOLINGS[self.pooling](states, mask)


def _layers(units: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(units):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-1])


def check_padding(network: nn.Module, input_shape: Sequence[int]) -> None:
    """See that a network for sets leaves out what is NaN.

    Raises:
        ArgumentError: It does not.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    sets = torch.zeros(2, *input_shape, device=device)
    sets[0, 1:] = torch.nan
    was_training = network.training
    with torch.no_grad():
        features = network.eval()(sets)
    network.train(was_training)
    if not bool(features.isfinite().all()):
        raise ArgumentError(
            f"backbone {type(network).__name__} must leave out the padding of sets (b, m, f), which is NaN; its "
            "features became NaN. Ask x[..., 0].isnan() which rows are none, and leave them out of its sums."
        )


SET_BACKBONES = {"mlp": DeepSets}
"""The backbones of Kyori for sets of vectors."""
