"""The table of vectors: what it takes, what it refuses, and its Parquet file."""

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from kyori.errors import ArgumentError, DataError, FileFormatError
from kyori.files import write_atomic
from kyori.vectors import VectorTable


def sample(**changes) -> VectorTable:
    arguments = {
        "ids": ["x", "y", "z"],
        "vectors": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]],
        "labels": ["dog", "cat", "dog"],
        "columns": {
            "split": ["train", "test", "test"],
            "area": [1.5, 2.5, 3.5],
            "is_query": [True, False, True],
        },
    }
    return VectorTable(**(arguments | changes))


def assert_equal(one: VectorTable, two: VectorTable) -> None:
    for a, b in ((one.ids, two.ids), (one.vectors, two.vectors), (one.labels, two.labels)):
        np.testing.assert_array_equal(a, b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)
    assert one.class_names == two.class_names
    assert one.columns.keys() == two.columns.keys()
    for name in one.columns:
        np.testing.assert_array_equal(one.columns[name], two.columns[name])
        assert one.columns[name].dtype.kind == two.columns[name].dtype.kind


def test_labels_become_codes():
    table = sample()
    np.testing.assert_array_equal(table.labels, [1, 0, 1])
    assert table.class_names == ("cat", "dog")
    assert sample(class_names=["dog", "emu", "cat"]).labels.tolist() == [0, 2, 0]
    bare = sample(labels=[7, -1, 7])
    assert bare.labels.tolist() == [7, -1, 7]
    assert bare.class_names is None
    assert sample(labels=torch.tensor([1, 0, 1]), class_names=["cat", "dog"]).class_names == ("cat", "dog")
    assert sample(labels=None).labels is None


def test_vectors_are_float32_and_writable_and_not_copied_when_they_fit():
    vectors = np.zeros((3, 2), np.float32)
    assert sample(vectors=vectors).vectors is vectors
    vectors.flags.writeable = False
    assert sample(vectors=vectors).vectors.flags.writeable
    tensor = torch.ones(3, 2, dtype=torch.bfloat16, requires_grad=True)
    assert sample(vectors=tensor).vectors.dtype == np.float32
    assert sample(vectors=np.asfortranarray(np.ones((3, 2)))).vectors.flags.c_contiguous


def test_take_keeps_names_and_columns():
    part = sample().take([2, 0])
    assert part.ids.tolist() == ["z", "x"]
    assert part.columns["area"].tolist() == [3.5, 1.5]
    assert part.class_names == ("cat", "dog")
    assert len(sample().take(np.array([True, False, True]))) == 2
    assert len(sample().take([])) == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"vectors": None}, ArgumentError, r"shape \(n, d\); got None"),
        ({"vectors": [1.0, 2.0]}, ArgumentError, r"shape \(n, d\) with d ≥ 1; got \(2,\)"),
        ({"vectors": [["a"], ["b"], ["c"]]}, ArgumentError, "must be real numbers; got an array of <U1"),
        ({"vectors": [[0, 1], [np.nan, 0], [1, 1]]}, DataError, r"row 1 holds nan \(1 of 3 rows"),
        ({"vectors": [[0, 1], [1, 0], [1e39, 1]]}, DataError, "row 2 holds inf"),
        ({"labels": [0, 1]}, ArgumentError, r"labels must have shape \(3,\), one per vector; got \(2,\)"),
        (
            {"labels": [0.5, 1, 2]},
            ArgumentError,
            "labels must be integers or strings; got an array of float64",
        ),
        ({"labels": ["a", 1, "b"]}, ArgumentError, "labels must be integers or strings"),
        ({"labels": [0, 1, 2], "class_names": ["a", "b"]}, DataError, "must lie in 0 … 1.*got 0 … 2"),
        ({"class_names": ["cat"]}, DataError, "'dog' is not among the 1 names"),
        ({"class_names": ["cat", "dog", "cat"]}, ArgumentError, "class_names must be unique"),
        ({"ids": [1, 2, 1]}, DataError, r"ids must be unique; 1 occurs 2 times"),
        ({"columns": {"label": [1, 2, 3]}}, ArgumentError, "must not be called id, label, vector"),
        ({"columns": {"area": [1, 2]}}, ArgumentError, "column 'area' must be 3 bools, numbers or strings"),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        sample(**changes)


@pytest.mark.parametrize(
    "table",
    [
        sample(),
        sample(ids=None, labels=[3, 1, 3], columns=None),
        sample(labels=None),
        sample(class_names=["dog", "never seen", "cat"]),
        sample().take([]),
    ],
    ids=["all", "integers", "no labels", "unused class", "empty"],
)
def test_a_file_brings_back_the_table(table, tmp_path):
    table.save(tmp_path / "v.parquet")
    assert_equal(VectorTable.load(tmp_path / "v.parquet"), table)
    assert [path.name for path in tmp_path.iterdir()] == ["v.parquet"]


def test_other_tools_read_the_file(tmp_path):
    sample().save(tmp_path / "v.parquet")
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32(), 2)
    assert table["label"].to_pylist() == ["dog", "cat", "dog"]
    assert table["vector"].to_pylist()[1] == [2.0, 3.0]


def test_files_of_other_tools_are_read(tmp_path):
    path = tmp_path / "v.parquet"
    parquet.write_table(pyarrow.table({"vector": [[1.0, 2.0], [3.0, 4.0]], "label": ["b", "a"]}), path)
    table = VectorTable.load(path)
    np.testing.assert_array_equal(table.vectors, [[1, 2], [3, 4]])
    assert table.class_names == ("a", "b")
    assert table.ids.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": [1]}, "expected a column 'vector', got x"),
        ({"vector": [1.0]}, "must hold a list of numbers"),
        ({"vector": [[1.0], [1.0, 2.0]]}, r"lists of one length, got \[1, 2\]"),
        ({"vector": [[1.0], None]}, "must hold a list of numbers"),
        ({"vector": [[1.0]], "label": [None]}, "column 'label' has 1 empty cells"),
        ({"vector": [[float("nan")]]}, "row 0 holds nan"),
    ],
)
def test_files_with_the_wrong_columns_are_named(content, message, tmp_path):
    path = tmp_path / "v.parquet"
    parquet.write_table(pyarrow.table(content), path)
    with pytest.raises(FileFormatError, match=message):
        VectorTable.load(path)


def test_damage_anywhere_in_the_file_is_an_error_and_never_a_table(tmp_path):
    path = tmp_path / "v.parquet"
    table = VectorTable(vectors=np.random.default_rng(0).normal(size=(200, 4)), labels=np.arange(200) % 3)
    table.save(path)
    whole = path.read_bytes()
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match=r"v\.parquet"):
            VectorTable.load(path)
    middle = whole.index(table.vectors[50:51].tobytes())
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(FileFormatError, match=r"v\.parquet"):
        VectorTable.load(path)
    with pytest.raises(FileNotFoundError, match=r"none\.parquet"):
        VectorTable.load(tmp_path / "none.parquet")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "note"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half of the n")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note"]
    write_atomic(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
