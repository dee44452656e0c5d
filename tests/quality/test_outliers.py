"""Outliers: known answers, scikit-learn's scores, and a threshold that keeps the requested false-alarm rate."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import binom

from kyori import VectorTable
from kyori.errors import ArgumentError, DataError
from kyori.quality import OutlierDetector, find_outliers

METHODS = ["knn", "lof", "mahalanobis"]


def blobs(n, seed=0, d=6):
    """Three classes of unequal spread and size."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, size=n, p=[0.5, 0.3, 0.2])
    centres = np.random.default_rng(99).normal(size=(3, d)) * 6
    spread = np.array([0.5, 1.0, 2.0])[labels, None]
    return (centres[labels] + spread * generator.normal(size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize("method", METHODS)
def test_planted_outliers_are_the_strangest(method):
    vectors, labels = blobs(600)
    planted = np.random.default_rng(5).uniform(-30, 30, size=(10, 6)) + 40
    reference = VectorTable(vectors=vectors, labels=labels)
    found = find_outliers(np.concatenate([blobs(100, seed=7)[0], planted]), reference, method=method)
    assert found.is_outlier[100:].all()
    assert found.is_outlier[:100].mean() < 0.15
    assert set(np.argsort(found.raw)[-10:]) == set(range(100, 110))
    within = find_outliers(VectorTable(vectors=np.concatenate([vectors, planted])), method=method, k=15)
    assert set(np.argsort(within.raw)[-10:]) == set(range(600, 610))


@pytest.mark.parametrize("method", METHODS)
def test_a_class_that_was_not_there_is_found(method):
    vectors, labels = blobs(900)
    seen = VectorTable(vectors=vectors[labels < 2][:500], labels=labels[labels < 2][:500])
    unseen = np.random.default_rng(3).normal(size=(50, 6)) + np.array([9, -9, 9, -9, 9, -9])
    detector = OutlierDetector(method, false_alarm_rate=0.05).fit(seen)
    assert detector.predict(unseen).mean() > 0.95


class TestScores:
    def test_knn_is_the_mean_distance_to_the_nearest(self):
        vectors, items = blobs(80)[0], blobs(20, seed=1)[0]
        D = np.sort(cdist(items, vectors), axis=1)[:, :4].mean(axis=1)
        detector = OutlierDetector("knn", k=4).fit(vectors, calibration=items)
        np.testing.assert_allclose(detector.score(items), D, rtol=1e-5)
        own = np.sort(cdist(vectors, vectors), axis=1)[:, 1:5].mean(axis=1)
        np.testing.assert_allclose(find_outliers(vectors, k=4).raw, own, rtol=1e-5)

    @pytest.mark.filterwarnings("ignore:Duplicate values are leading to incorrect results")
    @pytest.mark.parametrize("copies", [0, 30])
    def test_local_outlier_factor_is_scikit_learns(self, copies):
        from sklearn.neighbors import LocalOutlierFactor

        vectors, items = blobs(150)[0], blobs(40, seed=1)[0]
        vectors[:copies] = vectors[0]
        own = LocalOutlierFactor(10).fit(vectors)
        found = find_outliers(vectors, method="lof", k=10).raw
        regular = -own.negative_outlier_factor_ < 1e6  # beside copies the factor is as large as one likes
        np.testing.assert_allclose(found[regular], -own.negative_outlier_factor_[regular], rtol=1e-4)
        assert (found[~regular] > 1e6).all()
        if not copies:
            peer = LocalOutlierFactor(10, novelty=True).fit(vectors)
            detector = OutlierDetector("lof", k=10).fit(vectors, calibration=items)
            np.testing.assert_allclose(detector.score(items), -peer.score_samples(items), rtol=1e-4)

    def test_mahalanobis_is_the_formula_with_the_shrunk_covariance_of_the_class(self):
        from sklearn.covariance import ledoit_wolf

        vectors, labels = blobs(400)
        items = blobs(50, seed=1)[0]
        squares = []
        for c in range(3):
            rows = vectors[labels == c].astype(np.float64)
            inverse = np.linalg.inv(ledoit_wolf(rows)[0])
            off = items - rows.mean(axis=0)
            squares.append(np.einsum("nd,de,ne->n", off, inverse, off))
        detector = OutlierDetector("mahalanobis").fit(vectors, labels, calibration=items)
        np.testing.assert_allclose(detector.score(items), np.sqrt(np.min(squares, axis=0)), rtol=1e-4)

    def test_small_classes_share_the_covariance_within_classes(self):
        vectors = np.array([[0.0, 0.0], [2.0, 0.0], [50.0, 50.0], [52.0, 50.0], [-50.0, 50.0]])
        items = np.array([[50.0 + 1.0, 50.0], [-50.0, 50.0], [0.0, 50.0]])
        detector = OutlierDetector("mahalanobis", false_alarm_rate=0.5)
        scores = detector.fit(vectors, [0, 0, 1, 1, 2], calibration=items).score(items)
        assert scores[0] == pytest.approx(0, abs=1e-5)
        assert scores[1] == pytest.approx(0, abs=1e-5)
        assert scores[2] > 10

    @pytest.mark.parametrize("method", METHODS)
    def test_the_order_of_reference_and_items_does_not_matter(self, method):
        vectors, labels = blobs(200)
        items, clean = blobs(50, seed=1)[0], blobs(60, seed=2)[0]
        generator = np.random.default_rng(0)
        order, turned = generator.permutation(200), generator.permutation(50)
        one = OutlierDetector(method).fit(vectors, labels, calibration=clean).score(items)
        two = (
            OutlierDetector(method).fit(vectors[order], labels[order], calibration=clean).score(items[turned])
        )
        np.testing.assert_allclose(one[turned], two, rtol=1e-4)


class TestCalibration:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("rate", [0.02, 0.1])
    def test_the_false_alarm_rate_is_the_requested_one_over_many_calibrations(self, method, rate):
        """Σ of the false alarms over independent worlds, against the binomial of the exact rate."""
        worlds, items = 40, 50
        alarms, chance = 0, 0.0
        for world in range(worlds):
            vectors, labels = blobs(160 + 99 + items, seed=1000 + world)
            detector = OutlierDetector(method, k=5, false_alarm_rate=rate)
            detector.fit(vectors[:160], labels[:160], calibration=vectors[160:259])
            alarms += int(detector.predict(vectors[259:]).sum())
            chance = detector.expected_rate
        assert chance == pytest.approx(np.floor(rate * 100 + 1e-9) / 100)
        # Items of one world share a threshold: the variance is that of the Beta-binomial, not of the binomial.
        allowed = chance * 100
        spread = chance * (1 - chance) * (1 + (items - 1) / (99 + 2)) / (worlds * items)
        assert abs(alarms / (worlds * items) - allowed / 100) < 3.5 * spread**0.5

    def test_the_interval_covers_the_true_rate(self):
        """Scores of one dimension against a lone centre: the true rate of a threshold is known."""
        from scipy.stats import norm

        covered = 0
        for world in range(200):
            generator = np.random.default_rng(world)
            detector = OutlierDetector("knn", k=1, false_alarm_rate=0.1)
            detector.fit([[0.0], [0.0]], calibration=generator.normal(size=(99, 1)))
            true = 2 * norm.sf(detector.threshold)
            low, high = detector.rate_interval
            covered += low <= true <= high
        assert binom.ppf(0.001, 200, 0.95) <= covered <= binom.ppf(0.999, 200, 0.95)

    def test_the_rule_by_hand(self):
        detector = OutlierDetector("knn", k=1, false_alarm_rate=0.2)
        detector.fit([[0.0], [0.0]], calibration=np.arange(1.0, 10.0)[:, None])
        assert detector.calibration_items == 9
        assert detector.threshold == 8.0  # ⌊0.2 · 10⌋ = 2: an alarm where at most one of nine is as strange
        assert detector.expected_rate == 0.2
        found = detector.detect([[0.5], [8.0], [8.5], [9.0], [100.0]])
        np.testing.assert_allclose(found.scores, [1.0, 0.3, 0.2, 0.2, 0.1])
        np.testing.assert_array_equal(found.is_outlier, [False, False, True, True, True])
        np.testing.assert_array_equal(found.is_outlier, found.scores <= 0.2)

    def test_a_fifth_is_held_out_by_the_seed(self):
        vectors = blobs(300)[0]
        one, same, other = (OutlierDetector(seed=seed).fit(vectors) for seed in (0, 0, 1))
        assert one.calibration_items == 60
        assert one.threshold == same.threshold != other.threshold

    def test_too_few_clean_items_are_an_error_that_counts(self):
        with pytest.raises(
            DataError, match="needs at least 99 clean items to calibrate on; calibration has 98"
        ):
            OutlierDetector(false_alarm_rate=0.01).fit(blobs(50)[0], calibration=blobs(98)[0])
        with pytest.raises(DataError, match="the fifth of the reference that is held out has 10"):
            OutlierDetector(false_alarm_rate=0.05).fit(blobs(50)[0])
        OutlierDetector(false_alarm_rate=0.01).fit(blobs(50)[0], calibration=blobs(99)[0])


def test_without_a_reference_the_strangest_share_is_called_outliers():
    vectors = np.concatenate([blobs(95)[0], np.full((5, 6), 60.0) + np.arange(5)[:, None] * 9])
    found = find_outliers(vectors, false_alarm_rate=0.05)
    np.testing.assert_array_equal(np.flatnonzero(found.is_outlier), range(95, 100))
    assert found.scores.min() == 0.01
    assert not find_outliers(vectors, false_alarm_rate=0.005).is_outlier.any()


def test_the_columns_have_cleanlabs_names_and_are_written(tmp_path):
    found = find_outliers(VectorTable(ids=["a", "b", "c", "d"], vectors=[[0.0], [0.1], [0.2], [9.0]]), k=2)
    assert list(found.columns()) == ["id", "is_outlier_issue", "outlier_score", "raw_score"]
    found.save(tmp_path / "found.csv")
    assert (tmp_path / "found.csv").read_text().splitlines()[4].startswith('"d",false,0.25,')
    assert "of 4 items are outliers (knn score above" in str(found)


@pytest.mark.parametrize("method", ["knn", "lof"])
def test_constant_vectors_are_usual_and_anything_else_is_not(method):
    detector = OutlierDetector(method, k=3).fit(np.ones((100, 2)))
    np.testing.assert_array_equal(detector.predict([[1.0, 1.0], [1.0, 1.1]]), [False, True])
    assert not find_outliers(np.ones((30, 2)), method=method, k=3).is_outlier.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OutlierDetector("lov"), "knn, lof, mahalanobis; got 'lov'; did you mean 'lof'"),
        (lambda: OutlierDetector(k=0), "k must be at least 1; got 0"),
        (lambda: OutlierDetector(metric="dot"), "euclidean, squared_euclidean, cosine, manhattan; got 'dot'"),
        (lambda: OutlierDetector(false_alarm_rate=1.0), "between 0 and 1; got 1.0"),
        (lambda: OutlierDetector().score([[0.0]]), r"not fitted; call fit\(reference\) first"),
        (
            lambda: find_outliers(np.ones((5, 2)), k=5),
            "k must be below the number of reference items, 5; got 5",
        ),
        (lambda: find_outliers(np.ones((5, 2)), calibration=np.ones((9, 2))), "give reference= too"),
        (lambda: find_outliers(np.ones((5, 3)), blobs(200)[0]), "6 dimensions like the reference; got 3"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_what_cannot_be_judged_is_an_error():
    with pytest.raises(DataError, match="at least 2 items; got 1"):
        find_outliers([[1.0]])
    with pytest.raises(DataError, match="row 0 holds nan"):
        find_outliers([[np.nan], [1.0], [2.0]])
    with pytest.raises(DataError, match="all vectors of each class are the same"):
        find_outliers(np.ones((30, 2)), method="mahalanobis")
