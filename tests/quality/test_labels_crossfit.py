"""Cross-fitting: no model judges what it has seen, and a stopped one goes on."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from kyori.data import Split, open_source
from kyori.errors import ArgumentError, DataError, DegenerateWarning, Interrupted
from kyori.quality import cross_fit, find_label_errors
from kyori.runs import fit_split, table_of
from kyori.training import Callback, RunConfig

QUICK = RunConfig.from_options(
    loss="softmax", backbone="mlp", epochs=6, lr=0.01, device="cpu", embedding_size=16
)


def digits(n=400, flips=40, seed=0):
    """Some digits as vectors, their true labels, and a source with wrong ones."""
    data = load_digits()
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(data.target))[:n]
    true = data.target[some]
    given = true.copy()
    given[:flips] = (true[:flips] + rng.integers(1, 10, flips)) % 10
    return true, open_source((data.data[some].astype(np.float32), given))


def same(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.table.vectors, b.table.vectors)
        np.testing.assert_array_equal(a.held_out, b.held_out)
        np.testing.assert_array_equal(a.probabilities.own, b.probabilities.own)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    true, source = digits()
    return true, source, folder, cross_fit(source, QUICK, folds=3, folder=folder)


def test_every_item_is_judged_once_by_a_model_that_has_not_seen_it(fitted):
    _, source, folder, folds = fitted
    assert np.sum([fold.held_out for fold in folds], axis=0).tolist() == [1] * len(source)
    for i, fold in enumerate(folds):
        parts = json.loads((folder / f"fold-{i}" / "data.json").read_text())["parts"]
        assert parts["train"]["fingerprint"] == source.take(~fold.held_out).fingerprint()
        assert (fold.table.ids == source.ids).all()


def test_planted_mistakes_are_found(fitted):
    true, source, _, folds = fitted
    found = find_label_errors(folds)
    assert average_precision_score(true != source.labels, -found.label_score) > 0.9
    assert (found.suggested_label == true.astype(str))[
        found.is_label_issue & (true != source.labels)
    ].mean() > 0.8


def test_a_model_that_has_learnt_the_mistakes_by_heart_hides_them():
    true, source = digits(300, 30)
    config = RunConfig.from_options(QUICK, epochs=60)
    wrong = true != source.labels
    seen = fit_split(Split(source, source.take([]), source.take([])), config)
    own = find_label_errors(table_of(seen.embedder, source))
    judged = find_label_errors(cross_fit(source, config, folds=3))
    precision = [average_precision_score(wrong, -found.label_score) for found in (own, judged)]
    assert precision[1] > precision[0] + 0.1


def test_finished_folds_are_taken_as_they_are(fitted, monkeypatch):
    _, source, folder, folds = fitted
    monkeypatch.setattr("kyori.quality.crossfit.train", None)  # nothing is trained any more
    same(cross_fit(source, QUICK, folds=3, folder=folder), folds)


class Stop(Callback):
    """Presses Ctrl-C in the second epoch."""

    def on_epoch(self, record, progress):
        if record["epoch"] == 2:
            raise Interrupted("stopped")


def test_a_stopped_fold_goes_on_to_the_same_bits(fitted, tmp_path):
    _, source, _, folds = fitted
    with pytest.raises(Interrupted):
        cross_fit(
            source, QUICK, folds=3, folder=tmp_path, callbacks=lambda fold: [Stop()] if fold == 1 else []
        )
    assert (tmp_path / "fold-0" / "vectors.parquet").exists()
    assert not (tmp_path / "fold-1" / "vectors.parquet").exists()
    same(cross_fit(source, QUICK, folds=3, folder=tmp_path), folds)


def test_other_labels_are_trained_anew(fitted, tmp_path):
    _, source, _, _ = fitted
    first = cross_fit(source, QUICK, folds=2, folder=tmp_path)
    other = open_source((source.load(range(len(source))), np.roll(source.labels, 1)))
    again = cross_fit(other, QUICK, folds=2, folder=tmp_path)
    np.testing.assert_array_equal(again[0].table.labels, other.labels)
    assert not np.array_equal(first[0].table.vectors, again[0].table.vectors)


def test_a_loss_without_a_head_gives_no_probabilities():
    _, source = digits(120, 0)
    config = RunConfig.from_options(QUICK, loss="triplet", epochs=1)
    folds = cross_fit(source, config, folds=2)
    assert all(fold.probabilities is None for fold in folds)
    assert set(find_label_errors(folds).signals) == {"neighbors", "centres"}


def test_more_folds_than_items_of_a_class():
    """Classes of 1, 2 and 3 items with 4 folds: each item but the lonely one is held out once."""
    _, source = digits(120, 0)
    labels = source.labels.copy()
    labels[:6] = [10, 11, 11, 12, 12, 12]
    small = open_source((source.load(range(120)), labels))
    folds = cross_fit(small, RunConfig.from_options(QUICK, epochs=1), folds=4)
    assert np.sum([fold.held_out for fold in folds], axis=0).tolist() == [0] + [1] * 119
    with pytest.warns(DegenerateWarning, match="1 item is alone in the class"):
        found = find_label_errors(folds)
    assert np.flatnonzero(~found.judged).tolist() == [0]


def test_what_cannot_be_cross_fitted():
    _, source = digits(40, 0)
    with pytest.raises(ArgumentError, match="folds must be at least 2; got 1"):
        cross_fit(source, QUICK, folds=1)
    with pytest.raises(DataError, match="41 folds need at least 41 items; got 40"):
        cross_fit(source, QUICK, folds=41)
    with pytest.raises(DataError, match="at least 2 classes"):
        cross_fit(open_source((np.eye(8, dtype=np.float32), ["a"] * 8)), QUICK)
    with pytest.raises(DataError, match="has no labels, so none of them can be wrong"):
        cross_fit(open_source(np.eye(8, dtype=np.float32)), QUICK)
