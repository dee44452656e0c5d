"""Networks for sets of vectors, arrays as inputs, and models of both from file to vectors."""

import numpy as np
import pytest
import torch
from torch import nn

import kyori
from kyori.data import Preprocess, open_source
from kyori.data.kinds import pad
from kyori.errors import ArgumentError, ConfigError
from kyori.models import SET_POOLINGS, DeepSets, Embedder

LENGTHS = (2, 5, 1, 7, 4, 2, 3)


def sets(width=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(m, width)).astype(np.float32) for m in LENGTHS]


def build(pooling, **options):
    torch.manual_seed(0)
    return DeepSets((2, 3), pooling=pooling, **options).eval()


@pytest.mark.parametrize("pooling", SET_POOLINGS)
class TestDeepSets:
    def test_neither_order_nor_padding_counts(self, pooling):
        network, rng = build(pooling), np.random.default_rng(1)
        whole = network(pad(sets()))
        shuffled = network(pad([rng.permutation(one) for one in sets()]))
        alone = torch.cat([network(pad([one])) for one in sets()])
        torch.testing.assert_close(shuffled, whole)
        torch.testing.assert_close(alone, whole)
        assert (whole[0] - whole[1]).abs().max() > 1e-3

    def test_against_a_slow_one(self, pooling):
        network = build(pooling, dropout=0.0)
        for one, found in zip(sets(), network(pad(sets())), strict=True):
            states = [network.each(torch.from_numpy(vector)) for vector in one]
            if pooling == "attention":
                weights = torch.cat([network.score(state) for state in states]).exp()
                pooled = sum(w * s for w, s in zip(weights / weights.sum(), states, strict=True))
            elif pooling == "max":
                pooled = torch.stack(states).max(0).values
            else:
                pooled = sum(states) / (len(states) if pooling == "mean" else 1)
            torch.testing.assert_close(network.whole(pooled), found, atol=1e-5, rtol=1e-5)

    def test_gradients_are_numbers(self, pooling):
        network = build(pooling).train()
        network(pad(sets())).square().sum().backward()
        for parameter in network.parameters():
            assert parameter.grad.isfinite().all()
            assert parameter.grad.abs().max() > 0 or parameter.ndim == 1


def test_the_sum_knows_how_many_there_are():
    one = np.ones((1, 3), np.float32)
    for pooling, same in (("mean", True), ("max", True), ("attention", True), ("sum", False)):
        a, b = build(pooling)(pad([one, np.repeat(one, 5, 0)]))
        assert torch.allclose(a, b, atol=1e-6) == same


def test_no_layers_leave_the_mean():
    features = DeepSets((2, 3), widths=(), set_widths=())(pad(sets()))
    np.testing.assert_allclose(features, np.stack([one.mean(0) for one in sets()]), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "men"}, "unknown pooling of sets 'men'; did you mean 'mean'"),
        ({"widths": (0,)}, "widths must be whole numbers ≥ 1"),
        ({"set_widths": (True,)}, "set_widths must be"),
        ({"dropout": 1.0}, "dropout must be"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ArgumentError, match=message):
        DeepSets((2, 3), **options)


def labelled(n=80, classes=4):
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    return [
        (rng.normal(size=(rng.integers(1, 8), 3)) + 3 * np.eye(classes, 3)[c]).astype(np.float32) for c in y
    ], y


