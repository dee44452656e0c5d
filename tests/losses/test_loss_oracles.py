"""Each loss against the same written as loops (tests/oracles/losses.py)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kyori import losses
from kyori.losses import angles
from oracles import losses as oracle

from .cases import CLASSIFIERS, batch, make, name_of


def matrix(x, kind="euclidean", normalize=False):
    rows = [oracle.unit(row) if normalize else row for row in x.tolist()]
    return [[oracle.distance(a, b, kind) for b in rows] for a in rows]


@pytest.mark.parametrize("convention", ["hadsell", "keras", "unsquared"])
@pytest.mark.parametrize("positive_margin", [0.0, 1.5])
def test_contrastive(convention, positive_margin):
    x, labels = batch()
    loss = losses.ContrastiveLoss(3.0, positive_margin=positive_margin, convention=convention)
    expected = oracle.contrastive(matrix(x), labels.tolist(), 3.0, positive_margin, convention)
    assert loss(x, labels).item() == pytest.approx(expected)


def test_contrastive_of_pairs_is_its_mean_over_those_pairs():
    x, _ = batch(n=4)
    pairs = losses.Pairs(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3]), torch.tensor([True, False, False]))
    D = matrix(x)
    expected = (D[0][1] ** 2 + max(0, 4 - D[1][2]) ** 2 + max(0, 4 - D[2][3]) ** 2) / 3
    loss = losses.ContrastiveLoss(4.0, convention="keras")
    assert loss(x, pairs).item() == pytest.approx(expected)
    assert loss.stats["positive_distance"] == pytest.approx(D[0][1])


def test_one_positive_and_one_negative_pair_count():
    """Where pytorch-metric-learning 2.x returns 0."""
    x = torch.tensor([[0.0], [2.0], [2.5]])
    pairs = losses.Pairs(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([True, False]))
    assert losses.ContrastiveLoss(convention="unsquared")(x, pairs).item() == pytest.approx(2.5)


@pytest.mark.parametrize("mining", ["all", "hard", "semihard", "facenet", "batch_hard"])
@pytest.mark.parametrize("average", ["active", "candidates"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", ["euclidean", "squared_euclidean", "cosine", "dot"])
def test_triplet(mining, average, soft, kind):
    x, labels = batch()
    loss = losses.TripletLoss(0.3, mining, average=average, soft=soft, distance=kind)
    D = matrix(x, kind, normalize=True)
    expected = oracle.triplet(D, labels.tolist(), 0.3, mining, average, soft)
    assert loss(x, labels).item() == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=9),
    seed=st.integers(0, 99),
    margin=st.sampled_from([0.0, 1.0, 2.0]),
)
@pytest.mark.parametrize("mining", ["all", "hard", "semihard", "facenet", "batch_hard"])
@pytest.mark.filterwarnings("ignore::kyori.errors.DegenerateWarning")
def test_triplet_where_most_distances_are_tied(mining, labels, seed, margin):
    """Points on a line of integers: D(a,n) = D(a,p) and D(a,n) = D(a,p) + m happen all the time."""
    x = torch.randint(0, 4, (len(labels), 1), generator=torch.Generator().manual_seed(seed)).double()
    for average in ("active", "candidates"):
        loss = losses.TripletLoss(margin, mining, average=average, normalize=False)
        expected = oracle.triplet(matrix(x), labels, margin, mining, average)
        assert loss(x, torch.tensor(labels)).item() == pytest.approx(expected)
        assert 0 <= loss.stats["active"] <= 1


def test_triplet_gradient_counts_the_active_triplets():
    """∂/∂D(a,n) = −(P − k_n), ∂/∂D(a,p) = #{n : k_n < j}, here against automatic differentiation of all triplets."""
    x, labels = batch()
    loss = losses.TripletLoss(0.5, "all", normalize=False)
    gradient = torch.autograd.grad(loss(x, labels), x)[0]
    D = (x[:, None] - x[None] + torch.eye(len(x))[..., None] * 1e-30).norm(dim=2)
    positives, negatives = oracle.relations(labels.tolist())
    terms = torch.stack(
        [D[a, p] - D[a, n] + 0.5 for a in range(len(x)) for p in positives[a] for n in negatives[a]]
    )
    expected = torch.autograd.grad(terms[terms > 0].mean(), x)[0]
    torch.testing.assert_close(gradient, expected)


