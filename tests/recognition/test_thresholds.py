"""Thresholds keep their promise on items that were neither trained on nor calibrated with."""

import numpy as np
import pytest

import kyori
from kyori.errors import ArgumentError, DataError
from kyori.recognition import calibrate_gallery, calibrate_pairs, calibrate_table, pair_distances, pairs_of


@pytest.mark.parametrize("far", [1e-2, 5e-2])
def test_the_requested_far_is_realised_within_its_interval(held_out, far):
    """The held-out items are the population: drawn with replacement, so that the true rate is known."""
    rng = np.random.default_rng(0)
    rows, same = pairs_of(held_out)
    different = np.sort(pair_distances(held_out.vectors, rows, "euclidean")[~same])
    inside, ratio = [], []
    for _ in range(30):
        drawn = rng.integers(len(held_out), size=150)
        few = kyori.VectorTable(vectors=held_out.vectors[drawn], labels=held_out.labels[drawn])
        found = calibrate_table(few, "euclidean", far=far).calibration
        came = float(np.searchsorted(different, found.threshold)) / len(different)
        inside.append(found.far.low <= came <= found.far.high)
        ratio.append(came / far)
    assert np.mean(inside) >= 0.86
    assert 0.85 < np.mean(ratio) < 1.2


def test_a_table_is_calibrated_for_new_items_or_for_new_classes(held_out):
    few = held_out.take(np.arange(200))
    items = calibrate_table(few, "euclidean", far=0.05).calibration
    classes = calibrate_table(few, "euclidean", far=0.05, unit="class").calibration
    assert (items.resampled, classes.resampled) == ("items", "classes")
    assert items.threshold == classes.threshold
    assert classes.far.high - classes.far.low > 1.5 * (items.far.high - items.far.low)
    with pytest.raises(ArgumentError, match="unit must be 'item' or 'class'"):
        calibrate_table(few, "euclidean", far=0.05, unit="classes")


def test_pairs_that_share_items_have_wider_intervals_than_binomial_ones(held_out):
    few = held_out.take(np.arange(200))
    rows, same = pairs_of(few)
    items = calibrate_pairs(few.vectors, rows, same, "euclidean", far=0.05).calibration
    pairs = kyori.evaluation.calibrate(pair_distances(few.vectors, rows, "euclidean"), same, far=0.05)
    assert items.threshold == pairs.threshold
    assert items.far.high - items.far.low > 1.5 * (pairs.far.high - pairs.far.low)


def test_strangers_are_taken_for_known_as_often_as_asked(held_out, digits_run):
    """Open set: half of the identities are enrolled, FPIR is calibrated, other strangers come."""
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(6):
        order = rng.permutation(len(held_out))
        gallery = held_out.take(order[:400])
        gallery = gallery.take(gallery.labels < 6)
        probes, others = held_out.take(order[400:650]), held_out.take(order[650:])
        made, facts = calibrate_gallery(probes, gallery, "euclidean", fpir=0.1)
        assert facts["enrolled"] == int((probes.labels < 6).sum())
        strangers = others.take(others.labels >= 6)
        distances = np.linalg.norm(strangers.vectors[:, None] - gallery.vectors[None], axis=2).min(axis=1)
        rates.append(float((distances < made.calibration.threshold).mean()))
    # Probes of enrolled identities count as strangers too when theirs is taken out: a rate, not a law of each class.
    assert 0.02 < np.mean(rates) < 0.3


def test_gallery_thresholds_by_hand():
    gallery = kyori.VectorTable(["a", "b", "c"], [[0.0], [10.0], [30.0]], labels=["ann", "bob", "cat"])
    probes = kyori.VectorTable(["p", "q", "r"], [[1.0], [12.0], [50.0]], labels=["ann", "bob", "eve"])
    made, facts = calibrate_gallery(probes, gallery, "euclidean", fpir=0.5)
    # Best others: ann 9 (bob), bob 12 (ann), eve 20 (cat). At most one of three may lie below the threshold.
    assert made.calibration.threshold == 12.0
    assert (made.tpir, made.identities, facts["rank_1"], facts["enrolled"]) == (1.0, 3, 1.0, 2)
    with pytest.raises(DataError, match="one identity"):
        calibrate_gallery(probes, gallery.take([0]), "euclidean", fpir=0.5)
    with pytest.raises(DataError, match="none of these items"):
        calibrate_gallery(probes.take([2]), gallery, "euclidean", fpir=0.5)
    with pytest.raises(ArgumentError, match="fpir"):
        calibrate_gallery(probes, gallery, "euclidean", fpir=1.5)


def test_a_probe_does_not_meet_itself_in_the_gallery():
    table = kyori.VectorTable(vectors=[[0.0], [1.0], [10.0], [12.0]], labels=["a", "a", "b", "b"])
    made, facts = calibrate_gallery(table, table, "euclidean", fpir=0.5)
    assert made.calibration.threshold == 10.0  # best others: 10, 9, 9, 11; two of four below
    assert facts["rank_1"] == 1.0
    with pytest.raises(DataError, match="whole index"):
        calibrate_gallery(table, table, "euclidean", fpir=0.5, pooling="mean")
