"""Sums of losses, several sizes of an embedding, regularisers."""

import copy

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError, DegenerateWarning

from .cases import CLASSES, SIZE, batch, make


def gradient(loss, x, *args, **more):
    x = x.detach().clone().requires_grad_()
    value = loss(x, *args, **more)
    value.sum().backward()
    return value.detach(), x.grad


def test_a_sum_is_the_sum():
    x, labels = batch()
    parts = [make("triplet", {"mining": "all"}), make("arcface", {"scale": 8.0}), losses.NormRegularizer()]
    total = losses.SumLoss(copy.deepcopy(parts), weights=[1.0, 0.5, 0.1])
    expected = [gradient(loss, x, labels) for loss in parts]
    found = gradient(total, x, labels)
    for one, several in zip(found, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(one, several[0] + 0.5 * several[1] + 0.1 * several[2])
    torch.testing.assert_close(total.losses[1].weight.grad, 0.5 * parts[1].weight.grad)
    assert total.needs_classes
    assert total.stats["1.arcface"] == pytest.approx(expected[1][0].item())
    assert total.stats["active"] == pytest.approx(parts[0].stats["active"])
    torch.testing.assert_close(
        losses.SumLoss(parts[:1] * 2)(x, labels, reduction="none"), 2 * parts[0](x, labels, reduction="none")
    )


def test_a_sum_passes_references_to_those_that_take_them():
    x, labels = batch()
    more = {"references": x.detach() + 1, "reference_labels": labels}
    triplet = make("triplet", {"mining": "all"})
    total = losses.SumLoss([triplet, losses.NormRegularizer()])
    torch.testing.assert_close(total(x, labels, **more), triplet(x, labels, **more) + x.norm(dim=1).mean())
    with pytest.raises(ArgumentError, match="ArcFaceLoss takes no references"):
        losses.SumLoss([triplet, make("arcface", {})])(x, labels, **more)
    ids = torch.arange(len(x))
    assert losses.SumLoss([triplet, make("arcface", {})])(x, labels, ids=ids).isfinite()


def test_spherical_only_if_all_parts_are():
    assert losses.SumLoss([losses.TripletLoss(), losses.NTXentLoss()]).spherical
    assert not losses.SumLoss([losses.TripletLoss(), losses.ContrastiveLoss()]).spherical
    assert losses.MatryoshkaLoss(losses.TripletLoss(), [4]).spherical


@pytest.mark.parametrize("name", ["triplet", "ntxent", "contrastive", "ladder"])
def test_matryoshka(name):
    x, labels = batch()
    loss, several = losses.create(name), losses.MatryoshkaLoss(losses.create(name), [6, 3, 2], [1, 0.5, 2])
    y = x.detach() + 0.3
    more = {"references": y, "reference_labels": labels}
    for given in ({}, more):
        expected = sum(
            weight * loss(x[:, :k], labels, **({**given, "references": y[:, :k]} if given else {}))
            for k, weight in ((6, 1), (3, 0.5), (2, 2))
        )
        torch.testing.assert_close(several(x, labels, **given), expected)


def test_matryoshka_of_heads_has_a_head_for_each_size():
    x, labels = batch()
    heads = [losses.ArcFaceLoss(CLASSES, size).double() for size in (SIZE, 2)]
    loss = losses.MatryoshkaLoss(heads, [SIZE, 2])
    torch.testing.assert_close(loss(x, labels), heads[0](x, labels) + heads[1](x[:, :2], labels))
    assert loss.needs_classes
    assert len(list(loss.parameters())) == 2
    with pytest.raises(
        ArgumentError, match="a list with one loss per size, 2 of them, for losses with class"
    ):
        losses.MatryoshkaLoss(heads[0], [SIZE, 2])


def test_matryoshka_can_leave_lengths_alone():
    x, labels = batch()
    unit = losses.MatryoshkaLoss(losses.ContrastiveLoss(), [3], normalize=True)
    raw = losses.MatryoshkaLoss(losses.ContrastiveLoss(), [3])
    torch.testing.assert_close(raw(x, labels), losses.ContrastiveLoss()(x[:, :3], labels))
    torch.testing.assert_close(unit(x, labels), losses.ContrastiveLoss(normalize=True)(x[:, :3], labels))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.SumLoss([]), "losses must be losses, modules of kyori.losses.Loss; got none"),
        (lambda: losses.SumLoss([torch.nn.Linear(1, 1)]), "got Linear"),
        (
            lambda: losses.SumLoss([losses.TripletLoss()], [1, 2]),
            "weights must have 1 numbers, one per loss; got 2",
        ),
        (lambda: losses.MatryoshkaLoss(losses.TripletLoss(), []), r"sizes must be one or more .* got \[\]"),
        (lambda: losses.MatryoshkaLoss(losses.TripletLoss(), [4, 0]), r"got \[4, 0\]"),
        (
            lambda: losses.MatryoshkaLoss(losses.TripletLoss(), [4])(torch.ones(3, 2), torch.arange(3)),
            "sizes must be at most 2, the size of the embeddings; got 4",
        ),
        (
            lambda: losses.MatryoshkaLoss([losses.TripletLoss()] * 3, [4, 2]),
            "loss must be one, or one per size, 2; got 3",
        ),
        (lambda: losses.NormRegularizer(p=0), "p must be above 0; got 0"),
        (lambda: losses.SpreadOutRegularizer(-1), "mean_weight must be at least 0; got -1"),
        (
            lambda: losses.RegularFaceRegularizer(losses.TripletLoss()),
            "head must be a loss with class vectors",
        ),
        (
            lambda: losses.SparseCentersRegularizer(losses.NormFaceLoss(7, 2), 3),
            "centers must be at least 2 and divide the 7 rows of weight; got 3",
        ),
    ],
)
def test_wrong_options(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


REGULARIZERS = [
    losses.NormRegularizer(),
    losses.NormRegularizer(3, 2),
    losses.NormRegularizer(2, 2),
    losses.ZeroMeanRegularizer(),
    losses.SpreadOutRegularizer(),
]


@pytest.mark.parametrize("loss", REGULARIZERS, ids=lambda loss: loss.name)
def test_regularizers_have_finite_gradients(loss):
    for x in (
        torch.zeros(4, 3),
        torch.ones(4, 3),
        torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
    ):
        value, grad = gradient(loss, x)
        assert value.isfinite()
        assert grad.isfinite().all()
    with pytest.warns(DegenerateWarning):
        assert loss(torch.zeros(0, 3)) == 0


@pytest.mark.parametrize("loss", REGULARIZERS, ids=lambda loss: loss.name)
def test_regularizers_are_derivatives(loss):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.4
    assert torch.autograd.gradcheck(loss, (x.requires_grad_(),), atol=1e-5)


def test_regularizers_of_class_vectors():
    head = losses.NormFaceLoss(6, 2)
    with torch.no_grad():
        head.weight.copy_(
            torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        )
    x = torch.zeros(2, 2)
    square = [1.0, 4.0, 9.0, 1.0, 1.0, 1.0]
    middle = sum(square) / 6
    assert losses.CenterInvariantRegularizer(head)(x).item() == pytest.approx(
        sum((s - middle) ** 2 / 4 for s in square) / 6
    )
    assert losses.RegularFaceRegularizer(head)(x).item() == pytest.approx((1 + 1 + 1 + 1 + 1 + 0) / 6)
    # pairs of centres: 90°, 0°, 180° apart
    sparse = losses.SparseCentersRegularizer(head, 2)(x)
    assert sparse.item() == pytest.approx((2**0.5 + 0 + 2) / 2 / 3)
    sparse.backward()
    assert head.weight.grad.isfinite().all()
    assert not list(losses.SparseCentersRegularizer(head, 2).parameters())
