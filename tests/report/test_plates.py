"""Figures as files."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from kyori.report import plates, write_run_report
from report.samples import Pictures, spring, trial


def files_of(folder, made, **options):
    write_run_report(
        made,
        Pictures(),
        folder / "r.html",
        data="x",
        forces=spring(),
        layout="pca",
        figures_to=folder / "f",
        **options,
    )
    return {path.name: path for path in (folder / "f").iterdir()}


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_every_figure_is_there_as_drawing_and_as_numbers(tmp_path, lang):
    files = files_of(tmp_path, trial(norms=True, names=["<b>", "ねこ", "\N{PILE OF POO}", "d$x$"]), lang=lang)
    names = {"validation", "loss", "active", "map", "distances", "springs", "settling", "norms", "norms-roc"}
    expected = {f"{name}-arcface" for name in names} | {"roc", "det", "confusion"}
    assert {name.rpartition(".")[0] for name in files} == expected
    for stem in expected:
        columns = json.loads(files[f"{stem}.json"].read_text("utf-8"))["columns"]
        with files[f"{stem}.csv"].open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [*rows[0]] == [*columns]
        assert len(rows) == len(next(iter(columns.values())))
        if stem != "settling-arcface":  # it moves, and has no plot
            assert ElementTree.parse(files[f"{stem}.svg"]).getroot().tag.endswith("svg")


def test_methods_with_alike_names_have_files_of_their_own(tmp_path):
    from kyori.report.data import Data
    from kyori.report.page import Figure, Markup, Panels

    figures = [Figure(Markup(), data=Data(name, {"x": [1]})) for name in ("a b", "a/b", "A-B")]
    written = plates.write_figures([Panels(figures)], tmp_path)
    assert len({path.name.lower() for path in written}) == 6


def test_without_a_japanese_font_the_axes_are_named_in_english(tmp_path, monkeypatch):
    monkeypatch.setattr(plates, "japanese_font", lambda: None)
    files = files_of(tmp_path, trial(epochs=1), lang="ja")
    assert "roc.svg" in files


def test_the_map_in_the_file_is_the_one_on_the_page(tmp_path):
    made = trial()
    files = files_of(tmp_path, made)
    columns = json.loads(files["map-arcface.json"].read_text("utf-8"))["columns"]
    from kyori.report import project

    points = project(made.table.vectors, method="pca").points
    np.testing.assert_allclose(np.stack([columns["x"], columns["y"]], 1), points, rtol=1e-5)
