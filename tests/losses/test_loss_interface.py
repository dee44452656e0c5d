"""Names, options, errors, known answers and the workings that no law covers."""

import math
import warnings

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError, DegenerateWarning, TrainingWarning
from kyori.losses import mining


def test_names():
    assert list(losses.LOSSES) == [
        "contrastive", "onlinecontrastive", "intrapairvariance", "thresholdconsistent", "margin",
        "triplet", "centroidtriplet", "angular", "npairs", "tuplet", "lifted", "generalizedlifted",
        "multisimilarity", "circle", "rankedlist", "fastap", "smoothap", "pnp", "recallk", "histogram",
        "dynamicsoftmargin", "ge2e", "ntxent", "supcon", "mnr", "gist", "siglip", "megabatchmargin",
        "vicreg", "barlowtwins", "ladder", "cosent", "angle", "cosinemse", "softmax", "normface",
        "l2softmax", "largemargin", "sphereface", "cosface", "arcface", "combined", "subcenterarcface",
        "adaface", "magface", "curricularface", "adacos", "p2sgrad", "uniformface", "center", "nca",
        "proxynca", "proxynca++", "proxyanchor", "softtriple",
    ]  # fmt: skip
    assert all(cls.name == name for name, cls in losses.LOSSES.items())


def test_spherical_says_whether_only_directions_count():
    def spherical(name, **options):
        return losses.create(name, num_classes=10, embedding_size=4, **options).spherical

    assert not spherical("contrastive")
    assert spherical("contrastive", normalize=True)
    assert spherical("contrastive", distance="cosine")
    assert spherical("triplet")
    assert not spherical("triplet", normalize=False)
    assert all(spherical(name) for name, cls in losses.LOSSES.items() if cls.needs_classes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.create("tripplet"), r"got 'tripplet'; did you mean 'triplet'\?"),
        (
            lambda: losses.create("triplet", margni=1),
            r"'margni' is no option of triplet; did you mean 'margin'\? \(options: margin",
        ),
        (
            lambda: losses.create("arcface", num_classes=3),
            "arcface has a vector for each class and needs num_classes and embedding_size",
        ),
        (
            lambda: losses.create("triplet", mining="semi-hard"),
            r"mining must be one of all, .*did you mean 'semihard'",
        ),
        (lambda: losses.TripletLoss(margin=-1), "margin must be at least 0; got -1"),
        (
            lambda: losses.TripletLoss(average="mean"),
            "average must be 'active', 'candidates' or None; got 'mean'",
        ),
        (lambda: losses.TripletLoss(triplets=0), "triplets must be at least 1; got 0"),
        (lambda: losses.TripletLoss(block_rows=0), "block_rows must be at least 1 or None; got 0"),
        (lambda: losses.TripletLoss(distance="l2"), "distance must be the name of a distance; got 'l2'"),
        (
            lambda: losses.ContrastiveLoss(convention="hadsel"),
            "convention must be one of hadsell, keras, unsquared; got 'hadsel'; did you mean 'hadsell'",
        ),
        (
            lambda: losses.ContrastiveLoss(1, positive_margin=2),
            "positive_margin must not exceed margin; got positive_margin 2 and margin 1",
        ),
        (lambda: losses.SoftmaxLoss(1, 4), "num_classes must be at least 2.*got 1"),
        (lambda: losses.SoftmaxLoss(4, 0), "embedding_size must be at least 1; got 0"),
        (
            lambda: losses.SoftmaxLoss(4, 4, chunk_classes=0),
            "chunk_classes must be at least 1 or None; got 0",
        ),
        (lambda: losses.NormFaceLoss(4, 4, scale=0), "scale must be above 0; got 0"),
        (lambda: losses.CosFaceLoss(4, 4, margin=-0.1), "margin must be at least 0; got -0.1"),
        (
            lambda: losses.ArcFaceLoss(4, 4, margin=28.6),
            "margin must be from 0 to below π = 3.14, in radians; got 28.6",
        ),
        (
            lambda: losses.ArcFaceLoss(4, 4, gradient="ste"),
            "gradient must be 'exact' or 'straight_through'; got 'ste'",
        ),
        (
            lambda: losses.SphereFaceLoss(4, 4, margin=0.5),
            "margin must be at least 1, a factor on the angle; got 0.5",
        ),
    ],
)
def test_wrong_options(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(
    "loss", [losses.TripletLoss(), losses.ArcFaceLoss(10, 4)], ids=["triplet", "arcface"]
)
def test_wrong_batches(loss):
    x, labels = torch.zeros(6, 4), torch.zeros(6, dtype=torch.long)
    with pytest.raises(
        ArgumentError, match=r"labels must have shape \(6,\), one per embedding; got \(3,\)\."
    ):
        loss(x, labels[:3])
    with pytest.raises(ArgumentError, match=r"labels must be integers; got torch\.float32"):
        loss(x, labels.float())
    with pytest.raises(
        ArgumentError,
        match=r"embeddings must be a float tensor of shape \(n, d\); got \(6,\) of torch.float32",
    ):
        loss(x[:, 0], labels)
    with pytest.raises(ArgumentError, match=r"embeddings must be a float tensor.*got list"):
        loss(x.tolist(), labels)


def test_wrong_references_and_pairs():
    loss, x, labels = losses.ContrastiveLoss(), torch.zeros(3, 4), torch.arange(3)
    pairs = losses.Pairs(labels, labels, labels > 0)
    with pytest.raises(
        ArgumentError, match=r"references must have shape \(m, 4\), as wide as embeddings; got \(2, 5\)"
    ):
        loss(x, labels, references=torch.zeros(2, 5), reference_labels=labels[:2])
    with pytest.raises(ArgumentError, match="reference_labels and reference_ids need references; got none"):
        loss(x, labels, reference_labels=labels)
    with pytest.raises(ArgumentError, match="pass neither references nor ids with them"):
        loss(x, pairs, ids=labels)


@pytest.mark.parametrize(("labels", "got"), [([0, 3], "0 to 3"), ([-1, 2], "-1 to 2")])
def test_labels_outside_the_classes(labels, got):
    message = rf"labels must be class numbers 0 to 2 \(num_classes=3\); got {got}"
    with pytest.raises(ArgumentError, match=message):
        losses.SoftmaxLoss(3, 4)(torch.zeros(2, 4), torch.tensor(labels))


def test_a_warned_batch_does_not_hide_the_later_count():
    loss = losses.TripletLoss()
    with pytest.warns(DegenerateWarning, match="no anchor has both a positive and a negative"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]))
    loss(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1]))
    loss(torch.zeros(2, 3), torch.tensor([0, 1]))
    assert loss.stats["degenerate"] == 2


