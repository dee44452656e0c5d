"""Figures hold the numbers that they were given, whatever those are."""

import re

import numpy as np
import pytest

from kyori.report import figures
from report.samples import Page


def lines(figure):
    return figure.axes[0].lines


@pytest.fixture(params=["one", "two", "many"])
def points(request):
    return np.random.default_rng(0).normal(size=({"one": 1, "two": 2, "many": 500}[request.param], 2))


def test_scatter_draws_every_point_once(points):
    groups = np.arange(len(points)) % 3 - 1
    figure = figures.scatter(points, groups, marks=["$a^", "<b>"])
    drawn = np.concatenate([patch.get_path().vertices[::2] for patch in figure.axes[0].patches])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, points))
    svg = figures.to_svg(figure, "a map")
    strokes = sum(d.count("M") for d in re.findall(r' d="([^"]*)"', svg))
    assert strokes == len(points)
    Page(svg)


def test_scatter_colours_are_those_of_the_groups():
    figure = figures.scatter(np.eye(3)[:, :2], np.array([-1, 0, 21]))
    colours = [figures.css(_hex(patch.get_edgecolor())) for patch in figure.axes[0].patches]
    assert colours == [figures.css(figures.NEUTRAL), figures.colour(0), figures.colour(1)]


def _hex(rgba):
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgba[:3])


def test_equal_points_can_be_drawn():
    Page(figures.to_svg(figures.scatter(np.zeros((4, 2)), np.zeros(4, int)), "one place"))


def test_learning_draws_each_seed_and_the_others_behind():
    epochs = np.arange(1.0, 4)
    runs = [(epochs, epochs**2), (epochs, np.array([1.0, np.nan, 2.0]))]
    figure = figures.learning(runs, others=[(epochs, -epochs)], y_limits=(-5, 10))
    assert [line.get_ydata().tolist()[0] for line in lines(figure)] == [-1.0, 1.0, 1.0]
    assert figure.axes[0].get_ylim() == (-5, 10)
    Page(figures.to_svg(figure, "learning"))


def test_a_single_epoch_is_a_dot_that_is_seen():
    one, other = (np.array([1.0]), np.array([0.5])), (np.array([1.0]), np.array([0.7]))
    figure = figures.learning([one], others=[other])
    svg = figures.to_svg(figure, "learning")
    strokes = [d for d in re.findall(r' d="([^"]*)"[^>]*stroke-linecap: round', svg) if "L" in d]
    assert len(strokes) == 2
    assert "<use" not in svg  # a marker, whose definition is not in the page
    assert re.findall(r">([\d.]+)</text>", svg)[0] == "1"
    Page(svg)


def test_no_epochs_at_all():
    Page(figures.to_svg(figures.learning([(np.array([]), np.array([]))]), "nothing"))


def test_roc_joins_the_points_and_averages_seeds():
    step = (np.array([0.0, 0.1, 0.1, 1.0]), np.array([0.2, 0.2, 0.6, 1.0]))
    perfect = (np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    figure = figures.roc(
        {"a": [step], "b": [step, perfect]}, paints={"a": "#0072b2", "b": figures.NEUTRAL}, best="a"
    )
    (a, b) = lines(figure)
    far, tar = a.get_xdata(), a.get_ydata()
    assert set(tar[far < 0.0999]) == {0.2}
    np.testing.assert_allclose(tar[far > 0.1001], 0.6 + 0.4 * (far[far > 0.1001] - 0.1) / 0.9)
    np.testing.assert_allclose(b.get_ydata(), (tar + 1) / 2)
    assert a.get_linewidth() > b.get_linewidth()
    svg = figures.to_svg(figure, "roc")
    assert {"0.1%", "1%", "10%", "100%"} & set(re.findall(r">([\d.]+%)<", svg)) >= {"1%", "10%", "100%"}


def test_small_false_accept_rates_keep_their_digits():
    far = np.array([0.0, 2e-5, 1.0])
    svg = figures.to_svg(figures.roc({"a": [(far, far)]}, paints={"a": "#0072b2"}), "roc")
    assert ">0.001%<" in svg


def test_histograms_are_shares_and_show_the_threshold():
    edges = np.array([0.0, 1.0, 2.0])
    figure = figures.distances(edges, np.array([3, 1]), np.array([0, 0]), threshold=0.7)
    heights = [patch.get_data().values.tolist() for patch in figure.axes[0].patches]
    assert heights[2] == [0.75, 0.25]
    assert heights[0] == [0.0, 0.0]  # no pairs of that kind: empty, not NaN
    assert lines(figure)[0].get_xdata()[0] == 0.7
    assert not lines(figures.distances(edges, np.ones(2), np.ones(2), threshold=np.nan))


@pytest.mark.parametrize(
    ("value", "low", "high", "ends"),
    [
        (0.5, 0.25, 0.75, (32.5, 60, 87.5)),
        (0.5, -np.inf, np.inf, (5, 60, 115)),
        (2.0, np.nan, np.nan, (115, 115, 115)),
    ],
)
def test_interval_is_drawn_to_scale(value, low, high, ends):
    svg = figures.interval(value, low, high, limits=(0, 1), paint="red", label="x")
    _, whisker, dot = (dict(attributes) for name, attributes in Page(svg).tags if name in ("line", "circle"))
    assert (float(whisker["x1"]), float(dot["cx"]), float(whisker["x2"])) == ends


def test_no_interval_without_a_value():
    assert figures.interval(np.nan, 0, 1, limits=(0, 1), paint="red", label="x") == ""


def test_svg_can_stand_beside_others_in_a_page_and_follows_its_colours():
    figure = figures.distances(np.linspace(0, 1, 4), np.ones(3), np.ones(3), threshold=0.5)
    svg = figures.to_svg(figure, 'a "quoted" label')
    page = Page(svg)
    assert page.ids == []
    assert "style" not in [name for name, _ in page.tags]
    assert "var(--c0,#0072b2)" in svg
    assert "var(--soft,#667079)" in svg
    assert not re.search(r"(?<!,)#[0-9a-f]{6}", svg), "a colour that dark paper cannot change"
    assert page.tags[0][1]["aria-label"] == 'a "quoted" label'
    assert svg == figures.to_svg(
        figures.distances(np.linspace(0, 1, 4), np.ones(3), np.ones(3), threshold=0.5), 'a "quoted" label'
    )


def test_global_settings_of_matplotlib_are_left_alone():
    import matplotlib as mpl

    def settings():  # the backend is looked up when it is first read
        return {name: value for name, value in mpl.rcParams.items() if name != "backend"}

    before = settings()
    figures.to_svg(figures.learning([(np.arange(3.0), np.arange(3.0))]), "x")
    assert settings() == before


def test_the_style_sheet_knows_every_colour_in_both_lights():
    from kyori.report.page import _asset

    sheet = _asset("page.css")
    for name in figures._VARIABLES.values():
        assert len(re.findall(rf"{name}:", sheet)) >= 2, name
