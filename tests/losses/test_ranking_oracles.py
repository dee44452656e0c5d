"""Pair, triplet and ranking losses against the same written as loops (tests/oracles/ranking.py)."""

import math

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError
from oracles import losses as basic
from oracles import ranking as oracle

BATCHES = range(6)


def batch(seed):
    """Small, with classes of unequal size, single items, and copies within and across classes."""
    generator = torch.Generator().manual_seed(seed)
    n = 11 + seed
    labels = torch.randint(0, 4, (n,), generator=generator)
    labels[0] = 9
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    if seed % 2:
        x[1], x[2] = x[3], x[4]
    return x, labels


def table(x, kind="cosine", *, normalize=True, y=None):
    rows = [
        [basic.unit(row) if normalize else row for row in part.tolist()]
        for part in (x, x if y is None else y)
    ]
    return [[basic.distance(a, b, kind) for b in rows[1]] for a in rows[0]]


def cosines(x):
    return [[1 - d for d in row] for row in table(x)]


def relations(labels):
    return basic.relations(labels.tolist())


def units(x):
    return [basic.unit(row) for row in x.tolist()]


def ours(loss, x, labels, **more):
    loss.double()
    return loss(x.clone().requires_grad_(), labels, **more).item()


def close(value):
    return pytest.approx(value, rel=1e-6, abs=1e-9)


PAIRS = {
    "online": (
        lambda: losses.OnlineContrastiveLoss(0.9),
        lambda x, P, N: oracle.online_contrastive(table(x), P, N, 0.9),
    ),
    "intra-pair variance": (
        lambda: losses.IntraPairVarianceLoss(0.1, 0.2),
        lambda x, P, N: oracle.intra_pair_variance(cosines(x), P, N, (0.1, 0.2)),
    ),
    "threshold": (
        lambda: losses.ThresholdConsistentLoss(0.8, 0.1, positive_weight=2.0, negative_weight=0.5),
        lambda x, P, N: oracle.threshold_consistent(cosines(x), P, N, (0.8, 0.1), (2.0, 0.5)),
    ),
    "margin": (
        lambda: losses.MarginLoss(0.3, 1.1, mining="all", regularization=0.2),
        lambda x, P, N: oracle.margin(table(x, "euclidean"), P, N, 0.3, [1.1] * len(x), 0.2),
    ),
    "angular": (
        lambda: losses.AngularLoss(0.7),
        lambda x, P, N: oracle.angular(units(x), P, N, 0.7),
    ),
    "angular, wide": (
        lambda: losses.AngularLoss(1.2),
        lambda x, P, N: oracle.angular(units(x), P, N, 1.2),
    ),
    "n-pairs": (lambda: losses.NPairsLoss(), lambda x, P, N: oracle.n_pairs(x.tolist(), P, N)),
    "tuplet": (
        lambda: losses.TupletMarginLoss(0.2, 5.0),
        lambda x, P, N: oracle.tuplet(cosines(x), P, N, 0.2, 5.0),
    ),
    "lifted": (
        lambda: losses.LiftedLoss(0.8, positive_margin=0.1),
        lambda x, P, N: oracle.lifted(*[table(x, "euclidean", normalize=False)] * 2, P, N, N, 0.8, 0.1),
    ),
    "generalised lifted": (
        lambda: losses.GeneralizedLiftedLoss(1.5, positive_margin=0.1),
        lambda x, P, N: oracle.generalized_lifted(table(x, "euclidean", normalize=False), P, N, 1.5, 0.1),
    ),
    "multi-similarity": (
        lambda: losses.MultiSimilarityLoss(2.0, 5.0, 0.4),
        lambda x, P, N: oracle.multi_similarity(cosines(x), P, N, 2.0, 5.0, 0.4, 0.1),
    ),
    "multi-similarity of all pairs": (
        lambda: losses.MultiSimilarityLoss(2.0, 5.0, 0.4, epsilon=None),
        lambda x, P, N: oracle.multi_similarity(cosines(x), P, N, 2.0, 5.0, 0.4, None),
    ),
    "circle": (
        lambda: losses.CircleLoss(0.3, 7.0),
        lambda x, P, N: oracle.circle(cosines(x), P, N, 0.3, 7.0),
    ),
    "ranked list": (
        lambda: losses.RankedListLoss(0.5, 1.3, 0.3, temperature=3.0, positive_temperature=2.0),
        lambda x, P, N: oracle.ranked_list(table(x, "euclidean"), P, N, 0.5, 1.3, 0.3, (3.0, 2.0)),
    ),
    "fastap": (
        lambda: losses.FastAPLoss(7),
        lambda x, P, N: oracle.fast_ap(table(x, "squared_euclidean"), P, N, 7),
    ),
    "smooth-ap": (
        lambda: losses.SmoothAPLoss(0.1),
        lambda x, P, N: oracle.ranks(cosines(x), P, N, 0.1, lambda p, n, _: 1 - (1 + p) / (1 + p + n)),
    ),
    "recall at k": (
        lambda: losses.RecallAtKLoss([1, 3], temperature=0.1, k_temperature=0.7),
        lambda x, P, N: oracle.ranks(
            cosines(x),
            P,
            N,
            0.1,
            lambda p, n, count: (
                1
                - basic.mean([oracle.sigmoid((k - 1 - p - n) / 0.7) * count / min(k, count) for k in (1, 3)])
            ),
        ),
    ),
    "histogram": (
        lambda: losses.HistogramLoss(9),
        lambda x, P, N: oracle.histogram(cosines(x), P, N, 9),
    ),
    "dynamic soft margin": (
        lambda: losses.DynamicSoftMarginLoss(9),
        lambda x, P, N: oracle.dynamic_soft_margin(
            [oracle.soft_margin_gaps(table(x, "euclidean"), P, N)], 9, 0.01
        ),
    ),
}


