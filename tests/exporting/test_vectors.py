"""Vectors for other tools, and their sizes."""

import json
import sys

import numpy as np
import pyarrow.parquet
import pytest

import kyori
from kyori.cli.main import run as command
from kyori.errors import ArgumentError, DataError
from kyori.exporting import compare_sizes, write_vectors
from kyori.neighbors import nearest


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    labels = np.repeat(["cat\twith tab", "犬", "line\nbreak"], 10)
    columns = {"price": rng.normal(size=30), "shop": np.array(["a", "b\r\n"] * 15)}
    return kyori.VectorTable([f"item {i}" for i in range(30)], rng.normal(size=(30, 8)), labels, columns)


def test_parquet(table, tmp_path):
    write_vectors(table, tmp_path / "v.parquet")
    np.testing.assert_array_equal(kyori.VectorTable.load(tmp_path / "v.parquet").vectors, table.vectors)


def test_numpy(table, tmp_path):
    write_vectors(table, tmp_path / "v.npz", "numpy")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["vectors"], table.vectors)
        assert found["ids"].tolist() == table.ids.tolist()
        assert found["class_names"][found["labels"]].tolist() == [
            table.class_names[label] for label in table.labels
        ]
        np.testing.assert_array_equal(found["column_price"], table.columns["price"])
        assert found["column_shop"].tolist() == table.columns["shop"].tolist()


def test_projector(table, tmp_path):
    write_vectors(table, tmp_path / "p", "projector")
    vectors = [line.split("\t") for line in (tmp_path / "p/vectors.tsv").read_text().splitlines()]
    np.testing.assert_array_equal(np.array(vectors, np.float32), table.vectors)
    names, *rows = [
        line.split("\t") for line in (tmp_path / "p/metadata.tsv").read_bytes().decode().split("\n")[:-1]
    ]
    assert names == ["id", "label", "price", "shop"]
    assert len(rows) == 30
    assert all(len(row) == 4 for row in rows)
    assert {row[1] for row in rows} == {"cat with tab", "犬", "line break"}
    assert "metadata.tsv" in (tmp_path / "p/projector_config.pbtxt").read_text()
    write_vectors(kyori.VectorTable(["a", "b"], np.eye(2)), tmp_path / "q", "projector")
    assert (tmp_path / "q/metadata.tsv").read_text() == "a\nb\n"  # a single column has no header


def test_atlas(table, tmp_path):
    write_vectors(table, tmp_path / "a.parquet", "atlas")
    found = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert set(found) == {"id", "label", "x", "y", "neighbors", "vector", "price", "shop"}
    expected = nearest(table.vectors, table.vectors, 15, exclude_self=True)
    for row, one in enumerate(found["neighbors"]):
        assert one["ids"] == expected.ids[row].tolist()
        assert one["distances"] == pytest.approx(expected.distances[row].tolist())
    assert np.isfinite(found["x"]).all()
    lonely = kyori.VectorTable([5], [[1.0, 2.0]])
    write_vectors(lonely, tmp_path / "one.parquet", "atlas")
    assert pyarrow.parquet.read_table(tmp_path / "one.parquet").to_pydict()["neighbors"] == [
        {"ids": [], "distances": []}
    ]


def test_mistakes(table, tmp_path):
    (tmp_path / "file").write_text("")
    for path, format, said in (
        ("x", "csv", "format must be one of parquet, numpy, projector, atlas"),
        ("file", "projector", "is a file"),
        (".", "numpy", "is a folder"),
    ):
        with pytest.raises(ArgumentError, match=said):
            write_vectors(table, tmp_path / path, format)
    clash = kyori.VectorTable(vectors=np.eye(3), columns={"x": [1, 2, 3]})
    with pytest.raises(ArgumentError, match="column 'x' itself"):
        write_vectors(clash, tmp_path / "c.parquet", "atlas")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_sizes():
    rng = np.random.default_rng(0)
    centres = np.zeros((8, 16), np.float32)
    centres[:, :4] = rng.normal(size=(8, 4)) * 4  # all that matters stands in the first four numbers
    labels = np.repeat(np.arange(8), 100)
    vectors = centres[labels] + rng.normal(size=(800, 16)) * np.r_[np.ones(4), np.full(12, 0.01)]
    sizes = {
        size.name: size
        for size in compare_sizes(kyori.VectorTable(vectors=vectors, labels=labels), unit=False)
    }
    assert [sizes[name].bytes for name in ("float32", "float16", "int8", "first 8", "first 4", "pq 4×4")] == [
        64,
        32,
        16,
        32,
        16,
        2,
    ]
    assert sizes["float32"].recall == 1.0
    assert sizes["first 4"].recall > 0.95  # nothing is lost with what is cut away
    assert sizes["pq 2×4"].recall < sizes["pq 8×4"].recall < 1
    assert sizes["float16"].measures["recall@1"] == pytest.approx(
        sizes["float32"].measures["recall@1"], abs=0.01
    )
    assert compare_sizes(kyori.VectorTable(vectors=vectors[:50]))[0].measures == {}
    with pytest.raises(DataError, match="at least 12 vectors"):
        compare_sizes(kyori.VectorTable(vectors=vectors[:11]))


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kyori.fit("digits", loss="triplet", epochs=1, out=tmp_path / "run", report=None)
    assert command(["embed", "run", "digits", "--format", "numpy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == "vectors.npz"
    assert command(["embed", "run", "digits", "--out", "run", "--format", "atlas"]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert command(["export", "run", "digits", "--sizes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sizes"][0]["name"] == "float32"
    assert command(["export", "run", "digits", "--sizes", "--quantize", "int8"]) == 2
    assert "leave --quantize and --out out" in capsys.readouterr().err
    assert command(["export", "run", "digits", "--format", "safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"]["max_difference"] < 1e-6
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert command(["export", "run", "digits"]) == 2
    assert 'pip install "kyori[export]"' in capsys.readouterr().err
