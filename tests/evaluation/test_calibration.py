"""Calibration: thresholds that keep their promise, intervals, probabilities that fall, files that are checked."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from kyori.errors import ArgumentError, DataError, DegenerateWarning, FileFormatError
from kyori.evaluation import Calibration, calibrate
from kyori.evaluation.pair_units import clopper_pearson
from oracles import evaluation as oracle


def pairs(seed=0, m=2000, tied=False):
    generator = np.random.default_rng(seed)
    same = generator.random(m) < 0.3
    distances = generator.normal(size=m) + 2.5 * ~same + 5
    return (np.round(distances, 1) if tied else distances), same


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("far", [0.3, 0.02, 1e-3])
def test_the_threshold_is_the_largest_with_that_far(far, tied):
    distances, same = pairs(tied=tied)
    found = calibrate(distances, same, far=far)
    accepted = found.decide(distances)
    assert found.far.value == accepted[~same].mean() <= far
    assert found.tar.value == found.recall.value == accepted[same].mean()
    assert found.tar.value == oracle.tar_at_far(distances, same, far)
    assert found.precision.value == same[accepted].mean()
    higher = np.nextafter(found.threshold, np.inf)
    assert (distances[~same] < higher).mean() > far
    assert found.threshold_low <= found.threshold <= found.threshold_high


def test_the_largest_threshold_of_a_precision_and_the_best_of_an_f_measure():
    distances, same = pairs(tied=True)
    found = calibrate(distances, same, precision=0.9)
    levels = [*np.unique(distances), np.inf]
    precise = [t for t in levels if (distances < t).any() and same[distances < t].mean() >= 0.9]
    assert found.threshold == max(precise)

    def f2(t):
        true, accepted = (same & (distances < t)).sum(), (distances < t).sum()
        return 5 * true / (accepted + 4 * same.sum())

    best = calibrate(distances, same, f_beta=2)
    assert best.f_beta.value == pytest.approx(max(f2(t) for t in levels), abs=1e-12)
    assert best.f_beta.value == pytest.approx(f2(best.threshold), abs=1e-12)


def test_rates_have_the_exact_binomial_interval():
    for hits, n in ((0, 10), (3, 10), (10, 10), (1, 100_000)):
        exact = binomtest(hits, n).proportion_ci(0.9, "exact")
        ours = clopper_pearson(hits, n, 0.9)
        assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_the_realised_far_and_the_true_threshold_lie_within_the_intervals():
    """Scenario with a known truth: different distances are uniform, so FAR(t) = t and the right threshold is 0.05."""
    inside_far = inside_threshold = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        distances = np.concatenate([generator.random(300) / 2, generator.random(1000)])
        found = calibrate(distances, np.arange(1300) < 300, far=0.05, bootstrap=100)
        inside_far += found.far.low <= found.threshold <= found.far.high
        inside_threshold += found.threshold_low <= 0.05 <= found.threshold_high
    assert 0.9 <= inside_far / 100 <= 0.995
    assert 0.9 <= inside_threshold / 100 <= 0.995


def test_pairs_that_share_items_get_wider_intervals_over_items():
    generator = np.random.default_rng(0)
    place = np.repeat(np.arange(10), 6) + generator.normal(size=60) / 2
    first, second = np.triu_indices(60, 1)
    distances, same = np.abs(place[first] - place[second]), first // 6 == second // 6
    loose = calibrate(distances, same, far=0.05)
    honest = calibrate(distances, same, far=0.05, items=np.stack([first, second], axis=1))
    assert honest.resampled == "items"
    assert honest.threshold == loose.threshold
    assert honest.tar.high - honest.tar.low > 1.5 * (loose.tar.high - loose.tar.low)


def test_intervals_over_classes_hold_for_people_that_nobody_has_seen():
    """Each draw has other identities; those over items are too narrow for that, binomial ones by far."""

    def people(generator, count, each):
        centres = generator.normal(size=(count, 1, 4))
        items = centres + 0.3 * np.exp(generator.normal(size=(count, 1, 1)) / 2) * generator.normal(
            size=(count, each, 4)
        )
        return items.reshape(-1, 4), np.repeat(np.arange(count), each)

    def all_pairs(items, names):
        first, second = np.triu_indices(len(items), 1)
        both = np.stack([first, second], axis=1)
        return np.linalg.norm(items[first] - items[second], axis=1), names[both], both

    levels, names, _ = all_pairs(*people(np.random.default_rng(9), 700, 2))
    true = np.sort(levels[names[:, 0] != names[:, 1]])
    inside = {"classes": [], "items": [], "pairs": []}
    for seed in range(60):
        levels, names, both = all_pairs(*people(np.random.default_rng(seed), 40, 3))
        same = names[:, 0] == names[:, 1]
        for kind, units in (("classes", {"classes": names}), ("items", {"items": both}), ("pairs", {})):
            found = calibrate(levels, same, far=0.05, **units)
            assert found.resampled == kind
            came = np.searchsorted(true, found.threshold) / len(true)
            inside[kind].append(found.far.low <= came <= found.far.high)
    held = {kind: np.mean(found) for kind, found in inside.items()}
    assert held["classes"] >= 0.88
    assert held["classes"] > held["items"] > held["pairs"]


@pytest.mark.parametrize("kind", ["items", "classes"])
def test_what_was_never_seen_is_not_known_to_be_impossible(kind):
    """Not one of 4,560 different pairs of 96 items passes; the interval is wider than that of so many coins."""
    generator = np.random.default_rng(0)
    place = 9 * np.repeat(np.arange(12), 8) + generator.normal(size=96)
    first, second = np.triu_indices(96, 1)
    same, ends = first // 8 == second // 8, np.stack([first, second], axis=1)
    with pytest.warns(DegenerateWarning):
        found = calibrate(
            np.abs(place[first] - place[second]),
            same,
            far=1e-5,
            **{kind: ends if kind == "items" else ends // 8},
        )
    coins = clopper_pearson(0, int((~same).sum()))
    assert (found.far.value, found.far.low) == (0, 0)
    assert coins.high < found.far.high < 0.5
    assert found.threshold_low <= found.threshold < found.threshold_high


def test_a_rate_that_the_pairs_cannot_resolve_is_said_with_the_number_needed():
    distances, same = pairs(m=1000)
    with pytest.warns(DegenerateWarning, match=r"cannot resolve .* 1e-06.* At least 1,000,000 are needed"):
        found = calibrate(distances, same, far=1e-6)
    assert not found.resolved
    assert found.far.value == 0
    assert found.threshold == distances[~same].min()
    assert found.far.high > 1e-3


@pytest.mark.parametrize("method", ["isotonic", "platt"])
@pytest.mark.parametrize("prior", [None, 0.01])
def test_probabilities_fall_and_mean_what_they_say(method, prior):
    distances, same = pairs(m=20_000)
    found = calibrate(distances, same, far=0.01, method=method, prior=prior)
    grid = np.concatenate([[-np.inf], np.linspace(-10, 30, 3001), [np.inf]])
    values = found.probability(grid)
    assert (np.diff(values) <= 0).all()
    assert values.min() > 0
    assert values.max() < 1
    if prior is None:
        fresh, truth = pairs(1, 50_000)
        predicted = found.probability(fresh)
        for low in np.arange(0, 1, 0.2):
            within = (predicted >= low) & (predicted < low + 0.2)
            assert predicted[within].mean() == pytest.approx(truth[within].mean(), abs=0.05)
    else:
        assert found.probability(distances).mean() < 0.1


def test_platt_agrees_with_logistic_regression_where_its_targets_hardly_matter():
    distances, same = pairs(m=50_000)
    ours = calibrate(distances, same, far=0.1, method="platt").probability([3.0, 6.0, 8.0])
    model = LogisticRegression(C=1e9).fit(distances[:, None], same)
    np.testing.assert_allclose(ours, model.predict_proba([[3.0], [6.0], [8.0]])[:, 1], atol=2e-3)


def test_a_distance_that_says_the_opposite_gives_a_level_probability():
    distances, same = pairs()
    with pytest.warns(DegenerateWarning, match="not closer"):
        found = calibrate(-distances, same, f_beta=1, method="platt")
    assert np.ptp(found.probability([-9.0, 0.0, 9.0])) == 0


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_what_is_saved_comes_back_and_is_strict_json(tmp_path, method):
    distances, same = pairs(m=500)
    found = calibrate(distances, same, far=0.05, method=method, metric="cosine", prior=0.2)
    found.save(tmp_path / "calibration.json")
    json.loads((tmp_path / "calibration.json").read_text(), parse_constant=pytest.fail)
    again = Calibration.load(tmp_path / "calibration.json")
    assert again.as_dict() == found.as_dict()
    assert (again.threshold, again.metric, again.target) == (found.threshold, "cosine", ("far", 0.05))
    np.testing.assert_array_equal(again.probability(distances), found.probability(distances))


@pytest.mark.parametrize("change", ["format", "threshold", "probability", "far", "cut"])
def test_a_damaged_file_is_refused(tmp_path, change):
    distances, same = pairs(m=500)
    data = calibrate(distances, same, far=0.05).as_dict()
    if change == "probability":
        data[change]["probabilities"].reverse()
    elif change != "cut":
        data[change] = None
    text = json.dumps(data)
    (tmp_path / "c.json").write_text(text[: len(text) // 2] if change == "cut" else text)
    with pytest.raises(FileFormatError, match=r"c\.json"):
        Calibration.load(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of far, precision, f_beta; got none"),
        ({"far": 0.1, "precision": 0.9}, "got far and precision"),
        ({"far": 0}, "far must lie between 0 and 1"),
        ({"f_beta": -1}, "f_beta must be above 0"),
        ({"far": 0.1, "method": "plat"}, "did you mean 'platt'"),
        ({"far": 0.1, "confidence": 95}, "confidence must lie"),
        ({"far": 0.1, "prior": 1}, "prior must lie"),
        ({"far": 0.1, "items": [1, 2]}, r"items must have shape \(4, 2\)"),
        ({"far": 0.1, "items": [[1, 2]] * 4, "classes": [[1, 2]] * 4}, "not both"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        calibrate([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0], **options)


def test_pairs_that_cannot_be_used():
    with pytest.raises(DataError, match="2 same and 0 different"):
        calibrate([0.1, 0.2], [1, 1], far=0.1)
    with pytest.raises(DataError, match=r"no threshold reaches the precision 0.9.* 0.5"):
        calibrate([0.2, 0.1, 0.3, 0.3], [1, 0, 1, 0], precision=0.9)
    with pytest.raises(DataError, match="1 are NaN"):
        calibrate([0.1, 0.2, 0.3], [1, 0, 0], far=0.5).decide([np.nan])
