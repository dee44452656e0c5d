"""With `block_rows` no tensor of a step is larger than some blocks of anchors against all references."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kyori import losses
from kyori.losses import counting

from .cases import CLASSES, PAIRWISE, VIEWS, make, name_of

N, BLOCK, D = 96, 4, 6
BOUND = 2 * BLOCK  # a histogram or a grid of thresholds may be a little wider than a block
MORE = 10 * BLOCK  # what a step may take in all; some cubic losses take it in one tensor


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation gives."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and not tensor._is_view():
                self.numbers = max(self.numbers, tensor.numel())
        return out


def largest(loss, labels, **more):
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with Largest() as watch:
        loss(x, labels, **more).backward()
    return watch.numbers


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch):
    """Triplets are compared in a buffer of a size of its own, which is larger than all there is at these sizes."""
    monkeypatch.setattr(counting, "_CACHED", BLOCK * N)
    monkeypatch.setattr(counting, "_FEW_CACHED", BLOCK * N // torch.get_num_threads())
    monkeypatch.setattr(counting, "_FEW", BLOCK * N)


@pytest.mark.parametrize(("name", "options"), PAIRWISE, ids=name_of)
def test_no_tensor_is_larger_than_a_block(name, options):
    labels = torch.arange(N) // 4 % (CLASSES if "beta_per_class" in options else N)
    loss = make(name, options | {"block_rows": BLOCK}, torch.float32)
    if name in {"histogram", "dynamicsoftmargin"}:
        return  # whose largest tensors are of items × bins
    more = options.get("swap") or name in {"smoothap", "pnp", "recallk", "margin"}
    assert largest(loss, labels) <= (MORE if more else BOUND) * N
    assert largest(make(name, options, torch.float32), labels) >= N * N or name in VIEWS


@pytest.mark.parametrize("name", ["mnr", "gist", "siglip", "ntxent"])
def test_nor_with_references_in_rows(name):
    y = torch.randn(2 * N, D, generator=torch.Generator().manual_seed(1))
    options = (
        {"symmetric": True, "contrast_anchors": True, "contrast_references": True} if name == "mnr" else {}
    )
    loss = losses.create(name, block_rows=BLOCK, **options)
    assert largest(loss, None, references=y) <= BOUND * 2 * N


@pytest.mark.parametrize("name", ["ladder", "cosent", "angle", "cosinemse"])
def test_nor_with_graded_relevance(name):
    scores = torch.randint(0, 5, (N, N), generator=torch.Generator().manual_seed(1)) / 4
    loss = losses.create(name, block_rows=BLOCK)
    assert largest(loss, losses.Relevance(scores)) <= BOUND * N
