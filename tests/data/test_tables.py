"""CSV and Parquet manifests."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from kyori.data import open_source
from kyori.errors import ArgumentError, DataError, DataWarning

from .conftest import picture


def write_csv(folder, text, name="m.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


ROWS = "ant/0.png,ant\nant/1.png,ant\nbee/0.png,bee\nbee/1.png,bee\n"


def test_minimal_csv(photos):
    source = open_source(write_csv(photos, "path,label\n" + ROWS))
    assert source.class_names == ("ant", "bee")
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert source.ids.tolist() == ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"]
    assert np.array_equal(source.load([2])[0], picture(seed=3))


def test_absolute_paths_bom_and_odd_names(photos):
    odd = photos / "ant" / "a, b 距離.png"
    (photos / "ant" / "0.png").rename(odd)
    text = f'\ufeffpath,label\n"{odd}","x, y"\nant/1.png,"x, y"\nbee/0.png,z\nbee/1.png,z\n'
    source = open_source(write_csv(photos, text))
    assert source.class_names == ("x, y", "z")
    assert source.ids[0] == str(odd)


def test_labels_stay_what_they_are(photos):
    """ "007" is a name, 7 a number; only pure numbers are ordered as such."""
    text = "path,label\nant/0.png,007\nant/1.png,007\nbee/0.png,7\nbee/1.png,7\n"
    assert open_source(write_csv(photos, text)).class_names == ("007", "7")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_all_columns(photos, kind):
    columns = {
        "id": ["w", "x", "y", "z"],
        "path": ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"],
        "label": ["ant", "ant", "bee", "bee"],
        "split": ["train", "val", "test", "test"],
        "is_query": [None, None, True, False],
        "is_gallery": [None, None, False, True],
        "category": ["insect"] * 4,
        "sequence": ["1", "1", "2", "2"],
        "x_1": [0, 1, 2, 3],
        "y_1": [0, 0, 0, 0],
        "x_2": [8, 9, 10, 11],
        "y_2": [4, 4, 4, 4],
    }
    table = pa.table(columns)
    path = photos / f"m.{kind}"
    pa.csv.write_csv(table, path) if kind == "csv" else pa.parquet.write_table(table, path)
    source = open_source(path)
    assert source.item_shape == (4, 8, 3)
    assert source.ids.tolist() == ["w", "x", "y", "z"]
    assert source.columns["split"].tolist() == ["train", "validation", "test", "test"]
    assert source.columns["is_query"].tolist() == [False, False, True, False]
    assert source.columns["is_gallery"].dtype == bool
    assert source.columns["sequence"].tolist() == ["1", "1", "2", "2"]
    assert source.part("test").ids.tolist() == ["y", "z"]
    assert np.array_equal(source.load([2])[0], picture(seed=3)[0:4, 2:10])


def test_boxes_of_one_picture_are_items_of_their_own(photos):
    text = (
        "path,label,x_1,y_1,x_2,y_2\nant/0.png,a,0,0,4,4\nant/0.png,a,4,4,8,8\n"
        "ant/1.png,b,0,0,4,4\nant/1.png,b,2,0,6,4\n"
    )
    source = open_source(write_csv(photos, text))
    assert source.ids.tolist()[:2] == ["ant/0.png#0,0,4,4", "ant/0.png#4,4,8,8"]


def test_integer_labels_in_parquet(photos):
    table = pa.table({"path": ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"], "label": [10, 10, 9, 9]})
    pa.parquet.write_table(table, photos / "m.parquet")
    assert open_source(photos / "m.parquet").class_names == ("9", "10")


def test_further_columns_are_kept_when_asked(photos):
    text = "path,label,colour\n" + ROWS.replace("\n", ",red\n")
    path = write_csv(photos, text)
    assert open_source(path, columns=["colour"]).columns["colour"].tolist() == ["red"] * 4
    assert "colour" in open_source(path, columns="all").columns
    with pytest.raises(DataError, match=r"names 'color', which is not there; did you mean 'colour'\?"):
        open_source(path, columns=["colour", "color"])


def test_missing_files_are_skipped_by_name(photos):
    path = write_csv(photos, "path,label\nant/9.png,ant\n" + ROWS)
    with pytest.warns(DataWarning, match=r"ant/9\.png \(no such file\)"):
        assert len(open_source(path)) == 4


WRONG = {
    "path,labell\na,b\n": r"the column 'label' is missing; got the columns path, labell",
    "label\na\n": r"the column 'path' is missing",
    "path,label,splt\n" + ROWS.replace("\n", ",train\n"): r"unknown column 'splt'; did you mean 'split'\?.*columns=",
    "path,label\n": r"no rows",
    "": r"cannot be read as a csv table",
    "path,label\na,b,c\n": r"cannot be read as a csv table",
    "path,label,split\n" + ROWS.replace("\n", ",tset\n"): r"split of item 0 must be train, .*; got 'tset'",
    "path,label\nant/0.png,\n": r"row 1 has no label",
    "path,label\n,ant\n": r"row 1 has no value in the column 'path'",
    "path,label,is_query\n" + ROWS.replace("\n", ",maybe\n"): r"row 1: is_query must be true, false.*got 'maybe'",
    "path,label,x_1\n" + ROWS.replace("\n", ",1\n"): r"a box needs all of the columns x_1, y_1, x_2, y_2",
    "path,label,x_1,y_1,x_2,y_2\n" + ROWS.replace("\n", ",5,0,5,9\n"): r"needs x_1 < x_2 and y_1 < y_2.*4 such rows",
    "path,label,x_1,y_1,x_2,y_2\n" + ROWS.replace("\n", ",a,0,5,9\n"): r"must be numbers \(pixels\)",
    "path,label,path\n" + ROWS.replace("\n", ",x\n"): r"column names must be unique",
    "path,label\n" + ROWS + ROWS: r"ids must be unique; 4 of them occur more than once, the first is 'ant/0\.png'",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_wrong_manifests_say_what_is_wrong(photos, text):
    path = write_csv(photos, text)
    with pytest.raises(DataError, match=WRONG[text]) as caught:
        open_source(path)
    assert "m.csv" in str(caught.value)


def test_damaged_files(photos):
    (photos / "m.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"m\.parquet: cannot be read as a parquet table"):
        open_source(photos / "m.parquet")
    (photos / "m.csv").write_bytes("path,label\nü.png,ä\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"m\.csv: cannot be read as a csv table"):
        open_source(photos / "m.csv")


def test_columns_belong_to_manifests(photos):
    with pytest.raises(ArgumentError, match="columns= belongs to manifests"):
        open_source(photos, columns=["colour"])
    with pytest.raises(ArgumentError, match="columns= belongs to manifests"):
        open_source((np.zeros((2, 3)), [0, 1]), columns=["colour"])


class Frame:
    """A table in memory of a library that only shares Arrow's protocol, as Polars does."""

    def __init__(self, **columns):
        self._table = pa.table(columns)
        self.columns = list(columns)

    def __array__(self, dtype=None, copy=None):
        return np.stack([column.to_numpy() for column in self._table.columns], axis=1)

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def frames(**columns):
    found = [pa.table(columns), Frame(**columns)]
    try:
        import pandas
    except ImportError:
        return found
    return [*found, pandas.DataFrame(columns, index=np.arange(len(next(iter(columns.values())))) + 7)]


