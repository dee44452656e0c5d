"""Label errors from vectors: planted mistakes with known answers, slow oracles, degenerate data."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from kyori.data import open_source
from kyori.errors import ArgumentError, DataError, DegenerateWarning
from kyori.neighbors import nearest
from kyori.quality import ClassProbabilities, Fold, find_label_errors
from kyori.quality.beliefs import Beliefs, Suggestions, actions, issues, suggest
from kyori.quality.noise import wilson
from kyori.quality.signals import Votes, centre_scores, count_votes, graph
from kyori.vectors import VectorTable


def blobs(sizes, *, apart=8.0, d=6, seed=0, flips=0):
    """Gaussian classes, the true labels, and labels of which ``flips`` are wrong."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(size=(len(sizes), d))
    centres *= apart / np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = centres[true] + rng.normal(size=(len(true), d))
    given = true.copy()
    wrong = rng.permutation(len(true))[:flips]
    given[wrong] = (true[wrong] + rng.integers(1, len(sizes), flips)) % len(sizes)
    return vectors.astype(np.float32), true, given


def precision(errors, true, given):
    return average_precision_score(true != given, -errors.label_score)


def test_planted_mistakes_are_found_and_put_right():
    vectors, true, given = blobs([80] * 4, apart=10, flips=32)
    found = find_label_errors(VectorTable(vectors=vectors, labels=given))
    np.testing.assert_array_equal(found.is_label_issue, true != given)
    np.testing.assert_array_equal(found.suggested_label, true)
    assert precision(found, true, given) == 1
    assert set(found.worst(32)) == set(np.flatnonzero(true != given))
    assert repr(found) == "LabelErrors(32 of 320 labels are doubtful, 10.0%)"


@pytest.mark.parametrize("method", ["neighbors", "centres", "aggregate"])
def test_each_method_ranks_mistakes_first(method):
    vectors, true, given = blobs([80] * 4, apart=6, flips=32)
    found = find_label_errors(VectorTable(vectors=vectors, labels=given), method=method)
    assert precision(found, true, given) > 0.95
    assert ((found.label_score >= 0) & (found.label_score <= 1)).all()
    for signal in found.signals.values():
        assert ((signal >= 0) & (signal <= 1)).all()


def test_clean_labels_are_left_alone():
    vectors, true, _ = blobs([50] * 3, apart=12)
    found = find_label_errors(VectorTable(vectors=vectors, labels=true))
    assert not found.is_label_issue.any()
    np.testing.assert_array_equal(found.suggested_label, found.given_label)


def test_mistakes_that_are_often_made_rank_before_rare_ones():
    """Five overlapping classes: flips from one class to another are believed more where many are seen."""
    vectors, true, given = blobs([200] * 5, apart=3, d=6, seed=3)
    given[np.random.default_rng(1).permutation(np.flatnonzero(true == 0))[:60]] = 1
    found = find_label_errors(VectorTable(vectors=vectors, labels=given))
    plain = np.prod(list(found.signals.values()), axis=0)
    assert precision(found, true, given) > average_precision_score(true != given, -plain)


def test_a_thousand_small_classes():
    vectors, true, given = blobs([4] * 1000, apart=30, d=12, flips=100)
    found = find_label_errors(VectorTable(vectors=vectors, labels=given))
    assert precision(found, true, given) > 0.9
    assert found.is_label_issue[true != given].mean() > 0.9


def test_neighbours_are_evidence():
    vectors, _, given = blobs([30, 30], flips=3)
    found = find_label_errors(VectorTable(vectors=vectors, labels=given), k=7)
    oracle = nearest(vectors, vectors, 7, exclude_self=True)
    np.testing.assert_array_equal(found.neighbors.ids, oracle.ids)
    np.testing.assert_array_equal(found.neighbors.distances, oracle.distances)


# -- oracles ------------------------------------------------------------------------------------------------------


