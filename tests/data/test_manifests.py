"""Manifests that stay in columns: the same source as from the way of small ones, found without looking at each file."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyori.data import PKBatches, make_split, open_source
from kyori.data.strings import Strings
from kyori.errors import DataError, DataWarning, ItemError

from .conftest import picture, save


@pytest.fixture
def many(monkeypatch):
    """Every manifest is taken for a large one."""
    monkeypatch.setattr("kyori.data.tables.MANY", 1)


def write(photos, kind="csv", **columns):
    paths = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    table = pa.table({"path": paths, "label": [path.split("/")[0] for path in paths], **columns})
    path = photos / f"m.{kind}"
    pa.csv.write_csv(table, path) if kind == "csv" else pa.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_same_source(photos, kind, monkeypatch):
    path = write(
        photos, kind, split=["train", "val", "test"] * 3, is_query=[True, False, None] * 3, category=["k"] * 9
    )
    small = open_source(path)
    monkeypatch.setattr("kyori.data.tables.MANY", 1)
    large = open_source(path)
    assert isinstance(large.ids, Strings)
    assert np.array_equal(large.ids, small.ids)
    assert (large.ids == small.ids).all()
    assert np.array_equal(large.labels, small.labels)
    assert large.class_names == small.class_names
    assert large.item_shape == small.item_shape
    assert np.array_equal(large.load(range(9)), small.load(range(9)))
    for name, values in small.columns.items():
        assert np.array_equal(large.columns[name], values), name
    assert [part.ids.tolist() for part in make_split(large)] == [
        part.ids.tolist() for part in make_split(small)
    ]
    assert large.take([3, 1]).ids.tolist() == small.take([3, 1]).ids.tolist()
    assert large.fingerprint() == open_source(path).fingerprint() != large.take([1, 0]).fingerprint()


def test_labels_mean_the_same(photos, many):
    path = photos / "m.csv"
    path.write_text("path,label\nant/0.png,10\nant/1.png,9\nbee/0.png,9\nbee/1.png,10\n")
    source = open_source(path)
    assert source.class_names == ("9", "10")
    assert source.labels.tolist() == [1, 0, 0, 1]


WRONG = {
    "path,label\nant/0.png,ant\nant/1.png,\n": r"row 2 has no label \(1 such rows\)",
    "path,label\nant/0.png,ant\n,ant\n": r"row 2 has no value in the column 'path'",
    "path,label\nant/0.png,ant\nant/0.png,bee\n": r"ids must be unique; 1 of them occur more than once",
    "path,label,x_1,y_1,x_2,y_2\nant/0.png,a,0,0,4,4\n": r"need a column 'id'",
    "path,label,split\nant/0.png,ant,tset\n": r"got 'tset'",
    "path,label\nno.png,ant\n": r"none of 1 pictures looked at can be read; the first is .*no\.png: no such file",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_wrong_manifests_say_what_is_wrong(photos, many, text):
    (photos / "m.csv").write_text(text)
    with pytest.raises(DataError, match=WRONG[text]):
        open_source(photos / "m.csv")


def test_a_missing_file_is_found_in_its_batch(photos, many, monkeypatch):
    path = write(photos)
    monkeypatch.setattr("kyori.data.manifests.SAMPLED", 2)
    (photos / "bee" / "1.png").unlink()
    source = open_source(path)
    assert len(source) == 9
    with pytest.raises(ItemError, match=r"bee/1\.png: no such file"):
        source.load([4])
    (photos / "cat" / "2.png").unlink()
    with pytest.warns(DataWarning, match=r"pictures looked at.*1 skipped"):
        open_source(path)
    save(photos / "cat" / "2.png", picture(seed=1))


texts = st.lists(st.text(max_size=6), min_size=1, max_size=30)


@given(texts, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_strings_are_an_array_of_strings(values, pieces):
    chunks = [part.tolist() for part in np.array_split(np.array(values, dtype=object), pieces) if len(part)]
    ours, theirs = Strings(pa.chunked_array(chunks, pa.string())), np.array(values, dtype=object)
    assert ours.tolist() == values
    assert ours.shape == theirs.shape
    order = np.random.default_rng(0).permutation(len(values))
    assert ours[order].tolist() == theirs[order].tolist()
    assert ours[order][::2].tolist() == theirs[order][::2].tolist()
    assert ours[0] == values[0]
    names, counts = np.unique(theirs, return_counts=True)
    expected = (
        (int((counts > 1).sum()), names[counts > 1][0], int(counts[counts > 1][0]))
        if (counts > 1).any()
        else None
    )
    assert ours.repeated() == ours[order].repeated() == expected


def test_strings_with_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(Strings, "_hashes", lambda self: np.zeros(len(self), dtype=np.uint64))
    assert Strings(pa.chunked_array([["a", "b"]])).repeated() is None
    assert Strings(pa.chunked_array([["a", "b", "a"]])).repeated() == (1, "a", 2)


def test_the_order_in_classes_is_that_of_a_lexsort():
    labels = np.random.default_rng(0).integers(0, 700, 20_000)
    groups = PKBatches(labels, 4, 2)._groups
    drawn = np.random.default_rng(1).random(len(groups._items))
    expected = groups._items[np.lexsort((drawn, groups._codes))]
    assert np.array_equal(groups.shuffled(np.random.default_rng(1)), expected)
