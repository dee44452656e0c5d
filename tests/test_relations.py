import pytest
import torch

from kyori.errors import ArgumentError
from kyori.relations import Pairs, relate
from oracles import losses as oracle

CPU = torch.device("cpu")
EVERY = slice(None)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integer_type(dtype):
    labels = [0, 0, 127, 127, 3, 127]
    positive, negative = relate(torch.tensor(labels, dtype=dtype), 6, CPU).rows(EVERY)
    positives, negatives = oracle.relations(labels)
    assert [row.nonzero()[:, 0].tolist() for row in positive] == positives
    assert [row.nonzero()[:, 0].tolist() for row in negative] == negatives


def test_uint8_labels_do_not_overflow():
    positive, _ = relate(torch.tensor([255, 0, 255], dtype=torch.uint8), 3, CPU).rows(EVERY)
    assert positive.tolist() == [[False, False, True], [False, False, False], [True, False, False]]


def test_labels_and_ids_above_2_to_the_24_do_not_collide():
    big = 2**40
    labels = torch.tensor([big, big + 1, big])
    positive, negative = relate(labels, 3, CPU, ids=torch.tensor([big, big + 1, big + 2])).rows(EVERY)
    assert positive.sum() == 2
    assert negative.sum() == 4


def test_an_item_is_neither_positive_nor_negative_to_its_copies():
    ids = torch.tensor([7, 7, 8])
    positive, negative = relate(torch.tensor([0, 0, 0]), 3, CPU, ids).rows(EVERY)
    assert positive.tolist() == [[False, False, True], [False, False, True], [True, True, False]]
    between = relate(
        torch.tensor([0]),
        1,
        CPU,
        torch.tensor([7]),
        m=3,
        reference_labels=torch.tensor([0, 0, 1]),
        reference_ids=torch.tensor([7, 9, 7]),
    )
    positive, negative = between.rows(EVERY)
    assert positive.tolist() == [[False, True, False]]
    assert not negative.any()  # the third is the anchor itself, whatever its label


def test_blocks_are_rows_of_the_whole():
    relations = relate(torch.tensor([0, 1, 0, 1, 2]), 5, CPU)
    whole, _ = relations.rows(EVERY)
    assert torch.equal(torch.cat([relations.rows(slice(i, i + 2))[0] for i in (0, 2, 4)]), whole)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            torch.zeros(900, dtype=torch.long),
            r"labels must have shape \(1800,\), one per embedding; got \(900,\)\.",
        ),
        (torch.zeros(1800, 1, dtype=torch.long), r"labels must have shape \(1800,\).*got \(1800, 1\)"),
        (
            torch.zeros(1800),
            r"labels must be integers; got torch.float32. Convert them, e.g. labels.long\(\)\.",
        ),
    ],
)
def test_wrong_labels(labels, message):
    with pytest.raises(ArgumentError, match=message):
        relate(labels, 1800, CPU)


def test_references_need_labels_and_both_ids():
    one = torch.tensor([0])
    with pytest.raises(ArgumentError, match=r"references need reference_labels of shape \(1,\); got none"):
        relate(one, 1, CPU, m=1)
    with pytest.raises(ArgumentError, match="ids were given without reference_ids; pass both"):
        relate(one, 1, CPU, one, m=1, reference_labels=one)
    with pytest.raises(ArgumentError, match="reference_ids were given without ids"):
        relate(one, 1, CPU, m=1, reference_labels=one, reference_ids=one)


def test_pairs_are_checked():
    good = Pairs(torch.tensor([0, 1]), torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([True, False]))
    good.check(3)
    assert good.second.dtype == torch.int64
    with pytest.raises(
        ArgumentError, match="second must hold row numbers 0 to 1, rows of the 2 embeddings; got 1 to 2"
    ):
        good.check(2)
    with pytest.raises(
        ArgumentError, match=r"same must be a \(p,\) tensor of booleans; got \(2,\) of torch.int64"
    ):
        Pairs(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([1, 0]))
    with pytest.raises(ArgumentError, match=r"first must have shape \(2,\), one per pair; got \(1,\)"):
        Pairs(torch.tensor([0]), torch.tensor([1, 2]), torch.tensor([True, False]))
