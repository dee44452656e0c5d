"""Exported models: what comes out of the written file is what comes out of PyTorch."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import kyori
from kyori.data import Preprocess
from kyori.data.kinds import collate
from kyori.errors import ArgumentError, KyoriError
from kyori.exporting import export
from kyori.exporting.formats import onnx_encoder, write
from kyori.exporting.parity import compare, encode_all
from kyori.models import Embedder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exporting") / "run"
    kyori.fit("digits", loss="triplet", backbone="cnn", epochs=1, seed=0, out=folder, report=None)
    return folder


@pytest.fixture(scope="module")
def exported(run):
    return export(run, "digits", part="all", items=1000, seconds=0.01)


def test_onnx_agrees_with_pytorch_on_a_thousand_items(exported):
    parity = exported.parity
    assert exported.path.name == "model.onnx"
    assert parity.items == 1000
    assert parity.max_difference <= 1e-4
    assert parity.same_neighbour == 1.0
    assert parity.before == pytest.approx(parity.after, abs=1e-6)
    assert set(parity.speed) == {"1", "64"}
    assert json.loads(exported.report.read_text())["parity"]["items"] == 1000


def test_onnx_takes_raw_pictures_in_batches_of_any_size(run, exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    [items] = session.get_inputs()
    assert (items.name, items.type, items.shape[1:]) == ("items", "tensor(uint8)", [8, 8, 1])
    digits = kyori.open_source("digits").load(range(300))
    expected = kyori.open_run(run).embedder.encode(digits)
    for size in (1, 2, 7, 300):
        [vectors] = session.run(None, {"items": digits[:size]})
        np.testing.assert_allclose(vectors, expected[:size], atol=1e-5)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["kyori.shape"]) == [8, 8, 1]
    assert json.loads(facts["kyori.class_names"])[:2] == ["0", "1"]


def test_torch_export(run):
    found = export(run, "digits", format="torch", seconds=0.01)
    assert found.parity.max_difference <= 1e-5
    program = torch.export.load(found.path).module()
    digits = kyori.open_source("digits").load(range(5))
    expected = kyori.open_run(run).embedder.encode(digits)
    np.testing.assert_allclose(program(torch.from_numpy(digits)).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("quantize", [None, "float16"])
def test_safetensors(run, tmp_path, quantize):
    found = export(run, "digits", tmp_path / "model", format="safetensors", quantize=quantize, seconds=0.01)
    assert found.parity.max_difference <= (5e-3 if quantize else 1e-6)
    digits = kyori.open_source("digits").load(range(5))
    expected = kyori.open_run(run).embedder.encode(digits)
    np.testing.assert_allclose(
        Embedder.load(tmp_path / "model").encode(digits), expected, atol=5e-3 if quantize else 1e-6
    )
    assert (
        found.bytes < (1.1 if quantize is None else 0.6) * (run / "model.safetensors").stat().st_size + 2000
    )


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "share"), [("float16", 0.6), ("int8", 0.4)])
def test_smaller_numbers(run, exported, quantize, share):
    found = export(run, "digits", quantize=quantize, part="all", seconds=0.01)
    assert found.bytes < share * exported.bytes
    assert found.parity.min_cosine > 0.98
    assert found.parity.max_difference > 0  # it is not the whole model under another name
    assert abs(found.parity.after["map@r"] - found.parity.before["map@r"]) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "backbone", "pooling"), [((32, 32, 3), "resnet18", "gem"), ((5,), "mlp", "avg")]
)
def test_other_networks(tmp_path, shape, backbone, pooling):
    if backbone == "resnet18":
        pytest.importorskip("timm")
    embedder = Embedder.create(backbone, shape, embedding_size=16, pooling=pooling, seed=0).eval()
    rng = np.random.default_rng(0)
    rows = (
        rng.integers(0, 256, (30, *shape)).astype(np.uint8)
        if len(shape) == 3
        else rng.normal(size=(30, *shape)).astype("f")
    )
    expected = embedder.encode(rows)
    for quantize, tolerance in ((None, 1e-4), ("float16", 2e-2)):
        encode = write(embedder, tmp_path / f"{quantize}.onnx", "onnx", quantize).encode
        np.testing.assert_allclose(encode_all(encode, rows), expected, atol=tolerance)


@pytest.mark.parametrize("kind", ["array", "set"])
def test_arrays_and_sets(tmp_path, kind):
    rng = np.random.default_rng(0)
    items = [rng.normal(size=(m if kind == "set" else 9, 5)).astype("f") for m in (2, 7, 1, 4)]
    scale = Preprocess(kind, (5,) if kind == "set" else (9, 5), (1.0,) * 5, (2.0,) * 5)
    embedder = Embedder.create("mlp", scale, embedding_size=4, seed=0).eval()
    encode = write(embedder, tmp_path / "model.onnx", "onnx", None).encode
    rows = scale.prepare(collate(kind, items)).numpy()
    np.testing.assert_allclose(encode_all(encode, rows), embedder.encode(items), atol=1e-5)


def test_a_network_that_cannot_be_traced(tmp_path):
    class Fickle(nn.Module):
        def forward(self, x):
            return x[:, :2] if float(x.sum()) > 0 else x[:, 2:4]

    embedder = Embedder.create(Fickle(), (4,), embedding_size=None)
    with pytest.raises(KyoriError, match=r"cannot take this network.*--format safetensors"):
        write(embedder, tmp_path / "x.pt2", "torch")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "torch", "quantize": "int8"}, "int8 needs the format onnx"),
        ({"format": "tflite"}, "format must be one of onnx, torch, safetensors"),
        ({"quantize": "int4"}, "quantize must be int8 or float16"),
        ({"items": 1}, "items must be at least 2"),
        ({"out": "/no/such/folder/m.onnx"}, "is no folder"),
    ],
)
def test_mistakes(run, options, said):
    with pytest.raises(ArgumentError, match=said):
        export(run, "digits", **options)


def test_parity_counts_what_differs():
    """A model whose vectors are shifted a little and whose neighbours are changed for two items."""
    rows = np.array([[0.0], [1.0], [3.0], [3.5], [9.0], [9.2]], np.float32)

    def original(batch):
        return np.concatenate([batch, np.ones_like(batch)], axis=1)

    def worse(batch):
        found = original(batch)
        found[batch[:, 0] == 1.0, 0] += 1.6
        return found

    found = compare(original, worse, rows, np.array([0, 0, 1, 1, 2, 2]), seconds=0.001)
    assert found.max_difference == pytest.approx(1.6)
    assert found.same_neighbour == pytest.approx(1 - 2 / 6)  # 1 and 3 find each other now
    assert found.before["recall@1"] == 1.0
    assert found.after["recall@1"] == pytest.approx(4 / 6)
    assert found.min_cosine == pytest.approx((2.6 + 1) / np.sqrt(2) / np.sqrt(2.6**2 + 1), abs=1e-6)


def test_ties_are_no_difference():
    rows = np.array([[0.0], [0.0], [0.0], [1.0]], np.float32)

    def noisy(batch):
        return batch + np.arange(len(batch), dtype=np.float32)[::-1, None] * 1e-9

    found = compare(lambda batch: batch.copy(), noisy, rows, None, seconds=0.001)
    assert found.same_neighbour == 1.0
    assert found.before == {}


def test_threads_are_said(run, exported):
    assert exported.parity.threads == torch.get_num_threads()
    rows = kyori.open_source("digits").load(range(3))
    np.testing.assert_allclose(
        onnx_encoder(exported.path, 1)(rows), kyori.open_run(run).embedder.encode(rows), atol=1e-5
    )
