"""Optimizers of PyTorch with a learning rate of its own for the loss's weights, and schedules as pure functions."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from ..models.stages import stages_of
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

    With ``backbone_lr`` or ``layer_decay`` each layer of the model's backbone is a group: the last one learns with
    ``backbone_lr`` (Howard & Ruder 2018), the one before it with ``layer_decay`` times that, and so on to the input.
    """
    rows = {id(p) for p in row_parameters(loss)}
    groups: list[dict[str, Any]] = []
    parts = [*_rates(config, model), (list(loss.parameters()), config.head_rate())]
    bare = _undecayed(model, loss) if config.no_decay and config.weight_decay else set()
    for weights, lr in parts:
        learnt = [p for p in weights if p.requires_grad and id(p) not in rows]
        for chosen, more in (
            ([p for p in learnt if id(p) not in bare], {}),
            ([p for p in learnt if id(p) in bare], {"weight_decay": 0.0}),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": lr, "base_lr": lr, **more})
    fast = {"fused": True} if config.name in FUSED else {"foreach": True}
    return OPTIMIZERS[config.name](groups, **_options(config), **fast)


def _rates(config: OptimizerConfig, model: nn.Module) -> Iterator[tuple[list[nn.Parameter], float]]:
    """The model's weights in groups of one learning rate, what is not the backbone first."""
    backbone = getattr(model, "backbone", None)
    if backbone is None or (config.backbone_lr is None and config.layer_decay == 1):
        yield list(model.parameters()), config.lr
        return
    inside = dict(backbone.named_parameters())
    own = {id(p) for p in inside.values()}
    yield [p for p in model.parameters() if id(p) not in own], config.lr
    lr = config.backbone_lr or config.lr
    for depth, names in enumerate(reversed(stages_of(backbone, fine=True))):
        yield [inside[name] for name in names], lr * config.layer_decay**depth


def _undecayed(model: nn.Module, loss: nn.Module) -> set[int]:
    """Biases, scales and the weights of normalisations (one number a channel), and what timm says of its positions."""
    found = {id(p) for module in (model, loss) for p in module.parameters() if p.ndim <= 1}
    for module in model.modules():
        names = getattr(module, "no_weight_decay", None)
        if callable(names):
            weights = dict(module.named_parameters())
            found |= {id(weights[name]) for name in names() if name in weights}
    return found


def create_row_optimizer(config: OptimizerConfig, loss: nn.Module) -> RowOptimizer | None:
    """Build the same optimizer for the class vectors of which a step samples some; None if there are none."""
    groups = []
    for part in loss.modules():
        if rows := getattr(part, "row_parameters", []):
            lr = config.head_rate(getattr(part, "sample", None))
            groups.append({"params": rows, "lr": lr, "base_lr": lr})
    return RowOptimizer(groups, config.name, **_options(config)) if groups else None


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
