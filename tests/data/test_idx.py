"""MNIST idx files, real and damaged."""

import gzip
import struct

import numpy as np
import pytest

from kyori.data import make_split, open_source
from kyori.errors import DataError

PICTURES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
LABELS = np.array([0, 1, 0, 1, 2], dtype=np.uint8)


def idx(array, magic=None):
    header = magic or bytes([0, 0, 8, array.ndim])
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, part="train", pictures=PICTURES, labels=LABELS, gz=True):
    folder.mkdir(exist_ok=True)
    suffix, pack = (".gz", gzip.compress) if gz else ("", bytes)
    (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(pictures)))
    (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    return folder


@pytest.mark.parametrize("gz", [True, False])
def test_both_parts(tmp_path, gz):
    write(tmp_path, "train", gz=gz)
    write(tmp_path, "t10k", PICTURES[:2], LABELS[:2], gz=gz)
    source = open_source(tmp_path)
    assert len(source) == 7
    assert source.item_shape == (4, 3, 1)
    assert source.columns["split"].tolist() == ["train"] * 5 + ["test"] * 2
    assert np.array_equal(source.load(np.arange(5))[..., 0], PICTURES)
    assert source.labels.tolist() == [0, 1, 0, 1, 2, 0, 1]
    assert source.part("test").ids.tolist() == [5, 6]


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_one_part_alone(tmp_path, part):
    source = open_source(write(tmp_path, part))
    assert len(source) == 5
    assert len(make_split(source, fractions=(0.8, 0, 0.2)).test) == 1


def test_emnist_names_and_unpacked_twins(tmp_path):
    write(tmp_path, "emnist-letters-train")
    write(tmp_path, "emnist-letters-train", gz=False)
    assert len(open_source(tmp_path)) == 5


def test_two_data_sets_in_one_folder(tmp_path):
    write(tmp_path, "emnist-letters-train")
    write(tmp_path, "emnist-digits-train")
    with pytest.raises(DataError, match="one data set a folder"):
        open_source(tmp_path)


def damage_and_match():
    images = "train-images-idx3-ubyte.gz"
    labels = "train-labels-idx1-ubyte.gz"
    whole = gzip.compress(np.random.default_rng(0).bytes(100_000))
    return {
        "magic": (images, gzip.compress(idx(PICTURES, b"\0\0\x0d\3")), "expected 0x00000803.*got 0x00000d03"),
        "swapped": (images, gzip.compress(idx(LABELS)), "wrong magic number.*got 0x00000801"),
        "no gzip": (images, idx(PICTURES), "damaged gzip file"),
        "truncated gzip": (images, gzip.compress(idx(PICTURES))[:-12], "damaged gzip file"),
        "corrupt gzip": (images, whole[:40] + b"\xff" * 40 + whole[80:], "damaged gzip|wrong magic"),
        "empty": (images, b"", "wrong magic number|damaged"),
        "short header": (images, gzip.compress(idx(PICTURES)[:10]), "ends inside of its header"),
        "short body": (images, gzip.compress(idx(PICTURES)[:-1]), r"promises \(5, 4, 3\) = 60 bytes; got 59"),
        "long body": (images, gzip.compress(idx(PICTURES) + b"x"), "= 60 bytes; got more"),
        "huge header": (images, gzip.compress(b"\0\0\x08\3" + b"\xff" * 12), "promises|cannot be read"),
        "fewer labels": (labels, gzip.compress(idx(LABELS[:4])), "holds 5 pictures, but .* holds 4 labels"),
        "missing": (labels, None, "the labels file of this part is missing"),
    }  # fmt: skip


@pytest.mark.parametrize("name", damage_and_match())
def test_damaged_files(tmp_path, name):
    file, content, message = damage_and_match()[name]
    write(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_parts_of_different_sizes(tmp_path):
    write(tmp_path, "train")
    write(tmp_path, "t10k", PICTURES[:, :2], LABELS)
    with pytest.raises(DataError, match="pictures of one size"):
        open_source(tmp_path)


def test_unknown_part(tmp_path):
    with pytest.raises(DataError, match=r"must be named train-… or t10k-…"):
        open_source(write(tmp_path, "other"))


def test_fashion_mnist(fashion):
    source = open_source(fashion)
    assert len(source) == 70_000
    assert source.item_shape == (28, 28, 1)
    assert np.bincount(source.labels).tolist() == [7000] * 10
    train, validation, test = make_split(source)
    assert (len(train), len(validation), len(test)) == (52_500, 7_500, 10_000)
    assert np.bincount(validation.labels).tolist() == [750] * 10
    assert test.labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert abs(train.load([0]).mean() - 76) < 60
