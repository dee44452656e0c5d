"""Protocols: folds, all pairs at tiny rates, templates, roles and sequences, groups, leaks."""

import numpy as np
import pytest

from kyori.errors import ArgumentError, DataError, DegenerateWarning
from kyori.evaluation import (
    all_pairs,
    break_down,
    evaluate,
    evaluate_folds,
    find_leaks,
    flip_summed,
    pool_templates,
)  # fmt: skip
from kyori.vectors import VectorTable
from oracles import evaluation as oracle

from .samples import blobs


def pair_values(table, metric):
    import torch

    from kyori.distances import pairwise_distance

    x = torch.from_numpy(table.vectors).double()
    return pairwise_distance(x, x, metric).float().numpy()


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot", "manhattan", "snr"])
@pytest.mark.parametrize("classes", [4, 60])
def test_all_pairs_are_exact(metric, classes):
    table = blobs(300, classes=classes, seed=1)
    values = pair_values(table, metric)
    once = np.triu(np.ones_like(values, bool), 1) if metric != "snr" else ~np.eye(300, dtype=bool)
    same = table.labels[:, None] == table.labels
    distances, kinds = values[once], same[once]
    rates = [1e-4, 1e-3, 3e-2]
    results = all_pairs(table, metric=metric, far=rates, bootstrap=50, memory=300 * 64 * 40)
    for rate, result in zip(rates, results.values(), strict=True):
        threshold = result.protocol["threshold"]
        allowed = int((~kinds).sum() * rate * (1 + 1e-12))
        assert threshold == pytest.approx(np.sort(distances[~kinds])[allowed], rel=1e-6, abs=1e-7)
        assert result.protocol["accepted_different"] <= allowed
        assert result.value == pytest.approx((distances[kinds] < threshold).mean(), abs=2 / kinds.sum())
        assert result.low <= result.value <= result.high
        assert result.protocol["different_pairs"] == (~kinds).sum()


def test_all_pairs_agree_with_the_loop_and_with_a_gallery():
    table = blobs(60)
    distances, same = oracle.all_pairs(table.vectors, table.labels)
    found = all_pairs(table, far=[0.01], bootstrap=0)["tar@far=1e-2"]
    assert found.value == pytest.approx(oracle.tar_at_far(distances, same, 0.01), abs=1e-12)
    against = all_pairs(table, gallery=table, far=[0.01], bootstrap=0)["tar@far=1e-2"]
    assert against.value == found.value
    assert against.protocol["different_pairs"] == 2 * found.protocol["different_pairs"]


def test_tied_pairs_are_all_refused_where_not_all_can_be_accepted():
    generator = np.random.default_rng(3)
    table = VectorTable(vectors=generator.integers(3, size=(80, 3)), labels=generator.integers(9, size=80))
    distances, same = oracle.all_pairs(table.vectors, table.labels)
    for rate in (0.02, 0.1, 0.4):
        found = next(iter(all_pairs(table, far=[rate], bootstrap=0).values()))
        assert found.value == pytest.approx(oracle.tar_at_far(distances, same, rate), abs=1e-12)


def test_too_few_pairs_and_too_little_memory_are_said():
    table = blobs(60)
    with pytest.warns(DegenerateWarning, match="cannot resolve"):
        all_pairs(table, far=[1e-6], bootstrap=0)
    with pytest.raises(ArgumentError, match="Raise it, ask for a smaller FAR"):
        all_pairs(table, far=[0.5], memory=4000)


def test_folds_take_the_threshold_of_the_others():
    generator = np.random.default_rng(0)
    same = generator.random(600) < 0.5
    distances = generator.normal(size=600) + 2 * ~same
    result = evaluate_folds(distances, same, bootstrap=0)["accuracy@folds"]
    expected = []
    for fold in range(10):
        out = np.arange(600) // 60 == fold
        best = result.protocol["thresholds"][fold]
        seen = ((distances[~out] < best) == same[~out]).mean()
        assert seen == pytest.approx(oracle.best_accuracy(distances[~out], same[~out]), abs=1e-12)
        expected.append(((distances[out] < best) == same[out]).mean())
    np.testing.assert_allclose(result.protocol["accuracies"], expected, atol=1e-12)
    assert result.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert result.low < result.value < result.high
    named = evaluate_folds(distances, same, folds=np.arange(600) // 60, bootstrap=0)["accuracy@folds"]
    assert named.value == result.value
    for folds, message in (
        (1, "at least 2"),
        (601, "at most the 600 pairs"),
        ([0, 1], "fold of each of 600"),
    ):
        with pytest.raises(ArgumentError, match=message):
            evaluate_folds(distances, same, folds=folds)
    with pytest.raises(DataError, match="one kind"):
        evaluate_folds([0.1, 0.2], [1, 1], folds=2)


def test_perfect_and_random_pairs_in_folds():
    same = np.tile([True, False], 300)
    assert evaluate_folds(~same, same, bootstrap=0)["accuracy@folds"].value == 1
    chance = evaluate_folds(np.random.default_rng(0).random(600), same, bootstrap=0)["accuracy@folds"].value
    assert chance == pytest.approx(0.5, abs=0.07)


def test_flip_sums_are_unit_vectors():
    a, b = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_allclose(flip_summed(a, b), [[0.5**0.5, 0.5**0.5]], rtol=1e-6)
    with pytest.raises(ArgumentError, match="one shape"):
        flip_summed(a, b[:, :1])


def test_templates_average_media_first():
    table = VectorTable(
        vectors=[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 4.0]],
        labels=["a", "a", "a", "b"],
        columns={"template": ["t1", "t1", "t1", "t2"], "video": [7, 7, 8, 9]},
    )
    pooled = pool_templates(table, "template", "video")
    np.testing.assert_allclose(pooled.vectors, [[0.5**0.5, 0.5**0.5], [0.6, 0.8]], rtol=1e-6)
    assert (pooled.ids.tolist(), pooled.labels.tolist(), pooled.class_names) == (
        ["t1", "t2"],
        [0, 1],
        ("a", "b"),
    )
    assert pooled.columns["items"].tolist() == [3, 1]
    assert pooled.columns["media"].tolist() == [2, 1]
    plain = pool_templates(table, "template", normalize=False)
    np.testing.assert_allclose(plain.vectors, [[2 / 3, 1 / 3], [3, 4]], rtol=1e-6)
    with pytest.raises(ArgumentError, match="did you mean 'template'"):
        pool_templates(table, "templat")
    with pytest.raises(DataError, match="two labels"):
        pool_templates(VectorTable(vectors=[[0.0], [1.0]], labels=[0, 1], columns={"t": ["x", "x"]}), "t")


