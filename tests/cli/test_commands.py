"""The commands as a user types them: what they print, what they write, and how they fail."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from kyori.cli.main import run
from kyori.cli.overrides import _as_set

QUICK = ["--epochs", "1", "--seed", "0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small finished run on digits."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert run(["train", "digits", "--loss", "triplet", *QUICK, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def photos(tmp_path):
    """A folder as people have them: good pictures, a broken one, a note, an empty class and a class of one."""
    rng = np.random.default_rng(0)
    for name, level in (("cats", 60), ("dogs", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.normal(level, 20, (20, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.jpg")
    broken = tmp_path / "photos" / "cats" / "broken.jpg"
    broken.write_bytes((tmp_path / "photos" / "cats" / "0.jpg").read_bytes()[:300])
    (tmp_path / "photos" / "dogs" / "notes.txt").write_text("not a picture")
    (tmp_path / "photos" / "empty").mkdir()
    (tmp_path / "photos" / "owl").mkdir()
    Image.new("RGB", (24, 20), (10, 90, 10)).save(tmp_path / "photos" / "owl" / "kururu.jpg")
    return tmp_path / "photos"


def test_train_leaves_a_whole_run(trained):
    written = {path.name for path in trained.iterdir()}
    assert written >= {
        "config.yaml", "data.json", "model.safetensors", "model.json", "checkpoints", "metrics.jsonl",
        "vectors.parquet", "results.json", "report.html",
    }  # fmt: skip
    assert "<script src" not in (trained / "report.html").read_text()


def test_train_refuses_to_write_over_a_run(trained, capsys):
    before = (trained / "model.safetensors").read_bytes()
    assert run(["train", "digits", *QUICK, "--out", str(trained)]) == 2
    assert "already holds a run; go on with --resume" in capsys.readouterr().err
    assert (trained / "model.safetensors").read_bytes() == before


def test_evaluate_takes_the_test_part_of_its_own_data(trained, capsys):
    assert run(["evaluate", str(trained), "digits", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err.startswith("test: ")
    saved = json.loads((trained / "results.json").read_text())
    by_name = {r["measure"]: r["value"] for r in saved["results"]}
    assert {r["measure"]: r["value"] for r in found["results"]} == pytest.approx(by_name)


def test_evaluate_reads_a_table_and_other_parts(trained, capsys):
    assert run(["evaluate", str(trained / "vectors.parquet")]) == 0
    assert "recall@1" in capsys.readouterr().out
    assert run(["evaluate", str(trained), "digits", "--part", "all"]) == 0
    assert "all: 1,797 items" in capsys.readouterr().err


def test_embed_writes_a_table_others_can_read(trained, tmp_path, capsys):
    out = tmp_path / "v.parquet"
    assert run(["embed", str(trained), "digits", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 1797
    table = pyarrow.parquet.read_table(out)
    assert table.num_rows == 1797
    assert str(table.schema.field("vector").type).startswith("fixed_size_list<")


def test_a_folder_with_defects_is_trained_and_each_is_named(photos, tmp_path, capsys):
    assert run(["train", str(photos), *QUICK, "--backbone", "mlp", "--out", str(tmp_path / "run")]) == 0
    err = capsys.readouterr().err
    for name in ("broken.jpg", "notes.txt", "empty", "owl"):
        assert name in err
    skipped = json.loads((tmp_path / "run" / "data.json").read_text())["skipped"]
    assert any("broken.jpg" in item for item, _ in skipped)


def test_bad_items_can_be_an_error(photos, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(["train", str(photos), *QUICK, "--bad-items", "error", "--out", str(out)]) == 2
    assert "broken.jpg" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_without_classes_is_one_line_and_exit_2(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert run(["train", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err.strip()
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert "class" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--loss", "tripplet"], "unknown loss 'tripplet'; did you mean 'triplet'"),
        (["train", "digits", "--loss", "triplet-batch-hard"], "--loss triplet --mining batch_hard"),
        (["train", "digits", "--loss", "lda"], "kyori compare DATA --methods lda"),
        (["train", "digits", "--margn", "1"], "margn"),
        (["train", "digits", "--margin"], "--margin needs a value"),
        (["train", "digits", "--recipe", "siamese"], "siamese-mlp"),
        (["train", "nowhere/"], "nowhere"),
        (["train"], "DATA is missing"),
        (["train", "digits", "--epochs", "0"], "epochs"),
        (["compare", "digits", "--methods", "arcfase"], "unknown method 'arcfase'"),
        (["compare", "digits", "--format", "latx"], "unknown format 'latx'; did you mean 'latex'?"),
        (
            [
                "compare",
                "digits",
                "--measure",
                "map@q",
                "--epochs",
                "1",
                "--methods",
                "softmax",
                "--seeds",
                "1",
            ],
            "map@",
        ),
        (["evaluate", "nowhere", "digits"], "not a run folder"),
        (["evaluate", "nowhere.parquet"], "nowhere.parquet"),
        (["embed", "nowhere", "digits"], "not a run folder"),
        (["trian", "digits"], "No such command"),
    ],
)
def test_mistakes_are_said_in_words_with_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_print_config_is_yaml_that_train_takes(tmp_path, capsys):
    assert run(["train", "--recipe", "siamese-mlp", "--print-config", "--lr", "0.002"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "c.yaml").write_text(text)
    assert run(["train", "-c", str(tmp_path / "c.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text
    assert "lr: 0.002" in text


def test_overrides_stand_anywhere():
    declared = {"--out", "--loss"}
    expected = ["digits", "--out", "r", "--set", "margin=0.2", "--set", "batch_size=8"]
    assert sorted(_as_set(["--margin", "0.2", "digits", "--batch-size=8", "--out", "r"], declared)) == sorted(
        expected
    )
    assert _as_set(["--", "--margin"], declared) == ["--", "--margin"]


def test_compare_writes_a_report_and_goes_on_where_it_stopped(tmp_path, capsys):
    out = tmp_path / "board"
    command = ["compare", "digits", "--methods", "raw,softmax,triplet", "--seeds", "2", "--epochs", "1"]
    assert run([*command, "--out", str(out), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in first["rows"]} == {"raw", "softmax", "triplet"}
    cell = out / "cells" / "digits" / "triplet" / "seed-1"
    before = (cell / "results.json").stat().st_mtime_ns
    (
        out / "cells" / "digits" / "softmax" / "seed-0" / "results.json"
    ).unlink()  # as if it had been killed there
    assert run([*command, "--out", str(out), "--json", "--lang", "ja"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert (cell / "results.json").stat().st_mtime_ns == before
    for a, b in zip(first["rows"], second["rows"], strict=True):
        assert a["measures"] == b["measures"]
    assert 'lang="ja"' in (out / "report.html").read_text()


def test_doctor_says_what_is_there(capsys):
    assert run(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["core"]["torch"]
    assert report["batch"]["total_bytes"] > 0
    assert run(["doctor", "--backbone", "cnn", "--batch-size", "512"]) == 0
    assert "A batch of 512 pictures" in capsys.readouterr().out


def test_version_and_module_entry():
    done = subprocess.run(
        [sys.executable, "-m", "kyori", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("kyori ")
