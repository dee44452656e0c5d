"""The configuration: strict, all errors at once, flat names, YAML there and back."""

import pytest
import torch

from kyori.errors import ConfigError
from kyori.losses import LOSSES
from kyori.training.config import RunConfig
from kyori.training.options import _leaves, flat_names, option_names
from kyori.training.recipes import RECIPES, recipe


def test_yaml_there_and_back(tmp_path):
    config = RunConfig.from_options(
        loss="arcface", scale=32, lr=1e-4, image_size=[20, 30], decay_epochs=[2], schedule="step"
    )
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert RunConfig.load(path) == config


def test_yaml_reads_numbers_that_yaml_takes_for_strings(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("optimizer: {lr: 1e-3}\nloss: {name: triplet, margin: 3e-1}\n")
    config = RunConfig.load(path)
    assert config.optimizer.lr == 1e-3
    assert config.loss.options == {"margin": 0.3}


def test_all_errors_at_once_with_the_nearest_names():
    with pytest.raises(ConfigError) as caught:
        RunConfig(
            optimizer={"lr": -1, "learning": 2},
            trainig={},
            loss={"name": "triplet", "margn": 1, "mining": "semi"},
            training={"epochs": True},
        )
    lines = str(caught.value).splitlines()
    assert lines[0] == "the configuration has 6 errors:"
    text = "\n".join(lines)
    assert "optimizer.lr: must be greater than 0; got -1" in text
    assert "optimizer.learning: unknown key" in text
    assert "trainig: unknown key; did you mean 'training'?" in text
    assert "loss.margn: loss 'triplet' has no option 'margn'; did you mean 'margin'?" in text
    assert "loss.mining: must be 'all', 'hard', 'semihard'" in text
    assert "training.epochs: must be a number; got True" in text


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"loss": {"name": "triplt"}}, "unknown loss 'triplt'; did you mean 'triplet'"),
        ({"loss": {"name": "triplet", "margin": -1}}, "margin must be at least 0; got -1"),
        ({"loss": {"name": "triplet", "margin": True}}, "loss.margin: must be a number; got True"),
        ({"loss": {"name": "arcface", "num_classes": 3}}, "no option 'num_classes'"),
        ({"data": {"fractions": [0.5, 0.1, 0.1]}}, "must add up to 1"),
        ({"data": {"split": "kfold", "fold": 5}}, "fold from 0 to folds - 1 = 4; got 5"),
        ({"data": {"image_size": "big"}}, r"image_size: must be a valid integer or a valid tuple; got 'big'"),
        ({"optimizer": {"momentum": 0.9}}, "adam takes no momentum; it takes betas, eps"),
        ({"schedule": {"name": "step"}}, "needs decay_epochs"),
        ({"schedule": {"decay_epochs": [1]}}, "decay_epochs belong to schedule step"),
        ({"schedule": {"name": "onecycle", "warmup_steps": 3}}, "onecycle has its own warm-up"),
        ({"loss": {"name": "arcface"}, "batches": {"kind": "pairs"}}, "classifies single items"),
    ],
)
def test_wrong_values_are_named(sections, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(**sections)


def test_a_setting_has_one_flat_name():
    leaves = [path[-1] for path in _leaves(RunConfig) if path[-1] not in ("name", "kind")]
    assert len(leaves) == len(set(leaves))


@pytest.mark.parametrize("loss", LOSSES)
def test_no_loss_option_hides_a_setting(loss):
    assert not set(option_names(LOSSES[loss])) & (set(flat_names(RunConfig)) - {"seed"})


def test_flat_options():
    config = RunConfig.from_options(
        backbone="cnn", epochs="3", lr="1e-2", margin=0.5, patience="null", batches="shuffle", optimizer="sgd",
        **{"optimizer.head_lr": "0.1", "loss.mining": "all"},
    )  # fmt: skip
    assert (config.model.backbone, config.training.epochs, config.optimizer.lr) == ("cnn", 3, 0.01)
    assert config.loss.options == {"margin": 0.5, "mining": "all"}
    assert (config.batches.kind, config.optimizer.name, config.optimizer.head_lr) == ("shuffle", "sgd", 0.1)


def test_another_loss_leaves_the_former_options_behind():
    base = RunConfig.from_options(margin=0.5, mining="all", epochs=3)
    config = RunConfig.from_options(base, loss="arcface")
    assert (config.loss.name, config.loss.options, config.training.epochs) == ("arcface", {}, 3)
    assert RunConfig.from_options(base, loss="triplet").loss.options == base.loss.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lrr": 1, "epoch": 2},
            r"(?s)'lrr' is unknown; did you mean 'lr'.*'epoch' is unknown; did you mean 'epochs'",
        ),
        (
            {"loss": "arcface", "mining": "all"},
            "'mining' is an option of the losses .*triplet.*; the loss is arcface",
        ),
        ({"optimizer.lrr": 1}, "'optimizer.lrr' is unknown; did you mean 'lr'"),
        ({"loss": "tripplet"}, "did you mean 'triplet'"),
        ({"loss.margn": 1}, "did you mean 'margin'"),
    ],
)
def test_wrong_flat_options(options, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_options(**options)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not a YAML file"), ("- a\n", "got a list"), ("sed: 1\n", "did you mean 'seed'")],
)
def test_wrong_files(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        RunConfig.load(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.yaml: No such file"):
        RunConfig.load(tmp_path / "none.yaml")


def test_an_empty_file_is_the_defaults(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("")
    assert RunConfig.load(path) == RunConfig()


def test_a_configuration_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().seed = 3


def test_making_a_configuration_draws_no_random_numbers():
    before = torch.get_rng_state()
    RunConfig(loss={"name": "arcface"})
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_yaml(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(recipe(name).to_yaml())
    assert RunConfig.load(path) == recipe(name)


def test_unknown_recipe():
    with pytest.raises(ConfigError, match="did you mean 'arcface-cnn'"):
        recipe("arcface")