def slow_votes(labels, found, rounds):
    """The formulas of ``count_votes``, item by item."""
    n, size = len(labels), {c: int((labels == c).sum()) for c in set(labels.tolist())}
    beliefs = [{int(c): 1.0} for c in labels]
    for turn in range(rounds + 1):
        tallies = []
        for i in range(n):
            heard = max(1, min(size[labels[i]] - 1, (found.ids[i] >= 0).sum(), found.ids.shape[1]))
            h = found.distances[i, heard // 2]
            tally: dict[int, float] = {}
            for j, d in list(zip(found.ids[i], found.distances[i], strict=True))[:heard]:
                weight = np.exp(-((min(d / h, 10) if d > 0 else 0) ** 2))
                for c, belief in beliefs[j].items():
                    tally[c] = tally.get(c, 0) + weight * belief
            total = sum(tally.values()) + 0.5
            tallies.append(({c: v / total for c, v in tally.items()}, 0.05 / total))
        own = np.array([t.get(int(c), 0) + least for (t, least), c in zip(tallies, labels, strict=True)])
        if turn < rounds:
            for i, (shares, _) in enumerate(tallies):
                loudest = sorted(shares, key=lambda c: -shares[c])[:4]
                belief = {c: 0.1 * shares[c] for c in loudest if c != labels[i]} | {int(labels[i]): own[i]}
                whole = sum(belief.values())
                beliefs[i] = {c: v / whole for c, v in belief.items()}
    return own, tallies


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_votes_against_the_slow_count(rounds):
    vectors, _, given = blobs([20, 9, 2, 14], apart=2, flips=6)
    found = nearest(vectors, vectors, 8, exclude_self=True)
    votes = count_votes(given, found, rounds)
    own, tallies = slow_votes(given, found, rounds)
    np.testing.assert_allclose(votes.own, own, rtol=1e-6)
    for classes, shares, (tally, _) in zip(votes.classes, votes.shares, tallies, strict=True):
        for c, share in zip(classes, shares, strict=True):
            assert share == pytest.approx(tally[c] if c >= 0 else 0, rel=1e-6)


def test_a_query_is_no_neighbour_of_itself_among_duplicates():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    rows = np.array([0, 4, 7, 14])
    found = graph(vectors[rows], vectors, rows, 3)
    assert (found.ids != rows[:, None]).all()
    assert (found.distances == 0).all()
    assert (found.ids // 5 == rows[:, None] // 5).all()


def test_the_main_centre_is_where_most_of_the_class_is():
    """A quarter of class 0 lies at 10, among class 1: its main centre is at 0, its mean at 2.5."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.1, (80, 1)).astype(np.float32)
    vectors[30:] += 10
    labels = np.repeat([0, 1], 40)
    scores, other = centre_scores(vectors, labels, np.ones(80), np.arange(80), centres=3)
    assert scores[:30].min() > 0.9
    assert scores[30:40].max() < 0.1
    assert (other[:40] == 1).all()


@pytest.mark.parametrize(("count", "n"), [(0, 10), (3, 10), (10, 10), (37, 400)])
def test_wilson_against_scipy(count, n):
    ours, theirs = wilson(count, n), binomtest(count, n).proportion_ci(method="wilson")
    assert ours == pytest.approx((theirs.low, theirs.high))


# -- laws ---------------------------------------------------------------------------------------------------------


def test_the_order_of_the_items_does_not_matter():
    vectors, _, given = blobs([60, 40, 25], apart=4, flips=12)
    shares = np.random.default_rng(1).dirichlet(np.ones(3), 125)
    order = np.random.default_rng(2).permutation(125)
    ids = np.arange(125)
    one = find_label_errors(VectorTable(ids, vectors, given), probabilities=shares)
    two = find_label_errors(
        VectorTable(ids[order], vectors[order], given[order]), probabilities=shares[order]
    )
    np.testing.assert_allclose(two.label_score, one.label_score[order], rtol=1e-4)
    np.testing.assert_array_equal(two.suggested_label, one.suggested_label[order])
    np.testing.assert_array_equal(two.is_label_issue, one.is_label_issue[order])
    np.testing.assert_array_equal(two.ids[two.worst()], one.ids[one.worst()])


def test_names_and_numbers_are_judged_alike():
    vectors, _, given = blobs([40, 40, 40], flips=9)
    names = np.array(["ape", "bee", "cat"])
    numbers = find_label_errors(VectorTable(vectors=vectors, labels=given))
    strings = find_label_errors(VectorTable(vectors=vectors, labels=names[given]))
    np.testing.assert_array_equal(strings.label_score, numbers.label_score)
    np.testing.assert_array_equal(strings.suggested_label, names[numbers.suggested_label])
    assert [one.label for one in strings.noise] == names.tolist()
    assert [one.label for one in numbers.noise] == [0, 1, 2]


def test_the_cosine_does_not_see_lengths():
    vectors, _, given = blobs([40, 40, 40], flips=9)
    lengths = np.random.default_rng(0).uniform(0.5, 2, (120, 1)).astype(np.float32)
    one = find_label_errors(VectorTable(vectors=vectors, labels=given), metric="cosine")
    two = find_label_errors(VectorTable(vectors=vectors * lengths, labels=given), metric="cosine")
    np.testing.assert_allclose(one.label_score, two.label_score, rtol=1e-3)


def test_duplicates_with_two_labels_are_told_by_the_majority():
    vectors, _, given = blobs([30, 30], apart=10)
    copies = np.concatenate([vectors, np.repeat(vectors[:1], 6, axis=0)])
    labels = np.concatenate([given, [0, 0, 0, 0, 0, 1]])
    found = find_label_errors(VectorTable(vectors=copies, labels=labels))
    assert np.flatnonzero(found.is_label_issue).tolist() == [65]
    assert found.suggested_label[65] == 0


def test_all_vectors_alike_say_nothing():
    found = find_label_errors(VectorTable(vectors=np.ones((20, 3)), labels=[0, 1] * 10))
    assert np.isfinite(found.label_score).all()


# -- probabilities -------------------------------------------------------------------------------------------------


def test_probabilities_help():
    vectors, true, given = blobs([150] * 3, apart=2, d=3, flips=45)
    logits = 4 * np.eye(3)[true] + np.random.default_rng(5).normal(size=(450, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = VectorTable(vectors=vectors, labels=given)
    alone, both = find_label_errors(table), find_label_errors(table, probabilities=shares)
    assert precision(both, true, given) > precision(alone, true, given)
    assert "probabilities" in both.signals
    sparse = ClassProbabilities.from_dense(shares, given)
    np.testing.assert_array_equal(
        find_label_errors(table, probabilities=sparse).label_score, both.label_score
    )


def test_the_steepness_of_a_head_does_not_matter():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    logits = 2 * np.eye(4)[labels] + rng.normal(size=(500, 4))

    def calibrated(scale):
        p = np.exp(scale * logits - (scale * logits).max(axis=1, keepdims=True))
        return ClassProbabilities.from_dense(p / p.sum(axis=1, keepdims=True), labels).calibrated().own

    np.testing.assert_allclose(calibrated(4), calibrated(1.5), atol=0.01)


def test_sparse_probabilities_make_a_round_trip():
    shares = np.random.default_rng(0).dirichlet(np.ones(12), 20)
    labels = np.arange(20) % 12
    one = ClassProbabilities.from_dense(shares, labels)
    two = ClassProbabilities.from_columns(one.to_columns())
    parts = ClassProbabilities.concatenate([one.take(np.arange(5)), one.take(np.arange(5, 20))])
    for name in ("classes", "values", "own"):
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name))
        np.testing.assert_array_equal(getattr(parts, name), getattr(one, name))
    np.testing.assert_allclose(one.own, shares[np.arange(20), labels], rtol=1e-6)
    assert ClassProbabilities.from_dense(shares, labels + 100).own.tolist() == [0] * 20


@pytest.mark.parametrize("noise", ["random", "similar"])
def test_not_worse_than_cleanlab_on_the_same_vectors_and_probabilities(noise):
    rank = pytest.importorskip("cleanlab.rank")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    vectors, true, given = blobs([200] * 5, apart=3.5, d=8, seed=2)
    rng = np.random.default_rng(0)
    wrong = rng.permutation(1000)[:100]
    given[wrong] = (true[wrong] + (1 if noise == "similar" else rng.integers(1, 5, 100))) % 5
    shares = cross_val_predict(LogisticRegression(), vectors, given, cv=5, method="predict_proba")
    ours = find_label_errors(VectorTable(vectors=vectors, labels=given), probabilities=shares)
    theirs = rank.get_label_quality_scores(given, shares)
    neighbors = nearest(vectors, vectors, 10, exclude_self=True).ids
    votes = np.stack([(given[neighbors] == c).mean(axis=1) for c in range(5)], axis=1)
    features = rank.get_label_quality_scores(given, votes)
    reached = precision(ours, true, given)
    assert reached >= average_precision_score(true != given, -theirs)
    assert reached >= average_precision_score(true != given, -features)


# -- what cannot be judged ----------------------------------------------------------------------------------------


def test_items_alone_in_their_class_are_not_judged():
    vectors, _, given = blobs([30, 30, 1, 1], flips=0)
    with pytest.warns(DegenerateWarning, match="2 items are alone in the class"):
        found = find_label_errors(VectorTable(vectors=vectors, labels=given))
    assert np.flatnonzero(~found.judged).tolist() == [60, 61]
    assert found.label_score[60:].tolist() == [0.5, 0.5]
    assert not found.is_label_issue[60:].any()
    np.testing.assert_array_equal(found.suggested_label[60:], found.given_label[60:])
    assert (found.noise[2].items, np.isnan(found.noise[2].rate)) == (0, True)


def test_more_neighbours_than_items():
    found = find_label_errors(VectorTable(vectors=[[0.0], [0.1], [5.0], [5.1]], labels=[0, 0, 1, 1]), k=50)
    assert found.neighbors.ids.shape == (4, 3)
    assert not found.is_label_issue.any()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (VectorTable(vectors=np.eye(3)), "the table has no labels"),
        (VectorTable(vectors=np.eye(3), labels=["a"] * 3), "at least 2 classes, got 1"),
        (VectorTable(vectors=np.zeros((0, 2)), labels=np.zeros(0, int)), "at least 2 classes, got 0"),
    ],
)
def test_data_without_a_question(table, message):
    with pytest.raises(DataError, match=message):
        find_label_errors(table)


def test_vectors_that_are_no_numbers():
    with pytest.raises(DataError, match="vectors must be finite float32 numbers; row 1 holds nan"):
        VectorTable(vectors=[[0.0], [np.nan]], labels=[0, 1])


TABLE = VectorTable(vectors=np.eye(4), labels=[0, 0, 1, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "neighbours"}, "did you mean 'neighbors'"),
        ({"method": "probabilities"}, "needs the probabilities of a head"),
        ({"k": 0}, "k must be at least 1; got 0"),
        ({"centres": 0}, "centres must be at least 1; got 0"),
        ({"rounds": -1}, "rounds must be at least 0; got -1"),
        ({"metric": "dot"}, "metric must be 'euclidean' or 'cosine'; got 'dot'"),
        ({"probabilities": np.full((3, 2), 0.5)}, "probabilities must have shape"),
        ({"probabilities": np.full((4, 2), 0.9)}, "with sum 1 in each row"),
        ({"probabilities": [[np.nan, 1]] * 4}, "at least 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises((ArgumentError, DataError), match=message):
        find_label_errors(TABLE, **options)


def test_folds_that_do_not_fit():
    other = VectorTable(ids=[3, 2, 1, 0], vectors=np.eye(4), labels=[0, 0, 1, 1])
    half = np.array([True, True, False, False])
    with pytest.raises(ArgumentError, match="the same items in the same order"):
        find_label_errors([Fold(TABLE, half), Fold(other, ~half)])
    with pytest.raises(ArgumentError, match="folds bring their own probabilities"):
        find_label_errors([Fold(TABLE, half), Fold(TABLE, ~half)], probabilities=np.full((4, 2), 0.5))
    with pytest.raises(ArgumentError, match="a VectorTable, or the folds"):
        find_label_errors([])


def test_folds_of_one_space_are_the_table():
    """Where all models agree, judging fold by fold is judging the table."""
    vectors, _, given = blobs([60, 60], apart=4, flips=10)
    table = VectorTable(vectors=vectors, labels=given)
    fold = np.arange(120) % 3
    whole = find_label_errors(table)
    parts = find_label_errors([Fold(table, fold == i) for i in range(3)])
    np.testing.assert_allclose(parts.label_score, whole.label_score, rtol=1e-5)


# -- what to do about an issue ----------------------------------------------------------------------------------


def test_clear_mistakes_are_relabelled_and_doubtful_ones_dropped():
    found = Suggestions(
        np.ones(4, np.int64), np.array([0.01, 0.01, 0.1, 0.5]), np.array([0.01, 0.5, 0.01, 0.0])
    )
    issue = np.array([True, True, True, False])
    assert actions(issue, found).tolist() == ["relabel", "drop", "drop", "keep"]


def test_an_item_between_two_classes_is_left_alone_and_a_planted_mistake_is_not():
    """Class 1 knows nothing of class 0. An item labelled 0 with some belief in 0 is odd among 1, so no mistake."""
    n = 100
    labels = np.ones(n, np.int64)
    labels[:3] = 0
    own = np.full(n, 0.9)
    own[:3] = [0.09, 0.009, 0.001]
    other = np.full(n, 0.01)
    other[:3] = 0.9
    other[3:8] = 0.02  # some members of 1 are a little like 0
    classes = np.where(labels == 0, 1, 0)[:, None]
    beliefs = Beliefs(Votes(classes, other[:, None], own, np.full(n, 1e-4)), None)
    found = suggest(labels, beliefs, classes[:, 0])
    assert found.labels[:3].tolist() == [1, 1, 1]
    assert issues(labels, beliefs, found, np.ones(n, bool))[:3].tolist() == [False, True, True]
    assert not issues(labels, beliefs, found, np.zeros(n, bool)).any()


def test_suggestions_are_corrections_that_can_be_applied():
    vectors, true, given = blobs([80] * 4, apart=10, flips=32)
    names = np.array(["ant", "bee", "cat", "dog"])
    found = find_label_errors(VectorTable(vectors=vectors, labels=names[given]))
    suggested = found.corrections()
    assert len(suggested) == 32
    assert suggested.count("keep") == 0
    corrected = suggested.apply(open_source((vectors, names[given])))
    left = np.isin(np.arange(320), corrected.ids)
    np.testing.assert_array_equal(np.array(corrected.class_names)[corrected.labels], names[true[left]])
    assert left.mean() > 0.9
