"""Near-duplicates against a double loop: pairs, groups, leaks, conflicts, and the degenerate tables."""

import json

import numpy as np
import pytest
from pyarrow import parquet

from kyori import VectorTable
from kyori.data import open_source
from kyori.errors import ArgumentError, DataError
from kyori.quality import content_groups, find_duplicates, suggest_threshold
from kyori.quality.duplicates import Conflict, Leak
from kyori.quality.groups import Groups
from kyori.quality.pictures import agreement, same_pictures
from kyori.quality.radius import pairs_within
from oracles import quality as oracle


def found_pairs(vectors, radius, metric="euclidean"):
    pairs = [
        (int(i), int(j), float(D))
        for block in pairs_within(np.asarray(vectors, np.float32), radius, metric)
        for i, j, D in zip(block.first, block.second, block.distances, strict=True)
    ]
    assert len(pairs) == len({pair[:2] for pair in pairs}), "a pair came twice"
    return sorted(pairs)


def correlated(n, d, seed=0):
    """Unequal spread in all directions, far from the origin, with close pairs at several distances."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) * generator.gamma(1, size=d) + 7
    vectors[: n // 4] = vectors[n // 4 : 2 * (n // 4)] + generator.gamma(1, size=(n // 4, 1)) * 0.05
    return vectors.astype(np.float32)


class TestPairs:
    @pytest.mark.parametrize("metric", ["euclidean", "squared_euclidean", "cosine"])
    @pytest.mark.parametrize(("n", "d"), [(2, 3), (50, 2), (600, 3), (600, 40)])
    def test_they_are_those_of_the_double_loop(self, n, d, metric):
        vectors = correlated(n, d)
        D = oracle.all_distances(vectors, metric)
        ordered = np.unique(D[np.triu_indices(n, 1)].round(10))
        for share in (0.001, 0.01, 0.3):
            start = int(share * len(ordered))
            radius = float(ordered[start : start + 2].mean())  # between two: roundings decide nothing
            if metric == "cosine" and radius >= 1:
                continue
            expected = [(i, j) for i, j in np.argwhere(np.triu(D - radius <= 0, 1)).tolist()]
            pairs = found_pairs(vectors, radius, metric)
            assert [pair[:2] for pair in pairs] == expected
            np.testing.assert_allclose(
                [pair[2] for pair in pairs], [D[pair] for pair in expected], atol=1e-12
            )

    def test_a_pair_at_the_radius_counts(self):
        assert found_pairs([[0.0], [0.25], [0.75]], 0.25) == [(0, 1, 0.25)]
        assert found_pairs([[0.0], [0.0], [1.0]], 0.0) == [(0, 1, 0.0)]

    def test_every_pair_of_copies_is_found_and_no_other(self):
        vectors = np.concatenate([np.ones((300, 5)), np.full((300, 5), 1 + 1e-6)])
        assert len(found_pairs(vectors, 0.0)) == 2 * 300 * 299 // 2

    @pytest.mark.parametrize("scale", [1e-25, 1e25])
    def test_numbers_whose_squares_leave_float32(self, scale):
        vectors = correlated(600, 4).astype(np.float64)
        expected = [pair[:2] for pair in found_pairs(vectors, 0.5)]
        assert [pair[:2] for pair in found_pairs(vectors * scale, 0.5 * scale)] == expected

    def test_a_zero_vector_has_no_direction(self):
        assert found_pairs([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], 0.5, "cosine") == [(2, 3, 0.0)]

    def test_a_radius_as_wide_as_the_data_finds_all_pairs(self):
        vectors = correlated(600, 4)
        assert len(found_pairs(vectors, 1e30)) == 600 * 599 // 2

    def test_few_pairs_are_measured_where_the_radius_is_small(self, monkeypatch):
        from kyori.quality import radius

        looked_at = []
        maybe_close = radius._maybe_close
        monkeypatch.setattr(
            radius, "_maybe_close", lambda a, b, r: looked_at.append(len(a) * len(b)) or maybe_close(a, b, r)
        )
        generator = np.random.default_rng(0)
        vectors = (generator.normal(size=(10_000, 6)) @ generator.normal(size=(6, 32))).astype(np.float32)
        list(pairs_within(vectors, 0.05))
        assert sum(looked_at) < 0.1 * len(vectors) ** 2 / 2


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.2, 1.0])
def test_groups_partners_and_leaks_are_those_of_the_loop(seed, threshold):
    generator = np.random.default_rng(seed)
    vectors = generator.integers(0, 6, size=(60, 2)) + 0.1 * generator.normal(size=(60, 2)) * (
        generator.random((60, 1)) < 0.5
    )
    vectors = vectors.astype(np.float32)
    splits = generator.integers(0, 3, 60).astype(str)
    contents = generator.integers(0, 50, 60) if seed % 2 else None
    table = VectorTable(vectors=vectors, columns={"split": splits})
    found = find_duplicates(table, threshold, contents=contents)
    group, partners, leaks = oracle.duplicates(vectors, threshold, splits, contents)
    np.testing.assert_array_equal(found.group, group)
    np.testing.assert_array_equal(found.nearest, partners)
    assert {leak.id: leak.other_id for leak in found.leaks} == leaks


def test_planted_duplicates_leaks_and_conflicts_are_named():
    table = VectorTable(
        ids=["a", "b", "c", "d", "e"],
        vectors=[[0.0], [5.0], [0.25], [9.0], [5.0]],
        labels=["cat", "dog", "dog", "emu", "dog"],
        columns={"split": ["train", "train", "test", "test", "test"]},
    )
    found = find_duplicates(table, 0.5)
    np.testing.assert_array_equal(found.group, [0, 1, 0, -1, 1])
    np.testing.assert_array_equal(found.scores, [0.5, 0.0, 0.5, 1.0, 0.0])
    np.testing.assert_array_equal(found.exact, [False, True, False, False, True])
    assert found.conflicts == (Conflict(0, {"cat": 1, "dog": 1}),)
    assert found.leaks[:2] == (Leak("a", "train", "c", "test", 0.25), Leak("b", "train", "e", "test", 0.0))
    assert "2 groups" in str(found)
    assert "4 leak between splits, 1 groups have conflicting labels" in str(found)
    assert json.loads(json.dumps(found.summary()))["leaks"][0]["other_id"] == "c"


def test_the_columns_have_cleanlabs_names_and_are_written(tmp_path):
    found = find_duplicates([[0.0], [0.1], [5.0]], 0.5)
    found.save(tmp_path / "found.parquet")
    written = parquet.read_table(tmp_path / "found.parquet").to_pydict()
    assert written["is_near_duplicate_issue"] == [True, True, False]
    assert written["near_duplicate_score"] == pytest.approx([0.2, 0.2, 1.0])
    assert written["near_duplicate_group"] == [0, 0, -1]
    assert written["nearest_duplicate"] == ["1", "0", ""]
    found.save(tmp_path / "found.csv")
    assert (tmp_path / "found.csv").read_text().startswith('"id","is_near_duplicate_issue"')
    with pytest.raises(ArgumentError, match=r"written as \.csv or \.parquet"):
        found.save(tmp_path / "found.txt")


def test_the_order_of_the_items_does_not_matter():
    vectors = correlated(500, 8)
    order = np.random.default_rng(1).permutation(500)
    one, two = find_duplicates(vectors, 0.3), find_duplicates(vectors[order], 0.3)
    np.testing.assert_array_equal(one.distances[order], two.distances)
    same = np.equal.outer(one.group, one.group) & (one.group >= 0)
    np.testing.assert_array_equal(
        same[np.ix_(order, order)], np.equal.outer(two.group, two.group) & (two.group >= 0)
    )


def test_the_proposed_threshold_is_a_quarter_of_the_median_and_copies_do_not_count():
    line = np.arange(50.0)[:, None]
    assert suggest_threshold(line) == 0.25
    assert suggest_threshold(np.concatenate([line, line, line])) == 0.25
    found = find_duplicates(np.concatenate([line, [[10.2]]]))
    np.testing.assert_array_equal(np.flatnonzero(found.group >= 0), [10, 50])
    assert found.rule == "0.25 of the median distance to the nearest neighbour"
    assert find_duplicates(line, 0.5).rule == "as given"


def test_contents_are_told_apart_by_their_bytes(tmp_path):
    np.testing.assert_array_equal(content_groups(["a", "b", "a"]), [0, 1, 0])
    assert len(set(content_groups([np.zeros(2), np.zeros((2, 1)), np.zeros(2, np.float32)]))) == 3
    digits = open_source("digits")
    pictures = digits.load(np.arange(len(digits)))
    np.testing.assert_array_equal(content_groups(digits), content_groups(pictures))
    doubled = open_source((np.concatenate([pictures[:300], pictures[5:7]]), np.zeros(302, int)))
    np.testing.assert_array_equal(content_groups(doubled)[-2:], content_groups(doubled)[5:7])
    with pytest.raises(DataError, match="arrays, pictures or texts; got a dict"):
        content_groups([{}])


def test_the_same_content_is_a_duplicate_whatever_the_vectors():
    found = find_duplicates([[0.0], [9.0], [20.0]], 0.5, contents=["x", "y", "x"])
    np.testing.assert_array_equal(found.group, [0, -1, 0])
    np.testing.assert_array_equal(found.distances, [0, np.inf, 0])


@pytest.mark.parametrize(
    ("vectors", "groups"),
    [(np.zeros((0, 3)), []), (np.ones((1, 3)), [-1]), (np.ones((3000, 3)), [0] * 3000)],
    ids=["none", "one", "constant"],
)
def test_degenerate_tables(vectors, groups):
    np.testing.assert_array_equal(find_duplicates(vectors).group, groups)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -1.0}, "threshold must be a finite number of at least 0; got -1.0"),
        ({"threshold": float("nan")}, "got nan"),
        ({"threshold": 1.5, "metric": "cosine"}, "below 1 for the cosine; got 1.5"),
        ({"metric": "manhattan"}, "euclidean, squared_euclidean, cosine; got 'manhattan'"),
        ({"metric": "cosin"}, "did you mean 'cosine'"),
        ({"contents": [1, 2]}, r"contents must be 3 integers or strings.*shape \(2,\)"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        find_duplicates([[0.0], [1.0], [2.0]], **options)
    with pytest.raises(DataError, match="row 1 holds nan"):
        find_duplicates([[0.0], [np.nan]])


def test_groups_in_small_portions_are_those_of_one():
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, 200, size=(2, 150))
    once, often = Groups(200), Groups(200)
    once.join(*pairs)
    for i in range(150):
        often.join(*pairs[:, i : i + 1])
        often.numbers()
    np.testing.assert_array_equal(once.numbers(), often.numbers())


@pytest.mark.slow
def test_memory_stays_bounded():
    """30,000 × 64 vectors, 7.7 MB: nothing near the 3.6 GB of their distances is ever held."""
    import tracemalloc

    vectors = np.random.default_rng(0).normal(size=(30_000, 64)).astype(np.float32)
    vectors[:100] = vectors[100:200] + 1e-3
    tracemalloc.start()
    found = find_duplicates(vectors, 0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.group >= 0).sum() == 200
    assert peak < 20 * vectors.nbytes


# -- pictures -----------------------------------------------------------------------------------------------------


class Pictures:
    """Pictures in memory, as a source gives them."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def load(self, indices):
        return self.array[indices]


