"""The switches of `kyori train`."""

import json

import pytest
import yaml

from kyori.cli.main import run

QUICK = ["--backbone", "mlp", "--epochs", "1"]


def test_switches_reach_the_configuration(capsys):
    switches = [
        "--channels-last",
        "--compile",
        "--profile",
        "--precision",
        "bf16",
        "--checkpoint-every",
        "10min",
    ]
    assert run(["train", "--print-config", *switches, "--ema", "0.99"]) == 0
    training = yaml.safe_load(capsys.readouterr().out)["training"]
    wanted = {"channels_last": True, "compile": True, "profile": True, "precision": "bf16", "ema": 0.99}
    assert wanted | {"checkpoint_every": "10 minutes"} == {
        key: training[key] for key in [*wanted, "checkpoint_every"]
    }
    assert run(["train", "--print-config", "--no-profile"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["training"]["profile"] is False


@pytest.mark.parametrize("place", [0, 1], ids=["first", "between"])
def test_what_is_on_or_off_needs_no_value(place, capsys):
    """Before another option, before DATA and at the end; also options of the loss."""
    words = ["--pretrained", "--flip", "false", "--no-normalize", "--margin", "0.3", "--no-decay"]
    words.insert(place * 4, "photos/")
    assert run(["train", "--print-config", "--loss", "contrastive", "--backbone", "resnet18", *words]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["pretrained"] is True
    assert config["augment"]["flip"] is False
    assert {"normalize": False, "margin": 0.3}.items() <= config["loss"].items()
    assert config["optimizer"]["no_decay"] is True
    assert run(["train", "--print-config", "--loss", "siglip", "--bias", "-5"]) == 0  # a number there
    assert yaml.safe_load(capsys.readouterr().out)["loss"]["bias"] == -5.0
    assert run(["train", "--print-config", "--loss", "siglip", "--bias"]) == 2
    assert "--bias needs a value" in capsys.readouterr().err


def test_profile_says_where_the_time_went(tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        run(["train", "digits", *QUICK, "--profile", "--trace-steps", "2", "--json", "--out", str(out)]) == 0
    )
    said = capsys.readouterr()
    assert json.loads(said.out)["folder"] == str(out)
    for part in ("data", "forward", "loss", "backward", "step", "validation"):
        assert f"\n{part} " in said.err
    assert (out / "trace.json").exists()


def test_an_interval_that_is_none_is_one_line(capsys):
    assert run(["train", "digits", *QUICK, "--checkpoint-every", "often"]) == 2
    assert (
        "checkpoint_every: must be like '500 steps', '10 minutes' or '2 epochs'; got 'often'"
        in capsys.readouterr().err
    )


def test_the_page_is_optional(tmp_path, capsys):
    words = ["train", "digits", "--loss", "softmax", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert run([*words, "--no-report"]) == 0
    assert (tmp_path / "run" / "results.json").exists()
    assert not (tmp_path / "run" / "report.html").exists()
    assert "report" not in capsys.readouterr().err


@pytest.mark.parametrize("command", [["train"], ["compare", "--dry-run"]])
def test_arguments_of_the_python_functions_are_no_keys(command, capsys):
    assert run([*command, "digits", "--labels", "x"]) == 2
    assert "'labels' is unknown; did you mean 'label'?" in capsys.readouterr().err
