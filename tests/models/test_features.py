"""The cache of features: equal results, nothing computed twice, no damage believed."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import kyori
from kyori.data import Split, make_split, open_source
from kyori.errors import ArgumentError, ConfigError, DataWarning
from kyori.models import Embedder
from kyori.models.features import FeatureCache
from kyori.runs import fit_split
from kyori.training import RunConfig

OPTIONS = {
    "backbone": "cnn", "freeze": "backbone", "loss": "triplet", "batch_size": 16, "epochs": 2,
    "embedding_size": 6, "seed": 1, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for label in range(3):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        for item in range(10):
            pixels = (rng.integers(0, 120, (12, 12, 3)) + 60 * label).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / str(label) / f"{item}.png")
    return tmp_path / "photos"


def frozen(seed=0):
    embedder = Embedder.create("cnn", (12, 12, 3), embedding_size=4, seed=seed)
    embedder.freeze("backbone")
    return embedder


def test_a_head_learns_the_same_with_and_without(tmp_path):
    digits = open_source("digits").take(np.arange(300))
    split = make_split(digits, "random", seed=0)
    plain = fit_split(split, RunConfig.from_options(**OPTIONS))
    cached = fit_split(split, RunConfig.from_options(**OPTIONS, cache_features=str(tmp_path / "cache")))
    np.testing.assert_allclose(plain.table.vectors, cached.table.vectors, atol=1e-4)
    np.testing.assert_allclose(plain.embedder.encode(digits), cached.embedder.encode(digits), atol=1e-4)
    untrained = Embedder.create("cnn", digits, embedding_size=6, seed=1).encode(digits)
    assert np.abs(untrained - plain.embedder.encode(digits)).max() > 0.01  # there was something to learn
    assert plain.results["map@r"].value == pytest.approx(cached.results["map@r"].value, abs=1e-3)


def test_each_picture_is_computed_once(photos, tmp_path, monkeypatch):
    first = FeatureCache(tmp_path / "cache", frozen())
    source = open_source(photos, verify=False, memory_limit=0)
    assert first.fill(source) == 30
    assert first.fill(source) == 0
    decoded = []
    monkeypatch.setattr("kyori.data.images.decode", lambda *_: decoded.append(1))
    monkeypatch.setattr("kyori.data.pictures.FileStore.digests", None)  # nor read: its stamp is known
    again = FeatureCache(tmp_path / "cache", frozen())
    assert again.fill(source) == 0
    features = again.source(source)
    assert features.item_shape == (128,)
    assert features.labels.tolist() == source.labels.tolist()
    assert not decoded


def test_features_are_those_of_the_backbone(photos, tmp_path):
    embedder = frozen().eval()
    source = open_source(photos)
    cache = FeatureCache(tmp_path / "cache", embedder)
    cache.fill(source)
    with torch.no_grad():
        expected = embedder.backbone(embedder.preprocess(source.load(np.arange(30))))
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_allclose(cache.source(source).load(order), expected.numpy()[order], atol=1e-5)
    half = FeatureCache(tmp_path / "cache", embedder, precision="float16")
    half.fill(source)
    assert half.nbytes < cache.nbytes * 0.6
    np.testing.assert_allclose(half.source(source).load(order), expected.numpy()[order], rtol=1e-3, atol=1e-3)


def test_other_weights_and_other_pictures_are_computed_anew(photos, tmp_path):
    source = open_source(photos, memory_limit=0)
    FeatureCache(tmp_path / "cache", frozen()).fill(source)
    assert FeatureCache(tmp_path / "cache", frozen(seed=1)).fill(source) == 30
    path = photos / "0" / "3.png"
    Image.fromarray(np.full((12, 12, 3), 77, np.uint8)).save(path)
    os.utime(path, (1, 1))
    cache = FeatureCache(tmp_path / "cache", frozen())
    with pytest.raises(ArgumentError, match=r"1 items of .* are not in the cache"):
        cache.source(open_source(photos, memory_limit=0))
    assert cache.fill(open_source(photos, memory_limit=0)) == 1


def test_equal_items_are_computed_once(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (4, 12, 12, 3)).astype(np.uint8)[[0, 1, 0, 2, 3, 0]]
    source = open_source((array, [0, 1, 0, 1, 0, 1]))
    cache = FeatureCache(tmp_path, frozen())
    assert cache.fill(source) == 4
    loaded = cache.source(source).load(np.arange(6))
    assert (loaded[0] == loaded[2]).all()


def test_a_damaged_block_is_computed_again(photos, tmp_path):
    source = open_source(photos)
    cache = FeatureCache(tmp_path / "cache", frozen())
    cache.fill(source)
    expected = np.array(cache.source(source).load(np.arange(30)))
    (block,) = cache.folder.glob("block-*.npy")
    block.write_bytes(block.read_bytes()[:-100])
    with pytest.warns(DataWarning, match="is damaged .* computed again"):
        again = FeatureCache(tmp_path / "cache", frozen())
    with pytest.warns(DataWarning, match="is damaged"):
        assert again.fill(source) == 30
    np.testing.assert_array_equal(again.source(source).load(np.arange(30)), expected)


def test_what_was_computed_before_an_error_is_kept(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("kyori.models.features.BATCH", 8)
    bad = photos / "2" / "9.png"
    content = bad.read_bytes()
    source = open_source(photos, verify=False, memory_limit=0)
    bad.write_bytes(content[:40])
    with pytest.raises(kyori.errors.ItemError, match=r"2/9\.png"):
        FeatureCache(tmp_path / "cache", frozen()).fill(source)
    bad.write_bytes(content)
    cache = FeatureCache(tmp_path / "cache", frozen())
    assert 0 < cache.fill(source) < 30
    assert len(cache.source(source)) == 30


FILLS = """
import sys
from kyori.data import open_source
from kyori.models import Embedder, features

