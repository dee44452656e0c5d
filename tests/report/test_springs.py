"""Springs and settling points: what is drawn is what was given, and what the page offers."""

import csv
import io
import re

import numpy as np
import pytest

from kyori.report.sections import Method
from kyori.report.settling import settling_figure, settling_page
from kyori.report.springs import angles_to_means, springs
from kyori.report.words import Words
from kyori.vectors import VectorTable
from report.samples import Page, cell, settled, spring


def table_of(figure):
    return list(csv.DictReader(io.StringIO(figure.data.csv())))


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_every_loss_has_its_springs_and_its_points(lang):
    methods = [Method(name, [cell(name)]) for name in ("raw", "triplet", "arcface")]
    made = springs(methods, {"triplet": spring(), "arcface": spring(angles=True)}, Words(lang))
    page = Page("<div>" + "".join(section.html() for section in made) + "</div>")
    assert page.ids == ["springs"]
    assert [h for h in page.headings if h in ("raw", "triplet", "arcface")] == ["triplet", "arcface"] * 2


def test_the_data_are_the_lines_and_the_histogram():
    trial, given = cell("triplet"), spring()
    figure = springs([Method("triplet", [trial])], {"triplet": given}, Words())[1].figures[0]
    rows = table_of(figure)
    forces = np.array(
        [[float(r[k]) for k in ("distance", "same", "different")] for r in rows if r["what"] == "force"]
    )
    np.testing.assert_allclose(forces.T, [given.distance, given.pull, given.push], rtol=1e-6, atol=1e-9)
    drawn = [line.get_ydata() for line in figure.plot.axes[0].lines[:2]]
    np.testing.assert_allclose(drawn, [given.pull, given.push])
    heights = np.array([float(r["same"]) for r in rows if r["what"] == "share"])
    counts = trial.results.curves["histogram"]["same"]
    np.testing.assert_allclose(heights, counts / counts.sum(), rtol=1e-6)


def test_angles_to_means_leave_the_item_out():
    made = VectorTable(vectors=[[1, 0], [1, 1], [0, 2], [0, 1], [-1, 0]], labels=[0, 0, 1, 1, 2])
    edges, own, other = angles_to_means(made)
    angles = [np.pi / 4, np.pi / 4, 0, 0]
    np.testing.assert_array_equal(own, np.histogram(angles, edges)[0])
    assert other.sum() == 5 * 2
    assert angles_to_means(VectorTable(vectors=np.eye(3), labels=[0, 1, 2])) is None
    assert angles_to_means(VectorTable(vectors=np.eye(3))) is None


def test_no_forces_no_section():
    assert springs([Method("raw", [cell("raw")])], {}, Words()) == []


def test_points_stand_where_they_end_and_the_data_hold_the_way():
    given = settled()
    figure = settling_figure(given, Words(), name="x")
    a, b, c, d = map(float, figure.facts["scale"].split())
    places = np.array(re.findall(r"translate\(([-\d.]+) ([-\d.]+)\)", figure.drawing), dtype=float)
    last = np.concatenate([given.points[-1], given.vectors[-1]])
    np.testing.assert_allclose(places, np.stack([a + b * last[:, 0], c + d * last[:, 1]], 1), atol=0.01)
    rows = table_of(figure)
    assert len(rows) == 4 * 8
    way = np.array([[float(r["x"]), float(r["y"])] for r in rows]).reshape(4, 8, 2)
    np.testing.assert_allclose(way, np.concatenate([given.points, given.vectors], axis=1), atol=6e-4)
    assert {r["kind"] for r in rows} == {"item", "class vector"}


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_of_its_own_is_whole_and_asks_the_network_for_nothing(lang):
    text = settling_page(settled(), title="<b>x</b>", lang=lang)
    page = Page(text)
    assert "<b>x</b>" in page.words
    assert not re.search(r"https?://|url\(|@import|<link", text)
    assert "prefers-reduced-motion" in text
