"""The spring view: known forces, and which way every loss pulls and pushes."""

import pytest
import torch

from kyori import losses
from kyori.errors import ArgumentError

from .cases import name_of

WITHOUT_SPRINGS = {"vicreg", "barlowtwins"}
"""Losses on statistics of whole batches, which have no force between two items."""
SLACK = {"intrapairvariance"}
"""Losses on how a kind of pairs scatters: one pair does not."""


def at(s, force, distance):
    return force[(s.distance - distance).abs().argmin()].item()


def test_contrastive_is_two_springs():
    s = losses.springs(losses.ContrastiveLoss(margin=1.0))
    inner = s.distance < 1
    torch.testing.assert_close(s.pull, -s.distance / 2)  # half of it: a mean over two pairs
    torch.testing.assert_close(s.push[inner], (1 - s.distance[inner]) / 2)
    assert (s.push[~inner] == 0).all()


def test_triplets_act_only_in_the_semihard_ring():
    s = losses.springs(losses.TripletLoss(margin=0.2, mining="semihard"))
    assert at(s, s.pull, 0.9) == pytest.approx(-1)
    assert at(s, s.pull, 0.7) == at(s, s.pull, 1.1) == 0
    assert at(s, s.push, 1.1) == pytest.approx(1)
    assert at(s, s.push, 0.9) == at(s, s.push, 1.3) == 0


def test_arcface_goes_on_pulling_where_normface_is_content():
    angle = 0.6
    arc, norm = (
        losses.springs(losses.create(name, num_classes=3, embedding_size=8, scale=16.0))
        for name in ("arcface", "normface")
    )
    assert arc.angles
    assert at(arc, arc.pull, angle) < 10 * at(norm, norm.pull, angle) < 0


@pytest.mark.parametrize("name", sorted(losses.LOSSES), ids=name_of)
def test_positives_are_pulled_and_negatives_pushed(name):
    loss = losses.create(name, num_classes=3, embedding_size=8)
    if name in WITHOUT_SPRINGS:
        with pytest.raises(ArgumentError, match="no springs"):
            losses.springs(loss)
        return
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    s = losses.springs(loss)
    assert s.pull.isfinite().all()
    possible = ~s.push.isnan()
    assert s.push[possible].isfinite().all()
    assert possible.all() or (s.angles and possible.float().mean() > 0.6)
    if name not in SLACK:
        assert s.pull.min() < 0
        assert s.push[possible].max() > 0
    assert all(torch.equal(before[key], value) for key, value in loss.state_dict().items())


def test_class_vectors_need_room():
    with pytest.raises(ArgumentError, match="springs need an embedding_size above num_classes"):
        losses.springs(losses.ArcFaceLoss(8, 8))
