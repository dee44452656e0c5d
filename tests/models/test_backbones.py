"""Backbones by name, and modules of the caller's own."""

import pytest
import torch
from torch import nn

from kyori.errors import ArgumentError, MissingExtraError
from kyori.models import BACKBONES, create_backbone
from kyori.models.backbones import feature_count, output_shape


def test_mlp_is_the_keras_siamese_network():
    layers = list(create_backbone("mlp", (1, 28, 28)).layers)
    assert [type(layer) for layer in layers] == [
        nn.Flatten, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU,
    ]  # fmt: skip
    assert [(x.in_features, x.out_features) for x in layers if isinstance(x, nn.Linear)] == [
        (784, 128), (128, 128), (128, 128),
    ]  # fmt: skip
    assert [x.p for x in layers if isinstance(x, nn.Dropout)] == [0.1, 0.1]


def test_cnn_is_the_mnist_example():
    backbone = create_backbone("cnn", (1, 28, 28))
    assert backbone.out_features == 128
    assert sum(p.numel() for p in backbone.parameters()) == 320 + 18_496 + 9216 * 128 + 128


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 7, 9), (1, 28, 28)])
def test_out_features_are_what_comes_out(name, shape):
    backbone = create_backbone(name, shape)
    assert backbone(torch.zeros(2, *shape)).shape == (2, backbone.out_features)


def test_cnn_needs_images_of_six_pixels():
    with pytest.raises(ArgumentError, match=r"at least 6×6 pixels; got shape \(1, 5, 28\)"):
        create_backbone("cnn", (1, 5, 28))
    with pytest.raises(ArgumentError, match=r"needs images .* got shape \(10,\)"):
        create_backbone("cnn", (10,))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"width": [3]}, "backbone 'mlp' has no option 'width'; did you mean 'widths'"),
        ("mlp", {"widths": []}, "widths must be one or more whole numbers ≥ 1"),
        ("mlp", {"widths": [0]}, "widths must be one or more whole numbers ≥ 1"),
        ("mlp", {"dropout": 1.0}, r"dropout must be a share in \[0, 1\); got 1.0"),
        ("cnn", {"pretrained": True}, "backbone 'cnn' has none"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        create_backbone(name, (1, 8, 8), **options)


def test_timm_absent(monkeypatch):
    import importlib

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "kyori\[image\]"'):
        create_backbone("resnet18", (3, 32, 32))


class TestTimm:
    @pytest.fixture(autouse=True)
    def _timm(self):
        pytest.importorskip("timm", reason="timm is not installed")

    def test_maps_are_handed_on_unpooled(self):
        backbone = create_backbone("test_resnet", (1, 32, 32))
        assert output_shape(backbone, (1, 32, 32))[0] == backbone.out_features
        assert len(output_shape(backbone, (1, 32, 32))) == 3

    def test_tokens_are_pooled_by_the_model(self):
        backbone = create_backbone("test_vit", (3, 32, 32), img_size=32)
        assert output_shape(backbone, (3, 32, 32)) == (backbone.out_features,)

    def test_unknown_names_get_the_nearest(self):
        with pytest.raises(ArgumentError, match="unknown backbone 'resnet81'; did you mean 'resnet"):
            create_backbone("resnet81", (3, 32, 32))
        with pytest.raises(
            ArgumentError, match=r"unknown backbone 'qqqqq'; known: mlp, cnn, linear and the \d+ of"
        ):
            create_backbone("qqqqq", (3, 32, 32))

    def test_unknown_options(self):
        with pytest.raises(ArgumentError, match=r"does not take these options.*colour"):
            create_backbone("test_resnet", (3, 32, 32), colour=1)

    def test_wrong_input_size(self):
        with pytest.raises(ArgumentError, match=r"\(3, 30, 30\).*data.image_size"):
            create_backbone("test_vit", (3, 30, 30))

    def test_vectors(self):
        with pytest.raises(ArgumentError, match=r"needs images .* got items of shape \(4,\)"):
            create_backbone("test_resnet", (4,))


class TestOwnModule:
    def test_the_mode_is_left_alone(self):
        module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        assert feature_count(module, (4,)) == 3
        assert module.training
        assert module[1].num_batches_tracked == 0

    def test_lazy_layers_are_made(self):
        module = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
        assert feature_count(module, (1, 4, 4)) == 5

    @pytest.mark.parametrize(
        ("module", "message"),
        [
            (nn.Linear(3, 2), r"must take a batch of inputs of shape \(4,\); a dry run failed"),
            (nn.Unflatten(1, (2, 2)), r"must return features \(b, d\) or maps .* returned \(2, 2, 2\)"),
            (nn.LSTM(4, 2), "returned tuple"),
        ],
    )
    def test_what_does_not_fit_is_said(self, module, message):
        with pytest.raises(ArgumentError, match=message):
            output_shape(module, (4,))