def test_a_table_in_memory_is_rows_of_numbers_with_their_labels():
    for frame in frames(
        a=[1.0, 2.0, 3.0], label=["x", "y", "x"], b=[4, 5, 6], split=["train", "train", "test"]
    ):
        source = open_source(frame)
        assert source.load([0, 2]).tolist() == [[1.0, 4.0], [3.0, 6.0]]
        assert (source.labels.tolist(), source.class_names) == ([0, 1, 0], ("x", "y"))
        assert source.columns["split"].tolist() == ["train", "train", "test"]
    for frame in frames(a=[1.0, 2.0], wine=[3, 1]):
        source = open_source(frame, label="wine", features="a")
        assert (source.item_shape, source.class_names) == ((1,), ("1", "3"))
        assert open_source(frame).labels is None, "no column is called label: numbers and nothing else"
        assert open_source(frame, labels=[0, 1]).item_shape == (2,)


def test_a_table_in_memory_is_a_manifest(photos, monkeypatch):
    monkeypatch.chdir(photos)
    paths = ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"]
    for frame in frames(path=paths, label=["ant", "ant", "bee", "bee"], colour=list("rgbw")):
        source = open_source(frame, columns=["colour"])
        assert source.kind == "image"
        assert source.columns["colour"].tolist() == list("rgbw")
        with pytest.raises(DataError, match="table: unknown column 'colour'"):
            open_source(frame)
    for frame in frames(text=["one", "two"], label=[1, 2]):
        assert open_source(frame).kind == "text"


def test_wrong_tables_in_memory_say_what_is_wrong():
    for frame in frames(a=[1.0, None], label=["x", "y"]):
        with pytest.raises(DataError, match="row 2 has no value in the column 'a'"):
            open_source(frame)
    for frame in frames(a=["u", "v"], label=["x", "y"]):
        with (
            pytest.warns(DataWarning, match="hold no numbers are left out: a"),
            pytest.raises(DataError, match="no column holds"),
        ):
            open_source(frame)
    for frame in frames(a=[1.0, 2.0], label=["x", "y"]):
        with pytest.raises(DataError, match="no column 'lable' for the labels; did you mean 'label'"):
            open_source(frame, label="lable")
        with pytest.raises(DataError, match="features names 'c'"):
            open_source(frame, features=["c"])
    for frame in frames(a=[1.0, 2.0], kind=["x", "y"]):
        with pytest.raises(
            DataError, match=r"no column is called label .* got a, kind\. Name the labels' column"
        ):
            open_source(frame)
    for frame in frames(label=np.array([], str)):
        with pytest.raises(DataError, match="there are no rows"):
            open_source(frame)


def test_columns_without_numbers_are_left_out_with_a_word():
    for frame in frames(a=[1.0, 2.0], name=["u", "v"], label=["x", "y"]):
        with pytest.warns(DataWarning, match="left out: name"):
            assert open_source(frame).item_shape == (1,)