@pytest.mark.parametrize("seed", BATCHES)
@pytest.mark.parametrize("name", PAIRS)
def test_against_loops(name, seed):
    x, labels = batch(seed)
    loss, expected = PAIRS[name]
    assert ours(loss(), x, labels) == close(expected(x, *relations(labels)))


@pytest.mark.parametrize("seed", BATCHES)
@pytest.mark.parametrize("variant", ["O", "Ds", "Dq", "Iu", "Ib"])
def test_pnp(variant, seed):
    x, labels = batch(seed)
    expected = oracle.ranks(
        cosines(x), *relations(labels), 0.1, lambda p, n, _: oracle.pnp(variant, n, 3.0, 1.5)
    )
    assert ours(losses.PNPLoss(variant, alpha=3.0, b=1.5, temperature=0.1), x, labels) == close(expected)


@pytest.mark.parametrize("seed", BATCHES)
@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
@pytest.mark.parametrize("soft", [False, True])
def test_swap(mining, soft, seed):
    x, labels = batch(seed)
    loss = losses.TripletLoss(0.4, mining, swap=True, soft=soft)
    D = table(x, "euclidean")
    expected = oracle.swapped_triplet(D, D, *relations(labels), 0.4, mining, soft)
    assert ours(loss, x, labels) == close(expected)


@pytest.mark.parametrize("block_rows", [None, 3])
@pytest.mark.parametrize("seed", BATCHES)
def test_references_are_where_swap_and_lifted_look_for_the_positives_negatives(seed, block_rows):
    x, labels = batch(seed)
    y, others = batch(seed + 10)
    P = [[j for j, k in enumerate(others.tolist()) if k == label] for label in labels.tolist()]
    N = [[j for j, k in enumerate(others.tolist()) if k != label] for label in labels.tolist()]
    more = {"references": y, "reference_labels": others}
    swap = losses.TripletLoss(0.4, "all", swap=True, block_rows=block_rows)
    D, among = table(x, "euclidean", y=y), table(y, "euclidean")
    expected = oracle.swapped_triplet(D, among, P, N, 0.4, "all", False)
    assert ours(swap, x, labels, **more) == close(expected)
    lifted = losses.LiftedLoss(0.8, block_rows=block_rows)
    D, among = table(x, "euclidean", normalize=False, y=y), table(y, "euclidean", normalize=False)
    expected = oracle.lifted(D, among, P, N, relations(others)[1], 0.8, 0.0)
    assert ours(lifted, x, labels, **more) == close(expected)


