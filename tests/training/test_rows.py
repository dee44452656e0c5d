"""The row optimizer: rows without a gradient stay bit for bit, the others move as PyTorch would move them."""

import signal

import numpy as np
import pytest
import torch
from torch import nn

from kyori.data import open_source
from kyori.errors import ArgumentError, Interrupted
from kyori.losses import ArcFaceLoss, CosFaceLoss, SoftmaxLoss, SumLoss
from kyori.training import Callback, RowOptimizer, RunConfig, build, train
from kyori.training.checkpoint import load_optimizer, optimizer_tensors
from kyori.training.config import OptimizerConfig
from kyori.training.optimization import create_optimizer, create_row_optimizer
from kyori.training.rows import clip_gradients

RULES = {
    "sgd": (torch.optim.SGD, {}),
    "sgd with momentum": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.95), "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1}),
}
every_rule = pytest.mark.parametrize("rule", RULES)


def sparse(rows, values, shape):
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, shape, check_invariants=True)


def make(rule, weight):
    parameter = nn.Parameter(weight.clone())
    return parameter, RowOptimizer([parameter], rule.split()[0], lr=0.1, **RULES[rule][1])


def steps(shape=(6, 3), count=8):
    """Rows and gradients of some steps."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        rows = torch.randperm(shape[0], generator=generator)[:2].sort().values.tolist()
        yield rows, torch.randn(2, *shape[1:], generator=generator, dtype=torch.float64)


@every_rule
def test_rows_without_a_gradient_keep_weight_and_state_bit_for_bit(rule):
    parameter, optimizer = make(rule, torch.randn(6, 3, dtype=torch.float64))
    for rows, values in steps():
        before = {"weight": parameter.detach().clone()} | {
            k: v.clone() for k, v in optimizer.state[parameter].items()
        }
        parameter.grad = sparse(rows, values, (6, 3))
        optimizer.step()
        after = {"weight": parameter.detach()} | optimizer.state[parameter]
        others = [i for i in range(6) if i not in rows]
        for name, value in before.items():
            assert torch.equal(value[others], after[name][others]), name
        assert (before["weight"][rows] != after["weight"][rows]).all()


@every_rule
@pytest.mark.parametrize("shape", [(6, 3), (6,), (6, 2, 3)])
def test_a_row_moves_as_pytorch_moves_it_in_the_steps_that_touch_it(rule, shape):
    weight = torch.randn(shape, dtype=torch.float64)
    parameter, optimizer = make(rule, weight)
    kind, options = RULES[rule]
    single = [nn.Parameter(weight[i].clone()) for i in range(6)]
    peers = [kind([one], lr=0.1, **options) for one in single]
    for rows, values in steps(shape):
        parameter.grad = sparse(rows, values, shape)
        optimizer.step()
        for row, value in zip(rows, values, strict=True):
            single[row].grad = value.clone()
            peers[row].step()
    torch.testing.assert_close(parameter.detach(), torch.stack([one.detach() for one in single]))


@every_rule
def test_a_dense_gradient_moves_all_rows_as_pytorch_does(rule):
    weight = torch.randn(6, 3, dtype=torch.float64)
    parameter, optimizer = make(rule, weight)
    kind, options = RULES[rule]
    peer = nn.Parameter(weight.clone())
    theirs = kind([peer], lr=0.1, **options)
    for seed in range(3):
        gradient = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        parameter.grad, peer.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        theirs.step()
    torch.testing.assert_close(parameter, peer)


@every_rule
def test_state_that_was_saved_goes_on(rule):
    weight = torch.randn(6, 3, dtype=torch.float64)
    parameter, optimizer = make(rule, weight)
    all_steps = list(steps())
    for rows, values in all_steps[:4]:
        parameter.grad = sparse(rows, values, (6, 3))
        optimizer.step()
    other, resumed = make(rule, parameter.detach())
    saved = {k.removeprefix("x."): v.clone() for k, v in optimizer_tensors(optimizer, "x.").items()}
    load_optimizer(resumed, saved)
    for rows, values in all_steps[4:]:
        for one, mover in ((parameter, optimizer), (other, resumed)):
            one.grad = sparse(rows, values, (6, 3))
            mover.step()
    assert torch.equal(parameter, other)


def test_clipping_counts_the_rows_that_are_there():
    dense, rows = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(4, 2))
    dense.grad = torch.tensor([3.0, 0.0])
    half = sparse([1], torch.tensor([[0.0, 2.0]]), (4, 2))
    rows.grad = half + half  # as two batches leave it
    clip_gradients([dense, rows], 1.0)
    assert dense.grad.tolist() == pytest.approx([0.6, 0.0])
    assert rows.grad.to_dense()[1].tolist() == pytest.approx([0.0, 0.8])
    clip_gradients([dense, rows], 10.0)
    assert dense.grad.tolist() == pytest.approx([0.6, 0.0])


def test_class_vectors_go_to_the_row_optimizer_and_nothing_else():
    model, config = (
        nn.Linear(2, 2),
        OptimizerConfig(name="sgd", momentum=0.9, lr=0.1, head_lr=0.5, weight_decay=0.1),
    )
    loss = SumLoss([ArcFaceLoss(5, 2, sample=0.5), SoftmaxLoss(5, 2)])
    rows = create_row_optimizer(config, loss)
    assert [p.shape for p in rows.param_groups[0]["params"]] == [(5, 2)]
    assert rows.rule == "sgd"
    group = rows.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.9, 0.1)
    dense = create_optimizer(config, model, loss)
    assert [len(group["params"]) for group in dense.param_groups] == [2, 2]
    assert create_row_optimizer(config, SoftmaxLoss(5, 2)) is None


@pytest.mark.parametrize(
    ("settings", "rates"),
    [({}, [0.2, 0.4]), ({"head_lr": 0.5}, [0.5, 0.5]), ({"name": "sgd"}, [0.1, 0.1])],
)
def test_sampled_class_vectors_learn_faster_as_they_move_more_rarely(settings, rates):
    loss = SumLoss([ArcFaceLoss(5, 2, sample=1 / 4), CosFaceLoss(5, 2, sample=1 / 16), ArcFaceLoss(5, 2)])
    rows = create_row_optimizer(OptimizerConfig(lr=0.1, **settings), loss)
    assert [group["lr"] for group in rows.param_groups] == pytest.approx(rates)
    assert [group["base_lr"] for group in rows.param_groups] == pytest.approx(rates)


def test_wrong_rule():
    with pytest.raises(ArgumentError, match="rule must be one of adam, adamw, sgd, rmsprop; got 'lion'"):
        RowOptimizer([nn.Parameter(torch.zeros(2, 2))], "lion")


# --- in the training loop --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 8)
    centres = rng.integers(0, 256, (20, 8, 8, 1))
    noisy = centres[labels] + rng.normal(0, 60, (160, 8, 8, 1))
    return open_source((noisy.clip(0, 255).astype(np.uint8), labels))


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, progress):
        if progress.step == self.step:
            signal.raise_signal(signal.SIGINT)


def fit(source, config, **options):
    embedder, loss = build(config, source)
    history = train(embedder, loss, source, config, **options)
    return history, {
        **embedder.state_dict(),
        **{f"loss.{k}": v.clone() for k, v in loss.state_dict().items()},
    }


@pytest.mark.parametrize(
    "more",
    [
        {"loss": "arcface", "clip_norm": 0.5},
        {
            "loss": "subcenterarcface",
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 0.01,
            "accumulate": 2,
        },
        {"loss": "softmax", "optimizer": "rmsprop", "accumulate": 2, "clip_norm": 1.0},
        {"loss": "proxyanchor", "optimizer": "adamw", "weight_decay": 0.01},
    ],
    ids=lambda more: more["loss"],
)
def test_a_sampled_run_that_was_stopped_ends_in_the_same_bits(source, tmp_path, more):
    config = RunConfig.from_options(
        backbone="mlp",
        backbone_options={"widths": [16]},
        embedding_size=4,
        batch_size=16,
        epochs=2,
        sample=0.3,
        **more,
    )
    _, whole = fit(source, config)
    with pytest.raises(Interrupted):
        fit(source, config, folder=tmp_path, callbacks=[StopAt(4)])
    _, resumed = fit(source, config, folder=tmp_path, resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert whole["loss.draws"] == 20


def test_a_sampled_run_learns(source):
    config = RunConfig.from_options(
        backbone="mlp",
        embedding_size=8,
        batch_size=32,
        epochs=30,
        loss="cosface",
        sample=0.3,
        scale=16,
        lr=3e-3,
    )
    history, _ = fit(source, config)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"] / 2
    assert build(config, source)[1].seed == config.seed
