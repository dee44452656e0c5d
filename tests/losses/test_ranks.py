"""Several ranks give what one rank with the whole batch gives: see `rank_checks`, which each rank runs."""

import json

import pytest
import torch

from distributed.launch import run_ranks
from kyori import losses
from kyori.errors import ArgumentError

from .cases import batch, make


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_together_are_one_rank(world):
    for code, out, err in run_ranks(world, "-m", "losses.rank_checks"):
        assert code == 0, err
        assert json.loads(out) == []


def test_a_single_process_needs_no_ranks():
    x, labels = batch()
    loss = losses.across_ranks(make("triplet", {}))
    assert loss(x, labels) == make("triplet", {})(x, labels)
    assert losses.across_ranks(loss) is loss
    assert loss.stats["degenerate"] == 0


def test_a_loss_must_be_a_module():
    with pytest.raises(ArgumentError, match="loss must be a module"):
        losses.across_ranks(lambda x, y: 0)


@pytest.mark.parametrize("mining", ["random", "distance_weighted"])
def test_draws_belong_to_their_forward_pass(mining):
    """Blocks are computed again in the backward pass; a second forward pass before it must not change their draws."""
    x, labels = batch()
    gradients = []
    for block_rows in (None, 4):
        loss = losses.TripletLoss(mining=mining, block_rows=block_rows)
        a, b = x.detach().clone().requires_grad_(), x.detach().flip(0).clone().requires_grad_()
        first, second = loss(a, labels), loss(b, labels.flip(0))
        (first + second).backward()
        gradients.append(torch.cat([a.grad, b.grad]))
    assert torch.allclose(*gradients)