def drawn(n, seed=0):
    """Pictures (n, 24, 20) of smooth blobs with an empty border of three pixels."""
    rng = np.random.default_rng(seed)
    inside = np.kron(rng.uniform(0, 200, (n, 6, 7)), np.ones((1, 3, 2)))
    return np.pad(inside, ((0, 0), (3, 3), (3, 3))).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.roll(x, (1, -2), axis=(0, 1)),
        lambda x: (x * 0.7).astype(np.uint8),
        lambda x: np.clip(x + np.random.default_rng(1).normal(0, 4, x.shape), 0, 255).astype(np.uint8),
        lambda x: x // 16 * 16,
    ],
    ids=["shifted", "darker", "noisy", "coarser"],
)
def test_changed_copies_of_pictures_are_found_whatever_their_vectors(change):
    pictures = drawn(30)
    both = np.concatenate([pictures, np.stack([change(picture) for picture in pictures[:10]])])
    vectors = np.random.default_rng(0).normal(size=(40, 8))
    found = find_duplicates(vectors, 0.1, pictures=Pictures(both))
    np.testing.assert_array_equal(found.group[:10], np.arange(10))
    np.testing.assert_array_equal(found.group[30:], np.arange(10))
    assert (found.group[10:30] == -1).all()
    np.testing.assert_array_equal(found.nearest[30:], np.arange(10))
    assert (found.distances[30:] <= 0.1).all()
    assert (find_duplicates(vectors, 0.1).group == -1).all()


