import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError
from kyori.relations import Pairs, Relevance, ScoredPairs, Triplets, relate
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


# -- each kind against the masks it must give -----------------------------------------------------------------------


def masks(*args, **more):
    positive, negative = relate(*args, **more).rows(EVERY)
    return positive.tolist(), negative.tolist()


def test_label_sets_share_a_class_or_not():
    sets = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]]).bool()
    positive, negative = masks(sets, 4, CPU)
    assert positive[0] == [False, True, True, False]
    assert negative[0] == [False, False, False, True]
    assert positive[3] == [False] * 4  # no class, nothing in common with anybody
    assert negative[3] == [True, True, True, False]
    relevance = relate(sets, 4, CPU).relevance(slice(0, 2))
    torch.testing.assert_close(relevance[:, :3], torch.tensor([[1.0, 1 / 3, 1 / 2], [1 / 3, 1.0, 0.0]]))
    assert relate(sets, 4, CPU).labels is None


def test_label_sets_of_references():
    sets, others = torch.tensor([[True, False]]), torch.tensor([[True, True], [False, True]])
    assert masks(sets, 1, CPU, m=2, reference_labels=others) == ([[True, False]], [[False, True]])
    with pytest.raises(ArgumentError, match="reference_labels must have 2 columns, as labels; got 3"):
        relate(sets, 1, CPU, m=2, reference_labels=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(
        ArgumentError, match=r"labels must have shape \(3, c\), booleans .* got \(1, 2\) of torch.bool"
    ):
        relate(sets, 3, CPU)
    with pytest.raises(ArgumentError, match=r"reference_labels must have shape \(2, c\).*torch.int64"):
        relate(sets, 1, CPU, m=2, reference_labels=torch.ones(2, 2, dtype=torch.long))


def test_relevance_is_positive_above_zero():
    scores = torch.tensor([[9.0, 0.5, -1.0], [0.0, 9.0, 2.0], [0.0, 0.0, 9.0]])
    positive, negative = masks(Relevance(scores), 3, CPU)
    assert positive == [[False, True, False], [False, False, True], [False, False, False]]
    assert negative == [[False, False, True], [True, False, False], [True, True, False]]
    assert torch.equal(relate(Relevance(scores), 3, CPU).relevance(slice(1, 2)), scores[1:2])
    assert Relevance(torch.tensor([[3, 1]])).scores.dtype == torch.float32  # levels may be integers
    assert len(Relevance(scores).to("cpu")) == 3


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.zeros(3), r"scores must be numbers of shape \(n, m\); got \(3,\)"),
        (torch.ones(2, 2, dtype=torch.bool), "got .* of torch.bool"),
        (torch.tensor([[torch.nan]]), "scores must be finite; got NaN or infinity. Leave such pairs at 0."),
    ],
)
def test_wrong_relevance(scores, message):
    with pytest.raises(ArgumentError, match=message):
        Relevance(scores)


def test_relevance_fits_the_batch():
    with pytest.raises(
        ArgumentError, match=r"scores must have shape \(3, 3\), one per embedding and reference; got \(2, 3\)"
    ):
        relate(Relevance(torch.ones(2, 3)), 3, CPU)
    assert masks(Relevance(torch.ones(2, 3)), 2, CPU, m=3)[0] == [[True] * 3] * 2


def test_aligned_references():
    positive, negative = masks(None, 2, CPU, m=3)
    assert positive == [[True, False, False], [False, True, False]]
    assert negative == [[False, True, True], [True, False, True]]
    apart = masks(None, 2, CPU, torch.tensor([7, 8]), m=2, reference_ids=torch.tensor([9, 8]))
    assert apart == ([[True, False], [False, False]], [[False, True], [True, False]])
    for m, got in ((None, "no"), (1, "1")):
        with pytest.raises(
            ArgumentError, match=f"labels may be left out only with references.*got {got} references"
        ):
            relate(None, 2, CPU, m=m)
    with pytest.raises(ArgumentError, match="reference_labels need labels; got labels=None"):
        relate(None, 2, CPU, m=2, reference_labels=torch.tensor([0, 1]))


def test_triplets_and_pairs_name_what_is_related_and_nothing_else():
    triplets = Triplets(torch.tensor([0, 2]), torch.tensor([1, 1]), torch.tensor([2, 0]))
    positive, negative = masks(triplets, 3, CPU)
    assert positive == [[False, True, False], [False] * 3, [False, True, False]]
    assert negative == [[False, False, True], [False] * 3, [True, False, False]]
    pairs = Pairs(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([True, False]))
    assert masks(pairs, 3, CPU) == (
        [[False, True, False], [False] * 3, [False] * 3],
        [[False, False, True], [False] * 3, [False] * 3],
    )
    with pytest.raises(
        ArgumentError, match="Triplets name rows of embeddings; pass neither references nor ids"
    ):
        relate(triplets, 3, CPU, m=3)
    with pytest.raises(ArgumentError, match=r"anchors must hold row numbers 0 to 1, .* got 0 to 2"):
        relate(triplets, 2, CPU)
    with pytest.raises(ArgumentError, match=r"positives must have shape \(1,\), one per triplet; got \(2,\)"):
        Triplets(torch.tensor([0]), torch.tensor([1, 1]), torch.tensor([2]))
    assert len(triplets.to("cpu")) == 2


