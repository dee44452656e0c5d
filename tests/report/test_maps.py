"""Maps: the numbers behind the pointer, thumbnails in one picture, and layouts that need a package."""

import base64
import csv
import io
import re
import sys
import types

import numpy as np
import pytest

from kyori.errors import MissingExtraError
from kyori.report import layouts, project
from kyori.report.maps import maps
from kyori.report.sections import Method
from kyori.report.sheet import sheet
from kyori.report.words import Words
from report.samples import Pictures, Vectors, cell

EVIL = "</a>\"'<script>alert(1)</script>\u202e\N{PILE OF POO}"


def panels_of(made, items=None, **options):
    return maps([Method(made.method, [made])], "map@r", Words(), items=items, layout="pca", **options)[1]


def test_a_point_is_where_the_script_looks_for_it():
    made = cell(n=30, ids=[f"{EVIL}{i}" for i in range(30)])
    (figure,) = panels_of(made).figures
    a, b, c, d = map(float, figure.facts["scale"].split())
    rows = list(csv.DictReader(io.StringIO(figure.data.csv())))
    assert [row["id"] for row in rows] == made.table.ids.tolist()
    assert [row["series"] for row in rows] == [str(label) for label in made.table.labels]
    drawn = np.array(re.findall(r"M ([\d.]+) ([\d.]+)", figure.drawing), dtype=float)
    wanted = np.array([[a + b * float(row["x"]), c + d * float(row["y"])] for row in rows])
    apart = np.linalg.norm(drawn[:, None] - wanted[None], axis=-1)
    assert apart.min(axis=0).max() < 0.05
    assert "<script" not in figure.html()


def test_methods_on_other_items_are_left_out_and_named():
    best, same, other = cell("a"), cell("b"), cell("c", ids=np.arange(100, 140))
    methods = [Method("c", [other]), Method("a", [best], best=True), Method("b", [same])]
    heading, panels = maps(methods, "map@r", Words(), layout="pca")
    assert [figure.title for figure in panels.figures] == ["a", "b"]
    assert heading.note.endswith("measured on other items: c.")


def picture_of(markup):
    from PIL import Image

    coded = re.search(r"base64,([^\"]+)", markup)[1]
    return Image.open(io.BytesIO(base64.b64decode(coded)))


def test_the_sheet_holds_each_item_in_its_place():
    image = picture_of(sheet(Pictures(8), np.arange(0, 250, 5), "thumbnails"))
    assert image.size == (32 * 8, 2 * 8)
    grey = np.asarray(image.convert("L")).astype(int)
    for place, index in ((0, 0), (20, 100), (33, 165), (49, 245)):
        x, y = place % 32 * 8, place // 32 * 8
        assert abs(grey[y + 4, x + 4] - index) < 12


def test_vectors_have_no_sheet_and_large_pictures_are_made_small():
    assert sheet(Vectors(), np.arange(4), "x") == ""
    assert picture_of(sheet(Pictures(500), np.arange(3), "x")).size == (120, 40)
    assert "sheet" in panels_of(cell(), Pictures()).html()
    assert 'class="sheet"' not in panels_of(cell(), None).html()


def test_umap_is_offered_where_it_is_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "umap" else object())
    assert layouts() == ("tsne", "pca")
    with pytest.raises(MissingExtraError, match="umap-learn"):
        project(np.eye(6), method="umap")


def test_umap_starts_where_tsne_does_and_gets_the_seed(monkeypatch):
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, components):
            return components[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP, __spec__=None))
    monkeypatch.setattr("kyori.report.projection.layouts", lambda: ("tsne", "umap", "pca"))
    found = project(np.random.default_rng(0).normal(size=(9, 4)), method="umap", seed=3)
    assert found.method == "umap"
    assert (asked["random_state"], asked["n_neighbors"], asked["init"].shape) == (3, 8, (9, 2))