features.BATCH, features.BLOCK_SECONDS = 4, 0.0  # a block a batch
embedder = Embedder.create("cnn", (8, 8, 1), embedding_size=4, seed=0)
embedder.freeze("backbone")
digits = open_source("digits")
features.FeatureCache(sys.argv[1], embedder).fill(digits)
"""


def test_kill_9_while_it_is_filled_loses_the_last_block_at_most(tmp_path):
    """As the OOM killer does it."""
    with subprocess.Popen([sys.executable, "-c", FILLS, str(tmp_path)]) as process:
        while sum(1 for _ in tmp_path.glob("*/block-*.npy")) < 3:
            assert process.poll() is None, "it ended too early"
            time.sleep(0.002)
        process.kill()
    embedder = Embedder.create("cnn", (8, 8, 1), embedding_size=4, seed=0)
    embedder.freeze("backbone")
    digits = open_source("digits").take(np.arange(300))
    whole = FeatureCache(tmp_path / "whole", embedder)
    assert whole.fill(digits) == 300
    again = FeatureCache(tmp_path, embedder)  # a half file would be a DataWarning, which is an error here
    assert again.fill(digits) <= 300 - 12
    expected = whole.source(digits).load(np.arange(300))
    np.testing.assert_allclose(again.source(digits).load(np.arange(300)), expected, atol=1e-5)


def test_only_for_frozen_backbones_and_unchanged_items(tmp_path):
    with pytest.raises(ArgumentError, match="needs a frozen backbone"):
        FeatureCache(tmp_path, Embedder.create("cnn", (12, 12, 3)))
    for wrong, what in (
        ({"freeze": 1}, "freeze must be backbone"),
        ({"freeze_epochs": 1}, "freeze_epochs must be null"),
        ({"pooling": "gem"}, "gem has a weight that learns"),
        ({"flip": True}, "augment must change nothing"),
        ({"batches": "views"}, "draws new pictures"),
    ):
        with pytest.raises(ConfigError, match=what):
            RunConfig.from_options(**{**OPTIONS, **wrong}, cache_features=str(tmp_path))


def test_a_run_on_cached_features_resumes_to_the_same_bits(tmp_path):
    digits = open_source("digits").take(np.arange(200))
    split = make_split(digits, "random", seed=0)
    config = RunConfig.from_options(**OPTIONS, cache_features=str(tmp_path / "cache"), schedule="constant")
    whole = fit_split(split, config, folder=tmp_path / "a")
    short = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1})})
    fit_split(split, short, folder=tmp_path / "b")
    resumed = fit_split(split, config, folder=tmp_path / "b", resume=True)
    assert np.array_equal(whole.table.vectors, resumed.table.vectors)
    assert isinstance(split, Split)
