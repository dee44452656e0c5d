"""The losses with class vectors beside pytorch-metric-learning, where it has no known defect: value and gradient."""

import math
import warnings

import pytest
import torch

from kyori import losses

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer_losses = pytest.importorskip("pytorch_metric_learning.losses")

C, D, K = 6, 16, 3


def batch(n=50):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, D, generator=generator) + 0.3
    labels = torch.randint(0, C, (n,), generator=generator) * torch.randint(0, 2, (n,), generator=generator)
    return x.double(), labels


def columns(weight):
    """(c, d) or (c, k, d) as the peer's (d, c·k)."""
    return weight.flatten(0, -2).T


def compare(ours, theirs, name, factor=1.0, turned=True):
    ours, theirs = ours.double(), theirs.double()
    x, labels = batch()
    peer_weight = getattr(theirs, name)
    with torch.no_grad():
        peer_weight.copy_(columns(ours.weight) if turned else ours.weight)
    results = []
    for loss, weight in ((ours, ours.weight), (theirs, peer_weight)):
        y = x.clone().requires_grad_()
        value = loss(y, labels)
        results.append((value.detach(), *torch.autograd.grad(value, (y, weight))))
    (value, gx, gw), (peer_value, peer_gx, peer_gw) = results
    gw = columns(gw) if turned else gw
    torch.testing.assert_close(value * factor, peer_value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gx * factor, peer_gx, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gw * factor, peer_gw, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("margin", "scale"), [(0.5, 64.0), (0.3, 10.0)])
def test_subcenter_arcface(margin, scale):
    peer = peer_losses.SubCenterArcFaceLoss(
        num_classes=C, embedding_size=D, margin=math.degrees(margin), scale=scale, sub_centers=K
    )
    compare(losses.SubCenterArcFaceLoss(C, D, margin, scale, gradient="exact", subcenters=K), peer, "W")


def test_label_errors_of_subcenter_arcface():
    ours = losses.SubCenterArcFaceLoss(C, D, subcenters=K)
    peer = peer_losses.SubCenterArcFaceLoss(num_classes=C, embedding_size=D, sub_centers=K)
    with torch.no_grad():
        peer.W.copy_(columns(ours.weight))
    x, labels = batch()
    x = x.float()
    outliers, centers = peer.get_outliers(x, labels)
    assert ours.label_errors(x, labels).nonzero()[:, 0].tolist() == sorted(outliers.tolist())
    present = labels.unique()
    unit = torch.nn.functional.normalize(centers.T[present])
    torch.testing.assert_close(ours.dominant_centers(x, labels)[present], unit)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peer's own making
@pytest.mark.parametrize("margin", [2, 4])
def test_large_margin_softmax(margin):
    ours = losses.LargeMarginSoftmaxLoss(C, D, margin, anneal=False)
    compare(ours, peer_losses.LargeMarginSoftmaxLoss(C, D, margin=margin), "W")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("margin", [2, 4])
def test_sphereface(margin):
    """The peer's class vectors count as of length 1, as in the paper."""
    compare(
        losses.SphereFaceLoss(C, D, margin, anneal=False),
        peer_losses.SphereFaceLoss(C, D, margin=margin),
        "W",
    )


def test_p2sgrad():
    """The peer puts its class vectors on the sphere outside the gradient: vectors of length 1 must agree but along
    themselves."""
    ours, theirs = losses.P2SGradLoss(C, D).double(), peer_losses.P2SGradLoss(D, C).double()
    with torch.no_grad():
        ours.weight.copy_(torch.nn.functional.normalize(ours.weight))
        theirs.weight.copy_(ours.weight.T)
    x, labels = batch()
    results = []
    for loss in (ours, theirs):
        y = x.clone().requires_grad_()
        value = loss(y, labels)
        results.append((value.detach(), torch.autograd.grad(value, y)[0]))
    torch.testing.assert_close(results[0][0] * 2 / C, results[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(results[0][1] * 2 / C, results[1][1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_proxy_nca_plus_plus(scale):
    peer = peer_losses.ProxyNCALoss(C, D, softmax_scale=scale)
    compare(losses.ProxyNCAPlusPlusLoss(C, D, 1 / scale), peer, "proxies", turned=False)


@pytest.mark.parametrize(("alpha", "margin"), [(32, 0.1), (4, 0.3)])
def test_proxy_anchor(alpha, margin):
    peer = peer_losses.ProxyAnchorLoss(C, D, margin=margin, alpha=alpha)
    compare(losses.ProxyAnchorLoss(C, D, alpha, margin), peer, "proxies", turned=False)


def test_soft_triple():
    peer = peer_losses.SoftTripleLoss(C, D, centers_per_class=K)
    compare(losses.SoftTripleLoss(C, D, subcenters=K, strength=0), peer, "fc")


@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_nca(scale):
    x, labels = batch()
    results = []
    for loss in (losses.NCALoss(scale), peer_losses.NCALoss(softmax_scale=scale)):
        y = x.clone().requires_grad_()
        value = loss(y, labels)
        results.append((value.detach(), torch.autograd.grad(value, y)[0]))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
