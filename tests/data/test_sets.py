"""Sets of vectors and arrays of any shape as sources, from every form in which they come; what is wrong is said."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kyori.data import Loader, Preprocess, ShuffleBatches, open_source
from kyori.data.kinds import collate
from kyori.data.sets import open_joined_sets
from kyori.data.sources import Opening
from kyori.data.streams import open_stream
from kyori.errors import ArgumentError, DataError, DataWarning, ItemError

LABELS = ["a", "b", "a", "b", "a", "b"]


def make(lengths=(2, 5, 1, 3, 4, 2), width=3):
    rng = np.random.default_rng(0)
    return [rng.normal(2.0, 3.0, (m, width)).astype(np.float32) for m in lengths]


class Mapped(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return torch.as_tensor(self.items[i]), LABELS[i]


class Iterated(torch.utils.data.IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(zip(self.items, LABELS, strict=True))

    def __len__(self):
        return len(self.items)


def npz(folder, items):
    offsets = np.cumsum([0, *map(len, items)])
    np.savez(folder / "sets.npz", X=np.concatenate(items), offsets=offsets, y=LABELS)
    return folder / "sets.npz"


def parquet(folder, items, column="set"):
    table = {column: [item.tolist() for item in items], "label": LABELS}
    pq.write_table(pa.table(table), folder / "items.parquet")
    return str(folder / "items.parquet")


def tar(folder, items):
    with tarfile.open(folder / "items.tar", "w") as file:
        for number, (item, label) in enumerate(zip(items, LABELS, strict=True)):
            body = io.BytesIO()
            np.save(body, item)
            for suffix, content in (("npy", body.getvalue()), ("cls", label.encode())):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return str(folder / "items.tar")


FORMS = {
    "list": lambda folder, items: (items, LABELS),
    "tensors": lambda folder, items: ([torch.as_tensor(item) for item in items], LABELS),
    "nested lists": lambda folder, items: ([item.tolist() for item in items], LABELS),
    "object array": lambda folder, items: (collate("set", items), LABELS),
    "npz": npz,
    "Dataset": lambda folder, items: Mapped(items),
    "IterableDataset": lambda folder, items: Iterated(items),
    "parquet": parquet,
    "tar": tar,
}


@pytest.mark.parametrize("form", FORMS)
def test_sets_from_every_form(form, tmp_path):
    items = make()
    source = open_source(FORMS[form](tmp_path, items))
    assert (source.kind, source.item_shape) == ("set", (3,))
    assert [source.class_names[code] for code in source.labels] == LABELS
    for found, item in zip(source.take([4, 2]).load([0, 1]), (items[4], items[2]), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, item)


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"npz"}))
def test_sets_of_one_length_are_asked_for(form, tmp_path):
    items = make((4,) * 6)
    data = FORMS[form](tmp_path, items)
    with pytest.raises(DataError, match=r"items='array'.*'set'"):
        open_source(data)
    source = open_source(data, items="set")
    assert (source.kind, source.item_shape) == ("set", (3,))
    np.testing.assert_array_equal(source.load([3])[0], items[3])


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"npz"}))
def test_arrays_from_every_form(form, tmp_path):
    items = make((4,) * 6)
    path = FORMS[form](tmp_path, items)
    source = open_source(path, items="array")
    assert (source.kind, source.item_shape) == ("array", (4, 3))
    np.testing.assert_array_equal(source.load([5, 1]), np.stack([items[5], items[1]]))


def test_arrays_of_any_shape_and_their_channels():
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 10.0, 100.0, 0.1, 5.0])
    tracks = rng.normal(0, 1, (40, 6, 5)) * spread + 3  # (time, features)
    stacks = rng.normal(0, 1, (40, 5, 4, 6)) * spread[:, None, None] + 3  # (channels, h, w)
    for items in (tracks, stacks):
        source = open_source((items, np.arange(40) % 2), items="array")
        preprocess = Preprocess.fit(source)
        assert preprocess.channels == 5
        assert preprocess.input_shape == items.shape[1:]
        x = preprocess(source.load(np.arange(40)))
        axes = (0, 1) if items.ndim == 3 else (0, 2, 3)
        np.testing.assert_allclose(x.mean(axes), np.zeros(5), atol=1e-4)
        np.testing.assert_allclose(x.std(axes, unbiased=False), np.ones(5), atol=1e-3)
        assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
    with pytest.raises(DataError, match=r"expected vectors .* or pictures .*items='array'"):
        open_source((stacks, np.arange(40) % 2))


def test_the_scale_of_sets_is_that_of_all_vectors():
    items = make()
    preprocess = Preprocess.fit(open_source((items, LABELS)))
    whole = np.concatenate(items)
    np.testing.assert_allclose(preprocess.mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(preprocess.std, whole.std(0), rtol=1e-5)
    x = preprocess(collate("set", items[:2]))
    assert x.shape == (2, 5, 3)
    assert x[0, 2:].isnan().all()
    np.testing.assert_allclose(x[0, :2], (items[0] - whole.mean(0)) / whole.std(0), atol=1e-5)


def test_batches_are_padded_by_the_loading_threads():
    source = open_source((make(), LABELS))
    loader = Loader(source, workers=2, prepare=Preprocess.fit(source).prepare)
    for batch, raw, labels in loader.batches(ShuffleBatches(6, 3).epoch(0)):
        longest = max(len(item) for item in source.load(batch.indices))
        assert raw.shape == (3, longest, 3)
        assert labels.tolist() == source.labels[batch.indices].tolist()


def test_each_set_has_a_hash_of_its_own():
    items = [*make(), make()[0]]
    digests = open_source((items, [*LABELS, "a"])).digests(range(7))
    assert len(set(digests.tolist())) == 6
    assert digests[0] == digests[6]
    flat = np.arange(6, dtype=np.float32)
    two, three = open_source(([flat.reshape(2, 3), flat.reshape(2, 3)[:1]], [0, 1])), flat.reshape(3, 2)
    assert two.digests([0])[0] != open_source(([three, three[:1]], [0, 1])).digests([0])[0]


def test_an_empty_set_is_a_bad_item():
    items = make()
    items[3] = items[3][:0]
    with pytest.warns(DataWarning, match=r"1 skipped: set 3 \(it has no vectors\)"):
        source = open_source((items, LABELS))
    assert source.ids.tolist() == [0, 1, 2, 4, 5]
    assert len(source.labels) == 5
    with pytest.raises(ItemError, match="set 3: it has no vectors"):
        open_source((items, LABELS), bad_items="error")
    with pytest.raises(DataError, match="none of the 2 sets has a vector"):
        open_source(([[], []], [0, 1]), items="set")
    stream = open_stream(Iterated(items))
    assert len(stream.gather(10)[0]) == 5
    assert "a set of at least one vector of 3 finite numbers" in stream.skipped[0][1]


@pytest.mark.parametrize(
    ("message", "items"),
    {
        "item 1 has 2 numbers a vector, those before it have 3": [np.ones((2, 3)), np.ones((4, 2))],
        "1 of 6 vectors hold NaN .* the first is vector 3 of item 1": [
            np.ones((2, 3)),
            np.array([[1.0] * 3] * 3 + [[1.0, np.nan, 1.0]]),
        ],
        r"item 1 must be a set of vectors \(m, f\) of numbers; got float64 of shape \(4,\)": [
            np.ones((2, 3)),
            np.ones(4),
        ],
        "item 0 must be a set of vectors .* got str": ["one", "two"],
        "at least one set": [],
    }.items(),
    ids=str,
)
def test_what_is_no_set(message, items):
    with pytest.raises((DataError, ArgumentError), match=f"{message}|belongs to numbers"):
        open_source(items, items="set")


@pytest.mark.parametrize("offsets", [[0, 2], [1, 5], [0, 3, 2, 5], [0.0, 5.0], [5], [[0, 5]]])
def test_offsets_rise_from_zero_to_the_end(offsets):
    with pytest.raises(DataError, match=r"offsets must be whole numbers \(n \+ 1,\) that rise from 0 to 5"):
        open_joined_sets(np.ones((5, 2)), np.array(offsets), None, Opening(), name="x")


def test_ids_and_splits_of_an_npz(tmp_path):
    items = make()
    items[1] = items[1][:0]
    facts = {"X": np.concatenate(items), "offsets": np.cumsum([0, *map(len, items)]), "y": LABELS}
    path = tmp_path / "s.npz"
    np.savez(path, **facts, ids=list("uvwxyz"), split=["train"] * 4 + ["test"] * 2)
    with pytest.warns(DataWarning, match="set v"):
        source = open_source(path)
    assert source.ids.tolist() == list("uwxyz")
    assert len(source.part("test")) == 2
    np.savez(path, **facts, ids=["u"])
    with pytest.raises(DataError, match=r"ids must have shape \(6,\)"):
        open_source(path)
    with pytest.raises(DataError, match="has offsets, so it holds sets"):
        open_source(path, items="array")


def test_a_width_that_changes_in_a_stream_is_a_bad_item():
    items = [*make()[:-1], np.ones((2, 4), np.float32)]
    stream = open_stream(Iterated(items))
    source, whole = stream.gather(100)
    assert whole
    assert len(source) == 5
    assert "got (2, 4)" in stream.skipped[0][1]


def test_items_is_for_numbers(photos):
    for data in (str(photos), ["one", "two"], "digits"):
        with pytest.raises(ArgumentError, match="items='array' belongs to numbers"):
            open_source(data, items="array")
    with pytest.raises(ArgumentError, match="items must be 'auto', 'array' or 'set'"):
        open_source((make(), LABELS), items="sets")
    with pytest.raises(ArgumentError, match="size= and channels= belong to pictures"):
        open_source((make(), LABELS), size=8)


def test_nothing_beyond_the_limit_is_gathered():
    source, whole = open_stream(Iterated(make())).gather(100, nbytes=100)  # 12 bytes a vector
    assert not whole
    assert 2 <= len(source) < 6
