"""Splits: laws that hold for each kind, and what cannot be split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyori.data import make_split, open_source
from kyori.errors import ArgumentError, DataError

FRACTIONS = (0.6, 0.2, 0.2)
KINDS = {
    "random": {},
    "class-disjoint": {},
    "kfold": {"fold": 1},
    "class-disjoint-kfold": {"fold": 1},
    "given": {},
}


def table(labels, split=None):
    source = open_source((np.arange(2.0 * len(labels)).reshape(-1, 2), labels))
    if split is not None:
        source.columns["split"] = np.array(split)
    return source


def uneven(classes=12, seed=0):
    """Classes of 2 to 30 items in mixed order, with a given split by halves."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), rng.integers(2, 30, classes)))
    return table(labels, np.where(np.arange(len(labels)) % 2, "train", "test"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_every_item_is_in_exactly_one_part(kind, seed):
    source = uneven(seed=seed)
    split = make_split(source, kind, fractions=FRACTIONS, seed=seed, **KINDS[kind])
    ids = np.concatenate([part.ids for part in split])
    assert sorted(ids) == source.ids.tolist()
    assert all(len(part) for part in split)
    for part in split:
        assert np.array_equal(part.load(np.arange(len(part))), source.load(part.ids))
        assert part.class_names == source.class_names
        assert np.all(np.diff(part.ids) > 0), "the order of the source"


@pytest.mark.parametrize("kind", KINDS)
def test_pure_function_of_the_seed(kind):
    source = uneven()
    one, two, other = (make_split(source, kind, seed=seed, **KINDS[kind]) for seed in (3, 3, 4))
    assert [part.fingerprint() for part in one] == [part.fingerprint() for part in two]
    assert one.train.fingerprint() != other.train.fingerprint()


@pytest.mark.parametrize("seed", range(10))
def test_random_is_stratified(seed):
    source = uneven(classes=40, seed=seed)
    split = make_split(source, "random", fractions=FRACTIONS, seed=seed)
    whole = np.bincount(source.labels)
    for part, fraction in zip(split, FRACTIONS, strict=True):
        counts = np.bincount(part.labels, minlength=len(whole))
        slack = 1 if part is not split.train else 2
        assert np.all(np.abs(counts - whole * fraction) <= slack)
        assert abs(len(part) - fraction * len(source)) <= 3
    assert np.all(np.bincount(split.train.labels) >= 1)


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=12),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
    st.integers(0, 2**32),
)
@settings(max_examples=80, deadline=None)
def test_train_keeps_one_of_each_class(sizes, validation, test, seed):
    source = table(np.repeat(np.arange(len(sizes)), sizes))
    try:
        split = make_split(source, "random", fractions=(1 - validation - test, validation, test), seed=seed)
    except DataError:  # a part would be empty
        return
    assert len(np.unique(split.train.labels)) == len(sizes)
    assert sum(len(part) for part in split) == sum(sizes)


@pytest.mark.parametrize("kind", ["class-disjoint", "class-disjoint-kfold"])
@pytest.mark.parametrize("seed", range(5))
def test_class_disjoint_shares_no_class(kind, seed):
    split = make_split(uneven(seed=seed), kind, seed=seed, fractions=FRACTIONS, **KINDS[kind])
    classes = [set(part.labels.tolist()) for part in split]
    assert not classes[0] & classes[1]
    assert not classes[0] & classes[2]
    assert not classes[1] & classes[2]
    assert min(map(len, classes)) >= 2


@pytest.mark.parametrize("kind", ["kfold", "class-disjoint-kfold"])
def test_folds_cover_everything_once(kind):
    source = uneven(classes=20)
    splits = [make_split(source, kind, seed=1, fold=fold, folds=4) for fold in range(4)]
    tests = np.concatenate([split.test.ids for split in splits])
    assert sorted(tests) == source.ids.tolist()
    if kind == "kfold":
        assert max(len(split.test) for split in splits) - min(len(split.test) for split in splits) <= 1
        for split in splits:
            assert np.all(np.bincount(split.train.labels, minlength=20) >= 1)
            counts = np.bincount(split.test.labels, minlength=20)
            assert np.all(np.abs(counts - np.bincount(source.labels) / 4) < 1)


