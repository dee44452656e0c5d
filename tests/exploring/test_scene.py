"""From a command's arguments to what is explored, and the maps of it."""

import json
import socket

import numpy as np
import pytest

import kyori
from exploring.samples import digits, scene
from kyori.cli.main import run as kyori_command
from kyori.errors import ArgumentError, DataError, FileFormatError, MissingExtraError
from kyori.exploring import Explorer, Layouts, choose_layout, layouts, open_scene, open_vectors
from kyori.exporting import write_vectors

TABLE, SOURCE = digits(40)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exploring") / "run"
    kyori.fit("digits", loss="triplet", epochs=1, seed=0, out=folder, report=None)
    return folder


def test_a_run_shows_its_test_items_with_their_pictures(run):
    found = open_scene(run)
    kept = kyori.open_run(run).table
    assert (found.name, found.note, found.looks.known) == ("run", "", len(kept))
    np.testing.assert_array_equal(found.table.vectors, kept.vectors)
    digits = kyori.open_source("digits")
    row = int(np.flatnonzero(digits.ids == kept.ids[7])[0])
    np.testing.assert_array_equal(np.asarray(found.looks._item(7)), digits.load([row])[0].squeeze())


def test_a_run_with_data_shows_those(run, tmp_path):
    own = open_scene(run, "digits")  # its own data: the test items, as they were encoded
    assert len(own.table) == len(kyori.open_run(run).table)
    assert len(open_scene(run, "digits", "validation").table) != len(own.table)
    np.savez(tmp_path / "other.npz", X=SOURCE.load(range(40)).squeeze(), y=SOURCE.labels)
    other = open_scene(run, str(tmp_path / "other.npz"))
    assert (len(other.table), other.looks.known) == (40, 40)


def test_a_run_whose_data_are_gone_shows_vectors_and_says_so(run, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "moved")
    facts = json.loads((tmp_path / "moved" / "data.json").read_text())
    (tmp_path / "moved" / "data.json").write_text(json.dumps({**facts, "name": "gone/"}))
    found = open_scene(tmp_path / "moved")
    assert "no pictures" in found.note
    assert found.looks.known == 0
    assert found.looks.thumbnail(0, "x").startswith("<svg")


@pytest.mark.parametrize("format", ["parquet", "numpy"])
def test_files_of_vectors_come_back_as_they_were(tmp_path, format):
    path = tmp_path / ("v.parquet" if format == "parquet" else "v.npz")
    write_vectors(TABLE, path, format)
    found = open_vectors(path)
    np.testing.assert_array_equal(found.vectors, TABLE.vectors)
    np.testing.assert_array_equal(found.ids, TABLE.ids)
    np.testing.assert_array_equal(found.labels, TABLE.labels)
    assert (found.class_names, list(found.columns)) == (TABLE.class_names, list(TABLE.columns))
    assert open_scene(path, "digits").looks.known == 40


