"""Pair, triplet and ranking losses beside pytorch-metric-learning and sentence-transformers, value and gradient."""

import math
import warnings

import pytest
import torch

from kyori import losses

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer_losses = pytest.importorskip("pytorch_metric_learning.losses")
    peer_miners = pytest.importorskip("pytorch_metric_learning.miners")


def batch(n=48, d=16, classes=6, equal=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator) + 0.5
    if equal:
        return x, torch.arange(n) // (n // classes)
    labels = torch.randint(0, classes, (n,), generator=generator) * torch.randint(
        0, 2, (n,), generator=generator
    )
    return x, labels


def same(ours, theirs, x, labels, tolerance=1e-5):
    results = []
    for loss in (ours, theirs):
        y = x.clone().requires_grad_()
        value = loss(y, labels)
        results.append((value.detach(), *torch.autograd.grad(value, y)))
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


def mined(loss, miner):
    return lambda x, y: loss(x, y, miner(x, y))


PEERS = {
    "signal to noise contrastive": (
        losses.ContrastiveLoss(1.0, convention="unsquared", distance="snr", normalize=True),
        peer_losses.SignalToNoiseRatioContrastiveLoss(),
    ),
    "intra-pair variance": (losses.IntraPairVarianceLoss(), peer_losses.IntraPairVarianceLoss()),
    "threshold-consistent": (
        losses.ThresholdConsistentLoss(positive_weight=2.0, negative_similarity=0.3),
        peer_losses.ThresholdConsistentMarginLoss(lambda_plus=2.0, margin_minus=0.3),
    ),
    "margin": (
        losses.MarginLoss(mining="all", regularization=0.1),
        peer_losses.MarginLoss(learn_beta=True, nu=0.1),
    ),
    "tuplet": (
        losses.TupletMarginLoss(0.1, 64.0),
        peer_losses.TupletMarginLoss(margin=math.degrees(0.1), scale=64),
    ),
    "n-pairs": (
        losses.NPairsLoss("one"),
        lambda x, y: peer_losses.NPairsLoss(distance=dot())(x, y),
    ),
    "lifted": (losses.LiftedLoss(normalize=True), peer_losses.LiftedStructureLoss()),
    "lifted with margins": (
        losses.LiftedLoss(0.7, positive_margin=0.2, normalize=True),
        peer_losses.LiftedStructureLoss(neg_margin=0.7, pos_margin=0.2),
    ),
    "generalised lifted": (
        losses.GeneralizedLiftedLoss(0.7, positive_margin=0.2, normalize=True),
        peer_losses.GeneralizedLiftedStructureLoss(neg_margin=0.7, pos_margin=0.2),
    ),
    "multi-similarity": (losses.MultiSimilarityLoss(epsilon=None), peer_losses.MultiSimilarityLoss()),
    "multi-similarity, mined": (
        losses.MultiSimilarityLoss(epsilon=0.1),
        mined(peer_losses.MultiSimilarityLoss(), peer_miners.MultiSimilarityMiner(0.1)),
    ),
    "circle": (losses.CircleLoss(0.3, 20.0), peer_losses.CircleLoss(m=0.3, gamma=20)),
    "nca": (losses.NCALoss(2.0), peer_losses.NCALoss(softmax_scale=2.0)),
    "fastap": (losses.FastAPLoss(), peer_losses.FastAPLoss()),
    "histogram": (losses.HistogramLoss(), peer_losses.HistogramLoss()),
    "easy positive": (
        losses.TripletLoss(0.3, "easy_positive", average="active"),
        mined(peer_losses.TripletMarginLoss(margin=0.3), peer_miners.BatchEasyHardMiner()),
    ),
    "swap": (
        losses.TripletLoss(0.3, "all", swap=True),
        peer_losses.TripletMarginLoss(margin=0.3, swap=True),
    ),
    "swap, semi-hard": (
        losses.TripletLoss(0.3, "semihard", swap=True),
        mined(
            peer_losses.TripletMarginLoss(margin=0.3, swap=True),
            peer_miners.TripletMarginMiner(margin=0.3, type_of_triplets="semihard"),
        ),
    ),
    "soft": (
        losses.TripletLoss(0.0, "all", soft=True),
        peer_losses.TripletMarginLoss(margin=0.0, smooth_loss=True),
    ),
}


def dot():
    from pytorch_metric_learning.distances import DotProductSimilarity

    return DotProductSimilarity(normalize_embeddings=False)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@pytest.mark.parametrize("name", PEERS)
def test_value_and_gradient(name):
    ours, theirs = PEERS[name]
    same(ours, theirs, *batch())


@pytest.mark.parametrize("positives", ["easy", "semihard", "hard"])
@pytest.mark.parametrize("negatives", ["easy", "semihard", "hard"])
def test_one_positive_and_one_negative(positives, negatives):
    if positives == negatives == "semihard":
        return
    miner = peer_miners.BatchEasyHardMiner(pos_strategy=positives, neg_strategy=negatives)
    peer = peer_losses.TripletMarginLoss(margin=1.0)
    ours = losses.TripletLoss(1.0, "batch", positives=positives, negatives=negatives, average="active")
    x, labels = batch()
    a, p, n = (mining for i, mining in enumerate(miner(x, labels)) if i != 2)
    same(ours, lambda x, y: peer(x, y, (a, p, n)), x, labels)


