"""Points of the plane under the forces of every loss."""

import pytest
import torch

from kyori.errors import ArgumentError
from kyori.losses import LOSSES, ArcFaceLoss, ContrastiveLoss, SoftmaxLoss, create, settle

#: What draws every class together and the classes apart; the others rank, or compare statistics.
DRAWS = [
    "contrastive",
    "triplet",
    "multisimilarity",
    "supcon",
    "softmax",
    "l2softmax",
    "arcface",
    "cosface",
    "proxyanchor",
]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_moves_points_and_stays_finite(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = settle(create(name, num_classes=3, embedding_size=2), per_class=3, steps=12, frames=4)
    assert found.points.shape == (4, 9, 2)
    assert torch.isfinite(found.points).all()
    assert found.vectors.shape[:2] == (4, len(found.vector_labels))
    assert bool(len(found.vector_labels)) == LOSSES[name].needs_classes
    assert (found.points[1:] - found.points[:-1]).norm(dim=-1).max() <= 4 * 0.06 * 1.1
    if found.spherical:
        torch.testing.assert_close(found.points.norm(dim=-1), torch.ones(4, 9, dtype=torch.float64))


@pytest.mark.parametrize("name", DRAWS)
def test_classes_come_together_and_part(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = settle(create(name, num_classes=3, embedding_size=2))
    same = found.labels[:, None] == found.labels
    start, end = (torch.cdist(points, points) for points in (found.points[0], found.points[-1]))
    assert end[same].mean() / end[~same].mean() < 0.85 * start[same].mean() / start[~same].mean()
    assert found.values[-1] < found.values[0]
    late = (found.points[-1] - found.points[-2]).norm(dim=-1).max()
    assert late < 0.1 * (found.points[1] - found.points[0]).norm(dim=-1).max() + 1e-3


def test_softmax_is_given_features_of_any_length():
    assert not settle(SoftmaxLoss(3, 2), steps=40).spherical
    assert settle(ArcFaceLoss(3, 2), steps=40).spherical


def test_the_loss_and_the_random_state_are_left_alone():
    loss = ArcFaceLoss(3, 2)
    before, state = loss.weight.clone(), torch.get_rng_state()
    first, again = settle(loss, steps=36), settle(loss, steps=36)
    assert torch.equal(loss.weight, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert loss.weight.grad is None
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, settle(loss, steps=36, seed=1).points)


def test_errors():
    with pytest.raises(ArgumentError, match="num_classes=3, embedding_size=2"):
        settle(ArcFaceLoss(4, 2))
    with pytest.raises(ArgumentError, match="at least 2"):
        settle(ContrastiveLoss(), classes=1)
    with pytest.raises(ArgumentError, match="frames − 1"):
        settle(ContrastiveLoss(), steps=3)
