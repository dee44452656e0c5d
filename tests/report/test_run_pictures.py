"""From a training to its pictures: norms and options are kept, old runs open, the page is written again."""

import json

import numpy as np
import pytest

import kyori
from kyori.cli.main import run as command
from kyori.errors import DataError
from kyori.results import Results
from kyori.runs import open_run, report_run, spring_of
from kyori.vectors import VectorTable
from report.samples import Page


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    return (4 * np.eye(3)[labels] + generator.normal(size=(90, 3))).astype(np.float32), labels


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    np.savez(place / "d.npz", X=data[0], y=data[1])
    kyori.fit(
        str(place / "d.npz"),
        loss="triplet",
        margin=0.4,
        epochs=2,
        batch_size=24,
        out=place / "r",
        report="ja",
    )
    return place


def test_a_run_keeps_norms_and_the_options_of_its_loss(folder, data):
    run = open_run(folder / "r")
    norms = run.table.columns["feature_norm"]
    source = kyori.open_source(str(folder / "d.npz"))
    rows = np.searchsorted(source.ids, run.table.ids)
    vectors, again = run.embedder.encode_with_norms(source)
    np.testing.assert_array_equal(norms, again[rows])
    np.testing.assert_array_equal(run.table.vectors, vectors[rows])
    import torch

    with torch.no_grad():
        features = run.embedder.features(run.embedder.preprocess(source.load(rows), torch.device("cpu")))
    np.testing.assert_allclose(norms, features.norm(dim=1).numpy(), rtol=1e-5)
    assert run.results.provenance["training"]["options"] == {"margin": 0.4}
    spring = spring_of(run.results)
    assert spring is not None
    assert not spring.angles
    assert spring.settled is not None


def test_the_page_has_all_of_its_parts(folder):
    page = Page((folder / "r" / "report.html").read_text("utf-8"))
    assert page.ids == [
        "measures", "training", "map", "verification", "confusion", "pairs", "queries", "springs", "norms", "reading",
        "reproduce",
    ]  # fmt: skip


def test_runs_of_older_versions_open_and_are_drawn_without(folder, tmp_path):
    run = open_run(folder / "r")
    known = {k: v for k, v in run.results.provenance["training"].items() if k != "options"}
    old = Results(run.results.values(), curves=run.results.curves, provenance={"training": known})
    table = VectorTable(run.table.ids, run.table.vectors, run.table.labels, class_names=run.table.class_names)
    from dataclasses import replace

    items = kyori.open_source(str(folder / "d.npz"))
    part = items.take(np.searchsorted(items.ids, run.table.ids))
    page = report_run(replace(run, results=old, table=table), part, tmp_path / "old.html")
    assert not {"springs", "norms"} & set(Page(page.read_text("utf-8")).ids)
    with pytest.raises(DataError, match=r"not the \d+ test items"):
        report_run(run, items, tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_the_command_writes_page_and_figures(folder, tmp_path, capsys):
    words = [
        "report",
        str(folder / "r"),
        str(folder / "d.npz"),
        "--out",
        str(tmp_path / "p.html"),
        "--map",
        "pca",
    ]
    assert command([*words, "--figures", str(tmp_path / "f"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == str(tmp_path / "p.html")
    assert {"roc.svg", "roc.csv", "roc.json"} <= {path.rpartition("/")[2] for path in said["figures"]}
    assert "Same or different?" in (tmp_path / "p.html").read_text("utf-8")
    assert command([*words[:-1], "tsen"]) == 2
    assert "did you mean 'tsne'" in capsys.readouterr().err
    assert command(["report", str(tmp_path), "digits"]) == 2


def test_a_loss_settles_on_a_page_of_its_own(tmp_path):
    assert command(["losses", "triplet", "--picture", str(tmp_path / "t.html")]) == 0
    assert "data-point" in (tmp_path / "t.html").read_text("utf-8")