def test_copies_in_a_memory_queue_are_no_positives():
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    loss = losses.ContrastiveLoss(convention="keras")
    queue = torch.cat([x + 10, torch.tensor([[5.0, 5.0]])])  # the same items, embedded long ago, and another
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateWarning)
        loss(
            x, torch.tensor([0, 1]), references=queue, reference_labels=torch.tensor([0, 1, 0]),
            ids=torch.tensor([100, 101]), reference_ids=torch.tensor([100, 101, 102]),
        )  # fmt: skip
    assert loss.stats["positive_distance"] == pytest.approx(math.hypot(5, 4))


def test_statistics():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 10.0]])
    loss = losses.ContrastiveLoss(margin=1.0)
    loss(x, torch.tensor([0, 0, 1]))
    assert loss.stats["positive_distance"] == pytest.approx(5)
    assert loss.stats["negative_distance"] == pytest.approx((10 + math.hypot(3, 6)) / 2)
    assert loss.stats["active"] == pytest.approx(2 / 6)  # the positive pair, both ways round
    head = losses.NormFaceLoss(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    head(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    assert head.stats["accuracy"] == head.stats["active"] == 0.5
    assert head.stats["target_angle"] == pytest.approx(math.pi / 4)
    assert head.stats["feature_norm"] == pytest.approx(2)


def test_perfect_embeddings_cost_nothing():
    x = torch.eye(4).repeat_interleave(3, 0)
    labels = torch.arange(4).repeat_interleave(3)
    assert losses.ContrastiveLoss()(x, labels) == 0
    for name in ("all", "hard", "semihard", "facenet", "batch_hard", "random"):
        assert losses.TripletLoss(mining=name)(x, labels) == 0


def test_l2_softmax_warns_below_its_lower_bound():
    with pytest.warns(TrainingWarning, match=r"alpha must be at least 4.28 for 10 classes .*got 2.0"):
        losses.L2SoftmaxLoss(10, 4, alpha=2.0)
    losses.L2SoftmaxLoss(10, 4, alpha=4.3)
    learnable = losses.L2SoftmaxLoss(10, 4, learnable=True)
    assert dict(learnable.named_parameters()).keys() >= {"alpha"}


def test_sphereface_anneals_in_training_only_and_keeps_its_step():
    loss = losses.SphereFaceLoss(3, 4)
    x, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    values = [loss(x, labels).item() for _ in range(50)]
    assert loss.annealing == pytest.approx(1000 / (1 + 0.12 * 50))
    assert values == sorted(values)  # the margin grows
    loss.eval()(x, labels)
    other = losses.SphereFaceLoss(3, 4)
    other.load_state_dict(loss.state_dict())
    assert other.step == 50
    loss.step += 10**6
    assert loss.annealing == 5


@pytest.mark.parametrize("name", ["arcface", "sphereface", "cosface", "normface"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_both_ends_of_the_angle(name, dtype):
    loss = losses.create(name, num_classes=2, embedding_size=2).to(dtype)
    with torch.no_grad():
        loss.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    x = torch.tensor([[2.0, 0.0], [2.0, 1e-9], [-2.0, 0.0], [-2.0, 1e-4]], dtype=dtype, requires_grad=True)
    loss(x, torch.zeros(4, dtype=torch.long)).backward()
    assert x.grad.isfinite().all()
    assert loss.weight.grad.isfinite().all()
    assert x.grad.abs().max() < 1e3


def test_straight_through_has_the_value_of_exact_and_slope_one():
    exact, straight = (losses.ArcFaceLoss(3, 4, gradient=g) for g in ("exact", "straight_through"))
    cosine = torch.linspace(-0.99, 0.99, 21, requires_grad=True)
    torch.testing.assert_close(straight.target(cosine), exact.target(cosine))
    assert torch.autograd.grad(straight.target(cosine).sum(), cosine)[0].unique().tolist() == [1.0]


def test_arcface_target_falls_with_the_angle_beyond_pi():
    theta = torch.linspace(0, math.pi, 500, dtype=torch.float64)
    target = losses.ArcFaceLoss(3, 4, margin=1.0).target(theta.cos())
    assert (target.diff() < 1e-12).all()


def test_no_list_of_triplets_is_built():
    """Nothing in the exact sums grows with the triplets: a few of them at a time, or anchors × references."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    n = 240  # 2.3 million triplets
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for name in ("all", "hard", "semihard", "facenet", "batch_hard"):
        with Watch():
            losses.TripletLoss(mining=name)(x, torch.arange(n) // 40).backward()
    assert largest <= 2**18


def test_blocks_bound_the_memory():
    sizes = []

    class Watched(losses.TripletLoss):
        def block(self, block):
            sizes.append(tuple(block.D.shape))
            return super().block(block)

    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    Watched(block_rows=4)(x, torch.arange(10) // 5).backward()
    assert sizes == [(4, 10), (4, 10), (2, 10), *sizes[3:]]
    assert len(sizes) == 6  # once forward, once again backward


def test_a_new_loss_is_its_formula():
    class Spring(losses.PairwiseLoss):
        name = "spring"

        def row(self, D, positive, negative):
            return losses.Terms((positive * D.square()).sum(1, keepdim=True), positive.sum(1, keepdim=True))

    x = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    loss = Spring(distance="euclidean", normalize=False)
    assert loss(x, torch.tensor([0, 0, 0, 1])).item() == pytest.approx((1 + 9 + 4) / 3)
    assert "active" not in loss.stats


def test_random_picks_are_uniform_over_positives_and_negatives():
    positive = torch.tensor([[True, False, True, False, False]])
    negative = ~positive
    grid = (torch.arange(600) + 0.5) / 600
    picks = mining.random_picks(positive, negative, torch.stack([grid, grid], 1)[None])
    assert torch.bincount(picks.positives[0], minlength=5).tolist() == [300, 0, 300, 0, 0]
    assert torch.bincount(picks.negatives[0], minlength=5).tolist() == [0, 200, 0, 200, 200]


def test_chunked_logits_are_exact_and_small():
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(7) * 100
    loss = losses.SoftmaxLoss(1000, 4, chunk_classes=64)
    value = loss(x, labels)
    expected = torch.nn.functional.cross_entropy(loss.logits(x), labels)
    torch.testing.assert_close(value, expected)
    parameters = (x, loss.weight, loss.bias)
    found = torch.autograd.grad(value, parameters, retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected, parameters))
