"""Batches of two views, and what is learnt from them without labels."""

import numpy as np
import pytest
from PIL import Image

import kyori
from kyori.data import ViewBatches, open_source
from kyori.errors import DataError
from kyori.training import RunConfig
from kyori.training.setup import SIMCLR, create_augment


def test_each_item_once_an_epoch_and_twice_in_its_batch():
    batches = ViewBatches(11, 4, seed=3)
    seen = []
    for batch in batches.epoch(2):
        first, second = np.split(batch.indices, 2)
        assert np.array_equal(first, second)
        assert np.array_equal(np.split(batch.views, 2), [np.zeros(len(first)), np.ones(len(first))])
        seen.extend(first.tolist())
    assert sorted(seen) == list(range(11))
    later = [batch.indices.tolist() for batch in batches.epoch(2, start=1)]
    assert later == [batch.indices.tolist() for batch in batches.epoch(2)][1:]


def test_ranks_share_a_batch():
    shares = [next(ViewBatches(8, 6, rank=rank, world=2).epoch(0)).indices[:3] for rank in (0, 1)]
    assert np.array_equal(np.concatenate(shares), next(ViewBatches(8, 6).epoch(0)).indices[:6])


def test_views_differ_by_default():
    config = RunConfig()
    assert create_augment(config.augment) is None
    assert create_augment(config.augment, views=True) == SIMCLR
    assert create_augment(config.augment, views=True, kind="vector").noise > 0
    assert create_augment(config.augment, views=True, kind="text") is None  # dropout is the change
    own = create_augment(RunConfig.from_options(crop=0.5, policy="trivial").augment, views=True)
    assert (own.crop, own.policy, own.grey) == (0.5, "trivial", 0.0)


def test_vectors_without_labels_find_their_clusters():
    """Noise makes the views; items of a cluster lie closer than the noise, so their order is learnt without labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 30)
    array = (rng.normal(size=(4, 10))[labels] + 0.3 * rng.normal(size=(120, 10))).astype(np.float32)
    options = {"loss": "ntxent", "batches": "views", "epochs": 3, "batch_size": 32, "report": None, "seed": 0}
    run = kyori.fit(array, **options)
    assert run.results is None
    assert run.table is None
    again = kyori.fit(array, **options)
    assert np.array_equal(run.embedder.encode(array), again.embedder.encode(array))
    vectors = run.embedder.encode(array)
    nearest = (vectors @ vectors.T - 2 * np.eye(120)).argmax(1)
    assert (labels[nearest] == labels).mean() > 0.9


def test_a_folder_without_labels(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for item in range(12):
        Image.fromarray(rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)).save(
            tmp_path / "photos" / f"{item}.png"
        )
    options = {"loss": "ntxent", "batches": "views", "backbone": "cnn", "batch_size": 6, "epochs": 2}
    run = kyori.fit(tmp_path / "photos", out=tmp_path / "run", **options)
    assert [record["loss"] > 0 for record in run.history] == [True, True]
    assert run.embedder.class_names == ()
    again = kyori.open_run(tmp_path / "run")
    assert again.results is None
    assert again.embedder.encode([tmp_path / "photos" / "3.png"]).shape == (1, 64)


def test_labels_are_used_to_measure_only():
    digits = open_source("digits").take(np.arange(200))
    run = kyori.fit(
        digits, loss="ntxent", batches="views", backbone="cnn", epochs=1, batch_size=32, report=None
    )
    assert 0 < run.results["map@r"].value < 1
    assert len(run.embedder.class_names) == 10


def test_other_batches_need_labels():
    with pytest.raises(DataError, match=r"has none; .* --batches views --loss ntxent"):
        kyori.fit(np.zeros((8, 3), np.float32), loss="ntxent", report=None)
