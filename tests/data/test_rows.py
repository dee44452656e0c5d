"""Rows of numbers."""

import numpy as np
import pytest

import kyori
from kyori.cli.main import run as kyori_command
from kyori.data import open_source
from kyori.errors import ArgumentError, DataError


def write(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return path


ROWS = "y,a,b,note,split\nx,1,2.5,hm,train\nz,3,-4e2,hm,test\nx,0,0,hm,train\n"


def test_named_and_all_numeric_columns(tmp_path):
    path = write(tmp_path, ROWS)
    source = open_source(path, label="y", features="b,a")
    assert source.load([0, 1, 2]).tolist() == [[2.5, 1], [-400, 3], [0, 0]]
    assert source.class_names == ("x", "z")
    assert source.columns["split"].tolist() == ["train", "test", "train"]
    assert open_source(path, label="y", features="numeric").load([0]).tolist() == [[1, 2.5]]
    assert open_source(path, features=["a"]).labels is None


WRONG = {
    r"no column 'yy' for the labels": (ROWS, {"label": "yy", "features": "a"}),
    r"features names 'c', which is not there": (ROWS, {"features": "a,c"}),
    r"row 1: 'note' must be a number; got 'hm'": (ROWS, {"features": "note"}),
    r"row 2 has no value in the column 'a' \(1 such rows\)\. Fill them": (
        "a,b\n1,2\n ,3\n",
        {"features": "numeric"},
    ),
    r"row 1 has no label in 'label'": ("a,label\n1,\n2,x\n", {"features": "a"}),
    r"row 2: 'a' is infinite or NaN": ("a,label\n1,x\ninf,x\n", {"features": "a"}),
    r"no column holds numbers only": ("n,label\nu,x\n", {"features": "numeric"}),
    r"different columns without the label": (ROWS, {"label": "y", "features": "a,a"}),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_rows_say_what_is_wrong(tmp_path, message):
    text, options = WRONG[message]
    with pytest.raises(DataError, match=message):
        open_source(write(tmp_path, text), **options)


def test_features_belong_to_tables():
    with pytest.raises(ArgumentError, match="label= and features= name columns of manifests"):
        open_source("digits", features="a")


def test_train_from_the_command_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    rows = [f"k{label},{label * 1e6 + rng.normal()},{rng.normal()}" for label in labels]
    path = write(tmp_path, "kind,large,small\n" + "\n".join(rows) + "\n")
    words = [
        "train",
        str(path),
        "--label",
        "kind",
        "--features",
        "numeric",
        "--backbone",
        "mlp",
        "--epochs",
        "5",
    ]
    assert (
        kyori_command([*words, "--batch-size", "32", "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    )
    run = kyori.open_run(tmp_path / "run")
    assert run.embedder.input_shape == (2,)
    assert run.results["recall@1"].value > 0.9
    capsys.readouterr()
    assert (
        kyori_command(["embed", str(tmp_path / "run"), str(path), "--out", str(tmp_path / "v.parquet")]) == 0
    )
    assert len(run.embedder.encode(np.zeros((4, 2), dtype=np.float32))) == 4
