"""Learning rates by layer, weights without decay, and freezing for some epochs, over stops and resumes."""

import numpy as np
import pytest
import torch
from torch import nn

from kyori.data import open_source
from kyori.errors import ConfigError
from kyori.losses import ArcFaceLoss
from kyori.models import Embedder
from kyori.training import RunConfig, build, recipe, train
from kyori.training.config import OptimizerConfig
from kyori.training.optimization import create_optimizer


def rates(optimizer, module):
    """The learning rate and weight decay of each weight by name."""
    found = {
        id(p): (group["base_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
    return {name: found[id(p)] for name, p in module.named_parameters()}


def test_rates_fall_from_the_head_to_the_input():
    embedder = Embedder.create("mlp", (4,), embedding_size=2)
    loss = ArcFaceLoss(3, 2)
    config = OptimizerConfig(lr=0.1, head_lr=0.5, backbone_lr=0.01, layer_decay=0.5)
    optimizer = create_optimizer(config, embedder, loss)
    found = rates(optimizer, nn.ModuleList([embedder, loss]))
    by_layer = {
        name: lr for name, (lr, _) in found.items() if name.endswith("weight") and name.startswith("0.")
    }
    assert by_layer == {
        "0.backbone.layers.1.weight": 0.0025,
        "0.backbone.layers.4.weight": 0.005,
        "0.backbone.layers.7.weight": 0.01,
        "0.head.projection.weight": 0.1,
    }
    assert {lr for name, (lr, _) in found.items() if name.startswith("1.")} == {0.5}
    assert optimizer.param_groups[0]["lr"] == 0.1  # the one that is shown


def test_biases_and_normalisations_do_not_decay():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    embedder = Embedder.create(network, (4,), embedding_size=2)
    loss = ArcFaceLoss(3, 2)
    both = nn.ModuleList([embedder, loss])
    plain = rates(create_optimizer(OptimizerConfig(weight_decay=0.1), embedder, loss), both)
    assert {decay for _, decay in plain.values()} == {0.1}
    spared = rates(create_optimizer(OptimizerConfig(weight_decay=0.1, no_decay=True), embedder, loss), both)
    decayed = {name for name, (_, decay) in spared.items() if decay == 0.1}
    assert decayed == {name for name, p in both.named_parameters() if p.ndim > 1}
    assert 0 < len(decayed) < len(spared)


def test_positions_of_a_transformer_do_not_decay():
    pytest.importorskip("timm")
    embedder = Embedder.create("test_vit", (32, 32, 3))
    found = rates(
        create_optimizer(OptimizerConfig(weight_decay=0.1, no_decay=True), embedder, nn.Identity()), embedder
    )
    assert found["backbone.pos_embed"][1] == found["backbone.cls_token"][1] == 0.0
    assert found["backbone.blocks.0.attn.qkv.weight"][1] == 0.1


@pytest.mark.parametrize("seed", [0])
def test_freezing_for_an_epoch_resumes_to_the_same_bits(tmp_path, seed):
    source = open_source("digits").take(np.arange(120))
    config = RunConfig.from_options(
        backbone="mlp", loss="triplet", batch_size=24, epochs=3, seed=seed, freeze="backbone", freeze_epochs=1,
        optimizer="adamw", weight_decay=0.1, no_decay=True, backbone_lr=1e-3, layer_decay=0.5, schedule="constant",
        checkpoint_every="2 steps", device="cpu",
    )  # fmt: skip

    def run(epochs, folder, resume=False):
        settings = config.model_copy(
            update={"training": config.training.model_copy(update={"epochs": epochs})}
        )
        embedder, loss = build(settings, source)
        start = {name: t.clone() for name, t in embedder.state_dict().items()}
        train(embedder, loss, source, settings, folder=folder, resume=resume)
        return start, {name: t.clone() for name, t in embedder.state_dict().items()}

    start, one = run(1, tmp_path / "b")
    moved = {name for name in one if not torch.equal(start[name], one[name])}
    assert moved == {"head.projection.weight", "head.projection.bias"}
    _, whole = run(3, tmp_path / "a")
    assert not torch.equal(whole["backbone.layers.1.weight"], start["backbone.layers.1.weight"])
    _, resumed = run(3, tmp_path / "b", resume=True)
    assert all(torch.equal(whole[name], t) for name, t in resumed.items())


def test_a_stage_too_many_is_a_mistake_of_the_configuration():
    source = open_source("digits").take(np.arange(20))
    with pytest.raises(ConfigError, match=r"model\.freeze: .* a number of its 3 stages; got 7"):
        build(RunConfig.from_options(freeze=7), source)


def test_a_model_to_start_from(tmp_path):
    source = open_source("digits").take(np.arange(60))
    embedder, _ = build(
        RunConfig.from_options(backbone="cnn", embedding_size=7, head_norm=True, seed=5), source
    )
    embedder.save(tmp_path / "model")
    config = RunConfig.from_options(init=str(tmp_path / "model"), loss="contrastive", normalize=False)
    few = source.take(np.flatnonzero(source.labels < 2))
    again, _ = build(config, few)
    assert all(torch.equal(again.state_dict()[name], t) for name, t in embedder.state_dict().items())
    assert again.preprocess == embedder.preprocess
    assert again.class_names == ("0", "1")
    for option in ({"backbone": "resnet18"}, {"embedding_size": 8}, {"pooling": "max"}, {"head_layers": [4]}):
        (name,) = option
        with pytest.raises(ConfigError, match=rf"model\.{name} contradicts model\.init"):
            build(RunConfig.from_options(init=str(tmp_path / "model"), **option), few)


def test_texts_start_from_a_saved_model_too(tmp_path):
    source = open_source((["a cat", "the cat", "one dog", "two dogs"], ["c", "c", "d", "d"]))
    first, _ = build(RunConfig.from_options(embedding_size=5, seed=3), source)
    first.save(tmp_path)
    again, _ = build(RunConfig.from_options(init=str(tmp_path)), source)
    assert np.array_equal(first.eval().encode(["a cat"]), again.eval().encode(["a cat"]))


def test_a_model_to_start_from_takes_the_place_of_a_recipes_network():
    base = recipe("text-pairs")
    assert base.model.pretrained
    config = RunConfig.from_options(base, init="runs/texts")
    assert (config.model.pretrained, config.model.backbone, config.model.init) == (False, "mlp", "runs/texts")
    assert config.loss == base.loss
    with pytest.raises(ConfigError, match="pretrained and init are different starting points"):
        RunConfig.from_options(base, init="runs/texts", pretrained=True)
