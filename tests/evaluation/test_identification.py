"""Open-set identification against a loop, with known answers and degenerate sets of probes."""

import math

import numpy as np
import pytest

from kyori.errors import ArgumentError, DataError, DegenerateWarning
from kyori.evaluation import identify, open_set
from kyori.vectors import VectorTable

from .samples import blobs


def scene(seed=0, strangers=True):
    gallery = blobs(60, classes=8, seed=seed, ids=np.arange(1000, 1060))
    probes = blobs(80, classes=8, seed=seed)
    labels = probes.labels + (3 if strangers else 0)
    return VectorTable(vectors=probes.vectors - 0.1, labels=labels), gallery


def loop(probes, gallery, pooling):
    """(mate distance, rank, nearest of the others) of each probe, identity by identity."""
    found = []
    identities = sorted(set(gallery.labels.tolist()))
    for vector, label in zip(probes.vectors, probes.labels, strict=True):
        far = {}
        for identity in identities:
            items = gallery.vectors[gallery.labels == identity]
            items = [items.mean(axis=0, dtype=np.float64)] if pooling == "mean" else items
            far[identity] = min(math.dist(vector, item) for item in items)
        order = sorted(identities, key=far.get)
        rank = order.index(label) + 1 if label in far else 0
        others = min(value for identity, value in far.items() if identity != label)
        found.append((far.get(label, math.inf), rank, others))
    return np.array(found).T


@pytest.mark.parametrize("pooling", ["nearest", "mean"])
def test_rates_agree_with_the_loop(pooling):
    probes, gallery = scene()
    mate, rank, others = loop(probes, gallery, pooling)
    results = open_set(probes, gallery, pooling=pooling, fpir=[0.1, 0.3], bootstrap=200, block_rows=7)
    mated = rank > 0
    for k in (1, 5):
        assert results[f"rank@{k}"].value == pytest.approx((rank[mated] <= k).mean(), abs=1e-12)
    for rate, key in ((0.1, "tpir@fpir=1e-1"), (0.3, "tpir@fpir=3e-1")):
        impostors = sorted(others[~mated])
        threshold = max(t for t in [*impostors, math.inf] if (others[~mated] < t).mean() <= rate)
        expected = ((mate < threshold) & (rank == 1))[mated].mean()
        result = results[key]
        assert result.value == pytest.approx(expected, abs=1e-12)
        assert result.protocol["threshold"] == pytest.approx(threshold, rel=1e-6)
        assert result.low <= result.value <= result.high
    curve = results.curves["dir"]
    assert (np.diff(curve["fpir"]) >= 0).all()
    assert curve["fpir"][-1] == 1
    assert curve["dir"][-1] == pytest.approx(results["rank@1"].value)


def test_perfect_and_random_probes_score_what_they_must():
    names = [f"p{i}" for i in range(40)]
    gallery = VectorTable(
        vectors=np.arange(20.0)[:, None] * 10, labels=np.arange(20), ids=[f"g{i}" for i in range(20)]
    )
    probes = VectorTable(vectors=np.arange(40.0)[:, None] * 10 + 1e-3, labels=np.arange(40), ids=names)
    results = open_set(probes, gallery, fpir=[0.05], bootstrap=0)
    assert results["rank@1"].value == results["tpir@fpir=5e-2"].value == 1
    generator = np.random.default_rng(0)
    gallery = VectorTable(
        vectors=generator.normal(size=(10, 8)), labels=np.arange(10), ids=np.arange(5000, 5010)
    )
    probes = VectorTable(vectors=generator.normal(size=(4000, 8)), labels=np.arange(4000) % 20)
    results = open_set(probes, gallery, ranks=(1, 3), fpir=[0.1])
    assert results["rank@1"].low <= 0.1 <= results["rank@1"].high
    assert results["rank@3"].low <= 0.3 <= results["rank@3"].high
    assert results["tpir@fpir=1e-1"].value == pytest.approx(0.01, abs=0.01)


def test_a_probe_is_not_compared_with_itself():
    table = VectorTable(vectors=[[0.0], [9.0], [0.5], [30.0]], labels=["a", "a", "b", "c"])
    with pytest.warns(DegenerateWarning, match="resolve"):
        results = open_set(table, table, bootstrap=0)
    assert results["rank@1"].protocol["mated"] == 2  # b and c are alone once they are left out
    assert results["rank@1"].value == 0
    with pytest.raises(DataError, match="part of its own template"):
        open_set(table, table, pooling="mean")


@pytest.mark.filterwarnings("ignore:.*cannot resolve")
def test_without_strangers_or_without_mates_nothing_is_made_up():
    probes, gallery = scene(strangers=False)
    with pytest.warns(DegenerateWarning, match="no unmated probes"):
        results = open_set(probes, gallery)
    assert np.isnan(results["tpir@fpir=1e-2"].value)
    assert results["rank@1"].value > 0
    strangers = VectorTable(vectors=probes.vectors, labels=probes.labels + 50)
    with pytest.warns(DegenerateWarning, match="no mated probes"):
        assert np.isnan(open_set(strangers, gallery)["rank@1"].value)


def test_identify_names_the_nearest_below_the_threshold_or_nobody():
    assert identify([3.0, 1.0, 1.0], ["x", "y", "z"], 2.0) == "y"
    assert identify([3.0, 1.0], np.array([7, 8]), 1.0) is None
    assert identify([], [], 1.0) is None
    with pytest.raises(ArgumentError, match=r"shape \(m,\)"):
        identify([1.0], ["x", "y"], 1.0)
    with pytest.raises(DataError, match="NaN"):
        identify([np.nan], ["x"], 1.0)


def test_mistakes_are_named():
    probes, gallery = scene()
    for options, message in (
        ({"fpir": [2]}, "fpir must lie between 0 and 1"),
        ({"ranks": [0]}, "ranks must be at least 1"),
        ({"pooling": "means"}, "did you mean 'mean'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            open_set(probes, gallery, **options)
