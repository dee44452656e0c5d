"""Pairs: from files as people have them, and from labelled vectors."""

import numpy as np
import pytest

import kyori
from kyori.errors import ArgumentError, DataError, FileFormatError
from kyori.recognition import is_pairs_file, pair_distances, pairs_of, read_pairs

EXPECTED = (["a.png", "a.png"], ["b c.png", "d.png"], [True, False])


@pytest.mark.parametrize(
    "text",
    [
        "a.png,b c.png,1\na.png,d.png,0\n",
        "first,second,same\na.png,b c.png,1\na.png,d.png,0\n",
        "\ufeffpath_1\tpath_2\tlabel\r\na.png\tb c.png\ttrue\r\n\r\na.png\td.png\tFalse\r\n",
        "a.png;b c.png;same\na.png;d.png;different\n",
        "1,a.png,b c.png\n0,a.png,d.png\n",
        'a.png,"b c.png",yes\na.png,d.png,-1\n',
    ],
)
def test_forms_of_a_pairs_file(text, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    pairs = read_pairs(path, labelled=True)
    assert (list(pairs.first), list(pairs.second), pairs.same.tolist()) == EXPECTED
    assert is_pairs_file(path)


def test_ids_may_be_numbers_and_the_answer_missing(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("0 1 1\n1 0 0\n")
    pairs = read_pairs(path)
    assert (pairs.first, pairs.second, pairs.same.tolist()) == (["0", "1"], ["1", "0"], [True, False])
    for text in ("7,8\n9,10\n", "a,b\n7,8\n9,10\n", "id_1,id_2\n7,8\n9,10\n"):
        path.write_text(text)
        pairs = read_pairs(path)
        assert (pairs.first, pairs.same) == (["7", "9"], None)
    with pytest.raises(FileFormatError, match="third column"):
        read_pairs(path, labelled=True)


def test_the_pairs_of_labeled_faces_in_the_wild(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("1\t2\nAnn_Lee\t1\t4\nBob\t3\t12\nAnn_Lee\t2\tBob\t1\nBob\t2\tEve\t10\n")
    pairs = read_pairs(path)
    assert pairs.first[:2] == ["Ann_Lee/Ann_Lee_0001.jpg", "Bob/Bob_0003.jpg"]
    assert pairs.first[2:] == ["Ann_Lee/Ann_Lee_0002.jpg", "Bob/Bob_0002.jpg"]
    assert pairs.second[3] == "Eve/Eve_0010.jpg"
    assert pairs.same.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no pairs"),
        (b"a,b,same\n", "no pairs below"),
        (b"a,b,1\nc,d\n", "pair 2: expected 3 values"),
        (b"a,b,1\nc,,0\n", "pair 2: expected 3 values"),
        (b"a,b,1\nc,d,maybe\n", "pair 2: same must be 1 or 0"),
        (b"a,b,c,d\n", "got 4 columns"),
        (b"\xff\xfe\x00", "no text file"),
    ],
)
def test_a_broken_file_is_named_with_the_place(content, message, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        read_pairs(path)


def test_a_manifest_is_no_pairs_file(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("path,label\na.png,x\n")
    assert not is_pairs_file(path)
    assert not is_pairs_file(tmp_path)
    assert not is_pairs_file("digits")


def test_all_pairs_or_an_even_sample():
    rng = np.random.default_rng(0)
    table = kyori.VectorTable(vectors=rng.normal(size=(60, 3)), labels=rng.integers(0, 4, 60))
    rows, same = pairs_of(table)
    assert len(rows) == 60 * 59 // 2
    assert len({tuple(pair) for pair in rows.tolist()}) == len(rows)
    assert (rows[:, 0] < rows[:, 1]).all()
    assert same.tolist() == [table.labels[a] == table.labels[b] for a, b in rows]
    some, same_some = pairs_of(table, limit=500)
    assert 400 <= len(some) <= 500
    assert len({tuple(pair) for pair in some.tolist()}) == len(some)
    assert same_some.mean() == pytest.approx(same.mean(), abs=0.06)
    again, _ = pairs_of(table, limit=500)
    np.testing.assert_array_equal(some, again)
    for a, b, distance in zip(*rows[:5].T, pair_distances(table.vectors, rows[:5], "euclidean"), strict=True):
        assert distance == pytest.approx(np.linalg.norm(table.vectors[a] - table.vectors[b]), rel=1e-6)


def test_what_has_no_pairs_is_an_error():
    with pytest.raises(DataError, match="at least 2 items"):
        pairs_of(kyori.VectorTable(vectors=[[1.0]], labels=[0]))
    with pytest.raises(DataError, match="no labels"):
        pairs_of(kyori.VectorTable(vectors=[[1.0], [2.0]]))
    with pytest.raises(ArgumentError, match="limit"):
        pairs_of(kyori.VectorTable(vectors=[[1.0], [2.0]], labels=[0, 1]), limit=0)
