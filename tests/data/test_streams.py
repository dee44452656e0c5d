"""Streams: what flows through them, and the batches that are drawn from their buffers."""

import json
import tarfile
import warnings
from itertools import islice

import numpy as np
import pytest
import torch

from kyori.data import open_source
from kyori.data.buffers import StreamBatches, StreamLoader, label_code
from kyori.data.streams import is_stream, open_stream
from kyori.errors import ArgumentError, DataError, DataWarning, ItemError

from .streams import SIDE, png, write_shards, write_tar

KINDS = ("shuffle", "pk")


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"))


def stream(pattern, **options):
    return open_stream(pattern, **{"buffer": 40, **options})


def flat(batches):
    return [batch.indices.tolist() for batch in batches]


@pytest.mark.parametrize("kind", KINDS)
class TestLaws:
    def make(self, pattern, kind, **options):
        return StreamBatches(stream(pattern), 16, kind=kind, per_class=4, **options)

    def test_pure_function_of_seed_and_epoch(self, pattern, kind):
        one, two = self.make(pattern, kind, seed=5), self.make(pattern, kind, seed=5)
        list(one.epoch(0))
        assert flat(one.epoch(3)) == flat(two.epoch(3))
        assert flat(one.epoch(3)) != flat(one.epoch(4))
        assert flat(one.epoch(3)) != flat(self.make(pattern, kind, seed=6).epoch(3))
        assert len(flat(one.epoch(0))) == len(one) > 5

    @pytest.mark.parametrize("start", [1, 3, 7])
    def test_goes_on_from_a_saved_position(self, pattern, kind, start, monkeypatch):
        whole = list(self.make(pattern, kind).epoch(2))
        later = self.make(pattern, kind)
        later.resume(json.loads(json.dumps(whole[start - 1].position)))
        assert flat(later.epoch(2, start=start)) == flat(whole)[start:]
        # without the position, or with one of other ranks, everything before is drawn again
        assert flat(self.make(pattern, kind).epoch(2, start=start)) == flat(whole)[start:]
        other = self.make(pattern, kind)
        other.resume({**whole[start - 1].position, "world": 2})
        assert flat(other.epoch(2, start=start)) == flat(whole)[start:]

    @pytest.mark.filterwarnings("ignore:.*were given up")  # 17 items of 4 classes for each of 7 ranks
    @pytest.mark.parametrize("world", [2, 3, 7])
    def test_ranks_share_the_shards_without_overlap(self, pattern, kind, world):
        """7 ranks on 5 shards share the items of each."""
        size = 16 * world
        ranks = [
            StreamBatches(stream(pattern), size, kind=kind, per_class=4, rank=rank, world=world)
            for rank in range(world)
        ]
        seen = [np.concatenate([batch.indices for batch in rank.epoch(0)]) for rank in ranks]
        everything = np.concatenate([np.unique(part) for part in seen])
        assert len(np.unique(everything)) == len(everything)
        assert len({len(rank) for rank in ranks}) == 1

    def test_changed_shards_are_found(self, pattern, kind, tmp_path):
        copy = write_shards(tmp_path)
        batches = StreamBatches(stream(copy), 16, kind=kind)
        position = list(batches.epoch(0))[3].position
        write_tar(tmp_path / "00.tar", [("1", {"png": png(1, 1), "cls": "1"})])
        again = StreamBatches(stream(copy), 16, kind=kind)
        again.resume(position)
        with pytest.raises(DataError, match=r"the shards are not those that the run was interrupted on"):
            list(again.epoch(0, start=4))


def test_shuffling_gives_every_item_once(pattern):
    batches = StreamBatches(stream(pattern), 16)
    indices = np.concatenate(flat(batches.epoch(0)))
    assert len(indices) == len(set(indices.tolist())) == 120
    mean_jump = np.abs(np.diff(indices >> 32)).mean()
    assert mean_jump > 0.7, "neighbours come from different shards"


def test_p_classes_with_k_items(pattern):
    for batch in StreamBatches(stream(pattern, buffer=64), 12, kind="pk", per_class=3).epoch(0):
        labels = np.array([sample.label for sample in batch.samples]).reshape(4, 3)
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0])) == 4
        assert len(set(batch.indices.tolist())) == 12