def test_swap_of_explicit_triplets():
    x, _ = batch(0)
    rows = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    D = table(x, "euclidean")
    terms = [max(0.0, D[a][p] - min(D[a][n], D[p][n]) + 0.9) for a, p, n in rows.tolist()]
    loss = losses.TripletLoss(0.9, "all", swap=True, average="candidates")
    assert ours(loss, x, losses.Triplets(*rows.T)) == close(basic.mean(terms))


@pytest.mark.parametrize("seed", BATCHES)
@pytest.mark.parametrize("positive", ["easy", "semihard", "hard"])
@pytest.mark.parametrize("negative", ["easy", "semihard", "hard"])
def test_one_positive_and_one_negative(positive, negative, seed):
    if positive == negative == "semihard":
        return
    x, labels = batch(seed)
    loss = losses.TripletLoss(0.6, "batch", positives=positive, negatives=negative)
    expected = oracle.one_triplet(table(x, "euclidean"), *relations(labels), 0.6, positive, negative)
    assert ours(loss, x, labels) == close(expected)


def test_easy_positive_is_easy_with_semihard():
    x, labels = batch(0)
    other = losses.TripletLoss(0.6, "batch", positives="easy", negatives="semihard")
    assert ours(losses.TripletLoss(0.6, "easy_positive"), x, labels) == ours(other, x, labels)


@pytest.mark.parametrize("seed", BATCHES)
def test_centroids(seed):
    x, labels = batch(seed)
    for hardest in (False, True):
        loss = losses.CentroidTripletLoss(0.5, hardest=hardest)
        expected = oracle.centroid_triplet(units(x), labels.tolist(), 0.5, "squared_euclidean", hardest)
        assert ours(loss, x, labels) == close(expected)
    for form in ("softmax", "contrast"):
        expected = oracle.ge2e(units(x), labels.tolist(), form, 3.0, -1.0)
        assert ours(losses.GE2ELoss(form, scale=3.0, bias=-1.0), x, labels) == close(expected)


@pytest.mark.parametrize("seed", BATCHES)
def test_one_pair_of_each_class(seed):
    x, labels = batch(seed)
    expected = oracle.n_pairs_one_a_class(x.tolist(), labels.tolist())
    assert ours(losses.NPairsLoss("one"), x, labels) == close(expected)


def test_n_pairs_of_the_paper_is_anchors_with_their_positives_as_references():
    x, y = batch(0)[0][:6], batch(1)[0][:6]
    logits = [[basic.dot(a, b) for b in y.tolist()] for a in x.tolist()]
    expected = basic.mean([basic.cross_entropy(row, i) for i, row in enumerate(logits)])
    assert ours(losses.NPairsLoss(), x, None, references=y) == close(expected)


def test_a_boundary_for_each_class():
    x, labels = batch(2)
    labels[0] = 3
    loss = losses.create(
        "margin", num_classes=4, beta_per_class=True, mining="all", regularization=0.1
    ).double()
    with torch.no_grad():
        loss.beta.copy_(torch.tensor([0.7, 0.9, 1.1, 1.3]))
    beta = [loss.beta.tolist()[k] for k in labels.tolist()]
    expected = oracle.margin(table(x, "euclidean"), *relations(labels), 0.2, beta, 0.1)
    assert loss(x, labels).item() == close(expected)
    with pytest.raises(
        ArgumentError, match=r"labels must be class numbers 0 to 3 \(num_classes=4\); got 0 to 9"
    ):
        loss(*batch(0))


