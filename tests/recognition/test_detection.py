"""Detect, then identify: planted pictures, found again by boxes from a table and from a detector."""

import numpy as np
import pytest
from PIL import Image

import kyori
from kyori.errors import ArgumentError, DataError, ItemError
from kyori.recognition import Recogniser, identify_boxes, identify_in, read_boxes

PLACES = [(5, 7), (40, 12), (22, 44)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A recogniser of digits, and a picture with three of them on black: who, and where."""
    folder = tmp_path_factory.mktemp("scene")
    digits = kyori.open_source("digits")
    run = kyori.fit("digits", loss="triplet", epochs=2, seed=0, report=None)
    index = kyori.open_index(folder / "index")
    recogniser = Recogniser(run.embedder, index)
    known = digits.take(np.arange(600))
    recogniser.add(known, labels=[digits.class_names[label] for label in known.labels])
    planted = [3, 14, 25]
    picture = np.zeros((64, 64), np.uint8)
    for item, (x, y) in zip(planted, PLACES, strict=True):
        picture[y : y + 8, x : x + 8] = digits.load([item])[0][:, :, 0]
    Image.fromarray(picture).save(folder / "scene.png")
    yield recogniser, folder, [digits.class_names[digits.labels[item]] for item in planted]
    index.close()


def bright_squares(picture):
    """A detector of the simplest kind: 8×8 boxes around what was planted, found by their light."""
    assert picture.dtype == np.uint8
    assert picture.shape == (64, 64, 3)
    return [(x, y, x + 8, y + 8) for x, y in PLACES if picture[y : y + 8, x : x + 8].mean() > 20]


def test_a_detector_finds_and_the_index_names(scene):
    recogniser, folder, names = scene
    for item in (
        folder / "scene.png",
        Image.open(folder / "scene.png"),
        np.asarray(Image.open(folder / "scene.png")),
    ):
        found = identify_in(recogniser, [item], bright_squares, k=2, threshold=1e-3)
        assert [one.identity.identity for one in found] == names
        assert [one.box[:2] for one in found] == [tuple(map(float, place)) for place in PLACES]
        assert all(len(one.identity.candidates) == 2 for one in found)
    blank = np.zeros((64, 64), np.uint8)
    both = identify_in(
        recogniser, [blank, np.asarray(Image.open(folder / "scene.png"))], bright_squares, threshold=1.0
    )
    assert [one.item for one in both] == [1, 1, 1]


@pytest.mark.parametrize("form", ["edges", "sizes", "parquet"])
def test_boxes_from_a_table_are_cut_out_and_columns_handed_on(scene, form, tmp_path):
    recogniser, folder, names = scene
    ends = [(x, y, 8, 8) if form == "sizes" else (x, y, x + 8, y + 8) for x, y in PLACES]
    head = "path,x,y,w,h,score" if form == "sizes" else "path,x_1,y_1,x_2,y_2,score"
    rows = [f"{folder / 'scene.png'},{','.join(map(str, box))},0.{i}" for i, box in enumerate(ends)]
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    if form == "parquet":
        from pyarrow import csv, parquet

        parquet.write_table(csv.read_csv(path), tmp_path / "boxes.parquet")
        path = tmp_path / "boxes.parquet"
    found = identify_boxes(recogniser, read_boxes(path), threshold=1e-3)
    assert [one.identity.identity for one in found] == names
    assert [float(one.columns["score"]) for one in found] == [0.0, 0.1, 0.2]
    assert found[0].as_dict()["score"] in ("0.0", "0")


def test_a_box_is_the_same_item_as_in_a_manifest(scene, tmp_path):
    """What an index made of a manifest with boxes holds, is what a box of the same picture finds at distance 0."""
    recogniser, folder, _ = scene
    manifest = tmp_path / "m.csv"
    rows = [f"{folder / 'scene.png'},{i},{x},{y},{x + 8},{y + 8}" for i, (x, y) in enumerate(PLACES)]
    manifest.write_text("\n".join(["path,label,x_1,y_1,x_2,y_2", *rows]) + "\n")
    with pytest.warns(kyori.errors.DataWarning, match="single picture"):
        source = kyori.open_source(manifest, size=8)
    with kyori.open_index(tmp_path / "i") as index:
        other = Recogniser(recogniser.encoder, index)
        other.add(source, labels=source.labels, ids=source.ids)
        found = identify_boxes(other, read_boxes(manifest), threshold=1e-3)
    assert [one.identity.identity for one in found] == [0, 1, 2]


def test_a_box_over_the_edge_is_clipped_and_one_beside_is_an_error(scene):
    recogniser, folder, _ = scene
    path = str(folder / "scene.png")
    (found,) = identify_boxes(recogniser, [(path, (-4, 50, 10, 99), {})], threshold=1.0)
    assert found.box == (0.0, 50.0, 10.0, 64.0)
    for box in [(70, 0, 80, 9), (5, 5, 5, 9), (np.nan, 0, 1, 1), (1, 2, 3)]:
        with pytest.raises(DataError, match="box"):
            identify_boxes(recogniser, [(path, box, {})], threshold=1.0)


def test_mistakes_are_named(scene, tmp_path):
    recogniser, folder, _ = scene
    with pytest.raises(DataError, match="must return a list of boxes"):
        identify_in(recogniser, [folder / "scene.png"], lambda picture: [3], threshold=1.0)
    with pytest.raises(ArgumentError, match="of uint8"):
        identify_in(recogniser, [np.zeros((4, 4))], bright_squares, threshold=1.0)
    with pytest.raises(ItemError, match="no such file"):
        identify_in(recogniser, [tmp_path / "none.png"], bright_squares, threshold=1.0)
    with pytest.raises(ArgumentError, match="not calibrated for identification"):
        identify_in(recogniser, [folder / "scene.png"], bright_squares)
    path = tmp_path / "b.csv"
    for text, message in [
        ("path,x,y\na,1,2\n", "expected the columns path and"),
        ("path,x,y,w,h\na,1,2,b,4\n", "row 1: x, y, w, h must be numbers"),
        ("path,x,y,w,h\na,1,2\n", "row 1: expected 5 values"),
        ("path,x,y,w,h\n,1,2,3,4\n", "the path is missing"),
        ("path,x,y,w,h\n", "lists no boxes"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_boxes(path)