def test_few_classes_make_larger_groups_and_small_ones_repeat(tmp_path):
    labels = "a" * 10 + "b" * 10 + "c" * 2
    write_tar(tmp_path / "0.tar", ((f"{k}", {"png": png(k, 0), "cls": c}) for k, c in enumerate(labels)))
    batches = list(StreamBatches(stream(tmp_path / "0.tar"), 22, kind="pk", per_class=2).epoch(0))
    found = [sample.label for sample in batches[0].samples]
    assert sorted(set(found)) == ["a", "b", "c"]
    assert len(found) == 21


def test_shards_sorted_by_class(tmp_path):
    """One class after another: with a buffer of less than a class there is nothing to compare."""
    pattern = write_shards(tmp_path, shards=1, items=200, classes=2, mixed=False)
    with pytest.raises(DataError, match=r"one\s+class after another.*enlarge data.buffer \(now 20\)"):
        list(
            StreamBatches(
                stream(write_shards(tmp_path / "one", shards=1, classes=1), buffer=20), 8, kind="pk"
            ).epoch(0)
        )
    batches = StreamBatches(stream(pattern, buffer=20), 8, kind="pk")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(batches.epoch(0))
    assert any("were given up in an epoch" in str(one.message) for one in caught)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loader_gives_what_a_source_holds(pattern, workers):
    source = open_source(pattern)
    by_key = {key: row for row, key in enumerate(source.ids.tolist())}
    flowing = stream(pattern)
    batches = StreamBatches(flowing, 16, kind="pk")
    for batch, raw, labels in StreamLoader(flowing, workers=workers).batches(batches.epoch(0)):
        rows = [by_key[sample.key] for sample in batch.samples]
        assert np.array_equal(raw.numpy(), source.load(rows))
        assert labels.tolist() == source.labels[rows].tolist()


def test_stopping_early_leaves_no_thread(pattern):
    import threading

    before = threading.active_count()
    flowing = stream(pattern)
    loaded = StreamLoader(flowing, workers=2).batches(StreamBatches(flowing, 16).epoch(0))
    next(loaded)
    loaded.close()
    assert threading.active_count() == before


def test_epoch_items_and_larger_epochs_than_a_pass(pattern):
    batches = StreamBatches(stream(pattern, epoch_items=300), 20)
    indices = np.concatenate(flat(batches.epoch(0)))
    assert len(indices) == 300
    assert np.unique(indices, return_counts=True)[1].max() == 3
    assert len(StreamBatches(stream(pattern, epoch_items=40), 20)) == 2


def bad_items(folder, body=b"\x89PNG no more", **more):
    items = [(f"{k}", {"png": png(k, k % 2), "cls": str(k % 2)}) for k in range(20)]
    items[7] = ("7", {"png": body, "cls": "1", **more})
    return write_tar(folder / "0.tar", items)


def test_bad_pictures_are_left_out_and_counted(tmp_path):
    path = bad_items(tmp_path)
    flowing = stream(path)
    with pytest.warns(DataWarning, match=r"1 skipped while reading: .*0\.tar#7 \("):
        loaded = list(StreamLoader(flowing).batches(StreamBatches(flowing, 10).epoch(0)))
    assert sum(len(batch.indices) for batch, _, _ in loaded) == 19
    assert all(len(batch.indices) == len(raw) == len(labels) for batch, raw, labels in loaded)
    with pytest.raises(ItemError, match=r"0\.tar#7: not a picture"):
        stream(path, bad_items="error")
    path = bad_items(tmp_path, body=png(7, 1)[:60])  # its header is whole
    strict = stream(path, bad_items="error")
    with pytest.raises(ItemError, match=r"0\.tar#7: damaged picture"):
        list(StreamLoader(strict).batches(StreamBatches(strict, 10).epoch(0)))


def test_classes_that_were_not_named(tmp_path):
    flowing = stream(bad_items(tmp_path, body=png(7, 1)), classes=["0"])
    with pytest.warns(
        DataWarning, match=r"10 skipped while reading: .*its class '1' is not among the 1 classes"
    ):
        list(StreamLoader(flowing).batches(StreamBatches(flowing, 20).epoch(0)))


def test_unlabelled_items_are_not_trained_on(tmp_path):
    items = [(f"{k}", {"png": png(k, k % 2)} | ({"cls": str(k % 2)} if k % 5 else {})) for k in range(20)]
    flowing = stream(write_tar(tmp_path / "0.tar", items))
    with pytest.warns(DataWarning, match=r"4 skipped while reading: .*it has no label"):
        loaded = list(StreamLoader(flowing).batches(StreamBatches(flowing, 8).epoch(0)))
    assert all(sample.label is not None for batch, _, _ in loaded for sample in batch.samples)
    assert open_source(tmp_path / "0.tar").labels is None


