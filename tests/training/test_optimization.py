"""Schedules are PyTorch's formulas; optimizers get what the configuration says."""

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from kyori.training.config import OptimizerConfig, ScheduleConfig
from kyori.training.environment import seed_everything
from kyori.training.optimization import create_optimizer, rate_factor, set_rates

STEPS, EPOCHS = 7, 6
TOTAL = STEPS * EPOCHS


def rates(scheduler_of):
    """Learning rates of a PyTorch scheduler, stepped after each optimizer step, with a full rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = scheduler_of(optimizer)
    seen = []
    for step in range(TOTAL):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < TOTAL - 1:  # OneCycleLR refuses a step past the end
            scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("config", "scheduler"),
    [
        ({"name": "constant"}, lambda o: lr_scheduler.ConstantLR(o, factor=1)),
        ({"name": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL)),
        (
            {"name": "cosine", "lr_floor": 0.1},
            lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1),
        ),
        (
            {"name": "step", "decay_epochs": (2, 5), "decay_factor": 0.2},
            lambda o: lr_scheduler.MultiStepLR(o, [2 * STEPS, 5 * STEPS], gamma=0.2),
        ),
        ({"name": "onecycle"}, lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=TOTAL)),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_schedules_are_those_of_pytorch(config, scheduler):
    ours = [rate_factor(ScheduleConfig(**config), step, STEPS, EPOCHS) for step in range(TOTAL)]
    assert ours == pytest.approx(rates(scheduler), abs=1e-9)


def test_warmup_rises_to_the_full_rate():
    config = ScheduleConfig(name="constant", warmup_steps=3)
    assert [rate_factor(config, step, 2, 3) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("name", ["cosine", "onecycle"])
def test_short_runs(name, total):
    factors = [rate_factor(ScheduleConfig(name=name), step, 1, total) for step in range(total)]
    assert all(0 <= factor <= 1 for factor in factors)


@pytest.mark.parametrize(
    ("config", "kind", "settings"),
    [
        ({}, torch.optim.Adam, {}),
        (
            {"name": "adamw", "weight_decay": 0.1, "betas": (0.8, 0.9)},
            torch.optim.AdamW,
            {"betas": (0.8, 0.9)},
        ),
        ({"name": "sgd", "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
        (
            {"name": "rmsprop", "smoothing": 0.9, "eps": 1e-7},
            torch.optim.RMSprop,
            {"alpha": 0.9, "eps": 1e-7},
        ),
    ],
)
def test_optimizers(config, kind, settings):
    optimizer = create_optimizer(OptimizerConfig(**config), nn.Linear(2, 2), nn.Linear(2, 2))
    assert isinstance(optimizer, kind)
    group = optimizer.param_groups[0]
    assert {name: group[name] for name in settings} == settings
    assert group["weight_decay"] == config.get("weight_decay", 0)


def test_the_head_has_its_rate():
    optimizer = create_optimizer(OptimizerConfig(lr=0.1, head_lr=0.5), nn.Linear(2, 2), nn.Linear(2, 2))
    set_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.25]


def test_a_loss_without_weights_and_frozen_layers():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    optimizer = create_optimizer(OptimizerConfig(), model, nn.Identity())
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]


def test_seeds_of_neighbouring_steps_are_unrelated_and_repeatable():
    cpu = torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        drawn = []
        for seed in range(3):
            for number in range(200):
                mixed = seed_everything(cpu, seed, number)
                drawn.append(torch.rand(1).item())
                assert 0 <= mixed < 2**63
        assert len(set(drawn)) == 600
        assert abs(sum(drawn) / 600 - 0.5) < 0.05
        seed_everything(cpu, 1, 5)
        assert torch.rand(1).item() == drawn[205]
