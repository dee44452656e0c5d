"""Source itself, and the front door's own errors."""

import numpy as np
import pytest

from kyori.data import open_source
from kyori.errors import ArgumentError, DataError

X, Y = np.arange(10.0).reshape(5, 2), np.array([0, 1, 0, 1, 0])


@pytest.fixture
def source():
    return open_source((X, Y))


@pytest.mark.parametrize(
    "indices", [[3, 0], np.array([3, 0]), slice(1, 4), Y == 1, [], np.array([], dtype=int), [-1]]
)
def test_take_is_numpy_indexing(source, indices):
    part = source.take(indices)
    expected = np.arange(5)[indices] if len(part) else np.zeros(0, int)
    assert part.ids.tolist() == expected.tolist()
    assert part.labels.tolist() == Y[expected].tolist()
    assert np.array_equal(part.load(np.arange(len(part))), X[expected])
    assert part.class_names == source.class_names


def test_take_twice(source):
    part = source.take([4, 3, 2]).take([2, 0])
    assert part.ids.tolist() == [2, 4]
    assert np.array_equal(part.load([0, 1]), X[[2, 4]])


def test_take_of_one_item_twice_would_break_ids(source):
    with pytest.raises(DataError, match="ids must be unique"):
        source.take([1, 1])


def test_load_outside(source):
    with pytest.raises(IndexError):
        source.take([0, 1]).load([2])


def test_fingerprint_sees_ids_labels_and_order(source):
    same = open_source((X + 1, Y))
    assert same.fingerprint() == source.fingerprint()
    assert source.take([1, 0, 2, 3, 4]).fingerprint() != source.fingerprint()
    assert open_source((X, 1 - Y)).fingerprint() != source.fingerprint()
    assert open_source((X, Y + 1)).fingerprint() != source.fingerprint()


def test_part_needs_a_split(source):
    with pytest.raises(DataError, match=r"no given split; make one with kyori\.data\.make_split"):
        source.part("train")
    with pytest.raises(ArgumentError, match=r"split must be one of .*; did you mean 'train'\?"):
        source.part("trian")


def test_a_source_passes_through(source):
    assert open_source(source) is source
    with pytest.raises(ArgumentError, match="already a Source"):
        open_source(source, size=3)


def test_read_for_display():
    assert open_source("digits").read(0).size == (8, 8)
    assert open_source((X, Y)).read(1).tolist() == [2.0, 3.0]
    assert open_source(np.zeros((2, 4, 5, 3)), labels=[0, 1]).read(0).mode == "RGB"


def test_front_door_errors(tmp_path):
    with pytest.raises(
        DataError, match=r"digit: no such file or folder.* no built-in data; did you mean 'digits'\?"
    ):
        open_source("digit")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(
        DataError, match=r"expected a folder or a file that ends in .*got a file that ends in \.doc"
    ):
        open_source(tmp_path / "a.doc")
    with pytest.raises(ArgumentError, match=r"data must be a path.*got int"):
        open_source(3)
    with pytest.raises(ArgumentError, match="channels must be 'auto', 1"):
        open_source("digits", channels=2)
    with pytest.raises(ArgumentError, match="bad_items must be 'skip' or 'error'; got 'drop'"):
        open_source("digits", bad_items="drop")
    with pytest.raises(ArgumentError, match="memory_limit must be at least 0"):
        open_source("digits", memory_limit=-1)
    for size in (0, 9000, (3,), (3, 4, 5), (3, 0), 2.5):
        with pytest.raises(ArgumentError, match="size must be pixels between 1 and 8192"):
            open_source("digits", size=size)


def test_builtin_with_size_and_channels():
    assert open_source("digits", size=16, channels=3).item_shape == (16, 16, 3)
