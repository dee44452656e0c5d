"""Feature norms: rates by thirds against scikit-learn, and data without any."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from kyori.report.norms import norm_rates, norms
from kyori.report.sections import Method
from kyori.report.words import Words
from kyori.vectors import VectorTable
from report.samples import Page, Pictures, cell


def table(n=150, noise_of_short=2.5):
    """Items whose vectors are the noisier the shorter their features were."""
    generator = np.random.default_rng(0)
    lengths = generator.permutation(np.linspace(1, 5, n)).astype(np.float32)
    labels = generator.integers(0, 5, n)
    noise = np.where(lengths < 2.33, noise_of_short, 0.4)[:, None]
    vectors = 2 * np.eye(5)[labels] + noise * generator.normal(size=(n, 5))
    return VectorTable(vectors=vectors, labels=labels, columns={"feature_norm": lengths})


def slow_thirds(made):
    order = np.argsort(made.columns["feature_norm"], kind="stable")
    for rows in np.array_split(order, 3):
        pairs = [(i, j) for a, i in enumerate(rows) for j in rows[a + 1 :]]
        same = np.array([made.labels[i] == made.labels[j] for i, j in pairs])
        yield same, np.array([np.linalg.norm(made.vectors[i] - made.vectors[j]) for i, j in pairs])


def test_rates_are_those_of_scikit_learn():
    made = table()
    for found, (same, distances) in zip(norm_rates(made), slow_thirds(made), strict=True):
        far, tar, _ = roc_curve(same, -distances.astype(np.float32))
        assert (found.same, found.different) == (same.sum(), (~same).sum())
        np.testing.assert_allclose(np.interp(found.far, far, tar)[1:], found.tar[1:], atol=0.02)
        crossing = np.argmin(np.abs(far + tar - 1))
        assert found.eer == pytest.approx(far[crossing], abs=0.02)
        assert (found.far[0], found.far[-1], found.tar[-1]) == (0, 1, 1)


def test_a_planted_effect_is_seen():
    short, middle, long = norm_rates(table())
    assert short.eer > middle.eer + 0.1
    assert abs(middle.eer - long.eer) < 0.1


def test_a_sample_is_said_and_has_its_size():
    assert [rates.items for rates in norm_rates(table(), most=20)] == [20, 20, 20]


def section(trial, lang="en", methods=None):
    made = norms(methods or [Method(trial.method, [trial])], trial, Pictures(), Words(lang))
    return Page("<div>" + "".join(part.html() for part in made) + "</div>")


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_shortest_and_longest_items_are_shown_in_order(lang):
    page = section(cell(norms=True), lang)
    assert page.ids == ["norms"]
    assert len(page.alts) == 20
    assert page.words.index("1.00") < page.words.index("1.03")
    assert page.words.index("2.00") < page.words.index("1.97")


def test_softmax_and_its_constrained_sister_stand_side_by_side():
    trials = [cell(name, norms=True) for name in ("triplet", "l2softmax", "softmax")]
    page = section(trials[0], methods=[Method(t.method, [t]) for t in trials])
    shown = [heading for heading in page.headings if heading in ("softmax", "l2softmax", "triplet")]
    assert shown == ["softmax", "l2softmax", "triplet"] * 2
    assert "constraint on the length" in page.words


@pytest.mark.parametrize(
    "made",
    [
        cell(),  # a run of an older version
        cell(norms=True, n=2, classes=2),
        cell(norms=True, classes=1),
        cell(norms=True, n=3, classes=3),
    ],
    ids=["no norms", "two items", "one class", "no pairs of one class"],
)
def test_data_without_an_answer(made):
    page = section(made)
    assert ("norms" in page.ids) == ("feature_norm" in made.table.columns)
    assert "nan" not in page.words


def test_equal_and_broken_norms_draw_nothing():
    for values in (np.ones(4), np.array([1, np.nan, 2, 3]), np.array(["a", "b", "c", "d"])):
        made = VectorTable(vectors=np.eye(4), labels=[0, 0, 1, 1], columns={"feature_norm": values})
        trial = cell()
        assert (
            norms([Method("x", [type(trial)("x", 0, trial.results, made)])], trial, Pictures(), Words()) == []
        )