def test_a_shard_that_vanishes_in_the_middle_of_an_epoch(tmp_path):
    pattern = write_shards(tmp_path, shards=6, items=120)
    flowing = stream(pattern, buffer=16)
    assert len(flowing.class_names) == 4
    assert len(flowing) == 120
    batches = StreamBatches(flowing, 16).epoch(0)
    next(batches)
    for number in range(6):
        (tmp_path / f"{number:02d}.tar").unlink()
    with pytest.warns(DataWarning, match="2 skipped while reading: .*no such shard"):
        rest = list(StreamLoader(flowing, workers=0).batches(islice(batches, 4)))
    assert len(rest) == 4  # what was open is read to its end


class Points(torch.utils.data.IterableDataset):
    def __init__(self, fail_at=None):
        self.fail_at = fail_at

    def __iter__(self):
        for number in range(60):
            if number == self.fail_at:
                raise RuntimeError("the disk is gone")
            yield torch.tensor([float(number % 3), 1.0]), number % 3

    def __len__(self):
        return 60


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        number = 0
        while True:
            yield np.full((SIDE, SIDE), number % 200, dtype=np.uint8), f"c{number % 3}"
            number += 1


def test_iterable_datasets():
    flowing = open_stream(Points(), buffer=30)
    assert (flowing.kind, flowing.item_shape, len(flowing)) == ("vector", (2,), 60)
    batch, raw, labels = next(StreamLoader(flowing).batches(StreamBatches(flowing, 12, kind="pk").epoch(0)))
    assert raw[:, 0].tolist() == labels.tolist() == [float(sample.label) for sample in batch.samples]
    with pytest.raises(DataError, match=r"Endless has no length: say how many items are an epoch"):
        len(open_stream(Endless()))
    endless = open_stream(Endless(), buffer=30, epoch_items=64)
    assert endless.kind == "image"
    code = label_code
    loaded = list(StreamLoader(endless, code=code).batches(StreamBatches(endless, 16).epoch(0)))
    assert len(loaded) == 4
    with pytest.warns(
        DataWarning, match="Points at item 50: RuntimeError: the disk is gone|Points at item 50"
    ):
        assert len(open_source(Points(fail_at=50))) == 50
    assert not is_stream(iter([1, 2]))


def test_classes_are_sorted_like_those_of_a_source(tmp_path):
    path = write_tar(
        tmp_path / "0.tar", ((f"{k}", {"png": png(k, 0), "cls": str(k % 12)}) for k in range(24))
    )
    assert stream(path).class_names == open_source(path).class_names == tuple(map(str, range(12)))


def test_sizes_of_large_tars_are_estimated(pattern, monkeypatch):
    monkeypatch.setattr("kyori.data.streams.COUNTED", 0)
    assert abs(len(stream(pattern)) - 120) <= 6


def test_gzipped_tars(tmp_path):
    items = [(f"{k}", {"png": png(k, 0), "cls": "a"}) for k in range(4)]
    path = tmp_path / "0.tar.gz"
    with tarfile.open(write_tar(tmp_path / "0.tar", items)) as plain, tarfile.open(path, "w:gz") as packed:
        for member in plain:
            packed.addfile(member, plain.extractfile(member))
    assert np.array_equal(open_source(path).load(range(4)), open_source(tmp_path / "0.tar").load(range(4)))


WRONG = {
    "buffer must be at least 2": {"buffer": 1},
    "epoch_items must be at least 1": {"epoch_items": 0},
    "size must be pixels": {"size": 0},
    "channels must be": {"channels": 2},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(pattern, message):
    with pytest.raises(ArgumentError, match=message):
        open_stream(pattern, **WRONG[message])


def test_wrong_batches(pattern):
    flowing = stream(pattern)
    for message, options in {
        "kind shuffle or pk; got 'pairs'": {"kind": "pairs"},
        "seed must be at least 0": {"seed": -1},
        "rank must be from 0": {"rank": 2, "world": 2},
        "at least 8 items for each of 4 ranks; got 16": {"kind": "pk", "world": 4},
    }.items():
        with pytest.raises(ArgumentError, match=message):
            StreamBatches(flowing, 16, **options)
    with pytest.raises(ArgumentError, match="buffer must hold a batch of 64 items; got 40"):
        StreamBatches(flowing, 64)
    with pytest.raises(ArgumentError, match=r"labels= and columns= belong to arrays"):
        open_source(pattern, labels=[1])