def test_a_run_on_sets_from_training_to_encoding(tmp_path):
    X, y = labelled()
    options = {
        "backbone_options": {"pooling": "attention"},
        "loss": "triplet",
        "epochs": 8,
        "batch_size": 32,
        "report": None,
    }
    run = kyori.fit((X, y), out=tmp_path / "run", **options)
    assert run.results["recall@1"].value > 0.6  # four classes: by chance 0.25
    again = Embedder.load(tmp_path / "run")
    assert again.preprocess == run.embedder.preprocess
    whole = run.embedder.encode(X)
    np.testing.assert_array_equal(again.encode(open_source((X, y))), whole)
    np.testing.assert_allclose(again.encode([torch.as_tensor(one) for one in X[:9]]), whole[:9], atol=1e-6)
    np.testing.assert_allclose(again.encode(X, batch_size=3), whole, atol=1e-6)
    np.testing.assert_allclose(again.encode([one[::-1] for one in X]), whole, atol=1e-5)
    assert kyori.evaluate(run.table)["recall@1"].value == run.results["recall@1"].value
    continued = kyori.fit((X, y), init=str(tmp_path / "run"), **{**options, "epochs": 1})
    assert continued.embedder.preprocess == again.preprocess
    board = kyori.compare((X, y), methods=["softmax"], seeds=1, epochs=1)
    assert not board.failures
    with pytest.raises(kyori.errors.TrainingError, match="sets have no vectors of their own"):
        kyori.compare((X, y), methods=["raw"], seeds=1)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.ones((2, 4)), r"set of at least one vector of 3 finite numbers, \(m, 3\); got shape \(2, 4\)"),
        (np.ones((0, 3)), r"got shape \(0, 3\)"),
        (np.full((1, 3), np.nan), "with NaN or infinity"),
        ("a.npy", "got a path"),
        ([["a"]], "got list"),
    ],
)
def test_what_a_model_of_sets_does_not_take(item, message):
    embedder = Embedder.create("mlp", Preprocess.plain("set", (3,)))
    with pytest.raises(ArgumentError, match=f"item 1 must be .*{message}"):
        embedder.encode([np.ones((2, 3)), item])
    with pytest.raises(ArgumentError, match="takes sets; got a source of images"):
        embedder.encode(open_source("digits"))


class Slots(nn.Module):
    """A network of the caller's own: the mean of the vectors that are there, or of all."""

    def __init__(self, careful=True):
        super().__init__()
        self.layer, self.careful = nn.Linear(3, 4), careful

    def forward(self, x):
        return self.layer(x.nanmean(1) if self.careful else x.mean(1))


def test_a_module_of_the_callers_own_must_leave_padding_out():
    X, y = labelled(80)
    run = kyori.fit((X, y), backbone=Slots(), epochs=1)
    assert np.isfinite(run.embedder.encode(X)).all()
    with pytest.raises(ArgumentError, match="Slots must leave out the padding of sets"):
        kyori.fit((X, y), backbone=Slots(careful=False), epochs=1)
    with pytest.raises(ArgumentError, match="backbone 'cnn' takes no sets of vectors; known: mlp"):
        kyori.fit((X, y), backbone="cnn", epochs=1)


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(5, 8, 3)

    def forward(self, x):
        return self.layer(x.transpose(1, 2)).relu().amax(2)


@pytest.mark.parametrize("backbone", ["mlp", "linear", "own"])
def test_a_run_on_arrays(backbone, tmp_path):
    torch.manual_seed(0)
    backbone = Convolved() if backbone == "own" else backbone
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = (rng.normal(size=(60, 9, 5)) + 4 * np.eye(3, 5)[y][:, None]).astype(np.float32)
    run = kyori.fit(
        (X, y), items="array", backbone=backbone, epochs=4, batch_size=16, report=None, out=tmp_path / "run"
    )
    assert run.results["recall@1"].value > 0.6
    again = Embedder.load(
        tmp_path / "run", **({} if isinstance(backbone, str) else {"backbone": Convolved()})
    )
    whole = run.embedder.encode(X)
    np.testing.assert_allclose(again.encode(list(X)), whole, atol=1e-6)
    np.testing.assert_allclose(again.encode(torch.from_numpy(X)), whole, atol=1e-6)
    with pytest.raises(ArgumentError, match=r"item 0 must be a array of shape \(9, 5\); got \(5, 9\)"):
        again.encode([X[0].T])


def test_stacks_of_channels_go_through_networks_for_pictures(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, 13, 12, 12)), np.arange(24) % 3
    options = {"backbone": "cnn", "epochs": 1, "batch_size": 12, "split": "none", "report": None}
    run = kyori.fit((X, y), items="array", out=tmp_path / "run", **options)
    assert run.embedder.input_shape == (13, 12, 12)
    assert run.embedder.preprocess.channels == 13
    continued = kyori.fit((X, y), init=str(tmp_path / "run"), **options)
    assert continued.config.data.items == "array"
    with pytest.raises(ConfigError, match=r"data\.items contradicts model\.init: .* takes arrays; got 'set'"):
        kyori.fit((X, y), init=str(tmp_path / "run"), items="set", **options)