def test_angular_where_the_peer_normalises_all():
    x, labels = batch()
    x = torch.nn.functional.normalize(x)
    ours, theirs = losses.AngularLoss(0.6), peer_losses.AngularLoss(alpha=math.degrees(0.6))

    def peer(y, labels):
        return theirs(torch.nn.functional.normalize(y), labels)

    same(ours, peer, x, labels)


def as_its_own_hit(loss):
    """The batch as references without ids: each anchor is then a positive of itself, as the peer has it."""
    return lambda x, labels: loss(x, labels, references=x, reference_labels=labels)


@pytest.mark.parametrize("variant", ["O", "Ds", "Dq", "Iu", "Ib"])
def test_pnp_where_anchors_are_their_own_positives(variant):
    theirs = peer_losses.PNPLoss(b=2, alpha=3, anneal=0.1, variant=variant)
    ours = losses.PNPLoss(variant, alpha=3, temperature=0.1)
    same(as_its_own_hit(ours), theirs, *batch())


def test_smooth_ap_where_anchors_are_their_own_positives():
    """As many classes as items of each: elsewhere the peer takes the one for the other."""
    theirs = peer_losses.SmoothAPLoss(temperature=0.1)
    same(as_its_own_hit(losses.SmoothAPLoss(0.1)), theirs, *batch(n=36, equal=True))


def test_ranked_list_but_for_the_peers_additions_to_each_weight():
    ours = losses.RankedListLoss(0.4, 1.2, 0.3, temperature=3.0, positive_temperature=1.0)
    theirs = peer_losses.RankedListLoss(margin=0.4, Tn=3.0, Tp=1.0, imbalance=0.3, alpha=1.2)
    same(ours, theirs, *batch(), tolerance=1e-3)


def test_dynamic_soft_margin_without_labels():
    """The peer's first value; its gradient also runs through the histogram, which is constant in the paper."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 30, 8, generator=generator)
    ours = losses.DynamicSoftMarginLoss()(x, references=y)
    theirs = peer_losses.DynamicSoftMarginLoss()(x, ref_emb=y)
    torch.testing.assert_close(ours, theirs)


def test_margin_with_a_boundary_for_each_class():
    x, labels = batch()
    ours = losses.MarginLoss(mining="all", beta_per_class=True, num_classes=6).double()
    theirs = peer_losses.MarginLoss(learn_beta=True, num_classes=6).double()
    beta = torch.linspace(0.8, 1.4, 6)
    gradients = []
    for loss in (ours, theirs):
        with torch.no_grad():
            loss.beta.copy_(beta)
        y = x.double().requires_grad_()
        gradients.append(torch.autograd.grad(loss(y, labels), (y, loss.beta)))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_distance_weighted_negatives_are_drawn_as_by_the_peer():
    """Shares of the negatives over many draws; for anchors that have a negative within 1.4, others the peer drops."""
    x, labels = batch(n=12, d=8, classes=3, equal=True)
    miner = peer_miners.DistanceWeightedMiner()
    ours = losses.TripletLoss(mining="distance_weighted", triplets=20_000)
    from kyori.losses import mining

    x = torch.nn.functional.normalize(x)
    D = torch.cdist(x, x)
    positive = (labels[:, None] == labels) & ~torch.eye(12, dtype=torch.bool)
    chance = ours.begin(12, x.device)
    picks = mining.distance_weighted(D, positive, labels[:, None] != labels, chance, "euclidean", 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [miner(x, labels) for _ in range(2000)]
    a, n = torch.cat([t[0] for t in drawn]), torch.cat([t[2] for t in drawn])
    for anchor in a.unique().tolist():
        share = torch.bincount(n[a == anchor], minlength=12) / (a == anchor).sum()
        mine = torch.bincount(picks.negatives[anchor], minlength=12) / 20_000
        torch.testing.assert_close(mine, share, rtol=0, atol=0.03)


def sentence_transformers_loss(name, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    return getattr(module, name)(torch.nn.Identity(), **options)


def test_online_contrastive_of_explicit_pairs():
    theirs = sentence_transformers_loss("OnlineContrastiveLoss", margin=0.9)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(40, 8, generator=generator)
    equal = torch.arange(20) % 2 == 0
    pairs = losses.Pairs(torch.arange(20), torch.arange(20, 40), equal)

    def peer(y, _):
        return theirs.compute_loss_from_embeddings([y[:20], y[20:]], equal.long())

    same(lambda y, _: losses.OnlineContrastiveLoss(0.9)(y, pairs, reduction="sum"), peer, x, None)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("BatchAllTripletLoss", losses.TripletLoss(1.0, "all", normalize=False)),
        ("BatchHardTripletLoss", losses.TripletLoss(1.0, "batch_hard", normalize=False)),
        ("BatchSemiHardTripletLoss", losses.TripletLoss(1.0, "facenet", normalize=False)),
        ("BatchHardSoftMarginTripletLoss", losses.TripletLoss(0.0, "batch_hard", soft=True, normalize=False)),
    ],
)
def test_batch_triplets(name, ours):
    theirs = sentence_transformers_loss(name, **({} if "Soft" in name else {"margin": 1.0}))
    same(ours, lambda x, y: theirs.compute_loss_from_embeddings([x], y), *batch(equal=True))