def test_what_cannot_be_opened_is_said(tmp_path, capsys):
    np.savez(tmp_path / "xy.npz", X=np.eye(3), y=[0, 1, 2])
    with pytest.raises(FileFormatError, match=r"must hold an array 'vectors'.*got X, y"):
        open_scene(tmp_path / "xy.npz")
    (tmp_path / "no.npz").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="damaged"):
        open_scene(tmp_path / "no.npz")
    np.savez(tmp_path / "nan.npz", vectors=np.array([[1.0, np.nan]]))
    with pytest.raises(DataError, match="row 0 holds nan"):
        open_scene(tmp_path / "nan.npz")
    np.savez(tmp_path / "none.npz", vectors=np.zeros((0, 3)))
    with pytest.raises(DataError, match="no items to explore"):
        open_scene(tmp_path / "none.npz")
    with pytest.raises(FileFormatError, match="not a run folder"):
        open_scene(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.npz"):
        open_scene(tmp_path / "gone.npz")
    kyori.VectorTable(ids=["a", "b"], vectors=np.eye(2)).save(tmp_path / "v.parquet")
    with pytest.raises(DataError, match="none of the 2 ids"):
        open_scene(tmp_path / "v.parquet", "digits")


def test_some_items_without_a_picture_are_counted(tmp_path):
    kyori.VectorTable(ids=[3, 5000], vectors=np.eye(2)).save(tmp_path / "v.parquet")
    found = open_scene(tmp_path / "v.parquet", "digits")
    assert "1 of 2 items are not in digits" in found.note
    assert found.looks.thumbnail(0, "x").startswith("<img")
    assert found.looks.thumbnail(1, "x").startswith("<svg")


def test_a_picture_that_cannot_be_read_says_so(tmp_path):
    from PIL import Image

    (tmp_path / "data" / "a").mkdir(parents=True)
    Image.new("L", (20, 20), 90).save(tmp_path / "data" / "a" / "good.png")
    whole = (tmp_path / "data" / "a" / "good.png").read_bytes()
    (tmp_path / "data" / "a" / "torn.png").write_bytes(whole[:50])
    ids = ["a/good.png", "a/torn.png"]
    kyori.VectorTable(ids=ids, vectors=np.eye(2)).save(tmp_path / "v.parquet")
    found = open_scene(
        tmp_path / "v.parquet", str(tmp_path / "data")
    )  # nothing is decoded before it is looked at
    assert found.looks.thumbnail(0, "x").startswith("<img")
    torn = found.looks.thumbnail(1, "x")
    assert torn.startswith("<p")
    assert "torn.png" in torn


# -- maps ---------------------------------------------------------------------------------------------------------


def test_large_sets_are_placed_by_pca_unless_asked():
    assert choose_layout(None, layouts.PATIENT) == "tsne"
    assert choose_layout(None, layouts.PATIENT + 1) == "pca"
    assert choose_layout("tsne", 10**6) == "tsne"
    with pytest.raises(ArgumentError, match=r"--projection must be one of tsne, pca, umap; got 'tnse'.*tsne"):
        choose_layout("tnse", 10)


def test_a_better_map_takes_the_place_of_the_first(monkeypatch):
    monkeypatch.setattr(layouts, "_AT_ONCE", 10)
    made = Layouts(TABLE.vectors, "tsne", seed=3)
    first = made.current
    assert (first.method, made.state, made.wanted) == ("pca", "working", "tsne")
    made.start()
    made.wait()
    assert (made.current.method, made.state) == ("tsne", "ready")
    expected = layouts.place(TABLE.vectors, "tsne", 3)  # the same bits as in this process
    np.testing.assert_array_equal(made.current.points, expected.points)
    assert made.current.points.shape == first.points.shape == (40, 2)


def test_a_map_that_cannot_be_made_leaves_the_first(monkeypatch, caplog):
    monkeypatch.setattr(layouts, "_AT_ONCE", 10)
    monkeypatch.setattr("sys.executable", "/bin/false")
    made = Layouts(TABLE.vectors, "tsne")
    made.start()
    made.wait()
    assert (made.current.method, made.state) == ("pca", "failed")
    assert "no tsne map (exit code 1)" in caplog.text


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    TABLE.save(tmp_path / "v.parquet")
    return str(tmp_path / "v.parquet")


def test_the_command_says_where_it_is(file, capsys, monkeypatch):
    monkeypatch.setattr(Explorer, "run", lambda self: None)
    arguments = ["explore", file, "--port", "0", "--no-browser", "--projection", "pca"]
    assert kyori_command([*arguments, "--color", "ink", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["address"].startswith("http://127.0.0.1:")
    assert (said["items"], said["projection"], said["metric"]) == (40, "pca", "euclidean")
    assert said["columns"] == ["label", "ink", "half", "number"]
    assert kyori_command(arguments) == 0
    assert "v.parquet: 40 items at http://127.0.0.1:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            ["--color", "inc"],
            "--color must be one of the columns label, ink, half, number; got 'inc'; did you mean",
        ),
        (["--projection", "nothing"], "--projection must be one of"),
        (["--lang", "fr"], "lang must be 'en' or 'ja'"),
        (["--metric", "manhattan"], "Invalid value for '--metric'"),
        (["--port", "70000"], "Invalid value for '--port'"),
    ],
)
def test_mistakes_are_one_line(file, capsys, extra, message):
    assert kyori_command(["explore", file, "--no-browser", *extra]) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_said(file, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert kyori_command(["explore", file, "--no-browser", "--port", port]) == 2
    assert "Choose another port; 0 takes a free one." in capsys.readouterr().err


def test_a_missing_extra_is_named(file, capsys, monkeypatch):
    import kyori.optional

    def missing(module, *, extra, purpose):
        raise MissingExtraError(f'{purpose} needs {module}: pip install "kyori[{extra}]"')

    monkeypatch.setattr(kyori.optional, "require", missing)
    assert kyori_command(["explore", file, "--no-browser"]) == 2
    assert 'kyori explore needs fastapi: pip install "kyori[serve]"' in capsys.readouterr().err


def test_an_explorer_stops_with_its_map_unfinished(monkeypatch):
    monkeypatch.setattr(layouts, "_AT_ONCE", 10)
    with Explorer(scene(TABLE, SOURCE), port=0) as explorer:
        assert explorer.desk.layouts.state == "working"
    assert explorer.desk.layouts.state == "working"
    assert explorer.desk.layouts._process.returncode == -9
