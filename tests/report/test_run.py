"""The report of one run, with data of every odd kind."""

import numpy as np
import pytest

from kyori.errors import ArgumentError
from kyori.report import Trial, write_run_report
from kyori.report.thumbnails import image_of, thumbnail
from kyori.results import Result, Results
from kyori.vectors import VectorTable
from report.samples import Page, Pictures, Vectors, trial


def written(tmp_path, made, items=None, **options):
    path = write_run_report(made, items or Pictures(), tmp_path / "report.html", data="some data", **options)
    return Page(path.read_text("utf-8"))


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize(
    ("made", "items"),
    [
        (trial(), Pictures()),
        (trial(validation=False), Pictures(200)),
        (trial(epochs=1, per_query=False), Vectors()),
        (trial(epochs=0, curves=False), Vectors(1)),
        (trial(n=400, classes=200), Pictures()),
        (trial(classes=1), Pictures()),
        (trial(n=2, classes=2), Pictures()),
        (trial(noise=0.0), Pictures()),
    ],
    ids=[
        "usual",
        "no validation",
        "one epoch",
        "no curves",
        "200 classes",
        "one class",
        "two items",
        "collapsed",
    ],
)
def test_any_data_make_a_page(tmp_path, made, items, lang):
    page = written(tmp_path, made, items, lang=lang)
    assert len(set(page.ids)) == len(page.ids)
    assert all(page.alts)


def test_one_item_without_labels(tmp_path):
    table = VectorTable(vectors=np.ones((1, 3)))
    alone = Trial("arcface", 0, Results([Result("map@r", np.nan, np.nan, np.nan)]), table)
    page = written(tmp_path, alone)
    assert "pairs" not in page.ids
    assert "queries" not in page.ids


def test_hits_and_misses_are_told_without_colour(tmp_path):
    page = written(tmp_path, trial(noise=1.5))
    marks = [attributes.get("aria-label") for name, attributes in page.tags if name == "i"]
    assert {"hit", "miss"} <= set(marks)


def test_more_classes_than_colours_are_said(tmp_path):
    assert "180 other classes" in written(tmp_path, trial(n=400, classes=200)).words


def test_class_names_are_escaped_and_numbered_where_long(tmp_path):
    names = ["<script>x</script>", "T-shirt $5", "ねこ", "dog"]
    page = written(tmp_path, trial(names=names))
    assert [name for name, _ in page.tags].count("script") == 1
    assert all(name in page.words for name in names)


def test_unknown_measure_and_language(tmp_path):
    with pytest.raises(ArgumentError, match="did you mean 'map@r'"):
        written(tmp_path, trial(), measure="map@x")
    with pytest.raises(ArgumentError, match="lang must be 'en' or 'ja'"):
        written(tmp_path, trial(), lang="fr")
    assert list(tmp_path.iterdir()) == []


def test_large_images_are_shrunk_and_small_ones_kept_sharp():
    small, large = (thumbnail(Pictures(size).read(7), "x") for size in (8, 900))
    assert 'class="pixels"' in small
    assert "image/png" in small
    assert "image/webp" in large
    assert len(large) < 3000


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_of_image(mode):
    from PIL import Image

    assert "data:image/png" in thumbnail(Image.new(mode, (4, 4)), "x")


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3)])
def test_numbers_are_grey_maps(shape):
    """A set of vectors, or an array with its channels first: from its smallest number, black, to its largest."""
    numbers = np.linspace(-1e-3, 1e-3, 15).reshape(5, 3) * np.ones(shape)
    shades = np.asarray(image_of(numbers))
    assert shades.shape == (5, 3)
    assert (shades.min(), shades.max()) == (0, 255)
    assert (np.diff(shades.ravel().astype(int)) > 0).all()
    assert np.asarray(image_of(np.full(shape, np.nan))).max() == 0


def test_bars_are_as_high_as_their_features():
    import re

    path = re.search(r' d="([^"]*)"', thumbnail(np.array([1.0, -1.0, 0.5]), "x"))[1]
    heights = [float(a) - float(b) for a, b in re.findall(r" ([\d.]+)V([\d.]+)", path)]
    assert heights == [16.0, -16.0, 8.0]
