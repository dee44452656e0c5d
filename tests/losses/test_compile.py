"""`torch.compile` of a training step: one graph through the loss, and the same values."""

import pytest
import torch
from torch import nn

from kyori import losses

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def step(loss, net):
    def run(x, labels):
        return loss(net(x), labels)

    return run


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("triplet", {"mining": "all"}),
        ("triplet", {"mining": "semihard"}),
        ("triplet", {"mining": "batch_hard"}),
        ("ntxent", {}),
        ("supcon", {}),
        ("mnr", {}),
        ("ladder", {}),
        ("arcface", {}),
        ("vicreg", {}),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of PyTorch's own compiler
def test_one_graph_and_the_same_values(name, options):
    x, labels = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) // 4
    net = nn.Linear(6, 5)
    loss = losses.create(name, num_classes=6, embedding_size=5, **options)
    expected = [loss(net(x), labels)]
    expected += torch.autograd.grad(expected[0], list(net.parameters()))
    stats = loss.stats
    compiled = torch.compile(step(loss, net), backend="aot_eager", fullgraph=True)
    for _ in range(2):
        value = compiled(x, labels)
        found = [value, *torch.autograd.grad(value, list(net.parameters()))]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert loss.stats == pytest.approx(stats, rel=1e-4, abs=1e-5)


def test_nothing_to_learn_from_is_counted_and_said_later():
    loss = losses.NTXentLoss()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert compiled(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.arange(4)) == 0
    with pytest.warns(losses.loss.DegenerateWarning, match="no anchor has both"):
        assert loss.stats["degenerate"] == 1
