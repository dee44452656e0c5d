"""Arrays, tensors, .npz files, built-in digits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kyori.data import open_source
from kyori.data.sources import encode_labels
from kyori.errors import ArgumentError, DataError

from .conftest import picture

X = np.arange(12, dtype=np.float64).reshape(4, 3)
Y = ["b", "a", "b", "a"]


def test_digits():
    source = open_source("digits")
    assert len(source) == 1797
    assert source.item_shape == (8, 8, 1)
    assert source.load(np.arange(1797)).max() == 255
    assert source.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    "make", [lambda: (X, Y), lambda: (torch.tensor(X), Y), lambda: (X.tolist(), np.array(Y))]
)
def test_pairs(make):
    source = open_source(make())
    assert source.kind == "vector"
    assert source.item_shape == (3,)
    assert source.load([1]).dtype == np.float32
    assert source.class_names == ("a", "b")
    assert source.labels.tolist() == [1, 0, 1, 0]


def test_labels_beside_the_array_or_none_at_all():
    assert open_source(X, labels=Y).labels.tolist() == [1, 0, 1, 0]
    assert open_source(X).labels is None
    assert open_source(X).fingerprint() != open_source(X, labels=Y).fingerprint()
    with pytest.raises(ArgumentError, match="labels are given twice"):
        open_source((X, Y), labels=Y)
    with pytest.raises(ArgumentError, match="a tuple of 3"):
        open_source((X, Y, Y))


PICTURES = np.stack([picture(5, 6, seed) for seed in range(4)])
LAYOUTS = {
    "uint8 hwc": PICTURES,
    "uint8 chw": PICTURES.transpose(0, 3, 1, 2),
    "float": PICTURES / 255,
    "float32 tensor chw": torch.tensor(PICTURES.transpose(0, 3, 1, 2) / 255, dtype=torch.float32),
    "int64": PICTURES.astype(np.int64),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_pictures_in_any_layout(name):
    source = open_source(LAYOUTS[name], labels=Y)
    assert source.item_shape == (5, 6, 3)
    assert np.array_equal(source.load(np.arange(4)), PICTURES)


def test_grey_and_bilevel_pictures():
    assert open_source(PICTURES[..., 0], labels=Y).item_shape == (5, 6, 1)
    assert open_source(PICTURES[..., 0] > 100, labels=Y).load([0]).max() == 255
    assert open_source(PICTURES, labels=Y, size=4, channels=1).item_shape == (4, 4, 1)


WRONG = {
    "nan": (np.array([[0.0, np.nan], [1, 2]]), r"1 of 2 vectors hold NaN or infinity .* the first is item 0"),
    "overflow": (np.array([[0.0, 1e300], [1, 2]]), "NaN or infinity"),
    "empty": (np.zeros((0, 3)), r"at least one item; got an array of shape \(0, 3\)"),
    "scalar": (np.array(3.0), "at least one item"),
    "one axis": (np.arange(4), r"expected vectors \(n, f\) or pictures"),
    "no features": (np.zeros((4, 0)), "at least one feature"),
    "four channels": (np.zeros((4, 5, 6, 4), dtype=np.uint8), r"with c 1 or 3; got shape \(4, 5, 6, 4\)"),
    "negative": (np.full((4, 5, 6), -0.5), r"must lie in \[0, 1\]; got \[-0.5, -0.5\]"),
    "large floats": (np.full((4, 5, 6), 200.0), r"must lie in \[0, 1\]"),
    "large integers": (np.full((4, 5, 6), 256), r"must lie in \[0, 255\]"),
    "nan picture": (np.full((4, 5, 6), np.nan), r"must lie in \[0, 1\]"),
    "strings": (np.full((4, 3), "x"), "vectors must be numbers"),
    "string pictures": (np.full((4, 3, 3), "x"), "pictures must be uint8 or floats"),
    "ragged": ([[1, 2], [3]], "the rows must all have one shape"),
}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("name", WRONG)
def test_arrays_that_cannot_be_used(name):
    data, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        open_source(data, labels=[0])


WRONG_LABELS = {
    "too few": ([0, 1], r"labels must have shape \(4,\), one per item; got \(2,\)"),
    "matrix": (np.zeros((4, 2)), r"labels must have shape \(4,\)"),
    "fractions": ([0.5, 1, 2, 3], "whole numbers or strings"),
    "nan": ([np.nan, 1, 2, 3], "whole numbers or strings"),
    "none": (["a", None, "b", "a"], "label 1 is None"),
}


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_labels_that_cannot_be_used(name):
    labels, message = WRONG_LABELS[name]
    with pytest.raises(DataError, match=message):
        open_source((X, labels))


@given(
    st.lists(st.integers(-(10**17), 10**17) | st.text(st.characters(codec="ascii"), max_size=3), min_size=1)
)
@settings(max_examples=60, deadline=None)
def test_labels_are_coded_without_loss(labels):
    labels = [str(label).rstrip("\0") for label in labels]  # NumPy strings end at trailing zeros
    codes, names = encode_labels(labels, len(labels), "x")
    assert [names[code] for code in codes] == labels
    assert len(set(names)) == len(names) == codes.max() + 1


def test_float_labels_that_are_whole():
    assert open_source((X, [2.0, 1.0, 2.0, 1.0])).class_names == ("1", "2")
    assert open_source((X, np.array([True, False, True, False]))).class_names == ("False", "True")
    assert open_source((X, np.array([200, 3, 200, 3], dtype=np.uint8))).labels.dtype == np.int64


def npz(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


@pytest.mark.parametrize("keys", ["X y", "x labels", "images label", "vectors target", "data y"])
def test_npz_keys(tmp_path, keys):
    x, y = keys.split()
    source = open_source(npz(tmp_path, **{x: X, y: Y}))
    assert source.labels.tolist() == [1, 0, 1, 0]
    assert source.ids.tolist() == [0, 1, 2, 3]


def test_npz_with_ids_and_split(tmp_path):
    path = npz(tmp_path, X=X, y=Y, ids=["p", "q", "r", "s"], split=["train", "train", "val", "test"])
    source = open_source(path)
    assert source.part("validation").ids.tolist() == ["r"]


def test_npz_in_the_layout_of_keras(tmp_path):
    path = npz(tmp_path, x_train=PICTURES, y_train=[0, 1, 0, 1], x_test=PICTURES[:2], y_test=[1, 0])
    source = open_source(path)
    assert source.columns["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert source.labels.tolist() == [0, 1, 0, 1, 1, 0]
    with pytest.raises(DataError, match=r"y_test must have shape \(2,\)"):
        open_source(npz(tmp_path, x_train=X, y_train=Y, x_test=X[:2]))
    with pytest.raises(DataError, match="items of one shape"):
        open_source(npz(tmp_path, x_train=X, y_train=Y, x_test=X[:, :2], y_test=Y))


def test_damaged_npz(tmp_path):
    path = npz(tmp_path, X=X, y=Y)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"text", whole[:60] + b"\xff" * 40 + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"data\.npz: damaged"):
            open_source(path)


def test_npz_never_unpickles(tmp_path):
    with pytest.raises(DataError, match="holds Python objects, which may carry code and are never loaded"):
        open_source(npz(tmp_path, X=X, y=np.array(["a", 1, None, {}], dtype=object)))


def test_npz_without_the_arrays(tmp_path):
    with pytest.raises(DataError, match=r"one array named X or x .* with the items; got a, y"):
        open_source(npz(tmp_path, a=X, y=Y))
    with pytest.raises(DataError, match="with the labels; got X"):
        open_source(npz(tmp_path, X=X))
    with pytest.raises(DataError, match=r"ids must be unique; 1 of them occur .* 'p' \(2 times\)"):
        open_source(npz(tmp_path, X=X, y=Y, ids=["p", "p", "q", "r"]))
    with pytest.raises(DataError, match=r"ids must have shape \(4,\)"):
        open_source(npz(tmp_path, X=X, y=Y, ids=["p", "q"]))


def test_size_belongs_to_pictures():
    with pytest.raises(ArgumentError, match="belong to pictures"):
        open_source((X, Y), size=8)
