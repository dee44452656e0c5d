"""Training on texts: labelled ones with any loss, rows of anchor and positive with references."""

import functools

import numpy as np
import pytest
import torch

import kyori
from kyori.data import open_source
from kyori.errors import ConfigError, Interrupted
from kyori.losses import MultipleNegativesLoss
from kyori.training import RunConfig, build, recipe, train

SMALL = {"buckets": 2000, "widths": [32]}


def sentences(n, seed=0):
    """Anchor and positive share a rare word among common ones."""
    rng = np.random.default_rng(seed)
    common = ["the", "of", "and", "tool", "for"]
    names = ["".join(rng.choice(list("bdfgklmnprstaeiou"), 7)) for _ in range(n)]
    return [
        tuple(" ".join(rng.permutation([*rng.choice(common, 3), name])) for _ in range(2)) for name in names
    ]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("anchor,positive\n" + "\n".join(f"{a},{b}" for a, b in sentences(120)))
    return path


def test_labelled_texts_train_with_a_head():
    texts = [f"{word} number {i}" for i in range(30) for word in ("cat", "dog", "cow")]
    run = kyori.fit(
        (texts, ["cat", "dog", "cow"] * 30), loss="arcface", backbone="mlp", backbone_options=SMALL, epochs=8,
        lr=0.01, report=None,
    )  # fmt: skip
    assert run.results["recall@1"].value == 1.0
    assert run.embedder.encode(["a cat"]).shape == (1, 64)


def test_rows_train_against_each_other(pairs):
    run = kyori.fit(
        pairs, loss="mnr", backbone="mlp", backbone_options=SMALL, epochs=30, lr=0.02, report=None
    )
    table = run.table
    queries, gallery = (table.take(table.columns[name]) for name in ("is_query", "is_gallery"))
    assert kyori.evaluate(queries, gallery=gallery, measures=["recall@1"])["recall@1"].value > 0.8


def test_the_trainer_gives_the_loss_anchors_and_references(pairs, monkeypatch):
    seen = []
    forward = MultipleNegativesLoss.forward

    @functools.wraps(forward)  # the trainer looks at what the loss takes
    def spy(self, embeddings, labels=None, **more):
        seen.append((labels, more))
        return forward(self, embeddings, labels, **more)

    monkeypatch.setattr(MultipleNegativesLoss, "forward", spy)
    source = open_source(pairs)
    config = RunConfig.from_options(
        loss="mnr", backbone="mlp", backbone_options=SMALL, batch_size=50, epochs=1, keep="last"
    )
    embedder, loss = build(config, source)
    train(embedder, loss, source, config)
    assert [len(labels) for labels, _ in seen] == [50, 50, 20]
    for labels, more in seen:
        assert torch.equal(labels, more["reference_labels"])
        assert not torch.equal(more["ids"], more["reference_ids"])


def test_cached_gradients_of_rows_are_the_direct_ones(pairs):
    source = open_source(pairs)
    weights = []
    for cache in (None, 16):
        config = RunConfig.from_options(
            loss="mnr", backbone="mlp", backbone_options={**SMALL, "dropout": 0.0}, epochs=1, cache_rows=cache,
            optimizer={"name": "sgd", "lr": 0.1}, keep="last",
        )  # fmt: skip
        embedder, loss = build(config, source)
        train(embedder, loss, source, config)
        weights.append(embedder.backbone.vectors.weight.detach())
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-5)


def test_a_stopped_run_goes_on_with_the_same_bits(pairs, tmp_path):
    source = open_source(pairs)
    config = RunConfig.from_options(loss="mnr", backbone="mlp", backbone_options=SMALL, epochs=3, keep="last")

    class Stop(kyori.training.Callback):
        def on_step(self, progress):
            if progress.step == 2:
                raise Interrupted("stop")

    whole, loss = build(config, source)
    train(whole, loss, source, config)
    parts, loss = build(config, source)
    with pytest.raises(Interrupted):
        train(parts, loss, source, config, folder=tmp_path / "run", callbacks=[Stop()])
    parts, loss = build(config, source)
    train(parts, loss, source, config, folder=tmp_path / "run", resume=True)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_recipe_for_pairs_runs(pairs):
    config = RunConfig.from_options(
        recipe("text-pairs"), backbone="mlp", backbone_options=SMALL, pretrained=False, embedding_size=8
    )
    source = open_source(pairs)
    assert np.isfinite(train(*build(config, source), source, config).epochs[0]["loss"])


def test_wrong_combinations_are_said(pairs):
    source = open_source(pairs)
    config = RunConfig.from_options(loss="mnr", backbone="mlp", batches="aligned", memory=100)
    with pytest.raises(ConfigError, match="aligned does not go with a memory"):
        train(*build(config, source), source, config)
    digits = open_source("digits")
    config = RunConfig.from_options(loss="mnr", batches="aligned")
    with pytest.raises(ConfigError, match="aligned needs rows of anchor and positive"):
        train(*build(config, digits), digits, config)