def test_random_triplets_are_triplets_and_average_to_all_of_them():
    x, labels = batch()
    loss = losses.TripletLoss(0.5, "random", triplets=400, average="candidates")
    value = loss(x, labels)
    positives, negatives = oracle.relations(labels.tolist())
    D = matrix(x, normalize=True)
    anchors = [a for a in range(len(x)) if positives[a] and negatives[a]]
    per_anchor = [
        oracle.mean([max(0.0, D[a][p] - D[a][n] + 0.5) for p in positives[a] for n in negatives[a]])
        for a in anchors
    ]
    assert value.item() == pytest.approx(oracle.mean(per_anchor), rel=0.02)
    assert loss(x, labels) != value  # drawn anew


PLAIN = [
    case for case in CLASSIFIERS if case[0] in ("softmax", "normface", "l2softmax", "sphereface", "cosface")
]


@pytest.mark.parametrize(("name", "options"), PLAIN, ids=name_of)  # the others: test_heads_oracles.py
def test_classifiers(name, options):
    x, labels = batch()
    loss = make(name, options)
    settings = {
        key: getattr(loss, key) for key in ("scale", "margin") if getattr(loss, key, None) is not None
    }
    if name == "l2softmax":
        settings["alpha"] = loss.alpha.item()
    if name == "sphereface":
        loss.step += 700
        settings["annealing"] = loss.annealing.item()
    bias = None if loss.bias is None else loss.bias.tolist()
    oracle_name = name
    if name == "softmax" and bias is None:
        bias = [0.0] * len(loss.weight)
    X = x.tolist()
    if name == "sphereface" and loss.scale is not None:
        X = [[loss.scale * v for v in oracle.unit(row)] for row in X]
    expected = oracle.classification(oracle_name, X, labels.tolist(), loss.weight.tolist(), bias, **settings)
    assert loss(x, labels).item() == pytest.approx(expected, rel=1e-6)


def test_psi_is_continuous_and_falls_from_1_to_1_minus_2m():
    for m in (1.0, 1.7, 4.0):
        theta = torch.linspace(0, math.pi - 1e-9, 2001, dtype=torch.float64)
        psi = angles.psi(m * theta)
        assert psi[0] == pytest.approx(1, abs=1e-6)
        assert psi[-1] == pytest.approx(oracle.psi(math.pi - 1e-9, m), abs=1e-5)
        assert (psi.diff() < 1e-9).all()
        assert psi.diff().abs().max() < 2 * m * math.pi / 2000 + 1e-6


@pytest.mark.parametrize("mining", ["all", "hard", "semihard", "facenet"])
@pytest.mark.parametrize("step", [None, 0.25])
def test_triplet_in_batches_of_many_small_classes(mining, step):
    """Wide rows with few positives are where negatives are placed by a grid before they are searched."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(110, 3, generator=rng)
    if step:
        x = (x / step).round() * step  # many equal distances, on thresholds too
    labels = torch.cat([torch.arange(40).repeat_interleave(2), torch.arange(40, 50).repeat_interleave(3)])
    x.requires_grad_()
    loss = losses.TripletLoss(margin=0.5, mining=mining, normalize=False)
    D = [[oracle.distance(a, b, "euclidean") for b in x.tolist()] for a in x.tolist()]
    expected = oracle.triplet(D, labels.tolist(), 0.5, mining, loss.average)
    value = loss(x, labels)
    assert value.item() == pytest.approx(expected, rel=2e-5 if step is None else 2e-3)
    value.backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("m", [40, 200])  # compared one by one, placed by a grid
def test_thresholds_are_counted_exactly_as_by_a_search(right, m):
    from kyori.losses.counting import passed

    rng = torch.Generator().manual_seed(4)
    thresholds = torch.rand(7, 3, generator=rng).sort(1).values
    thresholds[1] = thresholds[1, 0]  # all equal
    thresholds[2, 0] = -torch.inf  # a shorter row
    thresholds[3] = -torch.inf  # no positive
    thresholds[4] = torch.tensor([0.5, 0.5 + 1e-7, 1e30])  # two in one cell, one far away
    values = torch.rand(7, m, generator=rng)
    values[:, :3] = thresholds  # on the thresholds themselves
    values[:, 3:6] = torch.tensor([torch.inf, -torch.inf, 0.5])
    assert torch.equal(
        passed(thresholds, values, right=right), torch.searchsorted(thresholds, values, right=right).int()
    )
