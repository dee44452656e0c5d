"""Values and gradients beside pytorch-metric-learning and sentence-transformers, where they have no known defect."""

import warnings

import pytest
import torch
from torch import nn

from kyori import losses

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    pml_regularizers = pytest.importorskip("pytorch_metric_learning.regularizers")


def random(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def batch(n=60, d=16, classes=6):
    x = random(n, d, 0) + 0.5
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return x, labels * torch.randint(0, 2, (n,), generator=generator)


def same(ours, theirs, *tensors, atol=1e-5):
    results = []
    for call in (ours, theirs):
        leaves = [t.clone().requires_grad_() for t in tensors]
        value = call(*leaves)
        results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize(("ours", "theirs"), [("ntxent", pml.NTXentLoss), ("supcon", pml.SupConLoss)])
def test_contrastive_families(ours, theirs, temperature):
    x, labels = batch()
    loss, peer = losses.create(ours, temperature=temperature), theirs(temperature=temperature)
    same(lambda x: loss(x, labels), lambda x: peer(x, labels), x)


def test_self_supervised():
    loss, peer = losses.NTXentLoss(0.2), pml.SelfSupervisedLoss(pml.NTXentLoss(temperature=0.2))
    labels = torch.arange(20).repeat(2)
    same(lambda x, y: loss(torch.cat([x, y]), labels), peer, random(20, 8, 0), random(20, 8, 1))
    peer = pml.SelfSupervisedLoss(pml.NTXentLoss(temperature=0.2), symmetric=False)
    same(lambda x, y: loss(x, references=y), peer, random(20, 8, 0), random(20, 8, 1))


def test_vicreg():
    loss, peer = losses.VICRegLoss(), pml.VICRegLoss()
    for size in (0.1, 1.0, 5.0):
        x, y = size * random(20, 6, 0), size * random(20, 6, 1)
        same(lambda x, y: loss(x, references=y), lambda x, y: peer(x, ref_emb=y), x, y, atol=1e-4)


def test_memory():
    """The same value; the peer's batch, in its queue, has no gradient as a reference."""
    ours = losses.CrossBatchMemory(losses.NTXentLoss(0.3), 8, size=64)
    theirs = pml.CrossBatchMemory(pml.NTXentLoss(temperature=0.3), embedding_size=8, memory_size=84)
    for step in range(3):  # then the peer's queue begins to overwrite
        x, labels = random(20, 8, step), torch.arange(20) % 5
        torch.testing.assert_close(ours(x, labels), theirs(x, labels), rtol=1e-5, atol=1e-5)


def test_regularizers():
    x, head = random(12, 6, 0), losses.NormFaceLoss(12, 6)
    with torch.no_grad():
        head.weight.copy_(random(12, 6, 1))
    for ours, theirs, at in [
        (losses.NormRegularizer(), pml_regularizers.LpRegularizer(), x),
        (losses.NormRegularizer(1, 2), pml_regularizers.LpRegularizer(p=1, power=2), x),
        (losses.ZeroMeanRegularizer(), pml_regularizers.ZeroMeanRegularizer(), x),
        (losses.CenterInvariantRegularizer(head), pml_regularizers.CenterInvariantRegularizer(), head.weight),
        (losses.RegularFaceRegularizer(head), pml_regularizers.RegularFaceRegularizer(), head.weight),
        (
            losses.SparseCentersRegularizer(head, 3),
            pml_regularizers.SparseCentersRegularizer(num_classes=4, centers_per_class=3),
            head.weight,
        ),
    ]:
        leaf = at.detach().clone().requires_grad_() if at is x else at
        value, expected = ours(leaf), theirs(leaf)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            torch.autograd.grad(value, leaf), torch.autograd.grad(expected, leaf), rtol=1e-4, atol=1e-5
        )


# -- sentence-transformers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def st():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sentence_transformers.losses")


class Stub(nn.Module):
    """A model for losses that only ask for its size."""

    def get_embedding_dimension(self):
        return 8