def test_roles_and_sequences_decide_who_is_compared():
    table = blobs(80, classes=5, seed=2)
    generator = np.random.default_rng(0)
    roles = {"is_query": generator.random(80) < 0.5, "is_gallery": generator.random(80) < 0.8}
    sequence = generator.integers(3, size=80)
    marked = VectorTable(vectors=table.vectors, labels=table.labels, columns={**roles, "sequence": sequence})
    results = evaluate(marked, measures=["map", "auc"], bootstrap=0)
    rows = np.flatnonzero(roles["is_query"])
    values, pairs = [], []
    for row in rows:
        others = [j for j in np.flatnonzero(roles["is_gallery"]) if j != row and sequence[j] != sequence[row]]
        near = np.linalg.norm(table.vectors[others] - table.vectors[row], axis=1)
        hits = table.labels[others][np.argsort(near)] == table.labels[row]
        values.append(oracle.average_precision(hits.tolist()))
        pairs += list(zip(near, table.labels[others] == table.labels[row], strict=True))
    np.testing.assert_allclose(results["map"].per_query, values, rtol=1e-6)
    distances, same = np.array([d for d, _ in pairs]), np.array([s for _, s in pairs])
    assert results["auc"].value == pytest.approx(oracle.auc(distances, same), abs=1e-5)
    assert len(results.provenance["rules"]) == 3
    plain = evaluate(marked, measures=["map"], bootstrap=0, rules=False)
    assert plain["map"].value == evaluate(table, measures=["map"], bootstrap=0)["map"].value
    nobody = VectorTable(vectors=table.vectors, labels=table.labels, columns={"is_query": np.zeros(80, bool)})
    with pytest.raises(DataError, match="false for all 80"):
        evaluate(nobody)


def test_groups_show_who_is_served_badly():
    table = blobs(90, classes=3, seed=4)
    results = evaluate(table, measures=["recall@1", "map@r", "auc"])
    rows = break_down(results, table.labels)
    assert sum(row["n"] for row in rows) == 90
    assert [row["recall@1"] for row in rows] == sorted(row["recall@1"] for row in rows)
    for row in rows:
        mine = table.labels == row["group"]
        assert row["map@r"] == pytest.approx(results["map@r"].per_query[mine].mean(), abs=1e-7)
        assert row["map@r low"] < row["map@r"] < row["map@r high"]
    with pytest.raises(ArgumentError, match="no value of each query"):
        break_down(results, table.labels, ["auc"])
    with pytest.raises(ArgumentError, match=r"shape \(90,\)"):
        break_down(results, [1, 2])


def test_a_planted_leak_is_found_and_named():
    """Ten items copied from training to test, one under its own id, one slightly changed, and a class in both."""
    generator = np.random.default_rng(0)
    train = VectorTable(
        ids=[f"train/{i}" for i in range(200)],
        vectors=generator.normal(size=(200, 16)),
        labels=[f"c{i % 20}" for i in range(200)],
    )
    vectors = generator.normal(size=(100, 16)).astype(np.float32)
    vectors[:10] = train.vectors[50:60]
    vectors[9] += 1e-3
    ids = [f"test/{i}" for i in range(100)]
    ids[8] = "train/58"
    labels = [f"n{i % 10}" for i in range(100)]
    labels[:10] = [f"c{i % 20}" for i in range(50, 60)]
    labels[30] = "c3"
    leaks = find_leaks(train, VectorTable(ids=ids, vectors=vectors, labels=labels))
    found = {leak.test: (leak.train, leak.kind) for leak in leaks.items}
    assert len(found) == 10
    assert found["test/0"] == ("train/50", "content")
    assert found["train/58"] == ("train/58", "id")
    assert found["test/9"] == ("train/59", "near")
    assert all(leak.same_label for leak in leaks.items)
    assert leaks.classes == tuple(sorted({f"c{i % 20}" for i in range(50, 60)} | {"c3"}))
    assert "test/0 = train/50" in str(leaks)
    assert "11 classes are in training and test: c10, c11" in str(leaks)
    assert leaks.as_dict()["items"][0]["test"] == "train/58"
    assert bool(leaks)


def test_clean_splits_have_no_leaks_and_what_was_not_checked_is_said():
    table = blobs(100, classes=10, seed=1)
    train, test = table.take(table.labels < 5), table.take(table.labels >= 5)
    assert not find_leaks(train, test)
    assert str(find_leaks(train, test)) == "no leaks found"
    seen = find_leaks(blobs(50, seed=1), blobs(50, seed=2), disjoint_classes=False)
    assert seen.classes is None
    assert not seen
    assert any("number their items from 0" in note for note in seen.notes)
    with pytest.raises(DataError, match="without labels"):
        find_leaks(train, VectorTable(vectors=test.vectors))
    with pytest.raises(ArgumentError, match="near must be 0 or more"):
        find_leaks(train, test, near=-1)
