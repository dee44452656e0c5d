import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kyori.distances import DISTANCES, distances_to, normalize, pairwise_distance, row_distance
from kyori.errors import ArgumentError
from oracles import losses as oracle


def points(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("kind", DISTANCES)
def test_equals_the_definition(kind):
    a, b = points(4, 5), points(3, 5, seed=1)
    expected = torch.tensor([[oracle.distance(u, v, kind) for v in b.tolist()] for u in a.tolist()])
    torch.testing.assert_close(pairwise_distance(a, b, kind).float(), expected)
    torch.testing.assert_close(row_distance(a[:3], b, kind).float(), expected.diagonal())


@pytest.mark.parametrize("kind", DISTANCES)
def test_blocks_of_rows_to_the_same_set_equal_the_whole(kind):
    a, b = points(7, 5), points(3, 5, seed=1).requires_grad_()
    far = distances_to(b, kind)
    blocks = torch.cat([far(a[:4]), far(a[4:])])
    torch.testing.assert_close(blocks, pairwise_distance(a, b, kind))
    assert not blocks.requires_grad


@pytest.mark.parametrize("kind", DISTANCES)
def test_gradients(kind):
    a, b = points(4, 5).requires_grad_(), points(3, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: pairwise_distance(a, b, kind), (a, b))
    assert torch.autograd.gradcheck(lambda a, b: row_distance(a[:3], b, kind), (a, b))


@pytest.mark.parametrize("kind", DISTANCES)
@pytest.mark.parametrize("form", [pairwise_distance, row_distance])
def test_equal_and_zero_vectors_have_finite_gradients(kind, form):
    a = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    b = a.detach().clone().requires_grad_()
    D = form(a, b, kind)
    D.sum().backward()
    assert D.isfinite().all()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()
    if kind in ("euclidean", "squared_euclidean", "manhattan") and form is row_distance:
        assert a.grad.abs().max() == 0


@pytest.mark.parametrize("kind", ["euclidean", "squared_euclidean"])
def test_duplicates_are_at_exactly_zero_and_do_not_pull(kind):
    a = points(50, 128, dtype=torch.float32).requires_grad_()
    D = pairwise_distance(a, a.detach().clone(), kind)
    assert D.diagonal().abs().max() == 0
    D.diagonal().sum().backward()
    assert a.grad.abs().max() == 0


@pytest.mark.parametrize("kind", DISTANCES)
def test_of_a_set_to_itself_as_to_a_copy_of_it(kind):
    """Several blocks of rows and a rest, with copies in other blocks, and a gradient that is not symmetric."""
    a = points(290, 6)
    a[250], a[130] = a[3], a[131]
    weight = points(290, 290, seed=1)
    own, x, y = (a.clone().requires_grad_() for _ in range(3))
    D, expected = pairwise_distance(own, own, kind), pairwise_distance(x, y, kind)
    torch.testing.assert_close(D, expected)
    (D * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(own.grad, x.grad + y.grad)
    D, expected = pairwise_distance(own, own, kind), pairwise_distance(x, y, kind)
    own.grad, x.grad, y.grad = None, None, None
    D.sum().backward()  # whose gradient is one number seen as a matrix
    expected.sum().backward()
    torch.testing.assert_close(own.grad, x.grad + y.grad)


@settings(max_examples=30, deadline=None)
@given(st.floats(-6, 0), st.floats(-3, 3))
def test_near_duplicates_keep_their_distance(exponent, offset):
    """Far from the origin and close together: the case where |a|² + |b|² − 2ab in float32 fails."""
    a = points(8, 16, dtype=torch.float32) + 10**offset
    b = a + 10**exponent * points(8, 16, seed=1, dtype=torch.float32)
    exact = (a.double()[:, None] - b.double()).norm(dim=2)
    rounding = 6e-7 * max(float(a.norm(dim=1).max()), float(b.norm(dim=1).max()))
    torch.testing.assert_close(pairwise_distance(a, b).double(), exact, rtol=1e-6, atol=rounding)


def test_large_and_small_norms():
    for scale in (1e-12, 1e12):
        a = points(5, 8, dtype=torch.float32) * scale
        torch.testing.assert_close(
            pairwise_distance(a, a.flip(0)) / scale, pairwise_distance(a / scale, a.flip(0) / scale)
        )
    normal = normalize(points(5, 8, dtype=torch.float32) * 1e-15)
    torch.testing.assert_close(normal.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("kind", DISTANCES)
def test_half_precision_and_autocast_compute_in_float32(kind):
    a = points(6, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pairwise_distance(a, a, kind), pairwise_distance(a, a, kind).float())
    exact = pairwise_distance(a, a, kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pairwise_distance(a, a, kind), exact)
    assert pairwise_distance(a.bfloat16(), a.bfloat16(), kind).dtype == torch.float32


def test_empty_sets():
    a = torch.zeros(0, 4, requires_grad=True)
    for kind in DISTANCES:
        assert pairwise_distance(a, torch.zeros(3, 4), kind).shape == (0, 3)
        pairwise_distance(a, a, kind).sum().backward()
        assert a.grad.shape == (0, 4)


def test_normalize_gives_zero_vectors_no_gradient():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    normalize(x).sum().backward()
    assert x.grad[0].abs().max() == 0
    assert x.grad.isfinite().all()


def test_errors():
    a = torch.zeros(2, 3)
    with pytest.raises(ArgumentError, match=r"got 'euclidian'; did you mean 'euclidean'\?"):
        pairwise_distance(a, a, "euclidian")
    with pytest.raises(ArgumentError, match=r"shapes \(n, d\) and \(m, d\); got \(2, 3\) and \(2, 4\)"):
        pairwise_distance(a, torch.zeros(2, 4))
    with pytest.raises(ArgumentError, match=r"same shape \(n, d\); got \(2, 3\) and \(1, 3\)"):
        row_distance(a, torch.zeros(1, 3))
