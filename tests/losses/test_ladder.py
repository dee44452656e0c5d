"""Graded relevance: the ladder loss, CoSENT, AnglE and the cosine's squared error."""

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError, DegenerateWarning
from oracles import graded as oracle
from oracles import losses as base

from .cases import batch


def random(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels(n, m, seed, top=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, top + 1, (n, m), generator=generator).double() / top


def gradient(loss, x, *args, **more):
    x = x.detach().clone().requires_grad_()
    value = loss(x, *args, **more)
    value.backward()
    return value.detach(), x.grad


@pytest.mark.parametrize("mining", ["all", "hard"])
@pytest.mark.parametrize("average", ["active", "candidates"])
@pytest.mark.parametrize("rows", [None, 4])
@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_ladder(mining, average, rows, kind):
    thresholds, margins, weights = [0.9, 0.5, 0.0], [0.1, 0.3, 0.2], [1.0, 0.5, 2.0]
    loss = losses.LadderLoss(
        thresholds,
        margin=margins,
        weights=weights,
        mining=mining,
        average=average,
        distance=kind,
        block_rows=rows,
    )
    for seed in range(4):
        x, relevance = random(13, 4, seed), levels(13, 13, seed)
        x[2] = x[1]
        D = [[base.distance(a, b, kind) for b in x.tolist()] for a in x.tolist()]
        own = {(i, i) for i in range(13)}
        expected = oracle.ladder(D, relevance.tolist(), thresholds, margins, weights, mining, average, own)
        value = loss(x, losses.Relevance(relevance))
        assert value.item() == pytest.approx(expected)
        assert 0 < loss.stats["active"] <= 1


def test_ladder_between_captions_and_images():
    captions, images, relevance = random(5, 4, 0), random(9, 4, 1), levels(5, 9, 2)
    D = [[base.distance(a, b, "cosine") for b in images.tolist()] for a in captions.tolist()]
    loss = losses.LadderLoss([0.5, 0.0], margin=0.4)
    expected = oracle.ladder(D, relevance.tolist(), [0.5, 0.0], [0.4, 0.4], [1, 1], "all", "active", set())
    assert loss(captions, losses.Relevance(relevance), references=images).item() == pytest.approx(expected)


@pytest.mark.parametrize("average", ["active", "candidates"])
def test_with_one_threshold_it_is_the_triplet_loss(average):
    x, labels = batch()
    ladder = losses.LadderLoss(margin=0.3, average=average)
    triplet = losses.TripletLoss(0.3, "all", average=average, distance="cosine", normalize=False)
    torch.testing.assert_close(gradient(ladder, x, labels), gradient(triplet, x, labels))
    same = losses.Relevance((labels[:, None] == labels).double())
    torch.testing.assert_close(gradient(ladder, x, same), gradient(triplet, x, labels))
    hard = losses.LadderLoss(margin=0.3, mining="hard")
    triplet = losses.TripletLoss(0.3, "batch_hard", distance="cosine", normalize=False)
    torch.testing.assert_close(gradient(hard, x, labels), gradient(triplet, x, labels))


def test_levels_as_relevance():
    """Integers from 0 to 3 with thresholds 0, 1, 2 are the same ladder as their thirds with thirds as thresholds."""
    x, relevance = random(13, 4, 0), levels(13, 13, 0)
    one = losses.LadderLoss([0, 1, 2])(x, losses.Relevance((relevance * 3).round().long()))
    other = losses.LadderLoss([0.1, 0.4, 0.7])(x, losses.Relevance(relevance))
    torch.testing.assert_close(one, other)


def test_gradients_of_the_graded_losses_are_derivatives():
    x, relevance = random(9, 4, 0).requires_grad_(), losses.Relevance(levels(9, 9, 1))
    for name in ("ladder", "cosent", "angle", "cosinemse"):
        loss = losses.create(name, **({"thresholds": [0.6, 0.2]} if name == "ladder" else {}))
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, relevance), (x,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("name", ["cosent", "angle"])
@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("size", [4, 5])
def test_cosent_and_angle(name, rows, size):
    loss = losses.create(name, scale=3.0, block_rows=rows)
    for seed in range(4):
        x, relevance = random(10, size, seed), levels(10, 10, seed)
        x[2] = x[1]
        X = [[*row, 0.0] if size % 2 and name == "angle" else row for row in x.tolist()]
        similarity = oracle.angle_similarity if name == "angle" else oracle.cosine
        index = [(i, j) for i in range(10) for j in range(10) if i != j]
        S = [similarity(X[i], X[j]) for i, j in index]
        expected = oracle.cosent(S, [relevance[i, j].item() for i, j in index], 3.0)
        assert loss(x, losses.Relevance(relevance)).item() == pytest.approx(expected)
        labels = torch.arange(10) % 3
        binary = oracle.cosent(S, [float(labels[i] == labels[j]) for i, j in index], 3.0)
        assert loss(x, labels).item() == pytest.approx(binary)
        scores = levels(1, len(index), seed)[0]
        first, second = torch.tensor(index).T
        pairs = losses.ScoredPairs(first, second, scores)
        assert loss(x, pairs).item() == pytest.approx(oracle.cosent(S, scores.tolist(), 3.0))


def test_scores_that_all_differ():
    x, index = random(12, 4, 0), torch.triu_indices(12, 12, 1)
    scores = torch.rand(index.shape[1], generator=torch.Generator().manual_seed(0)).double() - 0.5
    S = [oracle.cosine(x[i].tolist(), x[j].tolist()) for i, j in index.T]
    pairs = losses.ScoredPairs(*index, scores)
    assert losses.CoSENTLoss()(x, pairs).item() == pytest.approx(oracle.cosent(S, scores.tolist(), 20.0))


@pytest.mark.parametrize("numbers", [2**17, 30])
def test_gradient_of_scores_that_all_differ(monkeypatch, numbers):
    monkeypatch.setattr("kyori.losses.rowwise._CACHED", numbers)  # 30: two rows at a time
    n = 12
    x, scores = random(n, 5, seed=3), random(n, n, seed=4)
    pairs = ~torch.eye(n, dtype=torch.bool)
    value, grad = gradient(losses.CoSENTLoss(3.0), x, losses.Relevance(scores))
    x = x.requires_grad_()
    unit = torch.nn.functional.normalize(x)
    s, score = (unit @ unit.T)[pairs], scores[pairs]
    gaps = (3.0 * (s[None] - s[:, None]))[score[:, None] > score[None]]
    expected = torch.cat([gaps.new_zeros(1), gaps]).logsumexp(0)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, x)[0])