def test_the_soft_margin_remembers_training_steps_only():
    loss = losses.DynamicSoftMarginLoss(9, rate=0.3).double()
    steps = []
    for seed in BATCHES:
        x, labels = batch(seed)
        steps.append(oracle.soft_margin_gaps(table(x, "euclidean"), *relations(labels)))
        assert loss(x, labels).item() == close(oracle.dynamic_soft_margin(steps, 9, 0.3))
        loss.eval()(*batch(seed + 1))
        loss.train()
    assert loss.histogram.sum() == pytest.approx(1)


def test_circle_weights_are_constants_to_the_gradient():
    x, labels = batch(0)
    x.requires_grad_()
    gradient = torch.autograd.grad(losses.CircleLoss(0.3, 7.0)(x, labels), x)[0]
    S = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T
    same = labels[:, None] == labels
    positive, negative = same & ~torch.eye(len(x), dtype=torch.bool), ~same
    pull = -7.0 * (1.3 - S.detach()).clamp(min=0) * (S - 0.7)
    push = 7.0 * (S.detach() + 0.3).clamp(min=0) * (S - 0.3)
    usable = positive.any(1) & negative.any(1)
    z = [
        term.masked_fill(~mask, -torch.inf)[usable].logsumexp(1)
        for term, mask in ((pull, positive), (push, negative))
    ]
    expected = torch.autograd.grad(torch.nn.functional.softplus(z[0] + z[1]).mean(), x)[0]
    torch.testing.assert_close(gradient, expected)


def test_perfect_rankings_cost_nothing_and_reversed_ones_all():
    x = torch.eye(4, dtype=torch.float64).repeat_interleave(3, 0)
    good, bad = torch.arange(4).repeat_interleave(3), torch.arange(12) % 3
    for loss in (losses.SmoothAPLoss(), losses.PNPLoss(), losses.FastAPLoss(), losses.HistogramLoss()):
        assert ours(loss, x, good) == pytest.approx(0, abs=1e-9)
        assert ours(loss, x, bad) > 0.3
    assert ours(losses.RecallAtKLoss([1, 2], k_temperature=0.01), x, bad) == pytest.approx(1, abs=1e-3)


