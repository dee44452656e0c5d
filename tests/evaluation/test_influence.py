"""What each item adds: that of leaving it out and measuring again, and intervals that hold the truth because of it."""

import json

import numpy as np
import pytest

from kyori.evaluation import evaluate
from kyori.evaluation.bootstrap import Bootstrap, influence
from kyori.evaluation.influence import influences
from kyori.evaluation.measures import plan_measures
from kyori.evaluation.retrieval import retrieve
from kyori.evaluation.task import Task
from kyori.results import Results
from kyori.vectors import VectorTable
from oracles import leave_one_out as oracle

COUNTED = {"screening._SORTED": 10**9, "screening._FEW": 0, "screening._SAMPLED": 1}
WAYS = {
    "sorted": {"ranking._LEAST_ITEMS": 10**9},
    "screen": {},
    "counted": COUNTED,
    "counted, each item by itself where few matter": COUNTED | {"ahead._SCATTERED": 1},
    "counted, rows one by one": COUNTED | {"ahead._SCATTERED": 10**9, "ahead._TABLE": 1},
    "counted, in blocks of columns": COUNTED | {"screening.BLOCK_WIDTH": 7, "ahead._SCATTERED": 3},
    "looked up": COUNTED | {"screening._PASSES": 0},
}
ALWAYS = {"ranking._LEAST_ITEMS": 1, "ranking._FEW": 1, "screening._CROWDED": 0.001}


def draw(seed, ties, n=40, classes=9):
    """A table of unequal classes, some of one item, and many items at equal distances with ``ties``."""
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.geometric(0.25, n) - 1, classes)
    vectors = generator.normal(size=(classes + 1, 3))[labels] + generator.normal(size=(n, 3))
    return VectorTable(vectors=np.round(vectors) if ties else vectors, labels=labels)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("unit", ["query", "class"])
def test_influences_are_those_of_measuring_again_without_the_item(monkeypatch, way, ties, unit):
    for name, value in (ALWAYS | WAYS[way]).items():
        monkeypatch.setattr(f"kyori.evaluation.{name}", value)
    table = draw(int(ties), ties)
    task = Task.from_tables(table, None, "euclidean")
    labels = table.labels
    groups = (
        [[i] for i in range(40)]
        if unit == "query"
        else [np.flatnonzero(labels == c) for c in np.unique(labels)]
    )
    expected = oracle.pseudo_values(table.vectors, labels, groups)
    for names in (list(oracle.FORMULAS), ["recall@1", "precision@4"], ["mrr"]):
        found = retrieve(task, plan_measures(names, (), (), None), 7, effects=unit)
        got = influences(task, found.values, found.effects, unit_class=unit == "class", zero=False)
        for name in names:
            shares, _ = got[name]
            if unit == "class":  # what the items of a class add, together
                mean = np.nanmean(found.values[name])
                shares = np.array([mean + (shares[g] - mean).sum() * len(groups) / 40 for g in groups])
            np.testing.assert_allclose(shares, expected[name], rtol=0, atol=1e-12 * 40, err_msg=name)
            assert shares.mean() == pytest.approx(np.nanmean(found.values[name]), abs=1e-12)


def test_the_square_of_chance_is_that_of_all_pairs():
    """On average over signs; here over the tables, too."""
    got, expected = dict.fromkeys(oracle.FORMULAS, 0.0), dict.fromkeys(oracle.FORMULAS, 0.0)
    for seed in range(30):
        table = draw(seed, ties=False, n=30)
        task = Task.from_tables(table, None, "euclidean")
        effects = retrieve(task, plan_measures(list(got), (), (), None), effects="query").effects
        for name, sum_ in oracle.squares(table.vectors, table.labels).items():
            got[name] += float(effects.signed[name] @ effects.signed[name])
            expected[name] += sum_
    for name in got:
        assert got[name] == pytest.approx(expected[name], rel=0.2), name


def test_with_classes_it_is_that_of_all_pairs_of_classes_less_what_a_class_does_to_all():
    got = expected = 0.0
    for seed in range(40):
        table = draw(seed, ties=False, n=40)
        task = Task.from_tables(table, None, "euclidean")
        plan = plan_measures(["map@r"], (), (), None)
        got += float(np.square(retrieve(task, plan, effects="class").effects.signed["map@r"]).sum())
        order = oracle.orders(table.vectors)
        whole = oracle.per_query(order, table.labels, "map@r", set())
        for gone in np.unique(table.labels):
            without = oracle.per_query(
                order, table.labels, "map@r", set(np.flatnonzero(table.labels == gone))
            )
            gains = [
                np.nansum((without - whole)[table.labels == c]) for c in np.unique(table.labels) if c != gone
            ]
            expected += len(gains) * np.var(gains)
    assert got == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("unit", ["query", "class"])
