"""The loader gives the same batches whatever the way."""

import threading
import time

import numpy as np
import pytest
import torch

from kyori.data import Loader, PairBatches, PKBatches, ShuffleBatches, open_source
from kyori.errors import ArgumentError, ItemError


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kyori-load")]


@pytest.mark.parametrize("workers", [0, 1, 3, None])
@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_same_batches_from_memory_and_from_files(photos, workers, memory_limit):
    source = open_source(photos, memory_limit=memory_limit)
    everything = open_source(photos).load(np.arange(9))
    loader = Loader(source, "cpu", workers=workers)
    for maker in (ShuffleBatches(9, 2), PKBatches(source.labels, 2, 2), PairBatches(source.labels, 3)):
        expected = list(maker.epoch(1))
        got = list(loader.batches(maker.epoch(1)))
        assert len(got) == len(expected)
        for (batch, raw, labels), wanted in zip(got, expected, strict=True):
            assert batch.indices.tolist() == wanted.indices.tolist()
            assert raw.dtype == torch.uint8
            assert np.array_equal(raw.numpy(), everything[wanted.indices])
            assert labels.dtype == torch.int64
            assert labels.tolist() == source.labels[wanted.indices].tolist()
    assert not threads()


def test_parts_and_vectors():
    vectors = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    part = open_source((vectors, np.arange(20) % 2)).take(np.arange(10, 20))
    for batch, raw, _labels in Loader(part).batches(ShuffleBatches(10, 4).epoch(0)):
        assert np.array_equal(raw.numpy(), vectors[10:][batch.indices])


def test_vectors_that_are_too_many_for_the_device_stay_outside(monkeypatch):
    monkeypatch.setattr("kyori.data.loading.RESIDENT_LIMIT", 10)
    test_parts_and_vectors()


def test_unlabelled_items():
    for _batch, _raw, labels in Loader(open_source(np.zeros((5, 2)))).batches(ShuffleBatches(5, 5).epoch(0)):
        assert labels.tolist() == [-1] * 5


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_carries_the_path_and_ends_all_threads(photos, workers):
    source = open_source(photos, memory_limit=0)
    (photos / "cat" / "1.png").unlink()
    loader = Loader(source, workers=workers)
    with pytest.raises(ItemError, match=r"cat/1\.png: no such file"):
        list(loader.batches(ShuffleBatches(9, 2).epoch(0)))
    assert not threads()


def test_stopping_early_leaves_no_thread_behind(photos):
    loader = Loader(open_source(photos, memory_limit=0), workers=3)
    batches = loader.batches(ShuffleBatches(9, 1).epoch(0))
    next(batches)
    assert threads()
    batches.close()
    assert not threads()


def test_interrupt_in_the_training_loop_leaves_no_thread_behind(photos):
    loader = Loader(open_source(photos, memory_limit=0), workers=2)

    def train():
        for _ in loader.batches(ShuffleBatches(9, 1).epoch(0)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()


def test_only_a_few_batches_are_loaded_ahead(photos):
    source = open_source(photos, memory_limit=0)
    drawn = []

    def batches():
        for batch in ShuffleBatches(9, 1).epoch(0):
            drawn.append(batch)
            yield batch

    stream = Loader(source, workers=1).batches(batches())
    next(stream)
    assert len(drawn) == 3
    stream.close()


def test_workers_must_not_be_negative():
    with pytest.raises(ArgumentError, match="workers must be at least 0"):
        Loader(open_source("digits"), workers=-1)