def test_weighted_draws_leave_out_far_negatives_unless_all_are_far():
    from kyori.losses import mining

    angles = torch.tensor([0.0, 0.1, 0.6, 0.9, 2.9, 3.1])
    x = torch.stack([angles.cos(), angles.sin()], 1)
    D = torch.cdist(x, x)
    positive = torch.zeros(6, 6, dtype=torch.bool)
    positive[0, 1] = positive[4, 5] = True
    negative = torch.zeros(6, 6, dtype=torch.bool)
    negative[0, 2:], negative[4, :2] = True, True
    chance = torch.rand(6, 500, 2, generator=torch.Generator().manual_seed(0))
    picks = mining.distance_weighted(D, positive, negative, chance, "euclidean", 2)
    assert set(picks.negatives[0].tolist()) == {2, 3}
    assert set(picks.negatives[4].tolist()) == {0, 1}
    assert picks.valid[[0, 4]].all()
    assert not picks.valid[[1, 2, 3, 5]].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.TripletLoss(mining="all", positives="easy"),
            "positives and negatives go with mining='batch'",
        ),
        (
            lambda: losses.TripletLoss(mining="batch", positives="semihard", negatives="semihard"),
            "cannot both be 'semihard'",
        ),
        (
            lambda: losses.TripletLoss(mining="distance_weighted", normalize=False),
            "needs unit vectors: .*got distance 'euclidean' and normalize=False",
        ),
        (lambda: losses.MarginLoss(beta_per_class=True), "beta_per_class needs num_classes"),
        (lambda: losses.MarginLoss(mining="hard"), "mining must be one of distance_weighted, all"),
        (lambda: losses.AngularLoss(45.0), "angle must be above 0 and up to 1.2, in radians; got 45.0"),
        (
            lambda: losses.TupletMarginLoss(5.73),
            "margin must be from 0 to below π/2 = 1.57, in radians; got 5.73",
        ),
        (lambda: losses.NPairsLoss("first"), "pairs must be one of all, one; got 'first'"),
        (lambda: losses.MultiSimilarityLoss(alpha=0), "alpha must be above 0; got 0"),
        (lambda: losses.CircleLoss(scale=0), "scale must be above 0; got 0"),
        (lambda: losses.RankedListLoss(balance=2), "balance must be from 0 to 1; got 2"),
        (lambda: losses.RankedListLoss(temperature=-1), "temperature must be at least 0; got -1"),
        (lambda: losses.FastAPLoss(1), "bins must be at least 2; got 1"),
        (lambda: losses.HistogramLoss(1), "bins must be at least 2; got 1"),
        (lambda: losses.SmoothAPLoss(0), "temperature must be above 0; got 0"),
        (lambda: losses.PNPLoss("X"), "variant must be one of O, Ds, Dq, Iu, Ib; got 'X'"),
        (lambda: losses.RecallAtKLoss([]), r"k must be numbers of at least 1; got \[\]"),
        (lambda: losses.RecallAtKLoss([0, 1]), r"k must be numbers of at least 1; got \[0, 1\]"),
        (lambda: losses.DynamicSoftMarginLoss(rate=0), "rate must be above 0 and up to 1; got 0"),
        (lambda: losses.GE2ELoss("hinge"), "form must be one of softmax, contrast; got 'hinge'"),
        (lambda: losses.GE2ELoss(scale=0), "scale must be above 0; got 0"),
        (lambda: losses.CentroidTripletLoss(-1), "margin must be at least 0; got -1"),
        (lambda: losses.IntraPairVarianceLoss(-1), "must be at least 0; got -1 and 0.01"),
        (lambda: losses.ThresholdConsistentLoss(negative_weight=-1), "must be at least 0; got 1.0 and -1"),
    ],
)
def test_wrong_options(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_losses_of_classes_ask_for_labels():
    x, labels = batch(0)
    sets = torch.nn.functional.one_hot(labels % 3).bool()
    for loss in (losses.GE2ELoss(), losses.CentroidTripletLoss(), losses.NPairsLoss("one")):
        with pytest.raises(ArgumentError, match="class label for each item; got"):
            loss(x, sets)
    pairs = losses.Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([True]))
    with pytest.raises(ArgumentError, match="GE2ELoss needs a class label for each item; got Pairs"):
        losses.GE2ELoss()(x, pairs)
    relevance = losses.Relevance(torch.rand(len(x), 3))
    with pytest.raises(ArgumentError, match="how the references are related to each other"):
        losses.LiftedLoss()(x, relevance, references=x[:3])


@pytest.mark.parametrize("name", ["angular", "lifted", "triplet", "smoothap", "multisimilarity", "fastap"])
def test_label_sets_work_as_masks(name):
    """One label in each set is the same as labels."""
    x, labels = batch(3)
    sets = torch.nn.functional.one_hot(labels).bool()
    options = {"swap": True, "mining": "all"} if name == "triplet" else {}
    assert ours(losses.create(name, **options), x, sets) == close(
        ours(losses.create(name, **options), x, labels)
    )


@pytest.mark.parametrize("scale", [1e6, 1e-12, 0.0])
@pytest.mark.parametrize(
    "name",
    [
        "onlinecontrastive", "intrapairvariance", "thresholdconsistent", "margin", "triplet", "centroidtriplet",
        "angular", "npairs", "tuplet", "lifted", "generalizedlifted", "multisimilarity", "circle", "rankedlist",
        "fastap", "smoothap", "pnp", "recallk", "histogram", "dynamicsoftmargin", "ge2e",
    ],
)  # fmt: skip
def test_huge_and_tiny_norms(name, scale):
    x, labels = batch(1)
    y = (x * scale).float().requires_grad_()
    value = losses.create(name)(y, labels)
    assert value.isfinite()
    assert torch.autograd.grad(value, y)[0].isfinite().all()
    assert math.isfinite(value.item())
