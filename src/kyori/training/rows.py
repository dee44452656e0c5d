"""An optimizer for class vectors of which a step touches few: rows without a gradient keep weight and state."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import ArgumentError

__all__ = ["RowOptimizer", "clip_gradients"]

Rule = Literal["adam", "adamw", "sgd", "rmsprop"]


class RowOptimizer(torch.optim.Optimizer):
    """Adam, AdamW, SGD or RMSprop that moves only the rows which have a gradient, as `sample=` of the heads gives.

    Each row is an optimizer of its own: its momentum, its mean squares, its number of steps (for Adam's bias
    correction) and its weight decay move in the steps that touch it and in no other. So a row ends where PyTorch's
    optimizer would have put it, had there been only those steps. A dense gradient touches all rows.

    Args:
        params: Parameters, or groups of them, with sparse gradients over their first dimension.
        rule: "adam", "adamw", "sgd" or "rmsprop", with PyTorch's formulas and defaults.
        lr: Learning rate.
        weight_decay: Added to the gradient as w · weight_decay; with adamw taken off the weight, as in PyTorch.
        momentum: sgd, rmsprop.
        betas: adam, adamw.
        alpha: rmsprop: decay of the mean squares.
        eps: adam, adamw, rmsprop.

    Raises:
        ArgumentError: No such rule.

    >>> table = nn.Parameter(torch.ones(3, 2))
    >>> optimizer = RowOptimizer([table], "sgd", lr=0.5)
    >>> table.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (3, 2), check_invariants=True)
    >>> optimizer.step()
    >>> table[:, 0].tolist()
    [1.0, 0.5, 1.0]
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        rule: Rule = "adamw",
        *,
        lr: float = 1e-3,
        weight_decay: float | None = None,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        alpha: float = 0.99,
        eps: float = 1e-8,
    ):
        if rule not in get_args(Rule):
            raise ArgumentError(f"rule must be one of {', '.join(get_args(Rule))}; got {rule!r}.")
        decay = (0.01 if rule == "adamw" else 0.0) if weight_decay is None else weight_decay
        defaults = {
            "lr": lr, "weight_decay": decay, "momentum": momentum, "betas": tuple(betas), "alpha": alpha, "eps": eps,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.rule = rule

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the rows that have a gradient."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return value

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            rows, g = gradient.indices()[0], gradient.values()
        else:
            rows, g = torch.arange(len(parameter), device=parameter.device), gradient.clone()
        w = parameter[rows]
        state = _Rows(self.state[parameter], parameter, rows)
        decay = group["weight_decay"]
        if decay and self.rule == "adamw":
            w.mul_(1.0 - group["lr"] * decay)
        elif decay:
            g = g.add(w, alpha=decay)
        parameter[rows] = w.sub_(RULES[self.rule](g, state, group), alpha=group["lr"])


class _Rows:
    """Some rows of an optimizer's state; what is not there yet is zero."""

    def __init__(self, state: dict[str, Any], parameter: Tensor, rows: Tensor):
        self.state, self.parameter, self.rows = state, parameter, rows

    def update(self, name: str, change: Callable[[Tensor], Tensor]) -> Tensor:
        if name not in self.state:
            self.state[name] = torch.zeros_like(self.parameter, memory_format=torch.contiguous_format)
        new = change(self.state[name][self.rows])
        self.state[name][self.rows] = new
        return new

    def count(self) -> Tensor:
        """How many steps have touched each row, this one too; ready to divide by."""
        if "steps" not in self.state:
            self.state["steps"] = self.parameter.new_zeros(len(self.parameter))
        self.state["steps"][self.rows] += 1
        steps: Tensor = self.state["steps"][self.rows]
        return steps.view(-1, *[1] * (self.parameter.ndim - 1))


def _adam(g: Tensor, rows: _Rows, group: dict[str, Any]) -> Tensor:
    first, second = group["betas"]
    mean = rows.update("mean", lambda m: m.lerp_(g, 1.0 - first))
    square = rows.update("square", lambda s: s.mul_(second).addcmul_(g, g, value=1.0 - second))
    steps = rows.count()
    root = square.sqrt().div_((1.0 - second**steps).sqrt_()).add_(group["eps"])
    return mean.div(1.0 - first**steps).div_(root)


def _sgd(g: Tensor, rows: _Rows, group: dict[str, Any]) -> Tensor:
    momentum = group["momentum"]
    return rows.update("momentum", lambda m: m.mul_(momentum).add_(g)) if momentum else g


def _rmsprop(g: Tensor, rows: _Rows, group: dict[str, Any]) -> Tensor:
    alpha = group["alpha"]
    square = rows.update("square", lambda s: s.mul_(alpha).addcmul_(g, g, value=1.0 - alpha))
    return _sgd(g / square.sqrt().add_(group["eps"]), rows, group)


RULES: dict[str, Callable[[Tensor, _Rows, dict[str, Any]], Tensor]] = {
    "adam": _adam,
    "adamw": _adam,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
}


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale all gradients so that their norm together is at most `largest`, sparse ones by the rows they hold."""
    known = [p for p in parameters if p.grad is not None]
    if not any(p.grad is not None and p.grad.is_sparse for p in known):
        nn.utils.clip_grad_norm_(known, largest)
        return
    parts = []
    for parameter in known:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            gradient = parameter.grad = gradient.coalesce()
        parts.append(gradient._values() if gradient.is_sparse else gradient)
    norm = torch.stack([part.norm() for part in parts]).norm()
    for part in parts:
        part.mul_((largest / (norm + 1e-6)).clamp(max=1.0))
