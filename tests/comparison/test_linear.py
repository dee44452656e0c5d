"""Linear methods beside the deep ones."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import kyori
from kyori.cli.main import run as run_command
from kyori.comparison import METHODS, Method
from kyori.comparison.linear import BATCH, MOST_FEATURES, _create
from kyori.comparison.methods import resolve
from kyori.errors import ArgumentError
from kyori.models import Embedder

OPTIONS = {"epochs": 1, "seeds": 1}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:500] * 15.9).astype(np.uint8).reshape(-1, 8, 8), y[:500]


def test_they_run_beside_the_others_and_change_nothing(digits, tmp_path):
    board = kyori.compare(digits, methods=["raw", "softmax", "lda", "nca"], out=tmp_path, **OPTIONS)
    assert {row.method for row in board.rows()} == {"raw", "softmax", "lda", "nca"}
    alone = kyori.compare(digits, methods=["softmax"], **OPTIONS)
    a, b = board.cell("softmax", 0), alone.cell("softmax", 0)
    assert np.array_equal(a.table.vectors, b.table.vectors)
    lda = board.cell("lda", 0)
    assert np.array_equal(lda.table.ids, a.table.ids)
    assert lda.results["map@r"].value > board.cell("raw", 0).results["map@r"].value + 0.1
    assert lda.parameters == 9 * 64 + 9
    assert lda.seconds > 0


def test_the_learned_metric_is_an_embedder(digits, tmp_path):
    board = kyori.compare(digits, methods=["lda"], out=tmp_path, **OPTIONS)
    cell = board.cell("lda", 0)
    embedder = Embedder.load(cell.folder)
    rows = [int(item) for item in cell.table.ids]
    np.testing.assert_allclose(embedder.encode(digits[0][rows]), cell.table.vectors, rtol=1e-5, atol=1e-5)
    assert embedder.class_names == tuple("0123456789")


def test_a_linear_cell_is_a_run(digits, tmp_path):
    board = kyori.compare(digits, methods=["lda"], out=tmp_path / "board", **OPTIONS)
    cell = board.cell("lda", 0)
    run = kyori.open_run(cell.folder)
    assert run.method == "lda"
    assert run.summary()["loss"] == "lda"
    assert run.results["map@r"].value == cell.results["map@r"].value
    data = tmp_path / "digits.npz"
    np.savez(data, X=digits[0], y=digits[1])
    for words in (
        ["embed", str(cell.folder), str(data), "--out", str(tmp_path / "v.parquet")],
        ["index", str(cell.folder), str(data)],
        ["evaluate", str(cell.folder), str(data)],
    ):
        assert run_command(words) == 0, words
    assert kyori.VectorTable.load(tmp_path / "v.parquet").vectors.shape == (500, cell.table.vectors.shape[1])


def test_what_is_finished_is_not_learned_again(digits, tmp_path, monkeypatch):
    first = kyori.compare(digits, methods=["lda", "nca"], out=tmp_path, **OPTIONS)
    learned = []
    monkeypatch.setattr(
        kyori.linear.NCA,
        "fit",
        lambda self, X, y, fit=kyori.linear.NCA.fit: learned.append(1) or fit(self, X, y),
    )
    again = kyori.compare(digits, methods=["lda", "nca"], out=tmp_path, **OPTIONS)
    assert not learned
    assert again.cell("nca", 0).results["map@r"].value == first.cell("nca", 0).results["map@r"].value
    kyori.compare(digits, methods=[{"linear": "nca", "max_iter": 3}], out=tmp_path, **OPTIONS)
    assert learned


def test_vectors_of_any_size_and_seeds():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    X = rng.normal(size=(150, 300)).astype(np.float32) + y[:, None]
    board = kyori.compare(
        (X, y), methods=[{"linear": "nca", "batch_size": 40, "epochs": 2}], seeds=2, epochs=1
    )
    a, b = (board.cell("nca", seed).table.vectors for seed in (0, 1))
    assert a.shape[1] <= MOST_FEATURES
    assert not np.array_equal(a, b)


def test_large_data_are_learned_in_batches():
    assert _create("lmnn", {}, 3, 6000).get_params()["batch_size"] == BATCH
    assert _create("lmnn", {"batch_size": None}, 3, 6000).get_params()["batch_size"] is None
    assert _create("nca", {}, 3, 5000).get_params() == {
        **kyori.linear.NCA().get_params(),
        "random_state": 3,
    }


def test_names_and_errors(digits):
    assert METHODS["lmnn"] == Method("lmnn", None, linear="lmnn")
    assert "mlkr" not in METHODS
    found = resolve([{"linear": "nca", "n_components": 8, "name": "small"}])[0]
    assert (found.name, found.linear, found.options) == ("small", "nca", {"n_components": 8})
    with pytest.raises(ArgumentError, match="unknown linear method 'lmn'; did you mean 'lmnn'"):
        resolve([{"linear": "lmn"}])
    with pytest.raises(ArgumentError, match="unknown linear method 'mlkr'"):
        resolve([{"linear": "mlkr"}])
    with pytest.raises(ArgumentError, match="a loss or be linear; got both"):
        Method("both", "softmax", linear="nca")
    with pytest.raises(ArgumentError, match="'loss' or 'linear'; got keys"):
        resolve([{"margin": 1}])
    with pytest.raises(ArgumentError, match="method 'nca': linear method 'nca' has no option 'margin'"):
        kyori.compare(digits, methods=[{"linear": "nca", "margin": 1}], **OPTIONS)
