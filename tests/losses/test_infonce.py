"""InfoNCE and its relatives: slow oracles, known answers, what options mean, errors."""

import math

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError, DegenerateWarning
from oracles import infonce as oracle
from oracles import losses as base

from .cases import batch


def random(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_duplicates(seed):
    """A batch of unequal classes, one of a single item, with equal rows within and between classes."""
    x, labels = batch(n=17, seed=seed)
    x = x.detach()
    x[3], x[4] = x[0], x[1]
    return x.requires_grad_(), labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_ntxent_and_supcon(seed, temperature):
    x, labels = with_duplicates(seed)
    S, lists = oracle.cosines(x.tolist(), x.tolist()), base.relations(labels.tolist())
    value = losses.NTXentLoss(temperature)(x, labels)
    assert value.item() == pytest.approx(oracle.ntxent(S, *lists, temperature))
    value = losses.SupConLoss(temperature)(x, labels)
    assert value.item() == pytest.approx(oracle.supcon(S, *lists, temperature, lambda a, p: 1.0))


@pytest.mark.parametrize("seed", range(3))
def test_supcon_weights_label_sets_by_what_they_have_in_common(seed):
    x = random(12, 5, seed)
    sets = torch.rand(12, 4, generator=torch.Generator().manual_seed(seed)) < 0.4
    chosen = [set(row.nonzero()[:, 0].tolist()) for row in sets]
    positives = [[j for j in range(12) if j != i and chosen[i] & chosen[j]] for i in range(12)]
    negatives = [[j for j in range(12) if j != i and not chosen[i] & chosen[j]] for i in range(12)]

    def jaccard(i, j):
        return len(chosen[i] & chosen[j]) / len(chosen[i] | chosen[j])

    S = oracle.cosines(x.tolist(), x.tolist())
    value = losses.SupConLoss(0.5)(x, sets)
    assert value.item() == pytest.approx(oracle.supcon(S, positives, negatives, 0.5, jaccard))
    by_score = losses.Relevance(torch.tensor([[jaccard(i, j) if chosen[i] | chosen[j] else 0.0
                                               for j in range(12)] for i in range(12)]))  # fmt: skip
    assert losses.SupConLoss(0.5)(x, by_score).item() == pytest.approx(value.item())


OPTIONS = [
    {},
    {"symmetric": True},
    {"contrast_anchors": True},
    {"contrast_references": True},
    {"symmetric": True, "joint": True, "contrast_anchors": True, "contrast_references": True},
    {"symmetric": True, "contrast_anchors": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("hard", [0, 1, 2])
@pytest.mark.parametrize("rows", [None, 3])
def test_multiple_negatives(options, labelled, hard, rows):
    for seed in range(2):
        n = 8
        anchors, references = random(n, 5, seed), random(n * (1 + hard), 5, seed + 10)
        labels = torch.tensor([0, 1, 2, 0, 3, 4, 2, 5])
        extra = torch.arange(n * hard) % 7
        both = torch.cat([labels, extra])
        given = {"reference_labels": both} if labelled else {}
        loss = losses.MultipleNegativesLoss(4.0, block_rows=rows, **options)
        value = loss(anchors, labels if labelled else None, references=references, **given)
        known = {"labels": labels.tolist(), "reference_labels": both.tolist()} if labelled else {}
        expected = oracle.mnr(anchors.tolist(), references.tolist(), 4.0, **known, **options)
        assert value.item() == pytest.approx(expected)


def test_multiple_negatives_without_references_is_ntxent():
    x, labels = batch()
    expected = losses.NTXentLoss(1 / 20)(x, labels)
    torch.testing.assert_close(losses.MultipleNegativesLoss()(x, labels), expected)
    torch.testing.assert_close(losses.MultipleNegativesLoss(symmetric=True)(x, labels), expected)


def test_the_reference_in_the_row_counts_only_where_it_is_a_positive():
    """A memory queue has no rows: there each item with the label is a positive in its turn."""
    x, labels = batch(n=12)
    queue, queue_labels = random(20, 6, 3), torch.arange(20) % 5
    ids = torch.arange(12)
    both = {
        "references": torch.cat([x, queue]),
        "reference_labels": torch.cat([labels, queue_labels]),
        "ids": ids,
        "reference_ids": torch.cat([ids, 100 + torch.arange(20)]),
    }
    torch.testing.assert_close(
        losses.MultipleNegativesLoss(10.0)(x, labels, **both), losses.NTXentLoss(0.1)(x, labels, **both)
    )


@pytest.mark.parametrize("harden", ["hard", "in_batch", "all"])
def test_hardness_weighs_the_chosen_negatives(harden):
    n, scale, alpha = 5, 3.0, 2.0
    anchors, references = random(n, 4, 0), random(2 * n, 4, 1)
    S = oracle.cosines(anchors.tolist(), references.tolist())
    terms = []
    for i in range(n):
        logits = []
        for j in range(2 * n):
            own = (j - i) % n == 0
            chosen = j != i and (harden == "all" or own == (harden == "hard"))
            logits.append(scale * S[i][j] + alpha * S[i][j] * chosen)
        terms.append(oracle.log_sum_exp(logits) - scale * S[i][i])
    loss = losses.MultipleNegativesLoss(scale, harden=harden, hardness=alpha)
    assert loss(anchors, references=references).item() == pytest.approx(base.mean(terms))


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("rows", [None, 4])
def test_gist_drops_what_the_guide_holds_for_closer(kind, contrast, rows):
    n, scale, margin = 9, 6.0, 0.1
    anchors, references, guide, other = (random(n, 4, seed) for seed in range(4))
    A, R = anchors.tolist(), references.tolist()
    aa, ar, rr = (
        oracle.cosines(u.tolist(), v.tolist()) for u, v in ((guide, guide), (guide, other), (other, other))
    )
    terms, dropped = [], 0
    for i in range(n):
        limit = ar[i][i] - margin * (abs(ar[i][i]) if kind == "relative" else 1)
        kept = [oracle.cosine(A[i], R[j]) for j in range(n) if j != i and ar[i][j] <= limit]
        if contrast:
            kept += [oracle.cosine(A[i], A[j]) for j in range(n) if j != i and aa[i][j] <= limit]
            kept += [oracle.cosine(R[i], R[j]) for j in range(n) if j != i and rr[i][j] <= limit]
        dropped += (3 if contrast else 1) * (n - 1) - len(kept)
        positive = scale * oracle.cosine(A[i], R[i])
        terms.append(oracle.log_sum_exp([positive, *(scale * s for s in kept)]) - positive)
    loss = losses.GISTLoss(
        scale, guide_margin=margin, margin_kind=kind, contrast_anchors=contrast,
        contrast_references=contrast, block_rows=rows,
    )  # fmt: skip
    value = loss(anchors, references=references, guide=guide, reference_guide=other)
    assert value.item() == pytest.approx(base.mean(terms))
    assert dropped > 0
    if not contrast:
        similarity = torch.nn.functional.normalize(guide) @ torch.nn.functional.normalize(other).T
        assert loss(anchors, references=references, guide=similarity).item() == pytest.approx(value.item())


def test_gist_guides_itself_where_nobody_else_does():
    anchors, references = random(6, 4, 0), random(6, 4, 1)
    loss = losses.GISTLoss(5.0)
    value = loss(anchors, references=references)
    torch.testing.assert_close(
        value, loss(anchors, references=references, guide=anchors, reference_guide=references)
    )


@pytest.mark.parametrize("seed", range(3))
def test_siglip_and_mega_batch_margin(seed):
    x, labels = with_duplicates(seed)
    S, lists = oracle.cosines(x.tolist(), x.tolist()), base.relations(labels.tolist())
    assert losses.SigLIPLoss()(x, labels).item() == pytest.approx(oracle.siglip(S, *lists, 10, -10))
    assert losses.MegaBatchMarginLoss()(x, labels).item() == pytest.approx(
        oracle.mega_batch_margin(S, *lists, 0.8, 0.3)
    )


def test_siglip_on_dot_products_of_pairs_is_contrastive_tension():
    """Carlsson et al. 2021: binary cross-entropy of the products of pairs of embeddings, summed."""
    x = random(6, 3, 0)
    same = torch.tensor([True, False, False])
    pairs = losses.Pairs(torch.arange(3), torch.arange(3, 6), same)
    loss = losses.SigLIPLoss(1.0, 0.0, distance="dot", learnable=False)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        (x[:3] * x[3:]).sum(1), same.double(), reduction="sum"
    )
    torch.testing.assert_close(loss(x, pairs, reduction="sum"), expected)


def test_learnable_scales_are_learnt():
    x, labels = batch()
    for loss in (losses.SigLIPLoss(), losses.MultipleNegativesLoss(learnable=True)):
        loss(x, labels).backward()
        assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())
    assert not any(p.requires_grad for p in losses.SigLIPLoss(learnable=False).parameters())
    assert losses.MultipleNegativesLoss(30.0, learnable=True).scale.item() == pytest.approx(30)


def test_a_hopeless_positive_keeps_its_gradient():
    """pytorch-metric-learning's loss is flat there: its logarithm ends at float32's smallest number."""
    x = torch.tensor([[1.0, 0.0], [-0.8, 0.6], [1.0, 0.0]], requires_grad=True)
    value = losses.NTXentLoss(0.005)(x, torch.tensor([0, 0, 1]))
    value.backward()
    assert value > 150
    assert x.grad[1].abs().max() > 1


def test_perfect_embeddings_cost_nothing_and_say_nothing():
    x, labels = torch.eye(4).repeat_interleave(2, 0), torch.arange(4).repeat_interleave(2)
    loss = losses.NTXentLoss(0.005)
    assert loss(x, labels) == 0
    assert loss.stats["active"] == 0
    assert loss.stats["degenerate"] == 0


def test_no_negatives_is_zero_with_a_word():
    x, labels = (
        torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(),
        torch.zeros(4).int(),
    )
    for loss in (losses.NTXentLoss(), losses.MultipleNegativesLoss(), losses.MegaBatchMarginLoss()):
        with pytest.warns(DegenerateWarning, match="no anchor has both a positive and a negative"):
            value = loss(x, labels)
        assert value.isfinite()
    assert losses.NTXentLoss()(torch.eye(3), references=torch.eye(3)).isfinite()


def test_two_views():
    one, two = random(6, 4, 0), random(6, 4, 1)
    both, labels = torch.cat([one, two]), torch.arange(6).repeat(2)
    S = oracle.cosines(both.tolist(), both.tolist())
    expected = oracle.ntxent(S, *base.relations(labels.tolist()), 0.07)
    assert losses.NTXentLoss()(both, labels).item() == pytest.approx(expected)
    between = oracle.mnr(one.tolist(), two.tolist(), 1 / 0.07)
    assert losses.NTXentLoss()(one, references=two).item() == pytest.approx(between)


@pytest.mark.parametrize("norm", [0.0, 1e-12, 1e6])
@pytest.mark.parametrize("name", ["ntxent", "supcon", "mnr", "gist", "siglip", "megabatchmargin"])
def test_short_and_long_vectors(name, norm):
    x, labels = batch(dtype=torch.float32)
    x = (x.detach() * norm).requires_grad_()
    value = losses.create(name)(x, labels)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.NTXentLoss(0), "temperature must be above 0; got 0"),
        (lambda: losses.SupConLoss(-1), "temperature must be above 0; got -1"),
        (lambda: losses.MultipleNegativesLoss(0), "scale must be above 0; got 0"),
        (lambda: losses.MultipleNegativesLoss(joint=True), "joint .* needs symmetric=True; got False"),
        (lambda: losses.MultipleNegativesLoss(hardness=-1.0), "hardness must be at least 0; got -1"),
        (
            lambda: losses.MultipleNegativesLoss(harden="some"),
            "harden must be one of none, in_batch, hard, all",
        ),
        (lambda: losses.GISTLoss(margin_kind="absolut"), "did you mean 'absolute'"),
        (
            lambda: losses.GISTLoss()(torch.eye(3), references=torch.eye(3), reference_guide=torch.eye(3)),
            "reference_guide was given without guide",
        ),
        (
            lambda: losses.GISTLoss()(torch.eye(3), references=torch.eye(3), guide=torch.eye(3)),
            r"guide without reference_guide must hold similarities of shape \(3, 3\), with contrast_anchors",
        ),
        (
            lambda: losses.GISTLoss()(torch.eye(3), torch.arange(3), guide=torch.eye(2)),
            "guide must have 3 rows, one per embedding; got 2",
        ),
    ],
)
def test_wrong_options(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_ntxent_sum_and_each_anchors_own():
    x, labels = batch()
    loss = losses.NTXentLoss(0.5)
    pairs = sum(int((labels == label).sum()) - 1 for label in labels)
    torch.testing.assert_close(loss(x, labels, reduction="sum"), loss(x, labels) * pairs)
    each = loss(x, labels, reduction="none")
    assert each.shape == (len(x),)
    assert (each == 0).sum() == 1  # the item alone in its class
    assert math.isfinite(each.sum().item())