@pytest.mark.parametrize("name", ["cosent", "angle"])
def test_one_item_has_no_pairs(name):
    with pytest.warns(DegenerateWarning):
        value, grad = gradient(losses.create(name), random(1, 4, seed=0), losses.Relevance(torch.ones(1, 1)))
    assert value == 0
    assert not grad.any()


def test_cosine_mse():
    x, relevance = random(8, 4, 0), levels(8, 8, 0)
    index = [(i, j) for i in range(8) for j in range(8) if i != j]
    X = x.tolist()
    expected = oracle.cosine_mse([(X[i], X[j]) for i, j in index], [relevance[i, j].item() for i, j in index])
    assert losses.CosineMSELoss()(x, losses.Relevance(relevance)).item() == pytest.approx(expected)
    pairs = losses.Pairs(torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([True, False]))
    expected = oracle.cosine_mse([(X[0], X[2]), (X[1], X[3])], [1.0, 0.0])
    assert losses.CosineMSELoss()(x, pairs).item() == pytest.approx(expected)


def test_one_relevance_teaches_no_order():
    x, relevance = random(5, 3, 0), losses.Relevance(torch.ones(5, 5))
    pairs = losses.ScoredPairs(torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([0.5, 0.5]))
    for name, given in (("ladder", relevance), ("cosent", relevance), ("cosent", pairs), ("angle", pairs)):
        loss = losses.create(name)
        with pytest.warns(DegenerateWarning, match="no two items or pairs of it differ in relevance"):
            value, grad = gradient(loss, x, given)
        assert value == 0
        assert grad.abs().max() == 0
        assert loss.stats["degenerate"] == 1
    losses.CosineMSELoss()(x, pairs)  # one score is enough for it, and there is no warning


def test_all_relevant_but_not_equally_is_no_degenerate_batch():
    x, relevance = random(6, 3, 0), losses.Relevance(levels(6, 6, 0) + 1)
    assert losses.LadderLoss([1.5])(x, relevance) > 0
    assert losses.CoSENTLoss()(x, relevance) > 0


def test_cosent_does_not_overflow():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    pairs = losses.ScoredPairs(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([1.0, 0.0]))
    value, grad = gradient(losses.CoSENTLoss(500.0), x, pairs)
    assert value.item() == pytest.approx(1000)
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.LadderLoss([]), r"thresholds must be one or more different numbers; got \[\]"),
        (lambda: losses.LadderLoss([0.5, 0.5]), r"different numbers; got \[0.5, 0.5\]"),
        (
            lambda: losses.LadderLoss([0.5, 0.1], margin=[0.1]),
            "margin must have 2 numbers, one per threshold; got 1",
        ),
        (lambda: losses.LadderLoss(weights=[0.0]), "weights must be above 0; got 0.0"),
        (lambda: losses.LadderLoss(margin=-1.0), "margin must be at least 0; got -1.0"),
        (lambda: losses.LadderLoss(mining="semihard"), "mining must be one of all, hard; got 'semihard'"),
        (lambda: losses.CoSENTLoss(0), "scale must be above 0; got 0"),
        (
            lambda: losses.CoSENTLoss()(torch.eye(3), torch.eye(3), reduction="none"),
            "labels must have shape",
        ),
        (
            lambda: losses.CoSENTLoss()(torch.eye(3), torch.tensor([0, 0, 1]), reduction="sum"),
            "reduction must be 'mean': CoSENTLoss is no sum over items; got 'sum'",
        ),
    ],
)
def test_wrong_options(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize("mining", ["all", "hard"])
def test_counting_some_rows_at_a_time_changes_nothing(mining, monkeypatch):
    x, relevance = random(13, 4, 0), losses.Relevance(levels(13, 13, 0))
    loss = losses.LadderLoss([0.5, 0.1], mining=mining)
    whole = gradient(loss, x, relevance)
    monkeypatch.setattr("kyori.losses.rowwise._CACHED", 30)  # two rows at a time
    torch.testing.assert_close(gradient(loss, x, relevance), whole)
