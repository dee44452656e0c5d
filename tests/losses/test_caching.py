"""Gradient caching: the gradient of the whole batch, refused where it would be another one."""

import copy

import pytest
import torch
from torch import nn

from kyori import losses
from kyori.errors import ArgumentError

from .cases import CASES, CLASSIFIERS, VIEWS, batch, make, name_of


def network(*more):
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), *more, nn.Linear(12, 6)).double()
    torch.set_rng_state(torch_state)
    return net


def gradients(*modules):
    return [p.grad.to_dense() for module in modules for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("name", "options"),
    [(n, o) for n, o in CASES if n in VIEWS or (n, o) in CLASSIFIERS or o.get("mining") != "random"],
    ids=name_of,
)
@pytest.mark.parametrize("rows", [5])
def test_equals_the_direct_gradient(name, options, rows):
    x, labels = batch()
    x = x.detach()
    direct, net = make(name, options), network()
    value = direct(net(x), labels)
    value.backward()
    loss, other = make(name, options), network()
    found = cached = losses.cached_backward(loss, other, x.split(rows), labels)
    torch.testing.assert_close(found, value.detach())
    assert not cached.requires_grad
    torch.testing.assert_close(gradients(other, loss), gradients(net, direct))


def test_dropout_draws_the_same_numbers_in_both_passes():
    x, labels = batch()
    chunks = x.detach().split(7)
    loss, net = losses.NTXentLoss(), network(nn.Dropout(0.5))
    torch.manual_seed(3)
    value = loss(torch.cat([net(chunk) for chunk in chunks]), labels)
    value.backward()
    after = torch.rand(3)
    other = network(nn.Dropout(0.5))
    torch.manual_seed(3)
    cached = losses.cached_backward(loss, other, chunks, labels)
    torch.testing.assert_close(cached, value.detach())
    torch.testing.assert_close(gradients(other), gradients(net))
    assert torch.equal(torch.rand(3), after)  # and what comes after draws on


def test_gradients_are_added_and_scaled():
    x, labels = batch()
    net = network()
    losses.cached_backward(losses.NTXentLoss(), net, x.detach().split(6), labels)
    once = copy.deepcopy(gradients(net))
    value = losses.cached_backward(
        losses.NTXentLoss(), net, x.detach().split(4), labels, scale=lambda value: 3 * value
    )
    torch.testing.assert_close(gradients(net), [4 * g for g in once])
    torch.testing.assert_close(value, losses.NTXentLoss()(net(x), labels).detach())


def test_around_memory_and_sums_the_loss_is_called_once():
    net = network()
    loss = losses.CrossBatchMemory(
        losses.SumLoss([losses.NTXentLoss(), losses.TripletLoss()]), 6, 100
    ).double()
    for step in range(2):
        x, labels = batch(seed=step)
        losses.cached_backward(loss, net, x.detach().split(6), labels, ids=torch.arange(23) + 23 * step)
    assert loss.stats["memory"] == 46


@pytest.mark.parametrize("hidden", [False, True])
def test_batch_normalisation_is_refused(hidden):
    net, (x, labels) = network(nn.BatchNorm1d(12)).train(), batch()
    embed = (lambda chunk: net(chunk)) if hidden else net
    before = net[2].running_mean.clone()
    with pytest.raises(
        ArgumentError, match=r"batch normalisation in training mode \(BatchNorm1d\).*evaluation mode"
    ):
        losses.cached_backward(losses.NTXentLoss(), embed, x.detach().split(6), labels)
    assert torch.equal(net[2].running_mean, before)
    net.eval()
    assert losses.cached_backward(losses.NTXentLoss(), embed, x.detach().split(6), labels).isfinite()


def test_an_embedding_that_changes_by_itself_is_refused():
    calls = []

    def embed(chunk):
        calls.append(1)
        return net(chunk) * len(calls)

    net, (x, labels) = network(), batch()
    with pytest.raises(ArgumentError, match=r"same embeddings for the same chunk.*moved by"):
        losses.cached_backward(losses.NTXentLoss(), embed, x.detach().split(6), labels)


def test_chunks_of_any_kind():
    net, (x, labels) = network(), batch()
    chunks = [{"input": part} for part in x.detach().split(6)]
    value = losses.cached_backward(losses.NTXentLoss(), lambda chunk: net(chunk["input"]), chunks, labels)
    torch.testing.assert_close(value, losses.NTXentLoss()(net(x), labels).detach())
    with pytest.raises(ArgumentError, match="chunks must hold at least one chunk of inputs; got none"):
        losses.cached_backward(losses.NTXentLoss(), net, [], labels)
