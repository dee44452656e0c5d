"""Batches: laws for every maker, and what each promises."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyori.data import PairBatches, PKBatches, ShuffleBatches, balanced_pairs
from kyori.errors import ArgumentError, DataError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(7), [3, 9, 20, 5, 2, 1, 11]))
MAKERS = {
    "pk": lambda **options: PKBatches(LABELS, 4, 3, **options),
    "pairs": lambda **options: PairBatches(LABELS, 8, **options),
    "shuffle": lambda **options: ShuffleBatches(len(LABELS), 8, **options),
    "shuffle drop last": lambda **options: ShuffleBatches(len(LABELS), 8, drop_last=True, **options),
}


def flat(batch):
    return [batch.indices.tolist(), *(part.tolist() for part in batch.pairs or ())]


@pytest.mark.parametrize("name", MAKERS)
class TestLaws:
    def test_pure_function_of_seed_and_epoch(self, name):
        one, two = MAKERS[name](seed=5), MAKERS[name](seed=5)
        list(one.epoch(0))  # an epoch leaves nothing behind that changes another
        assert [flat(batch) for batch in one.epoch(3)] == [flat(batch) for batch in two.epoch(3)]
        assert [flat(batch) for batch in one.epoch(3)] != [flat(batch) for batch in one.epoch(4)]
        assert [flat(batch) for batch in one.epoch(3)] != [
            flat(batch) for batch in MAKERS[name](seed=6).epoch(3)
        ]

    def test_length(self, name):
        maker = MAKERS[name]()
        assert len(list(maker.epoch(0))) == len(maker) > 2

    @pytest.mark.parametrize("start", [0, 1, 3, 99])
    def test_start_skips_exactly(self, name, start):
        maker = MAKERS[name](seed=1)
        whole = [flat(batch) for batch in maker.epoch(2)]
        assert [flat(batch) for batch in maker.epoch(2, start=start)] == whole[start:]

    @pytest.mark.parametrize("world", [2, 3, 4])
    def test_ranks_share_the_global_batch(self, name, world):
        whole = MAKERS[name](seed=1)
        ranks = [MAKERS[name](seed=1, rank=rank, world=world) for rank in range(world)]
        assert {len(maker) for maker in ranks} == {len(whole)} or name == "shuffle"
        for batch, *parts in zip(whole.epoch(0), *(maker.epoch(0) for maker in ranks), strict=False):
            if batch.pairs is None:
                joined = np.concatenate([part.indices for part in parts])
                assert joined.tolist() == batch.indices.tolist() or len(joined) > len(batch.indices)
            else:
                assert sorted(np.concatenate([part.indices for part in parts])) == sorted(batch.indices)
            assert all(len(part.indices) for part in parts)

    def test_wrong_ranks_and_seeds(self, name):
        with pytest.raises(ArgumentError, match="rank must be from 0 to world - 1; got rank 2 of 2"):
            MAKERS[name](rank=2, world=2)
        with pytest.raises(ArgumentError, match="seed must be at least 0"):
            MAKERS[name](seed=-1)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_shuffle_gives_every_item_once(n, size, world, drop_last):
    if n < world or size < world or (drop_last and n < size):
        return
    makers = [ShuffleBatches(n, size, rank=rank, world=world, drop_last=drop_last) for rank in range(world)]
    batches = [[batch.indices for batch in maker.epoch(0)] for maker in makers]
    items = np.concatenate([indices for rank in batches for indices in rank])
    assert len(np.unique(items)) == len(items)
    assert len(items) == (n - n % size if drop_last else n)
    assert all(len(indices) for rank in batches for indices in rank), "no rank without items"
    if world == 1 and n > 1 and size > 1:
        assert min(len(indices) for indices in batches[0]) > 1, "batch normalisation needs two"


def test_shuffle_errors():
    with pytest.raises(DataError, match="at least 1 item"):
        ShuffleBatches(0, 4)
    with pytest.raises(DataError, match="at least 1 item for each of 3 ranks; got 2"):
        ShuffleBatches(2, 4, world=3)
    with pytest.raises(ArgumentError, match="size must be at least 1 item for each of 2 ranks; got 1"):
        ShuffleBatches(8, 1, world=2)
    with pytest.raises(DataError, match="3 items are fewer than the batch size 4"):
        ShuffleBatches(3, 4, drop_last=True)


class TestPK:
    @given(
        st.lists(st.integers(1, 12), min_size=2, max_size=15).filter(lambda s: sum(one > 1 for one in s) > 1),
        st.integers(2, 9),
        st.integers(2, 6),
        st.integers(0, 99),
    )
    @settings(max_examples=150, deadline=None)
    def test_structure(self, sizes, p, k, seed):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        maker = PKBatches(labels, p, k, seed=seed)
        usable = {code for code, size in enumerate(sizes) if size > 1}
        p, k = maker.classes, maker.per_class
        assert p <= len(usable)
        assert maker.excluded == sum(size == 1 for size in sizes)
        assert len(maker) == -(-sum(size for size in sizes if size > 1) // (p * k))
        seen = []
        for batch in maker.epoch(0):
            codes = labels[batch.indices].reshape(p, k)
            assert np.all(codes == codes[:, :1]), "K items of one class in a row"
            assert len(set(codes[:, 0])) == p, "P different classes"
            seen.extend(codes[:, 0].tolist())
            for code, items in zip(codes[:, 0], batch.indices.reshape(p, k), strict=True):
                counts = np.unique(items, return_counts=True)[1]
                assert len(counts) == min(k, sizes[code]), "a small class repeats only when it must"
                assert counts.max() - counts.min() <= 1
        rounds = [seen[start : start + len(usable)] for start in range(0, len(seen), len(usable))]
        for turn in rounds:
            assert len(set(turn)) == len(turn), "each class once before any comes again"
        assert all(set(turn) == usable for turn in rounds[:-1])

    def test_items_of_a_class_come_once_before_any_comes_again(self):
        labels = np.repeat([0, 1, 2], 10)
        maker = PKBatches(labels, 3, 3)
        items = np.concatenate([batch.indices for batch in maker.epoch(0)])
        counts = np.bincount(items, minlength=30)
        assert counts.max() - counts.min() <= 1

    def test_all_classes_mix(self):
        """Every pair of classes meets in a batch sooner or later."""
        maker = PKBatches(np.repeat(np.arange(10), 10), 4, 2)
        met = np.zeros((10, 10), dtype=int)
        for epoch in range(20):
            for batch in maker.epoch(epoch):
                codes = np.unique(batch.indices // 10)
                met[np.ix_(codes, codes)] += 1
        assert met.min() > 20

    def test_more_classes_than_there_are_keeps_the_batch_size(self):
        maker = PKBatches(np.repeat(np.arange(10), 100), 32, 4)
        assert (maker.classes, maker.per_class) == (10, 13)
        assert (
            maker.plan
            == "10 classes × 13 items (asked for 32 × 4; 10 classes have two items or more), 8 batches an epoch"
        )
        assert (
            PKBatches(np.repeat(np.arange(10), 100), 5, 4).plan == "5 classes × 4 items, 50 batches an epoch"
        )

    def test_ranks_take_whole_classes(self):
        labels = np.repeat(np.arange(8), 10)
        for rank in range(3):
            for batch in PKBatches(labels, 7, 3, rank=rank, world=3).epoch(0):
                assert np.all(np.bincount(labels[batch.indices])[np.unique(labels[batch.indices])] == 3)

    def test_errors(self):
        with pytest.raises(ArgumentError, match="must be at least 2; got 1 classes with 4"):
            PKBatches(LABELS, 1, 4)
        with pytest.raises(ArgumentError, match="4 classes with 1 items"):
            PKBatches(LABELS, 4, 1)
        with pytest.raises(DataError, match=r"at least 2 classes .*got 1 such classes among 3, with 5 items"):
            PKBatches([0, 0, 0, 1, 2], 2, 2)
        with pytest.raises(ArgumentError, match="3 ranks need at least 3 classes in a batch; got 2"):
            PKBatches([0, 0, 1, 1], 2, 2, world=3)
        with pytest.raises(ArgumentError, match=r"labels must have shape \(n,\)"):
            PKBatches(np.zeros((3, 2)), 2, 2)

    def test_planning_is_fast(self):
        labels = np.arange(60_000) % 10
        for sizes in ((8, 32), (10, 25)):
            maker = PKBatches(labels, *sizes)
            start = time.perf_counter()
            next(maker.epoch(0))
            assert time.perf_counter() - start < 0.5  # about 0.01 s; loops over items took seconds


class TestPairs:
    def test_balanced_and_true(self):
        first, second, same = balanced_pairs(LABELS, np.random.default_rng(0))
        assert np.array_equal(LABELS[first] == LABELS[second], same)
        assert same.mean() == 0.5
        assert np.all(first != second)
        single = np.flatnonzero(LABELS == 5)
        used = np.setdiff1d(np.arange(len(LABELS)), single)
        for kind in (True, False):
            assert sorted(first[same == kind]) == used.tolist(), "two pairs for each item"
        assert sorted(second[same]) == used.tolist(), "each is also the next of one other"
        assert not np.isin(second, single).any()

    def test_negatives_have_the_same_rank_in_the_other_class(self):
        """The slow reading of the scheme: order each class, pair rank i with rank i."""
        labels = np.repeat([0, 1, 2], [4, 6, 5])
        first, second, same = balanced_pairs(labels, np.random.default_rng(3))
        order = {code: [one for one in first[same] if labels[one] == code] for code in range(3)}
        for a, b in zip(first[same], second[same], strict=True):
            members = order[labels[a]]
            assert b == members[(members.index(a) + 1) % len(members)]
        for a, b in zip(first[~same], second[~same], strict=True):
            others = order[labels[b]]
            assert b == others[order[labels[a]].index(a) % len(others)]

    def test_all_other_classes_are_drawn(self):
        labels = np.repeat(np.arange(5), 200)
        first, second, same = balanced_pairs(labels, np.random.default_rng(0))
        table = np.zeros((5, 5), dtype=int)
        np.add.at(table, (labels[first[~same]], labels[second[~same]]), 1)
        assert np.all(np.diag(table) == 0)
        assert table[~np.eye(5, dtype=bool)].min() > 20

    def test_batches_hold_every_pair_once(self):
        maker = PairBatches(LABELS, 8)
        assert maker.excluded == 1
        pairs = []
        for batch in maker.epoch(0):
            first, second, same = batch.pairs
            assert np.array_equal(LABELS[batch.indices[first]] == LABELS[batch.indices[second]], same)
            assert len(batch.indices) == 2 * len(first)
            pairs.extend(zip(batch.indices[first], batch.indices[second], same, strict=True))
        assert len(pairs) == 2 * 50
        assert sum(same for *_, same in pairs) == 50
        assert len(maker) == 13

    def test_errors(self):
        with pytest.raises(DataError, match="at least 2 classes with 2 items or more"):
            PairBatches([0, 0, 0], 4)
        with pytest.raises(ArgumentError, match="size must be at least 1 pair"):
            PairBatches(LABELS, 0)
