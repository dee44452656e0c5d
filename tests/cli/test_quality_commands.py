"""``kyori outliers``, ``kyori duplicates`` and ``kyori cluster`` as a user types them."""

import json

import numpy as np
import pytest
from pyarrow import parquet

from kyori import VectorTable
from kyori.cli.main import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small finished run on digits."""
    folder = tmp_path_factory.mktemp("quality") / "run"
    assert (
        run(["train", "digits", "--loss", "triplet", "--epochs", "1", "--seed", "0", "--out", str(folder)])
        == 0
    )
    return folder


@pytest.fixture
def vectors(tmp_path):
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    rows = np.array([[0.0, 0.0], [9.0, 9.0]])[labels] + generator.normal(size=(120, 2))
    rows[0], rows[119] = [99, 99], rows[3]
    table = VectorTable(
        vectors=rows, labels=labels, columns={"split": np.where(np.arange(120) < 80, "train", "test")}
    )
    table.save(tmp_path / "v.parquet")
    return tmp_path / "v.parquet"


def test_outliers_of_a_table(vectors, tmp_path, capsys):
    out = tmp_path / "found.parquet"
    assert run(["outliers", str(vectors), "--false-alarm-rate", "0.01", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in found["outliers"]] == [0]
    assert not found["calibrated"]
    assert parquet.read_table(out).column_names == ["id", "is_outlier_issue", "outlier_score", "raw_score"]


def test_duplicates_of_a_table(vectors, tmp_path, capsys):
    out = tmp_path / "found.csv"
    assert run(["duplicates", str(vectors), "--threshold", "0", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["groups"], found["exact_duplicates"], len(found["leaks"])) == (1, 2, 2)
    assert found["conflicts"] == [{"group": 0, "labels": {"0": 1, "1": 1}}]
    assert run(["duplicates", str(vectors), "--threshold", "0", "--out", str(out)]) == 0
    stdout, stderr = capsys.readouterr()
    assert "leak: 3 (train) and 119 (test), distance 0" in stdout
    assert "2 of 120 items in 1 groups" in stderr


def test_clusters_of_a_table(vectors, tmp_path, capsys):
    out = tmp_path / "found.csv"
    arguments = ["cluster", str(vectors), "--clusters", "3", "--stability", "3", "--out", str(out)]
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["items"] for row in found["clusters"]] == [60, 59, 1]
    assert found["stability"]["mean"] > 0.5
    assert run(arguments) == 0
    assert "stability: adjusted Rand" in capsys.readouterr().out


def test_a_run_and_its_data(trained, tmp_path, capsys):
    """The run's own test vectors say what is usual, where to cut, and what the names are."""
    for command, key in (("outliers", "calibrated"), ("duplicates", "leaks"), ("cluster", "clusters")):
        out = tmp_path / f"{command}.parquet"
        assert run([command, str(trained), "digits", "--out", str(out), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found[key] or key == "leaks"
        assert parquet.read_table(out).num_rows == found["items"]
    assert found["note"].startswith("the threshold gives B-cubed F")
    assert {row["name"] for row in found["clusters"]} <= set("0123456789")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cluster", "--out", "x.txt"], "written as .csv or .parquet"),
        (["cluster"], "threshold=, clusters=, or labelled reference="),
        (["cluster", "--method", "kmeans", "--clusters", "500"], "1 … 120"),
        (["cluster", "--method", "kmeans", "--threshold", "1"], "kmeans has no option 'threshold'"),
        (["outliers", "-k", "1"], "-k"),
        (["outliers", "--k", "500"], "k must be below the number of reference items"),
        (["duplicates", "--threshold", "-1"], "threshold must be"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, vectors, capsys):
    command, *options = arguments
    assert run([command, str(vectors), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
