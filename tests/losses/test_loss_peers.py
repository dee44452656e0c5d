"""Values and gradients beside pytorch-metric-learning, where it has no known defect."""

import math
import warnings

import pytest
import torch

from kyori import losses

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer_losses = pytest.importorskip("pytorch_metric_learning.losses")
    peer_miners = pytest.importorskip("pytorch_metric_learning.miners")


def batch(n=60, d=16, classes=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator) + 0.5
    labels = torch.randint(0, classes, (n,), generator=generator) * torch.randint(
        0, 2, (n,), generator=generator
    )
    return x, labels


def same(ours, theirs, x, labels, parameters=(), atol=1e-5):
    results = []
    for loss in (ours, theirs):
        y = x.clone().requires_grad_()
        value = loss(y, labels)
        results.append((value.detach(), *torch.autograd.grad(value, (y, *parameters_of(loss, parameters)))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other.T if one.shape != other.shape else other, rtol=1e-5, atol=atol)


def parameters_of(loss, parameters):
    return [getattr(loss, name) for pair in parameters for name in pair if hasattr(loss, name)]


@pytest.mark.parametrize("margin", [0.05, 0.2, 0.7])
@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
def test_triplet(mining, margin):
    miner = peer_miners.TripletMarginMiner(margin=margin, type_of_triplets=mining)
    peer = peer_losses.TripletMarginLoss(margin=margin)
    same(losses.TripletLoss(margin, mining), lambda x, y: peer(x, y, miner(x, y)), *batch())


@pytest.mark.parametrize("margins", [(0.0, 1.0), (0.3, 1.2)])
def test_contrastive(margins):
    ours = losses.ContrastiveLoss(
        margins[1], positive_margin=margins[0], convention="unsquared", normalize=True
    )
    same(ours, peer_losses.ContrastiveLoss(pos_margin=margins[0], neg_margin=margins[1]), *batch())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            losses.ArcFaceLoss(6, 16, margin=0.5, gradient="exact"),
            ("ArcFaceLoss", {"margin": math.degrees(0.5), "scale": 64}),
        ),
        (
            losses.ArcFaceLoss(6, 16, 1.2, 8.0, "exact"),
            ("ArcFaceLoss", {"margin": math.degrees(1.2), "scale": 8}),
        ),
        (losses.CosFaceLoss(6, 16), ("CosFaceLoss", {"margin": 0.35, "scale": 64})),
        (losses.NormFaceLoss(6, 16), ("NormalizedSoftmaxLoss", {"temperature": 1 / 20})),
    ],
    ids=["arcface", "arcface with a large margin", "cosface", "normface"],
)
def test_classification(ours, theirs):
    name, options = theirs
    peer = getattr(peer_losses, name)(6, 16, **options)
    with torch.no_grad():
        peer.W.copy_(ours.weight.T)
    x, labels = batch()
    unit = torch.nn.functional.normalize(
        x
    )  # the peer's normalised softmax does not normalise the embeddings itself
    same(ours, peer, unit if name == "NormalizedSoftmaxLoss" else x, labels, [("weight", "W")], atol=1e-4)
