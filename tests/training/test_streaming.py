"""Training on streams: the same bits after an interruption, parts without a list of items, vectors in row groups."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

import kyori
from data.streams import png, write_shards, write_tar
from kyori.cli.main import run as kyori_command
from kyori.data.streams import open_stream
from kyori.errors import ArgumentError, ConfigError, DataError, DataWarning, Interrupted
from kyori.training import Callback, RunConfig, build, train

FAST = {"backbone": "mlp", "batch_size": 16, "epochs": 2, "embedding_size": 8, "device": "cpu", "buffer": 64}


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), items=240)


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, progress):
        if progress.step == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("loss", ["triplet", "arcface"])
@pytest.mark.parametrize("stop", [3, 15, 22])
def test_as_if_never_interrupted(pattern, tmp_path, loss, stop):
    config = RunConfig.from_options(loss=loss, **FAST)
    stream = open_stream(pattern, buffer=64)

    def parts():
        return *build(config, stream), stream, config

    whole = parts()
    train(*whole)
    with pytest.raises(Interrupted):
        train(*parts(), folder=tmp_path, callbacks=[StopAt(stop)])
    resumed = parts()
    train(*resumed, folder=tmp_path, resume=True)
    for one, two in zip(whole[:2], resumed[:2], strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, two.state_dict()[name]), name


def test_fit_embed_and_evaluate(pattern, tmp_path, capsys):
    out = tmp_path / "run"
    run = kyori.fit(pattern, loss="triplet", out=out, report=None, **{**FAST, "epochs": 6})
    assert run.results["recall@1"].value > 0.7
    assert 20 < len(run.table) < 80
    assert kyori_command(["embed", str(out), pattern, "--out", str(tmp_path / "v.parquet"), "--json"]) == 0
    table = kyori.VectorTable.load(tmp_path / "v.parquet")
    source = kyori.open_source(pattern)
    expected = dict(zip(source.ids.tolist(), run.embedder.encode(source), strict=True))
    assert len(table) == 240
    for key, vector in zip(table.ids.tolist(), table.vectors, strict=True):
        assert np.abs(vector - expected[key.partition("#")[2]]).max() < 1e-5
    names = np.array(table.class_names)[table.labels]
    assert set(names) == set(source.class_names)
    assert (
        kyori_command(["embed", str(out), pattern, "--out", str(tmp_path / "t.parquet"), "--part", "test"])
        == 0
    )
    held = kyori.VectorTable.load(tmp_path / "t.parquet")
    assert len(held) == len(run.table), "a part is the same whenever it is asked for"
    assert kyori_command(["embed", str(out), pattern, "--format", "numpy"]) == 2
    assert "shards are embedded by one process, as Parquet" in capsys.readouterr().err


def test_vectors_are_written_in_row_groups(pattern, tmp_path, monkeypatch):
    kyori.fit(pattern, loss="triplet", out=tmp_path / "run", report=None, **{**FAST, "epochs": 1})
    monkeypatch.setattr("kyori.runs.streaming.ROW_GROUP", 64)
    monkeypatch.setattr("kyori.runs.streaming.BATCH", 32)
    from kyori.runs import embed_stream

    assert embed_stream(tmp_path / "run", pattern, tmp_path / "v.parquet") == (240, 8)
    assert pyarrow.parquet.ParquetFile(tmp_path / "v.parquet").metadata.num_row_groups == 4


def test_unlabelled_shards_are_embedded(pattern, tmp_path):
    kyori.fit(pattern, loss="triplet", out=tmp_path / "run", report=None, **{**FAST, "epochs": 1})
    from kyori.runs import embed_stream

    path = write_tar(tmp_path / "0.tar", [(str(k), {"png": png(k, 0)}) for k in range(5)])
    assert embed_stream(tmp_path / "run", path, tmp_path / "v.parquet") == (5, 8)
    assert kyori.VectorTable.load(tmp_path / "v.parquet").labels is None
    (tmp_path / "1.tar").write_bytes(b"")
    with pytest.raises(DataError, match="no item can be read"):
        embed_stream(tmp_path / "run", tmp_path / "1.tar", tmp_path / "w.parquet")
    assert not (tmp_path / "w.parquet").exists()


def test_class_disjoint_parts(pattern, tmp_path):
    folder = write_shards(tmp_path, items=400, classes=20)
    options = {**FAST, "split": "class-disjoint", "fractions": (0.6, 0.2, 0.2), "epochs": 1}
    run = kyori.fit(folder, loss="arcface", report=None, **options)
    tested = set(np.array(run.table.class_names)[run.table.labels])
    assert tested
    assert not tested & set(run.embedder.class_names)


def test_given_parts(tmp_path):
    splits = ["train", "train", "val", "test"]
    items = [
        (f"{k:03d}", {"png": png(k, k % 3), "json": f'{{"label": {k % 3}, "split": "{splits[k // 3 % 4]}"}}'})
        for k in range(96)
    ]
    run = kyori.fit(write_tar(tmp_path / "0.tar", items), loss="triplet", report=None, **FAST)
    assert len(run.table) == 24


def test_what_a_stream_cannot_do(pattern):
    with pytest.raises(
        ConfigError, match=r"batches of a stream are of kind pk or shuffle; got batches.kind 'pairs'"
    ):
        kyori.fit(pattern, loss="contrastive", batches="pairs", report=None, **FAST)
    with pytest.raises(ConfigError, match=r"a stream is split random.*got data.split 'kfold'"):
        kyori.fit(pattern, loss="triplet", split="kfold", fold=0, report=None, **FAST)
    with pytest.raises(ArgumentError, match="labels= belongs to data that are opened as a whole"):
        kyori.fit(pattern, labels=[1], loss="triplet", report=None, **FAST)


def test_bad_items_while_training(tmp_path):
    items = [(f"{k:03d}", {"png": png(k, k % 3), "cls": str(k % 3)}) for k in range(96)]
    items[50] = ("050", {"png": png(0, 0)[:60], "cls": "1"})
    path = write_tar(tmp_path / "0.tar", items)
    options = {**FAST, "split": "none", "keep": "last", "epochs": 1}
    with pytest.warns(DataWarning, match=r"1 skipped while reading: .*0\.tar#050 \(damaged picture"):
        kyori.fit(path, loss="triplet", report=None, **options)
    with pytest.raises(DataError, match=r"0\.tar#050: damaged picture"):
        kyori.fit(path, loss="triplet", report=None, bad_items="error", **options)


class Rings(torch.utils.data.IterableDataset):
    def __len__(self):
        return 300

    def __iter__(self):
        rng = np.random.default_rng(0)
        for number in range(300):
            label = number % 3
            angle = rng.uniform(0, 2 * np.pi)
            yield np.array([np.cos(angle), np.sin(angle)], dtype=np.float32) * (1 + label), f"r{label}"


def test_iterable_datasets_are_trained_on():
    run = kyori.fit(Rings(), loss="multisimilarity", report=None, **{**FAST, "epochs": 4})
    assert run.results["recall@1"].value > 0.8


@pytest.mark.slow
def test_killed_and_resumed(pattern, tmp_path):
    """kill -9, as the OOM killer does it, and the weights are those of a run that was left alone."""
    words = [
        "train",
        pattern,
        "--loss",
        "triplet",
        "--backbone",
        "mlp",
        "--batch-size",
        "16",
        "--epochs",
        "20",
        "--split",
        "none",
    ]
    words += ["--buffer", "64", "--embedding-size", "8", "--checkpoint-every", "9 steps", "--device", "cpu"]
    command = [sys.executable, "-m", "kyori", *words, "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    killed = subprocess.Popen(
        [*command, str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoints = tmp_path / "killed" / "checkpoints"
    end = time.monotonic() + 60
    while len(list(checkpoints.glob("*"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it was still training"
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    weights = [Path(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_two_ranks_go_on_in_the_middle_of_an_epoch(pattern, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    command += [
        "-m",
        "kyori",
        "train",
        pattern,
        "--loss",
        "arcface",
        "--backbone",
        "mlp",
        "--batch-size",
        "16",
    ]
    command += [
        "--buffer",
        "64",
        "--epochs",
        "2",
        "--split",
        "none",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    command += ["--checkpoint-every", "4 steps", "--checkpoint-keep", "99"]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, capture_output=True, env=quiet)
    model = tmp_path / "run" / "model.safetensors"
    whole = model.read_bytes()
    model.unlink()
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.stem > "step-000000020":  # 15 steps are an epoch
            path.unlink()
    subprocess.run([*command, "--resume"], check=True, capture_output=True, env=quiet)
    assert model.read_bytes() == whole
