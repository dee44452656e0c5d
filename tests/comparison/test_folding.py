"""Which question is asked, and how the items are dealt out."""

import numpy as np
import pytest

from kyori.comparison.folding import decide
from kyori.data import open_source
from kyori.errors import ArgumentError, DataError, DataWarning
from kyori.training import RunConfig


def source(sizes, split=None):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    found = open_source((np.eye(4, dtype=np.float32)[labels % 4], labels))
    if split is not None:
        found.columns["split"] = np.asarray(split)
    return found


def asked(sizes, *, unseen=None, folds=None, split=None, **options):
    return decide(source(sizes, split), RunConfig.from_options(**options), unseen=unseen, folds=folds)


@pytest.mark.parametrize(
    ("sizes", "unseen"),
    [
        ([180] * 10, False),  # digits
        ([7000] * 10, False),  # Fashion-MNIST
        ([15] * 16, False),  # few classes are a closed set, however small
        ([10] * 40, True),  # Olivetti faces
        ([19] * 20, True),
        ([20] * 20, False),
        ([1] * 30 + [500] * 10, True),  # the median counts
    ],
)
def test_more_classes_than_items_in_a_class_ask_about_unseen_classes(sizes, unseen):
    found = asked(sizes)
    assert found.unseen == unseen
    assert found.folds == ((0, 1, 2) if unseen else (None,))
    assert f"{len(sizes)} classes" in found.reason


def test_folds_of_classes_share_none_and_test_each_once():
    found = asked([5] * 24, folds=4)
    tested = []
    for _, split in found.splits():
        parts = [set(part.labels.tolist()) for part in split]
        assert not parts[0] & parts[1]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]
        tested += parts[2]
    assert sorted(tested) == list(range(24))


def test_folds_of_items_test_each_once_and_know_every_class():
    found = asked([12] * 4, folds=3)
    tested = []
    for fold, split in found.splits():
        assert found.config_of(fold).data.fold == fold
        assert set(split.train.labels) == set(split.test.labels) == {0, 1, 2, 3}
        tested += split.test.ids.tolist()
    assert sorted(tested) == list(range(48))


def test_the_user_decides_over_the_rule():
    assert not asked([10] * 40, unseen=False).unseen
    unseen = asked([180] * 10, unseen=True)
    assert (unseen.unseen, unseen.folds, unseen.config.data.split) == (
        True,
        (0, 1, 2),
        "class-disjoint-kfold",
    )
    single = asked([180] * 10, unseen=True, folds=1)
    assert (single.folds, single.config.data.split) == ((None,), "class-disjoint")
    named = asked([180] * 10, split=None, **{"data.split": "class-disjoint"})
    assert (named.unseen, named.folds) == (True, (None,))
    one = asked([180] * 10, **{"data.split": "kfold", "data.fold": 2, "data.folds": 4})
    assert (one.folds, one.config.data.folds) == ((2,), 4)


def test_a_split_that_the_data_bring_is_followed():
    sizes = [6] * 4
    seen = asked(sizes, split=["train", "train", "train", "train", "test", "test"] * 4)
    assert (seen.config.data.split, seen.unseen, seen.folds) == ("given", False, (None,))
    disjoint = ["train"] * 12 + ["test"] * 12
    assert asked(sizes, split=disjoint).unseen
    with pytest.raises(ArgumentError, match="brings its own split, which folds=3 would ignore"):
        asked(sizes, split=disjoint, folds=3)
    with pytest.raises(ArgumentError, match=r"unseen=False contradicts the split .*: no class on both sides"):
        asked(sizes, split=disjoint, unseen=False)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([9], {}, "at least 2 classes; got 1"),
        ([9] * 5, {"unseen": True}, "3 folds of classes need at least 6 classes, 2 in each; got 5"),
        ([3] * 5, {"folds": 4}, "4 folds need classes of at least 4 items; the largest of 5 classes has 3"),
        ([9] * 5, {"folds": 0}, "folds must be at least 1"),
        ([9] * 5, {"unseen": True, "data.split": "random"}, "unseen=True contradicts split random"),
        ([9] * 5, {"folds": 1, "data.split": "class-disjoint-kfold"}, "needs at least 2 folds; got folds=1"),
        ([9] * 5, {"data.split": "none"}, "no test items"),
    ],
)
def test_errors(sizes, options, message):
    with pytest.raises((ArgumentError, DataError), match=message):
        asked(sizes, **options)


def test_some_classes_smaller_than_the_folds_are_a_warning():
    with pytest.warns(DataWarning, match=r"1 of 5 classes have fewer items than there are folds \(3\)"):
        asked([9, 9, 9, 9, 2], folds=3)


def test_unlabelled_items():
    with pytest.raises(DataError, match="has no labels"):
        decide(open_source(np.eye(4)), RunConfig(), unseen=None, folds=None)
