"""Runs: what `fit` leaves, that it is the same twice, and that a stopped one goes on."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import kyori
from kyori.errors import ArgumentError, ConfigError, DataError, FileFormatError
from kyori.runs import encode_part, finished_run, resolve_config, short_name, split_source


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_run_opens_as_it_was_left(tmp_path):
    run = kyori.fit("digits", loss="arcface", epochs=2, out=tmp_path / "run")
    again = kyori.open_run(tmp_path / "run")
    items = kyori.open_source("digits").load(np.arange(5))
    assert np.array_equal(run.embedder.encode(items), again.embedder.encode(items))
    assert again.config == run.config
    assert again.results["map@r"].value == pytest.approx(run.results["map@r"].value)
    assert [r["epoch"] for r in again.history] == [1, 2]
    assert again.summary()["loss"] == "arcface"
    assert "map@r" in str(run)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_randomness_alone(tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a = kyori.fit("digits", backbone="cnn", epochs=1, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    b = kyori.fit("digits", backbone="cnn", epochs=1, seed=3)
    assert np.array_equal(a.table.vectors, b.table.vectors)
    assert a.results.to_json().split('"training"')[0] == b.results.to_json().split('"training"')[0]


def test_ctrl_c_says_how_to_go_on_and_resume_ends_in_the_same_bits(tmp_path):
    command = [sys.executable, "-m", "kyori", "train", "digits", "--backbone", "cnn", "--epochs", "4"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "a")], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "a" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and '"epoch"' in metrics.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in err
    assert not (tmp_path / "a" / "results.json").exists()
    with pytest.raises(FileFormatError):
        kyori.open_run(tmp_path / "a")
    for folder, extra in (("a", ["--resume"]), ("b", [])):
        subprocess.run([*command, "--out", str(tmp_path / folder), *extra], check=True, capture_output=True)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_resume_needs_something_to_resume(tmp_path):
    with pytest.raises(ArgumentError, match="holds no run to go on with"):
        kyori.fit("digits", epochs=1, out=tmp_path / "none", resume=True)


def test_nothing_is_written_outside_the_run_or_without_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kyori.fit("digits", epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_siamese_runs_report_pair_accuracy():
    run = kyori.fit("digits", recipe="siamese-mlp", epochs=3)
    accuracy = run.results["test-pair-accuracy@0.5"]
    assert 0.7 < accuracy.value <= 1
    assert accuracy.low < accuracy.value < accuracy.high
    assert run.results["train-pair-accuracy@0.5"].value > 0.7


def test_a_network_of_ones_own():
    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU())

        def forward(self, x):
            return self.layers(x)

    run = kyori.fit("digits", backbone=Mine(), loss="cosface", epochs=2, embedding_size=8)
    assert run.config.model.backbone == "Mine"
    assert run.table.vectors.shape[1] == 8


def test_a_finished_run_is_recognised_only_for_the_same_question(tmp_path):
    run = kyori.fit("digits", epochs=1, out=tmp_path / "run", report=None)
    source = kyori.open_source("digits")
    split = split_source(source, run.config)
    assert finished_run(tmp_path / "run", split, run.config) is not None
    other = resolve_config(run.config, epochs=2)
    assert finished_run(tmp_path / "run", split, other) is None
    shifted = split_source(source, resolve_config(run.config, split_seed=1))
    assert finished_run(tmp_path / "run", shifted, run.config) is None
    (tmp_path / "run" / "results.json").write_text("{")
    assert finished_run(tmp_path / "run", split, run.config) is None


def test_parts(tmp_path):
    kyori.fit("digits", epochs=1, out=tmp_path / "run", report=None)
    table, used = encode_part(tmp_path / "run", "digits")
    assert used == "test"
    everything, used = encode_part(tmp_path / "run", "digits", "all")
    assert (used, len(everything)) == ("all", 1797)
    stranger = kyori.open_source("digits").take(np.arange(200))
    assert encode_part(tmp_path / "run", stranger)[1] == "all"
    assert set(table.ids) < set(everything.ids)
    with pytest.raises(ArgumentError, match="part must be one of"):
        encode_part(tmp_path / "run", "digits", "tset")


def test_arrays_train_and_split_none_uses_everything():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5)) + np.repeat(np.eye(5)[:3] * 6, 20, axis=0)
    y = np.repeat(["a", "b", "c"], 20)
    run = kyori.fit((X, y), epochs=15, embedding_size=3)
    assert run.results["recall@1"].value > 0.9
    whole = kyori.fit((X, y), epochs=1, split="none")
    assert whole.results is None
    assert whole.summary()["results"] is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recipe": "siamese-mlp", "config": "x.yaml"}, ConfigError, "give one of them"),
        ({"recipe": "siamse"}, ConfigError, "siamese-mlp"),
        ({"config": "missing.yaml"}, ConfigError, "missing.yaml"),
        ({"loss": "arcfac"}, ConfigError, "arcface"),
        ({"measure": "map@x", "epochs": 1}, ArgumentError, "map@"),
        ({"report": "de", "epochs": 1}, ArgumentError, "de"),
    ],
)
def test_mistakes(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        kyori.fit("digits", out=tmp_path / "run", **options)


def test_one_class_cannot_be_trained():
    with pytest.raises(DataError, match="at least 2 classes"):
        kyori.fit((np.zeros((10, 3)), np.zeros(10, dtype=int)), epochs=1, split="none")


def test_opening_what_is_no_run(tmp_path):
    with pytest.raises(FileFormatError, match="not a run folder"):
        kyori.open_run(tmp_path)
    kyori.fit("digits", epochs=1, out=tmp_path / "run", report=None)
    (tmp_path / "run" / "data.json").write_text(json.dumps({}))
    with pytest.raises(FileFormatError, match=r"data.json"):
        encode_part(tmp_path / "run", "digits")


def test_names_of_folders():
    assert short_name("/data/my photos/") == "my-photos"
    assert short_name("birds.parquet") == "birds"
