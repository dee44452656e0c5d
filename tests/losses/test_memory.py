"""The memory: what the anchors see, whose copies are left out, what is saved."""

import copy

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError

from .cases import PAIRWISE, batch, make, name_of


def steps(count, n=12):
    for step in range(count):
        x, labels = batch(n=n, seed=step)
        yield x, labels, torch.arange(n) + n * (step % 2)  # every second step has the same items


@pytest.mark.parametrize("size", [100, 20, 5])
def test_anchors_see_the_batch_and_the_newest_of_the_past(size):
    loss, plain = losses.CrossBatchMemory(losses.NTXentLoss(0.5), 6, size).double(), losses.NTXentLoss(0.5)
    past_x, past_labels, past_ids = torch.zeros(0, 6).double(), torch.zeros(0).long(), torch.zeros(0).long()
    for x, labels, ids in steps(5):
        expected = plain(
            x, labels, ids=ids,
            references=torch.cat([x, past_x[-size:]]),
            reference_labels=torch.cat([labels, past_labels[-size:]]),
            reference_ids=torch.cat([ids, past_ids[-size:]]),
        )  # fmt: skip
        value = loss(x, labels, ids=ids)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(torch.autograd.grad(value, x), torch.autograd.grad(expected, x))
        past_x = torch.cat([past_x, x.detach()])
        past_labels, past_ids = torch.cat([past_labels, labels]), torch.cat([past_ids, ids])
        assert loss.stats["memory"] == min(len(past_x), size)


@pytest.mark.parametrize(
    ("name", "options"), [case for case in PAIRWISE if case[1].get("mining") != "random"], ids=name_of
)
def test_works_with_every_loss_of_pairs(name, options):
    loss = losses.CrossBatchMemory(make(name, options), 6, 30).double()
    for x, labels, ids in steps(3, n=23):
        value = loss(x, labels, ids=ids)
        value.backward()
        assert value.isfinite()
        assert x.grad.isfinite().all()


def test_without_ids_every_row_is_a_new_item():
    x, labels = batch()
    loss = losses.CrossBatchMemory(losses.ContrastiveLoss(), 6, 100).double()
    loss(x, labels)
    alone = loss.stats["positive_distance"]
    loss(x, labels)  # each item meets its own copy in the queue as a positive
    assert loss.stats["positive_distance"] < alone
    ids = torch.arange(len(x))
    known = losses.CrossBatchMemory(losses.ContrastiveLoss(), 6, 100).double()
    for _ in range(2):
        known(x, labels, ids=ids)
        assert known.stats["positive_distance"] == pytest.approx(alone)


def test_warm_up_and_evaluation():
    loss, plain = losses.CrossBatchMemory(losses.NTXentLoss(), 6, 100, warmup=2).double(), losses.NTXentLoss()
    values = [(loss(x, labels).item(), plain(x, labels).item()) for x, labels, _ in steps(3)]
    assert values[0][0] == values[0][1]
    assert values[1][0] == values[1][1]
    assert values[2][0] != values[2][1]
    loss.eval()
    x, labels = batch(n=12)
    before = copy.deepcopy(loss.state_dict())
    assert loss(x, labels) == loss(x, labels) != plain(x, labels)
    assert all(torch.equal(before[key], value) for key, value in loss.state_dict().items())


def test_state_goes_on_where_it_was_saved():
    def run(loss, part):
        return [loss(x, labels, ids=ids).item() for x, labels, ids in list(steps(8))[part]]

    one = losses.CrossBatchMemory(make("triplet", {"mining": "random"}), 6, 30, warmup=2).double()
    run(one, slice(0, 4))
    other = losses.CrossBatchMemory(make("triplet", {"mining": "random"}), 6, 30, warmup=2).double()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert run(one, slice(4, 8)) == run(other, slice(4, 8))


def test_a_batch_larger_than_the_queue_leaves_its_end():
    loss = losses.CrossBatchMemory(losses.ContrastiveLoss(), 6, 5).double()
    x, labels = batch(n=12)
    loss(x, labels)
    torch.testing.assert_close(loss.queue.sort(0).values, x[-5:].detach().sort(0).values)
    loss.clear()
    assert loss.stats["memory"] == 0


def test_items_without_ids_never_meet_again_after_a_large_batch():
    """The numbers that stand for ids go on by the whole batch, not by what fitted into the queue."""
    both = [losses.CrossBatchMemory(losses.ContrastiveLoss(), 6, 5).double() for _ in range(2)]
    for step in range(3):
        x, labels = batch(n=12, seed=step)
        value = both[0](x, labels)
        torch.testing.assert_close(value, both[1](x, labels, ids=torch.arange(12) + 12 * step))


def test_around_several_sizes_and_sums():
    inner = losses.MatryoshkaLoss(losses.NTXentLoss(), [6, 3])
    loss = losses.CrossBatchMemory(losses.SumLoss([inner, losses.NormRegularizer()]), 6, 30).double()
    for x, labels, ids in steps(3):
        assert loss(x, labels, ids=ids).isfinite()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.CrossBatchMemory(losses.ArcFaceLoss(3, 4), 4),
            "loss must be a pair, triplet or ranking loss, which takes references; got ArcFaceLoss",
        ),
        (lambda: losses.CrossBatchMemory(losses.VICRegLoss(), 4), "got VICRegLoss"),
        (lambda: losses.CrossBatchMemory(losses.TripletLoss(), 4, 0), "size must be at least 1; got 0"),
        (lambda: losses.CrossBatchMemory(losses.TripletLoss(), 4, warmup=-1), "warmup must be at least 0"),
    ],
)
def test_wrong_options(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            torch.ones(4, 2, dtype=torch.bool),
            "labels must be integers of shape .* with a memory.*got booleans",
        ),
        (None, "got NoneType"),
        (losses.Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([True])), "got Pairs"),
        (losses.Relevance(torch.ones(4, 4)), "got Relevance"),
    ],
)
def test_wrong_labels(labels, message):
    with pytest.raises(ArgumentError, match=message):
        losses.CrossBatchMemory(losses.TripletLoss(), 3)(torch.ones(4, 3), labels)


def test_wrong_batches():
    loss = losses.CrossBatchMemory(losses.TripletLoss(), 3)
    with pytest.raises(ArgumentError, match=r"embeddings must have shape \(m, 3\)"):
        loss(torch.ones(4, 2), torch.arange(4))
    with pytest.raises(ArgumentError, match="ids must be at least 0 with a memory; got -1"):
        loss(torch.ones(2, 3), torch.arange(2), ids=torch.tensor([-1, 0]))