def test_single_items_stay_in_train():
    labels = [0] * 20 + [1] * 20 + [2, 3, 4]
    for kind, options in (("random", {}), *(("kfold", {"fold": fold}) for fold in range(5))):
        split = make_split(table(labels), kind, **options)
        assert {40, 41, 42} <= set(split.train.ids.tolist())


def test_given_parts_are_kept_and_missing_ones_are_taken_from_train():
    labels = np.tile([0, 1], 50)
    parts = np.array(["train"] * 80 + ["test"] * 20, dtype="U10")
    split = make_split(table(labels, parts), fractions=(0.6, 0.2, 0.2))
    assert split.test.ids.tolist() == list(range(80, 100))
    assert len(split.validation) == 20
    assert np.bincount(split.validation.labels).tolist() == [10, 10]
    parts[60:80] = "validation"
    split = make_split(table(labels, parts), "given")
    assert split.validation.ids.tolist() == list(range(60, 80))
    assert len(split.train) == 60
    assert len(make_split(table(labels, parts), "given", fractions=(0.8, 0, 0.2)).validation) == 20


def test_auto():
    labels = np.tile([0, 1], 50)
    only_test = make_split(table(labels, ["test"] * 100))
    assert only_test.train.ids.tolist() == make_split(table(labels), "random").train.ids.tolist()
    assert len(make_split(table(labels, ["test"] * 99 + ["train"]), fractions=(1, 0, 0)).train) == 1


def test_fraction_zero_gives_an_empty_part():
    split = make_split(uneven(), "random", fractions=(0.8, 0.0, 0.2))
    assert len(split.validation) == 0
    assert split.validation.item_shape == (2,)
    split = make_split(uneven(), "class-disjoint", fractions=(0.5, 0.0, 0.5))
    assert len(split.validation) == 0


def test_unlabelled_items_can_be_split_at_random():
    split = make_split(open_source(np.zeros((100, 2))), "random")
    assert [len(part) for part in split] == [70, 10, 20]
    with pytest.raises(DataError, match="needs labels"):
        make_split(open_source(np.zeros((100, 2))), "class-disjoint")


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.2, -0.2, 0), (0, 0.5, 0.5), (0.9, 0.2, 0.1), (np.nan, 0, 1)]
)
def test_impossible_fractions(fractions):
    with pytest.raises(ArgumentError, match=r"fractions must be \(train, validation, test\)"):
        make_split(uneven(), fractions=fractions)


def test_impossible_splits():
    with pytest.raises(ArgumentError, match=r"kind must be one of .*; did you mean 'random'\?"):
        make_split(uneven(), "randm")
    with pytest.raises(DataError, match=r"needs at least 2 classes in each; got 5 classes to split"):
        make_split(uneven(classes=5), "class-disjoint")
    with pytest.raises(DataError, match="needs at least 2 classes in each; got 1 classes"):
        make_split(table([0] * 9), "class-disjoint", fractions=(1, 0, 0))
    with pytest.raises(ArgumentError, match="fold must be a number from 0 to 4; got None"):
        make_split(uneven(), "kfold")
    with pytest.raises(ArgumentError, match="fold must be a number from 0 to 2; got 3"):
        make_split(uneven(), "kfold", fold=3, folds=3)
    with pytest.raises(ArgumentError, match="folds must be at least 2"):
        make_split(uneven(), "kfold", fold=0, folds=1)
    with pytest.raises(ArgumentError, match="fold= belongs to the k-fold splits"):
        make_split(uneven(), "random", fold=1)
    with pytest.raises(DataError, match="5 folds need at least 5 items; got 4"):
        make_split(table([0, 0, 1, 1]), "kfold", fold=0)
    with pytest.raises(DataError, match="5 class-disjoint folds need at least 10 classes; got 9"):
        make_split(uneven(classes=9), "class-disjoint-kfold", fold=0)
    with pytest.raises(DataError, match="validation would be empty, with 4 items"):
        make_split(table([0, 0, 1, 1]), "random")
    with pytest.raises(DataError, match="has no given split"):
        make_split(table([0, 0, 1, 1]), "given")
    with pytest.raises(DataError, match="the given split has no train items"):
        make_split(table([0, 1], ["test", "test"]), "given")