def test_what_an_item_adds_to_the_auc_is_that_of_measuring_again_without_it(unit):
    generator = np.random.default_rng(3)
    labels = np.sort(generator.integers(6, size=48))
    table = VectorTable(vectors=generator.normal(size=(48, 2)) + 0.5 * labels[:, None], labels=labels)
    result = evaluate(table, measures=["auc", "accuracy@1.5"], unit=unit)["auc"]
    groups = [[i] for i in range(48)] if unit == "query" else [np.flatnonzero(labels == c) for c in range(6)]
    without = np.array([oracle.auc(table.vectors, labels, set(group)) for group in groups])
    expected = result.value + (len(groups) - 1) * (without.mean() - without)
    got = [result.value + (result.influence[g] - result.value).sum() * len(groups) / 48 for g in groups]
    # The intervals count pairs in coarse bins.
    assert np.corrcoef(got, expected)[0, 1] > 0.99
    assert np.std(got) == pytest.approx(np.std(expected), rel=0.05)


@pytest.mark.parametrize("unit", ["query", "class"])
def test_chance_of_a_verification_measure_is_what_single_pairs_bring(unit):
    """Noise of pairs against noise of items: half of the jackknife's variance is chance, or nearly nothing."""
    found = {}
    for kind in ("pairs", "items"):
        shares = []
        for seed in range(3):
            generator = np.random.default_rng(seed)
            labels = np.sort(np.arange(160) % (40 if unit == "class" else 4))
            if (
                kind == "pairs"
            ):  # vectors without structure in many dimensions: each distance is a draw of its own
                vectors = generator.normal(size=(160, 400))
            else:  # few items lie far out, and with them all their pairs
                vectors = generator.normal(size=(160, 2)) * np.exp(2 * generator.normal(size=(160, 1)))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) if kind == "pairs" else 1.0
            result = evaluate(
                VectorTable(vectors=vectors, labels=labels), measures=["accuracy@1.4"], unit=unit
            )
            result = result["accuracy@1.4"]
            units = influence(result.influence[None], labels if unit == "class" else None)[0]
            square = float(np.square(result.chance, dtype=float).sum()) / 160**2
            shares.append(square / (units.var() / len(units)))
        found[kind] = np.mean(shares)
    assert found["pairs"] == pytest.approx(0.45, abs=0.1)
    assert found["items"] < 0.1


def test_a_gallery_of_its_own_leaves_queries_independent():
    table, gallery = draw(0, False), draw(1, False)
    gallery = VectorTable(ids=np.arange(100, 140), vectors=gallery.vectors, labels=gallery.labels)
    table = VectorTable(vectors=table.vectors, labels=np.where(table.labels > 4, 99, table.labels))
    with pytest.warns(match="have no positive"):
        result = evaluate(table, gallery=gallery, measures=["map@r"])["map@r"]
    assert result.influence is None
    assert (result.low, result.high) == pytest.approx(Bootstrap(40, 1, 0).mean(result.per_query), abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*have no positive")
def test_influences_are_kept_in_the_file_and_older_files_open():
    results = evaluate(draw(0, False), measures=["map@r", "auc", "alignment"])
    again = Results.from_json(results.to_json())
    for name in ("map@r", "auc"):
        np.testing.assert_array_equal(again[name].influence, results[name].influence)
    np.testing.assert_array_equal(again["map@r"].chance, results["map@r"].chance)
    assert again["alignment"].influence is None
    old = json.loads(results.to_json())
    for entry in old["results"]:
        del entry["influence"], entry["chance"]
    assert Results.from_json(json.dumps(old))["map@r"].influence is None


@pytest.mark.filterwarnings("ignore:.*have no positive")
def test_queries_without_a_positive_count_as_the_policy_says():
    table = draw(2, False)
    table = VectorTable(
        vectors=table.vectors, labels=np.where(np.arange(40) < 3, 50 + np.arange(40), table.labels)
    )
    skipped, zero = (
        evaluate(table, measures=["map@r"], no_positive=policy)["map@r"] for policy in ("skip", "zero")
    )
    assert np.isnan(skipped.per_query).any()
    for result in (skipped, zero):
        assert np.isfinite(result.influence).all()
        assert result.influence.mean() == pytest.approx(result.value, abs=1e-6)
        assert result.low < result.value < result.high


@pytest.mark.filterwarnings("ignore:.*have no positive")
def test_where_nothing_is_left_without_an_item_queries_are_taken_as_they_are():
    table = VectorTable(vectors=[[0.0], [1.0], [2.0], [5.0]], labels=[0, 0, 1, 2])
    result = evaluate(table, measures=["recall@1"])["recall@1"]
    assert result.influence is None
    assert (result.value, result.n) == (1.0, 2)
    assert result.low < 1
