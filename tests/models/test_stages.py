"""What freezing keeps as it is: weights, statistics, and what has been frozen by others."""

import pytest
import torch
from torch import nn

from kyori.errors import ArgumentError
from kyori.models import Embedder
from kyori.models.stages import stages_of


def convolutions():
    layers = [
        nn.Sequential(nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1), nn.BatchNorm2d(4)) for i in range(3)
    ]
    return nn.Sequential(*layers)


def state(module):
    return {name: t.clone() for name, t in module.state_dict().items()}


@pytest.mark.parametrize(("what", "kept"), [("none", 0), (2, 2), ("backbone", 3)])
def test_frozen_stages_keep_weights_and_statistics(what, kept):
    torch.manual_seed(0)
    embedder = Embedder.create(convolutions(), (8, 8, 3), embedding_size=2).train()
    embedder.freeze(what)
    before = state(embedder.backbone)
    optimizer = torch.optim.SGD(embedder.parameters(), lr=0.1)
    embedder(torch.randn(4, 3, 8, 8)).sum().backward()
    optimizer.step()
    after = state(embedder.backbone)
    for name in before:
        frozen = int(name.split(".")[0]) < kept
        assert torch.equal(before[name], after[name]) == frozen, name
    assert embedder.training
    assert [stage[1].training for stage in embedder.backbone] == [i >= kept for i in range(3)]


def test_thawing_gives_back_only_what_was_frozen():
    network = convolutions()
    network[0][0].weight.requires_grad_(False)
    embedder = Embedder.create(network, (8, 8, 3)).train()
    embedder.freeze("backbone")
    embedder.freeze("none")
    frozen = [name for name, p in embedder.named_parameters() if not p.requires_grad]
    assert frozen == ["backbone.0.0.weight"]
    assert all(module.training for module in embedder.modules())


def test_stages_of_networks():
    assert len(stages_of(Embedder.create("mlp", (4,)).backbone)) == 3
    assert len(stages_of(Embedder.create("cnn", (8, 8, 1)).backbone)) == 3
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", num_classes=0)
    assert [len(stages_of(network, fine=fine)) for fine in (False, True)] == [5, 9]
    assert [name.split(".")[0] for name, *_ in stages_of(network)] == [
        "conv1", "layer1", "layer2", "layer3", "layer4",
    ]  # fmt: skip


def test_stages_of_an_encoder_of_texts():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=20
    )
    stages = stages_of(transformers.BertModel(config))
    assert [stage[0].split(".attention")[0] for stage in stages][1:3] == [
        "encoder.layer.0",
        "encoder.layer.1",
    ]


@pytest.mark.parametrize("what", [4, -1, True, "half"])
def test_wrong_number_of_stages(what):
    embedder = Embedder.create(convolutions(), (8, 8, 3))
    with pytest.raises(ArgumentError, match="'backbone', or a number of its 3 stages; got"):
        embedder.freeze(what)
