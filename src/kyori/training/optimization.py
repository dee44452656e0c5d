"""Optimizers of PyTorch with a learning rate of its own for the loss's weights, and schedules as pure functions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .config import OptimizerConfig, ScheduleConfig
from .rows import RowOptimizer

__all__ = ["create_optimizer", "create_row_optimizer", "rate_factor", "set_rates"]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
FUSED = (
    "adam",
    "adamw",
    "sgd",
)  # one kernel for all weights, on the CPU too; the others take lists of tensors


def create_optimizer(config: OptimizerConfig, model: nn.Module, loss: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of the model's weights and of the loss's own (a head's class centres, a learned scale).

    The groups remember their full learning rate as ``base_lr``; `set_rates` multiplies it. Class vectors of which a
    step samples some are left to `create_row_optimizer`.
    """
    rows = {id(p) for p in row_parameters(loss)}
    groups: list[dict[str, Any]] = []
    for module, lr in ((model, config.lr), (loss, config.head_lr or config.lr)):
        weights = [p for p in module.parameters() if p.requires_grad and id(p) not in rows]
        if weights:
            groups.append({"params": weights, "lr": lr, "base_lr": lr})
    fast = {"fused": True} if config.name in FUSED else {"foreach": True}
    return OPTIMIZERS[config.name](groups, **_options(config), **fast)


def create_row_optimizer(config: OptimizerConfig, loss: nn.Module) -> RowOptimizer | None:
    """Build the same optimizer for the class vectors of which a step samples some; None if there are none."""
    rows = row_parameters(loss)
    if not rows:
        return None
    lr = config.head_lr or config.lr
    return RowOptimizer([{"params": rows, "lr": lr, "base_lr": lr}], config.name, **_options(config))


def row_parameters(loss: nn.Module) -> list[nn.Parameter]:
    """The parameters whose gradients are sparse, in a loss or in the losses that it is made of."""
    return [p for part in loss.modules() for p in getattr(part, "row_parameters", [])]


def _options(config: OptimizerConfig) -> dict[str, Any]:
    options = {
        "weight_decay": config.weight_decay,
        "momentum": config.momentum,
        "betas": config.betas,
        "alpha": config.smoothing,
        "eps": config.eps,
    }
    return {name: value for name, value in options.items() if value is not None}


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to ``factor`` times its full one."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def rate_factor(config: ScheduleConfig, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the factor on the learning rates at ``step``, counted from 0.

    A function of the step alone, with the formulas of PyTorch's CosineAnnealingLR, MultiStepLR and OneCycleLR, so
    that there is no scheduler state to save and resuming cannot shift it.

    >>> [round(rate_factor(ScheduleConfig(name="cosine"), step, 2, 2), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    total = steps_per_epoch * epochs
    if config.name == "onecycle":
        return _one_cycle(step, total)
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.name == "cosine":
        progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
        return config.lr_floor + (1 - config.lr_floor) * (1 + math.cos(math.pi * progress)) / 2
    if config.name == "step":
        return config.decay_factor ** sum(step >= epoch * steps_per_epoch for epoch in config.decay_epochs)
    return 1.0


def _one_cycle(step: int, total: int) -> float:
    """Rise from 1/25 to 1 over the first 30 % of the steps, then fall to 1/250,000, both as cosines."""
    low, final, peak = 1 / 25, 1 / 250_000, 0.3 * total - 1
    if step <= peak:
        return low + (1 - low) * (1 - math.cos(math.pi * step / max(peak, 1e-9))) / 2
    progress = (step - peak) / max(total - 1 - peak, 1e-9)
    return 1 + (final - 1) * (1 - math.cos(math.pi * progress)) / 2
