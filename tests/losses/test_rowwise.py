"""Sums over rows that are worked on some at a time, against the same by automatic differentiation of the whole."""

import pytest
import torch

from kyori.losses.counting import sorted_positives
from kyori.losses.rowwise import attached, in_cache, known_log_sum, log_sum, positive_pairs


def matrix(seed=0):
    """Wide enough for several blocks of rows; one row has no entry, one no positive."""
    generator = torch.Generator().manual_seed(seed)
    D = torch.rand(20, 30_000, generator=generator, dtype=torch.float64)
    mask = torch.rand(D.shape, generator=generator) < 0.5
    mask[7] = False
    positive = ~mask & (torch.rand(D.shape, generator=generator) < 0.001)
    positive[4] = False
    return D, mask, positive


def test_rows_come_in_parts_that_fit_the_cache():
    D, mask, _ = matrix()
    parts = in_cache(D, mask)
    assert len(parts) > 3
    assert torch.equal(torch.cat([part for part, _ in parts]), D)
    assert torch.equal(torch.cat([part for _, part in parts]), mask)


def test_log_sums_and_pairs_share_one_gradient():
    D, mask, positive = matrix()
    x, y = D.clone().requires_grad_(), D.clone().requires_grad_()
    pairs, total = attached(x, positive_pairs(D, positive), *known_log_sum(D, mask, -3.0))
    expected = torch.logsumexp(torch.where(mask, -3.0 * y, -torch.inf), 1)
    torch.testing.assert_close(total, expected)
    assert torch.equal(pairs.distances, D[positive])
    some = torch.arange(20) != 7
    weights = torch.arange(1.0, 21.0, dtype=torch.float64)
    (weights[some] * total[some]).sum().add(pairs.distances.square().sum()).backward()
    (weights[some] * expected[some]).sum().add(y[positive].square().sum()).backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_log_sum_by_a_learned_factor():
    D, mask, _ = matrix()
    some = torch.arange(20) != 7
    found = []
    for total in (
        log_sum,
        lambda D, mask, factor: torch.logsumexp(torch.where(mask, factor * D, -torch.inf), 1),
    ):
        factor = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
        value = total(D[some], mask[some], factor)
        found.append((value, torch.autograd.grad(value.sum(), factor)[0]))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("sizes", [(3, 3, 3), (2, 6), (6, 2), (1, 2, 3), (1, 1), ()])
def test_a_table_of_positives(sizes):
    """Classes of one size, of two sizes with as many pairs as would fill an even table, of any, and none."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))
    D = torch.rand(len(labels), len(labels), generator=torch.Generator().manual_seed(0))
    positive = (labels[:, None] == labels[None]).fill_diagonal_(False)
    table = sorted_positives(D, positive)
    assert table.distances.shape == (len(labels), max([0, *[size - 1 for size in sizes]]))
    for i, row in enumerate(table.filled):
        expected, order = D[i, positive[i]].sort()
        assert torch.equal(table.distances[i, row], expected)
        assert torch.equal(table.columns[i, row], positive[i].nonzero()[:, 0][order])
    pairs = positive_pairs(D, positive)
    assert torch.equal(torch.stack(pairs[:2], 1), positive.nonzero())
    assert torch.equal(pairs.distances, D[positive])