def test_scored_pairs_are_pairs():
    scored = ScoredPairs(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([3, -1]))
    assert isinstance(scored, Pairs)
    assert scored.same.tolist() == [True, False]
    assert scored.to("cpu").scores.tolist() == [3.0, -1.0]
    with pytest.raises(ArgumentError, match=r"first must have shape \(2,\), one per pair; got \(1,\)"):
        ScoredPairs(torch.tensor([0]), torch.tensor([1, 2]), torch.tensor([1.0, 2.0]))
    with pytest.raises(
        ArgumentError, match=r"scores must be finite; got NaN or infinity\. Leave such pairs out\."
    ):
        ScoredPairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([torch.inf]))
    with pytest.raises(ArgumentError, match=r"scores must be numbers of shape \(p,\); got \(1, 1\)"):
        ScoredPairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([[1.0]]))


def test_references_need_references():
    with pytest.raises(ArgumentError, match="reference_labels and reference_ids need references; got none"):
        relate(torch.tensor([0]), 1, CPU, reference_ids=torch.tensor([0]))


# -- one thing said in several ways is one loss ---------------------------------------------------------------------

LOSSES = {
    "contrastive": {},
    "triplet": {"mining": "all", "average": "candidates"},
    "ntxent": {},
    "supcon": {},
    "mnr": {"scale": 5.0},
    "siglip": {},
    "megabatchmargin": {},
    "ladder": {},
    "cosent": {},
    "angle": {},
    "cosinemse": {},
}
every_loss = pytest.mark.parametrize(("name", "options"), LOSSES.items(), ids=list(LOSSES))


def sample():
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3, 2, 1])
    return torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64), labels


def value_and_gradient(name, options, labels, **more):
    x = sample()[0].requires_grad_()
    value = losses.create(name, **options).double()(x, labels, **more)
    value.backward()
    return value.detach(), x.grad


@every_loss
def test_sets_of_one_class_are_labels(name, options):
    _, labels = sample()
    sets = torch.nn.functional.one_hot(labels).bool()
    expected = value_and_gradient(name, options, labels)
    torch.testing.assert_close(value_and_gradient(name, options, sets), expected)


@every_loss
def test_relevance_of_the_same_class_is_labels(name, options):
    _, labels = sample()
    relevance = Relevance((labels[:, None] == labels).double())
    expected = value_and_gradient(name, options, labels)
    torch.testing.assert_close(value_and_gradient(name, options, relevance), expected)


@every_loss
def test_all_pairs_of_labels_are_labels(name, options):
    """Losses of single pairs give each pair the weight one, and so do those that look at masks."""
    _, labels = sample()
    first, second = (torch.eye(9) == 0).nonzero().T
    pairs = Pairs(first, second, labels[first] == labels[second])
    expected = value_and_gradient(name, options, labels)
    if name == "siglip":  # which is a mean over anchors, here of 8 pairs each
        expected = tuple(part / 8 for part in expected)
    torch.testing.assert_close(value_and_gradient(name, options, pairs), expected)


@pytest.mark.parametrize("mining", ["all", "hard", "semihard", "facenet"])
@pytest.mark.parametrize("name", ["triplet", "ntxent", "supcon", "mnr", "ladder"])
def test_all_triplets_of_labels_are_labels(name, mining):
    """The triplet loss takes listed triplets one by one, whatever its mining; the others as masks."""
    if name != "triplet" and mining != "all":
        return
    _, labels = sample()
    positive, negative = relate(labels, 9, CPU).rows(EVERY)
    listed = Triplets(*(positive[:, :, None] & negative[:, None, :]).nonzero().T)
    expected = value_and_gradient(name, LOSSES[name], labels)
    options = {"mining": mining, "average": "candidates"} if name == "triplet" else LOSSES[name]
    torch.testing.assert_close(value_and_gradient(name, options, listed), expected)


@every_loss
def test_rows_of_references_are_labels_in_order(name, options):
    y = sample()[0].flip(1)
    expected = value_and_gradient(
        name, options, torch.arange(9), references=y, reference_labels=torch.arange(9)
    )
    torch.testing.assert_close(value_and_gradient(name, options, None, references=y), expected)


def test_negatives_among_anchors_follow_labels():
    _, labels = sample()
    for given in (labels, torch.nn.functional.one_hot(labels).bool()):
        apart = relate(given, 9, CPU).apart(torch.tensor([0, 3]), 9)
        assert torch.equal(apart, labels[[0, 3], None] != labels)


@every_loss
def test_blocks_of_relevance_and_of_sets(name, options):
    relevance = Relevance(torch.rand(9, 9, generator=torch.Generator().manual_seed(1)).round(decimals=1))
    sets = torch.rand(9, 4, generator=torch.Generator().manual_seed(1)) < 0.4
    for given in (relevance, sets, None):
        more = {} if given is not None else {"references": sample()[0].flip(1)}
        expected = value_and_gradient(name, options, given, **more)
        blocked = value_and_gradient(name, {**options, "block_rows": 2}, given, **more)
        torch.testing.assert_close(blocked, expected)
