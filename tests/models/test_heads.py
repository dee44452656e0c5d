"""Heads: what each pooling does to maps and tokens, and what stands behind it."""

import pytest
import torch
from torch import nn

from kyori.errors import ArgumentError
from kyori.models import Embedder, Head

MAPS = torch.arange(24.0).reshape(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("auto", [5.5, 17.5]),
        ("avg", [5.5, 17.5]),
        ("max", [11.0, 23.0]),
        ("avg+max", [5.5, 17.5, 11.0, 23.0]),
    ],
)
def test_maps_in_either_order_and_tokens(pooling, expected):
    wanted = torch.tensor([expected])
    assert torch.equal(Head(2, None, pooling=pooling, arrangement="maps")(MAPS), wanted)
    assert torch.equal(
        Head(2, None, pooling=pooling, arrangement="maps-last")(MAPS.permute(0, 2, 3, 1)), wanted
    )
    tokens = torch.cat([torch.full((1, 1, 2), 1e6), MAPS.flatten(2).transpose(1, 2)], dim=1)
    head = Head(2, None, pooling=pooling, arrangement="tokens", prefix_tokens=1)
    assert torch.equal(head(tokens), wanted)  # the class token is not averaged with the rest


def test_the_class_token():
    tokens = torch.arange(12.0).reshape(1, 4, 3)
    assert Head(3, None, pooling="cls", arrangement="tokens", prefix_tokens=1)(tokens).tolist() == [[0, 1, 2]]
    with pytest.raises(ArgumentError, match="this backbone has none; use 'avg'"):
        Head(3, None, pooling="cls", arrangement="maps")


def test_layers_and_normalisation():
    head = Head(4, 2, layers=[8, 6], norm=True)
    assert [type(part) for part in head.layers] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU]
    assert not head.norm.bias.requires_grad
    embeddings = head(torch.randn(50, 4))
    torch.testing.assert_close(embeddings.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    with pytest.raises(ArgumentError, match="head_layers must be whole numbers ≥ 1"):
        Head(4, 2, layers=[0])


def test_the_rest_of_a_head_shares_its_weights():
    head = Head(2, 3, pooling="avg+max", arrangement="maps")
    rest = head.after_pooling()
    assert torch.equal(rest(head.pool(MAPS)), head(MAPS))
    assert rest.projection is head.projection
    assert head.arrangement == "maps"


@pytest.mark.parametrize("pooling", ["auto", "avg+max", "cls"])
def test_saved_heads_come_back(tmp_path, pooling):
    pytest.importorskip("timm")
    first = Embedder.create(
        "test_vit", (32, 32, 3), pooling=pooling, layers=[16], norm=True, embedding_size=8
    )
    first.save(tmp_path)
    again = Embedder.load(tmp_path)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(first.eval()(x), again(x))
    assert again.architecture["pooling"] == pooling


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_vit", "test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("pooling", ["auto", "gem"])
def test_networks_of_timm(name, pooling):
    """Transformers built for 224 pixels take 32, as DINO's and CLIP's do, which are built the same way."""
    pytest.importorskip("timm")
    embedder = Embedder.create(name, (32, 32, 3), pooling=pooling, embedding_size=None).eval()
    with torch.no_grad():
        assert embedder(torch.zeros(2, 3, 32, 32)).shape == (2, embedder.backbone.num_features)
