"""Sampled classes: what a step sees, what it touches, and that nothing as large as items × classes is ever held."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kyori import losses
from kyori.losses.sampling import draw_classes

NAMES = [name for name, cls in losses.LOSSES.items() if cls.needs_classes]


def make(name, classes=40, size=5, **options):
    torch.manual_seed(0)
    return losses.create(name, num_classes=classes, embedding_size=size, **options)


def batch(n=9, classes=40, size=5):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, size, generator=generator, requires_grad=True)
    return x, torch.randint(0, classes, (n,), generator=generator)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.99])
def test_the_classes_of_the_batch_are_always_drawn(share):
    labels = torch.tensor([39, 0, 7, 7])
    rows = draw_classes(labels, 40, share, seed=3, step=5)
    assert len(rows) == max(3, math.ceil(40 * share))
    assert set(labels.tolist()) <= set(rows.tolist())
    assert (rows.diff() > 0).all()
    assert torch.equal(rows, draw_classes(labels.flip(0), 40, share, seed=3, step=5))


def test_the_others_are_drawn_evenly_and_anew():
    counts = torch.zeros(50)
    for step in range(2000):
        counts[draw_classes(torch.tensor([0]), 50, 0.2, seed=0, step=step)] += 1
    assert counts[0] == 2000
    expected = 2000 * 9 / 49
    assert (counts[1:] - expected).abs().max() < 5 * math.sqrt(expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_sampled_step_is_the_exact_step_on_the_classes_drawn(name):
    x, labels = batch()
    sampled = make(name, sample=0.5, seed=4)
    rows = draw_classes(labels, 40, 0.5, seed=4, step=0)
    small = make(name, classes=len(rows))
    with torch.no_grad():
        small.weight.copy_(sampled.weight[rows])
    if name == "adacos":
        small.scale.copy_(sampled.scale)
    value, expected = sampled(x, labels), small(x, torch.searchsorted(rows, labels))
    torch.testing.assert_close(value, expected)
    gradients = torch.autograd.grad(value, (x, *sampled.parameters()))
    wanted = torch.autograd.grad(expected, (x, *small.parameters()))
    torch.testing.assert_close(gradients[0], wanted[0])
    for found, dense in zip(gradients[1:], wanted[1:], strict=True):
        assert found.is_sparse
        assert torch.equal(found.coalesce().indices()[0], rows)
        torch.testing.assert_close(found.coalesce().values(), dense)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_sees_all_classes_and_draws_nothing(name):
    x, labels = batch()
    loss = make(name, sample=0.2).eval()
    torch.testing.assert_close(loss(x, labels), make(name).eval()(x, labels))
    assert loss.draws == 0


def test_each_training_step_draws_anew_and_goes_on_where_it_was_saved():
    x, labels = batch()
    loss = make("arcface", sample=0.3, seed=1)
    values = [loss(x, labels).item() for _ in range(4)]
    assert len(set(values)) == 4
    assert [make("arcface", sample=0.3, seed=1)(x, labels).item()] == values[:1]
    assert make("arcface", sample=0.3, seed=2)(x, labels).item() not in values
    other = make("arcface", sample=0.3, seed=1)
    other.load_state_dict(loss.state_dict())
    assert other.draws == 4
    assert other(x, labels) == loss(x, labels)


def test_only_sampling_heads_name_row_parameters():
    assert make("softmax").row_parameters == []
    loss = make("softmax", sample=0.5)
    assert [p.shape for p in loss.row_parameters] == [(40, 5), (40,)]
    assert "draws" not in make("softmax").state_dict()


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                self.numbers = max(self.numbers, tensor.numel())
        return out


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_all_items_and_classes_are_never_held(name):
    n, c = 64, 300
    x, labels = batch(n, c, 4)
    options = {} if name == "proxyanchor" else {"trim": 0.1}
    if "label_smoothing" in losses.options(name):
        options["label_smoothing"] = 0.1
    loss = make(name, c, 4, chunk_classes=10, **options)
    with Largest() as largest:
        loss(x, labels).backward()
    vectors = loss.weight.numel() // (c * 4)
    regulariser = c * vectors**2 if name == "softtriple" else 0
    assert largest.numbers <= max(loss.weight.numel(), n * 10 * vectors, regulariser)
    assert largest.numbers < n * c * vectors


def test_a_sampled_step_makes_nothing_as_large_as_the_class_vectors():
    x, labels = batch(16, 5000, 32)
    loss = make("arcface", 5000, 32, sample=0.01)
    with Largest() as largest:
        loss(x, labels).backward()
    assert largest.numbers <= 5000  # the draw, one number a class


@pytest.mark.parametrize("name", ["arcface", "curricularface", "proxyanchor"])
def test_filtered_or_absent_classes_leave_numbers_finite(name):
    x, labels = batch(3, 2)
    options = {} if name == "proxyanchor" else {"filter_above": -1.0}
    loss = make(name, 2, chunk_classes=1, **options)  # every other class is left out
    value = loss(x, labels)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    assert loss.weight.grad.isfinite().all()


def test_filtered_classes_are_not_pushed():
    loss = losses.ArcFaceLoss(3, 2, scale=1, filter_above=0.5)
    with torch.no_grad():
        loss.weight.copy_(torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.1]]))
    loss(torch.tensor([[1.0, 0.2]]), torch.tensor([0])).backward()
    assert loss.weight.grad[1].abs().max() == 0
    assert loss.weight.grad[2].abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e6, 1e-12])
def test_huge_and_tiny_embeddings(name, size):
    x, labels = batch()
    x = (x * size).detach().requires_grad_()
    loss = make(name)
    value = loss(x, labels)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    assert loss.weight.grad.isfinite().all()
