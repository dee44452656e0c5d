"""Losses of two views without negatives: oracles, labels as views, what is refused."""

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError, DegenerateWarning
from oracles import infonce as oracle


def random(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.7


@pytest.mark.parametrize("seed", range(4))
def test_row_by_row(seed):
    x, y = random(9, 4, seed), random(9, 4, seed + 10)
    pairs = [(i, i) for i in range(9)]
    X, Y = x.tolist(), y.tolist()
    assert losses.VICRegLoss()(x, references=y).item() == pytest.approx(oracle.vicreg(X, Y, pairs))
    value = losses.BarlowTwinsLoss(0.1)(x, references=y)
    assert value.item() == pytest.approx(oracle.barlow_twins(X, Y, pairs, 0.1))


@pytest.mark.parametrize("seed", range(4))
def test_items_of_a_class_are_views_of_each_other(seed):
    x, labels = random(10, 4, seed), torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
    pairs = [(i, j) for i in range(10) for j in range(10) if i != j and labels[i] == labels[j]]
    X = x.tolist()
    assert losses.VICRegLoss()(x, labels).item() == pytest.approx(oracle.vicreg(X, X, pairs))
    assert losses.BarlowTwinsLoss(0.1)(x, labels).item() == pytest.approx(
        oracle.barlow_twins(X, X, pairs, 0.1)
    )


@pytest.mark.parametrize("name", ["vicreg", "barlowtwins"])
def test_labels_in_rows_are_views_in_rows(name):
    x, y, labels = random(9, 4, 0), random(9, 4, 1), torch.arange(9)
    loss = losses.create(name)
    torch.testing.assert_close(loss(x, references=y), loss(x, labels, references=y, reference_labels=labels))
    assert torch.autograd.gradcheck(
        lambda x, y: loss(x, references=y), (x.requires_grad_(), y.requires_grad_()), eps=1e-7, atol=1e-5
    )


@pytest.mark.parametrize("name", ["vicreg", "barlowtwins"])
def test_degenerate_batches(name):
    loss = losses.create(name)
    with pytest.warns(DegenerateWarning, match="fewer than 2 items, or no two views of one"):
        assert loss(torch.ones(4, 3), torch.arange(4)) == 0
    assert loss(torch.ones(1, 3), references=torch.ones(1, 3)) == 0
    assert loss.stats["degenerate"] == 2
    x = torch.ones(4, 3, requires_grad=True)
    loss(x, references=torch.ones(4, 3)).backward()  # collapsed: no variance at all
    assert x.grad.isfinite().all()


def test_wrong_calls():
    loss, x = losses.VICRegLoss(), torch.ones(4, 3)
    with pytest.raises(ArgumentError, match="labels may be left out only with references"):
        loss(x)
    with pytest.raises(ArgumentError, match=r"references must have shape \(m, 3\)"):
        loss(x, references=torch.ones(4, 2))
    with pytest.raises(ArgumentError, match="reduction must be 'mean': VICRegLoss is no sum over items"):
        loss(x, references=x, reduction="none")
    with pytest.raises(ArgumentError, match="invariance must be at least 0; got -1"):
        losses.VICRegLoss(-1)
    with pytest.raises(ArgumentError, match="redundancy must be at least 0; got -1"):
        losses.BarlowTwinsLoss(-1)