ROWS = [
    ({}, {}),
    (
        {"symmetric": True},
        {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"},
    ),
    ({"contrast_anchors": True}, {"directions": ("query_to_doc", "query_to_query")}),
    ({"contrast_references": True}, {"directions": ("query_to_doc", "doc_to_doc")}),
    (
        {"symmetric": True, "joint": True, "contrast_anchors": True, "contrast_references": True},
        {"directions": ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")},
    ),
    *(
        ({"harden": ours, "hardness": 3.0}, {"hardness_mode": theirs, "hardness_strength": 3.0})
        for ours, theirs in (("hard", "hard_negatives"), ("in_batch", "in_batch_negatives"))
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), ROWS, ids=lambda o: "-".join(o) or "default")
@pytest.mark.parametrize("hard", [0, 1, 2])
def test_multiple_negatives_ranking(st, ours, theirs, hard):
    loss, peer = losses.MultipleNegativesLoss(**ours), st.MultipleNegativesRankingLoss(Stub(), **theirs)
    columns = [random(12, 8, seed) for seed in range(2 + hard)]
    same(
        lambda a, *rest: loss(a, references=torch.cat(rest)),
        lambda *every: peer.compute_loss_from_embeddings(list(every), None),
        *columns,
    )


@pytest.mark.parametrize(("ours", "theirs"), [("cosent", "CoSENTLoss"), ("angle", "AnglELoss")])
@pytest.mark.parametrize("graded", [True, False])
def test_graded_pairs(st, ours, theirs, graded):
    scores = torch.rand(30, generator=torch.Generator().manual_seed(3))
    scores = (scores * 5).round() / 5 if graded else (scores > 0.5).float()
    loss, peer = losses.create(ours), getattr(st, theirs)(Stub())
    pairs = losses.ScoredPairs(torch.arange(30), torch.arange(30, 60), scores)
    same(
        lambda x, y: loss(torch.cat([x, y]), pairs),
        lambda x, y: peer.compute_loss_from_embeddings([x, y], scores),
        random(30, 8, 0), random(30, 8, 1),
    )  # fmt: skip


def test_cosine_similarity(st):
    scores = torch.rand(30, generator=torch.Generator().manual_seed(3))
    loss, peer = losses.CosineMSELoss(), st.CosineSimilarityLoss(Stub())
    pairs = losses.ScoredPairs(torch.arange(30), torch.arange(30, 60), scores)
    same(
        lambda x, y: loss(torch.cat([x, y]), pairs),
        lambda x, y: peer.compute_loss_from_embeddings([x, y], scores),
        random(30, 8, 0), random(30, 8, 1),
    )  # fmt: skip


def test_mega_batch_margin(st):
    loss, peer = losses.MegaBatchMarginLoss(), st.MegaBatchMarginLoss(Stub(), use_mini_batched_version=False)
    same(
        lambda x, y: loss(x, references=y),
        lambda x, y: peer.calculate_loss([[x], [y]]),
        random(30, 8, 0), random(30, 8, 1),
    )  # fmt: skip


def test_spread_out(st):
    ours, theirs = losses.SpreadOutRegularizer(), st.GlobalOrthogonalRegularizationLoss(Stub())
    same(ours, lambda x: sum(theirs.compute_loss_from_embeddings([x]).values()), random(20, 8, 0) + 0.3)


class Embeddings(nn.Module):
    """A stand-in for a model: its features are already embeddings."""

    def get_embedding_dimension(self):
        return 8

    def forward(self, features):
        return {**features, "sentence_embedding": features["x"]}


def test_matryoshka(st):
    model = Embeddings()
    peer = st.MatryoshkaLoss(model, st.MultipleNegativesRankingLoss(model), [8, 4, 2], [1, 0.5, 0.25])
    ours = losses.MatryoshkaLoss(losses.MultipleNegativesLoss(), [8, 4, 2], [1, 0.5, 0.25])
    same(
        lambda x, y: ours(x, references=y),
        lambda x, y: peer([{"x": x}, {"x": y}], None),
        random(12, 8, 0), random(12, 8, 1),
    )  # fmt: skip


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.15])
def test_gist(st, margin, hard):
    """The peer asks for tokenizers when it is made; its formula does not."""
    peer = st.GISTEmbedLoss.__new__(st.GISTEmbedLoss)
    nn.Module.__init__(peer)
    peer.model, peer.guide = Embeddings(), Guide()
    peer.temperature, peer.margin, peer.margin_strategy = 0.05, margin, "absolute"
    peer.contrast_anchors = peer.contrast_positives = True
    peer.must_retokenize = peer.gather_across_devices = False
    peer.similarity_fct, peer.cross_entropy_loss = nn.CosineSimilarity(dim=-1), nn.CrossEntropyLoss()
    guides = [random(12, 4, seed + 5) for seed in range(2 + hard)]
    ours = losses.GISTLoss(20.0, guide_margin=margin)
    same(
        lambda a, *rest: ours(
            a, references=torch.cat(rest), guide=guides[0], reference_guide=torch.cat(guides[1:])
        ),
        lambda *every: peer([{"x": x, "g": g} for x, g in zip(every, guides, strict=True)], None),
        *(random(12, 8, seed) for seed in range(2 + hard)),
    )


class Guide(nn.Module):
    def forward(self, features):
        return {**features, "sentence_embedding": features["g"]}