def test_agreement_is_the_correlation_at_the_best_shift():
    pictures = drawn(2, seed=3).astype(float)
    moved = np.roll(pictures[0], (2, 1), axis=(0, 1))
    stack = Pictures(np.stack([pictures[0], pictures[1], moved]))
    first, second = np.array([0, 0]), np.array([2, 1])
    exact, other = agreement(stack, first, second)
    assert exact == pytest.approx(1, abs=1e-6)
    shifts = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    oracle = max(
        np.corrcoef(
            pictures[0][max(0, -y) : 24 - max(0, y), max(0, -x) : 20 - max(0, x)].ravel(),
            pictures[1][max(0, y) : 24 + min(0, y), max(0, x) : 20 + min(0, x)].ravel(),
        )[0, 1]
        for y, x in shifts
    )
    assert other == pytest.approx(oracle, abs=1e-5)


def test_what_the_magnitudes_rule_out_does_not_agree():
    """The candidates by Fourier magnitudes hold every pair that the double loop finds."""
    pictures = drawn(25, seed=5)
    blends = [(pictures[0] * (1 - t) + pictures[1] * t).astype(np.uint8) for t in np.linspace(0, 0.5, 12)]
    stack = Pictures(np.concatenate([pictures, np.stack(blends)]))
    i, j = np.triu_indices(len(stack), 1)
    same = agreement(stack, i, j) >= 0.99
    found = [(a, b) for first, second in same_pictures(stack) for a, b in zip(first, second, strict=True)]
    assert sorted(found) == list(zip(i[same], j[same], strict=True))
    assert 0 < same.sum() < len(i)


def test_pictures_must_be_pictures_and_as_many_as_the_vectors():
    with pytest.raises(ArgumentError, match=r"pictures must be 3, one per vector.*got 2"):
        find_duplicates(np.eye(3), 0.1, pictures=Pictures(drawn(2)))
    with pytest.raises(DataError, match=r"pictures must load as .*got shape \(3, 4\)"):
        find_duplicates(np.eye(3), 0.1, pictures=Pictures(np.ones((3, 4))))
    flat = find_duplicates(np.eye(3), 0.1, pictures=Pictures(np.full((3, 9, 9, 3), 7, np.uint8)))
    assert (flat.group == 0).all()
