"""Each loss with class vectors against the same written as loops (tests/oracles/heads.py)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kyori import losses
from oracles import heads as oracle

from .cases import CLASSIFIERS, batch, make, name_of

STATE = ("annealing", "norm_mean", "norm_deviation", "t", "centers", "scale", "alpha")
every = pytest.mark.parametrize(("name", "options"), CLASSIFIERS, ids=name_of)


def expected(loss, x, labels):
    """The oracle's value from a loss's own options, weights and present state."""
    known = losses.options(loss.name)
    o = {key: getattr(loss, key) for key in (*known, *STATE) if hasattr(loss, key)}
    o = {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in o.items()}
    bias = None if loss.bias is None else loss.bias.tolist()
    return oracle.loss(loss.name, x.tolist(), labels.tolist(), loss.weight.tolist(), bias, o)


@every
@pytest.mark.parametrize("seed", range(3))
def test_value(name, options, seed):
    x, labels = batch(seed=seed)
    x = torch.cat([x * 4, x[:3] * 4, x[:2] * 0.3]).detach()  # duplicates, and another length
    labels = torch.cat([labels, labels[:2], (labels[2:3] + 1) % 5, labels[:2]])
    loss = make(name, options)
    for other in range(2):  # move the state, if there is any
        loss(*batch(seed=7 + other))
    loss.eval()
    if hasattr(loss, "step"):
        loss.step += 700
    assert loss(x, labels).item() == pytest.approx(expected(loss, x, labels), rel=1e-6)


def gradients(name, options):
    x, labels = batch()
    loss = make(name, options)
    value = loss(x, labels)
    value.backward()
    return [value.detach(), x.grad, *[p.grad for p in loss.parameters() if p.grad is not None]]


@pytest.mark.parametrize("chunk", [None, 1, 3])
@every
def test_how_logits_lie_and_whether_they_are_kept_changes_nothing(monkeypatch, name, options, chunk):
    options = options | {"chunk_classes": chunk}
    before = gradients(name, options)
    for constant in ("_FEW", "_KEPT_NUMBERS"):  # item by item as many classes are, then made again too
        monkeypatch.setattr(f"kyori.losses.classes.{constant}", 0)
        torch.testing.assert_close(gradients(name, options), before)


@pytest.mark.parametrize("few", [0, 64])
def test_items_without_any_other_class_have_no_loss(monkeypatch, few):
    monkeypatch.setattr("kyori.losses.classes._FEW", few)
    value, *found = gradients("normface", {"filter_above": -1.0})
    assert value == 0
    assert not any(gradient.any() for gradient in found)


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    seed=st.integers(0, 99),
    smoothing=st.sampled_from([0.0, 0.3]),
    above=st.sampled_from([None, -1.0, 0.2]),
    trim=st.sampled_from([0.0, 0.5, 0.99]),
    chunk=st.sampled_from([None, 1, 2]),
)
@pytest.mark.parametrize("name", ["arcface", "curricularface", "subcenterarcface"])
def test_shared_options_together(name, labels, seed, smoothing, above, trim, chunk):
    x = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(seed)).double()
    options = {"label_smoothing": smoothing, "filter_above": above, "trim": trim, "chunk_classes": chunk}
    loss = make(name, {"scale": 5.0} | options).eval()
    labels = torch.tensor(labels)
    assert loss(x, labels).item() == pytest.approx(expected(loss, x, labels), rel=1e-6)


@pytest.mark.parametrize("kind", ["squared_euclidean", "euclidean"])
@pytest.mark.parametrize("normalize", [True, False])
def test_nca(kind, normalize):
    x, labels = batch()
    loss = losses.NCALoss(0.7, distance=kind, normalize=normalize)
    value = oracle.nca(x.tolist(), labels.tolist(), 0.7, kind, normalize)
    assert loss(x, labels).item() == pytest.approx(value)


def test_adaface_follows_the_norms():
    x, labels = batch()
    loss = make("adaface", {"rate": 0.25})
    norms = x.detach().norm(dim=1)
    loss(x, labels)
    assert loss.norm_mean.item() == pytest.approx(0.25 * norms.mean().item() + 0.75 * 20)
    assert loss.norm_deviation.item() == pytest.approx(0.25 * norms.std().item() + 0.75 * 100)
    deviation = loss.norm_deviation.clone()
    loss(x[:1], labels[:1])
    assert loss.norm_deviation == deviation


def test_adaface_keeps_its_margin_from_gradients():
    x, labels = batch()
    loss = make("adaface", {}).eval()
    gradient = torch.autograd.grad(loss(x, labels), x)[0]
    assert (gradient * x).sum(1).abs().max() < 1e-9  # only the direction is moved


def test_magface_moves_the_length_too():
    x, labels = batch()
    gradient = torch.autograd.grad(make("magface", {"norms": [1.0, 9.0]})(x, labels), x)[0]
    assert (gradient * x).sum(1).abs().max() > 1e-3


def test_curricularface_follows_the_cosines():
    x, labels = batch()
    loss = make("curricularface", {"rate": 0.5})
    cosine = torch.nn.functional.cosine_similarity(x, loss.weight[labels]).mean().item()
    loss(x, labels)
    assert loss.t.item() == pytest.approx(0.5 * cosine)


def test_adacos_scale():
    x, labels = batch()
    loss = make("adacos", {})
    assert loss.scale.item() == pytest.approx(math.sqrt(2) * math.log(4))
    cosines = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(loss.weight).T
    own = cosines[torch.arange(len(x)), labels]
    b = ((loss.scale * cosines).exp().sum(1) - (loss.scale * own).exp()).mean()
    median = own.acos().median().clamp(max=math.pi / 4)
    loss(x, labels)
    assert loss.scale.item() == pytest.approx((b.log() / median.cos()).item())
    assert losses.AdaCosLoss(2, 4).scale == 1.0


def test_center_moves_the_centers_of_the_batch_alone():
    loss = losses.CenterLoss(3, 2, rate=0.5)
    x = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    loss(x, torch.tensor([0, 0, 2]))
    assert loss.centers.tolist() == [[1.0, 0.0], [0.0, 0.0], [0.0, 0.75]]


def test_combined_is_arcface_and_cosface():
    cosine = torch.linspace(-0.85, 1, 50, dtype=torch.float64)
    combined = losses.CombinedMarginLoss(3, 4, 1.0, 0.5, 0.0)
    torch.testing.assert_close(
        combined.target(cosine), losses.ArcFaceLoss(3, 4).target(cosine), atol=1e-7, rtol=0
    )
    combined = losses.CombinedMarginLoss(3, 4, 1.0, 0.0, 0.35)
    torch.testing.assert_close(
        combined.target(cosine), losses.CosFaceLoss(3, 4).target(cosine), atol=1e-7, rtol=0
    )
    theta = torch.linspace(0, math.pi, 500, dtype=torch.float64)
    assert (losses.CombinedMarginLoss(3, 4, 1.7, 0.9, 0.1).target(theta.cos()).diff() < 1e-9).all()


def test_subcenters_name_label_errors():
    loss = losses.SubCenterArcFaceLoss(2, 3, subcenters=2)
    e = torch.eye(3)
    with torch.no_grad():
        loss.weight.copy_(torch.stack([torch.stack([e[0], e[1]]), torch.stack([e[2], e[1]])]))
    x = torch.stack([e[0], e[0] + 0.1 * e[2], e[1], e[2], e[2], e[0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    assert torch.equal(loss.dominant_centers(x, labels), torch.stack([e[0], e[2]]))
    assert loss.label_errors(x, labels).tolist() == [False, False, True, False, False, True]
    assert loss.label_errors(x, labels, beyond=math.radians(91)).sum() == 0
    with pytest.raises(
        losses.loss.ArgumentError, match=r"beyond must be above 0 and below π.*in radians; got 75"
    ):
        loss.label_errors(x, labels, beyond=75)


def test_the_regularizer_of_softtriple_is_that_of_subcenters():
    loss = make("softtriple", {"subcenters": 3, "strength": 1.0})
    pairs = losses.SparseCentersRegularizer(loss, centers=3)
    torch.testing.assert_close(loss.spread_of_subcenters(loss.weight), pairs(torch.zeros(0, 6)))


@every
def test_logits_are_what_the_softmax_sees_of_other_classes(name, options):
    x, labels = batch()
    loss = make(name, options).eval()
    z = loss.logits(x)
    assert z.shape == (23, 5)
    assert loss(x, labels).isfinite()
    accuracy = (z.argmax(1) == labels).double().mean()
    assert loss.stats["accuracy"] == pytest.approx(accuracy.item())


def test_a_smoothed_softmax_is_pytorchs():
    x, labels = batch()
    loss = make("softmax", {"label_smoothing": 0.2, "chunk_classes": 2})
    expected = torch.nn.functional.cross_entropy(loss.logits(x), labels, label_smoothing=0.2)
    torch.testing.assert_close(loss(x, labels), expected)
    found = torch.autograd.grad(loss(x, labels), (x, loss.weight, loss.bias))
    torch.testing.assert_close(found, torch.autograd.grad(expected, (x, loss.weight, loss.bias)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_trim_leaves_out_the_largest(reduction):
    x, labels = batch()
    values = make("arcface", {})(x, labels, reduction="none")
    found = make("arcface", {"trim": 0.3})(x, labels, reduction=reduction)
    kept = values.sort().values[:17]  # 23 · 0.3 = 6.9
    if reduction == "none":
        assert (found == 0).sum() == 6
        torch.testing.assert_close(found[found != 0].sort().values, kept)
    else:
        torch.testing.assert_close(found, kept.mean() if reduction == "mean" else kept.sum())


def test_trim_does_not_hide_what_is_no_number():
    x, labels = batch()
    x = x.detach()
    x[3] = torch.nan
    assert not make("arcface", {"trim": 0.9})(x, labels).isfinite()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.ArcFaceLoss(4, 4, trim=1.0), "trim must be from 0 to below 1, a share of the items; got 1.0"),
        (lambda: losses.ArcFaceLoss(4, 4, sample=1.0), "sample must be above 0 and below 1.*got 1.0"),
        (lambda: losses.ArcFaceLoss(4, 4, label_smoothing=-0.1), "label_smoothing must be from 0 to below 1; got -0.1"),
        (lambda: losses.ArcFaceLoss(4, 4, filter_above=40), "filter_above must be a cosine.*got 40"),
        (lambda: losses.CombinedMarginLoss(4, 4, 0.5), "m1 must be at least 1.*got 0.5"),
        (lambda: losses.CombinedMarginLoss(4, 4, 1, 28), "m2 must be from 0 to below π.*got 28"),
        (lambda: losses.CombinedMarginLoss(4, 4, 1, 0, -1), "m3 must be at least 0; got -1"),
        (lambda: losses.SubCenterArcFaceLoss(4, 4, subcenters=0), "subcenters must be at least 1; got 0"),
        (lambda: losses.SoftTripleLoss(4, 4, temperature=0), "temperature must be above 0; got 0"),
        (lambda: losses.MagFaceLoss(4, 4, margins=[0.8, 0.4]), "margins must be two angles.*got"),
        (lambda: losses.MagFaceLoss(4, 4, norms=[10]), "norms must be two lengths.*got"),
        (lambda: losses.AdaFaceLoss(4, 4, rate=0), "rate must be above 0 and up to 1; got 0"),
        (lambda: losses.CenterLoss(4, 4, rate=2), "rate must be from 0 to 1; got 2"),
        (lambda: losses.UniformFaceLoss(4, 4, strength=-1), "strength must be at least 0; got -1"),
        (
            lambda: losses.ProxyAnchorLoss(4, 4)(torch.zeros(2, 4), torch.tensor([0, 1]), reduction="sum"),
            "reduction must be 'mean': ProxyAnchorLoss is no sum over items; got 'sum'",
        ),
        (lambda: losses.create("arcface", num_classes=3, embedding_size=2, smooting=1), "did you mean"),
    ],
)  # fmt: skip
def test_wrong_options(call, message):
    with pytest.raises(losses.loss.ArgumentError, match=message):
        call()
