"""The embedder: any items in, vectors out; saved and loaded without pickle, bit for bit."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kyori.data import Preprocess, open_source
from kyori.errors import ArgumentError, FileFormatError, ItemError
from kyori.models import POOLINGS, Embedder, GeM, Head


@pytest.fixture(scope="module")
def digits():
    return open_source("digits")


@pytest.fixture
def embedder(digits):
    return Embedder.create("mlp", digits, embedding_size=16, seed=3)


@pytest.fixture
def pictures(digits, tmp_path):
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.png")
        digits.read(i).save(paths[-1])
    return paths


class TestEncode:
    def test_all_forms_of_the_same_items_agree(self, digits, embedder, pictures):
        raw = digits.load(range(5))
        expected = embedder.encode(digits.take(range(5)))
        assert expected.shape == (5, 16)
        assert expected.dtype == np.float32
        forms = {
            "array": raw,
            "grey": raw[..., 0],
            "tensor": torch.from_numpy(raw),
            "paths": pictures,
            "strings": [str(path) for path in pictures],
            "PIL": [digits.read(i) for i in range(5)],
            "arrays": list(raw[..., 0]),
            "mixed": [pictures[0], digits.read(1), raw[2], raw[3, ..., 0], str(pictures[4])],
        }
        for name, items in forms.items():
            np.testing.assert_array_equal(embedder.encode(items), expected, err_msg=name)

    def test_order_and_batch_size_do_not_matter(self, digits, embedder):
        part = digits.take(range(100))
        whole = embedder.encode(part, batch_size=100)
        np.testing.assert_allclose(embedder.encode(part, batch_size=7), whole, atol=1e-6)
        order = np.random.default_rng(0).permutation(100)
        np.testing.assert_allclose(embedder.encode(part.take(order)), whole[order], atol=1e-6)

    @pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 8, 8, 1), np.uint8)])
    def test_no_items(self, embedder, nothing):
        assert embedder.encode(nothing).shape == (0, 16)

    def test_no_items_of_a_source(self, digits, embedder):
        assert embedder.encode(digits.take([])).shape == (0, 16)

    def test_mode_and_gradients_are_left_alone(self, digits, embedder):
        embedder.train()
        embedder.encode(digits.take(range(3)))
        assert embedder.training
        assert embedder.eval().encode(digits.take(range(3))) is not None
        assert not embedder.training

    def test_dropout_is_off(self, digits, embedder):
        embedder.train()
        part = digits.take(range(10))
        np.testing.assert_array_equal(embedder.encode(part), embedder.encode(part))

    def test_other_sizes_and_colours_are_converted(self, digits, embedder):
        large = Image.fromarray(np.full((30, 20, 3), 255, np.uint8))
        white = np.full((1, 8, 8), 255, np.uint8)
        np.testing.assert_allclose(embedder.encode([large]), embedder.encode(white), atol=1e-5)
        colour = Embedder.create("mlp", (8, 8, 3), embedding_size=4)
        assert colour.encode(digits.take([0])).shape == (1, 4)

    @pytest.mark.parametrize("items", ["a.png", 3, None])
    def test_not_a_list(self, embedder, items):
        with pytest.raises(ArgumentError, match="items must be a Source, a list"):
            embedder.encode(items)

    def test_wrong_items_are_named(self, embedder, tmp_path):
        with pytest.raises(ArgumentError, match=r"item 1 must be a path, a PIL image, or an array .* got"):
            embedder.encode([np.zeros((8, 8), np.uint8), np.zeros(3)])
        with pytest.raises(ItemError, match=r"none\.png"):
            embedder.encode([tmp_path / "none.png"])
        with pytest.raises(ArgumentError, match="batch_size must be ≥ 1; got 0"):
            embedder.encode([], batch_size=0)

    @pytest.mark.parametrize("normalize", [True, False])
    def test_mirrored(self, digits, normalize):
        embedder = Embedder.create("cnn", digits, embedding_size=4, normalize=normalize).eval()
        raw = digits.load(range(5))
        both = embedder.encode(raw, mirrored=True)
        np.testing.assert_allclose(embedder.encode(raw[:, :, ::-1], mirrored=True), both, atol=1e-6)
        assert np.abs(embedder.encode(raw) - both).max() > 1e-3
        with torch.no_grad():
            mean = sum(embedder.features(embedder.preprocess(x.copy())) for x in (raw, raw[:, :, ::-1])) / 2
        expected = nn.functional.normalize(mean) if normalize else mean
        np.testing.assert_allclose(both, expected, atol=1e-6)
        np.testing.assert_allclose(
            embedder.encode_with_norms(raw, mirrored=True)[1], mean.norm(dim=1), rtol=1e-5
        )
        with pytest.raises(ArgumentError, match="mirrored=True needs pictures; this model takes vectors"):
            Embedder.create("mlp", (4,)).encode(np.zeros((2, 4)), mirrored=True)

    @pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
    def test_resize_is_part_of_the_model(self, tmp_path, resize):
        rng = np.random.default_rng(0)
        for number in range(4):
            path = tmp_path / f"{number % 2}" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 40 + number), dtype=np.uint8)).save(path)
        source = open_source(tmp_path, size=12, resize=resize)
        Embedder.create("mlp", source, embedding_size=4).save(tmp_path / "model")
        embedder = Embedder.load(tmp_path / "model")
        assert embedder.preprocess.resize == resize
        expected = embedder.encode(source)
        order = [str(one) for one in source.ids]
        np.testing.assert_allclose(embedder.encode([tmp_path / one for one in order]), expected, atol=1e-6)
        with Image.open(tmp_path / order[0]) as image:
            np.testing.assert_allclose(
                embedder.encode([image, np.asarray(image)]), expected[[0, 0]], atol=1e-6
            )

    def test_vectors(self):
        embedder = Embedder.create("mlp", (4,), embedding_size=2)
        x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        np.testing.assert_array_equal(embedder.encode(x), embedder.encode(list(x)))
        np.testing.assert_array_equal(embedder.encode(x), embedder.encode(torch.from_numpy(x)))
        with pytest.raises(ArgumentError, match=r"item 0 must be a vector of shape \(4,\); got \(5,\)"):
            embedder.encode([np.zeros(5)])
        with pytest.raises(ArgumentError, match="got a path"):
            embedder.encode(["a.png"])
        with pytest.raises(ArgumentError, match=r"shape \(4,\)"):
            embedder.encode(np.zeros((3, 5), np.float32))

    def test_a_source_of_another_kind(self, digits):
        with pytest.raises(ArgumentError, match="takes vectors; got a source of images"):
            Embedder.create("mlp", (4,)).encode(digits)


class TestCreate:
    @pytest.mark.parametrize("normalize", [True, False])
    def test_normalisation(self, digits, normalize):
        embedder = Embedder.create("mlp", digits, embedding_size=8, normalize=normalize)
        lengths = np.linalg.norm(embedder.encode(digits.take(range(20))), axis=1)
        assert np.allclose(lengths, 1, atol=1e-6) == normalize

    def test_features_are_what_is_normalised(self, digits, embedder):
        embedder.eval()
        x = embedder.preprocess(digits.load(range(4)))
        torch.testing.assert_close(embedder(x), nn.functional.normalize(embedder.features(x), dim=1))

    def test_identity_projection(self, digits):
        embedder = Embedder.create("cnn", digits, embedding_size=None)
        assert embedder.embedding_size == 128
        assert isinstance(embedder.head.projection, nn.Identity)

    def test_the_seed_alone_decides_and_the_callers_stream_is_untouched(self, digits):
        before = torch.get_rng_state()
        one = Embedder.create("mlp", digits, seed=1).state_dict()
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(7)
        again = Embedder.create("mlp", digits, seed=1).state_dict()
        other = Embedder.create("mlp", digits, seed=2).state_dict()
        assert all(torch.equal(one[name], again[name]) for name in one)
        assert not torch.equal(one["head.projection.weight"], other["head.projection.weight"])

    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_a_module_of_ones_own_that_gives_maps(self, digits, pooling):
        embedder = Embedder.create(nn.Conv2d(1, 6, 3), digits, embedding_size=4, pooling=pooling)
        assert embedder.encode(digits.take(range(3))).shape == (3, 4)

    def test_parameter_count(self):
        assert Embedder.create(nn.Linear(4, 3), (4,), embedding_size=2).parameter_count == 15 + 8

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pooling": "averge"}, "unknown pooling 'averge'; did you mean 'avg'"),
            ({"embedding_size": 0}, "embedding_size must be ≥ 1, or None"),
            ({"options": {"widths": [2]}}, "belong to backbones by name"),
        ],
    )
    def test_wrong_options(self, options, message):
        with pytest.raises(ArgumentError, match=message):
            Embedder.create(nn.Linear(4, 3), (4,), **options)

    def test_wrong_inputs(self):
        with pytest.raises(ArgumentError, match=r"the shape \(h, w, c\) or \(f,\) of one item; got \(3, 3\)"):
            Embedder.create("mlp", (3, 3))


class TestHead:
    def test_gem_lies_between_average_and_maximum(self):
        maps = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        pooled = GeM()(maps)
        assert (pooled > maps.mean(dim=(2, 3))).all()
        assert (pooled < maps.amax(dim=(2, 3))).all()
        torch.testing.assert_close(GeM(p=1.0)(maps), maps.mean(dim=(2, 3)))

    def test_gem_has_a_gradient_at_zero(self):
        maps = torch.zeros(1, 1, 2, 2, requires_grad=True)
        GeM()(maps).sum().backward()
        assert torch.isfinite(maps.grad).all()

    def test_flat_features_are_not_pooled(self):
        assert isinstance(Head(4, 2, pooling="gem").pooling, nn.Identity)


class Tied(nn.Module):
    """Two names for one weight: safetensors alone refuses that."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


class TestSaveAndLoad:
    @pytest.mark.parametrize("name", ["mlp", "cnn"])
    def test_bit_for_bit(self, digits, tmp_path, name):
        embedder = Embedder.create(
            name, digits, embedding_size=8, normalize=False, class_names=["零", "b"], options={"dropout": 0.2}
        )
        embedder.save(tmp_path / "run")
        loaded = Embedder.load(tmp_path / "run")
        np.testing.assert_array_equal(loaded.encode(digits), embedder.encode(digits))
        assert loaded.preprocess == embedder.preprocess
        assert loaded.class_names == ("零", "b")
        assert not loaded.training
        assert (loaded.normalize, loaded.embedding_size) == (False, 8)
        loaded.save(tmp_path / "again")
        for file in ("model.safetensors", "model.json"):
            assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()

    def test_a_module_of_ones_own(self, tmp_path):
        embedder = Embedder.create(Tied(), (4,), embedding_size=2)
        embedder.save(tmp_path)
        with pytest.raises(
            ArgumentError, match=r"backbone of your own, Tied.*Embedder.load\(folder, backbone="
        ):
            Embedder.load(tmp_path)
        x = np.ones((2, 4), np.float32)
        np.testing.assert_array_equal(Embedder.load(tmp_path, backbone=Tied()).encode(x), embedder.encode(x))
        with pytest.raises(ArgumentError, match="do not fit this backbone"):
            Embedder.load(tmp_path, backbone=nn.Linear(4, 3))

    def test_a_superfluous_backbone(self, embedder, tmp_path):
        embedder.save(tmp_path)
        with pytest.raises(ArgumentError, match="leave backbone out"):
            Embedder.load(tmp_path, backbone=nn.Linear(4, 3))

    def test_state_that_only_pickle_could_keep(self, tmp_path):
        class Odd(nn.Linear):
            def get_extra_state(self):
                return {"a": 1}

            def set_extra_state(self, state):
                pass

        with pytest.raises(ArgumentError, match="must be a tensor to be saved without pickle; got dict"):
            Embedder.create(Odd(4, 3), (4,)).save(tmp_path)

    def test_a_hostile_file_runs_nothing(self, embedder, tmp_path):
        class Hostile:
            def __reduce__(self):
                return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",))

        embedder.save(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Hostile()))
        with pytest.raises(FileFormatError, match="damaged or no safetensors file"):
            Embedder.load(tmp_path)
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
    def test_a_truncated_file(self, embedder, tmp_path, keep):
        embedder.save(tmp_path)
        path = tmp_path / "model.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
        with pytest.raises(FileFormatError, match=r"model\.safetensors is damaged"):
            Embedder.load(tmp_path)

    def test_one_altered_bit(self, embedder, tmp_path):
        embedder.save(tmp_path)
        path = tmp_path / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="its tensors have checksum"):
            Embedder.load(tmp_path)

    def test_files_of_two_saves(self, digits, tmp_path):
        for seed in (0, 1):
            Embedder.create("mlp", digits, seed=seed).save(tmp_path / str(seed))
        (tmp_path / "0" / "model.json").write_bytes((tmp_path / "1" / "model.json").read_bytes())
        with pytest.raises(FileFormatError, match="not from the same save"):
            Embedder.load(tmp_path / "0")

    def test_weights_of_somebody_else(self, embedder, tmp_path):
        from safetensors.torch import save_file

        embedder.save(tmp_path)
        save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
        with pytest.raises(FileFormatError, match="was not written by Kyori"):
            Embedder.load(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": "other"}, "does not describe a Kyori model"),
            ({"version": 99}, r"has version 99 of the format, and this Kyori reads 1"),
            ({"head": None}, "is damaged"),
            ({"preprocess": {"kind": "image"}}, "preprocessing must have the keys"),
        ],
    )
    def test_a_description_that_is_wrong(self, embedder, tmp_path, change, message):
        embedder.save(tmp_path)
        path = tmp_path / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(FileFormatError, match=message):
            Embedder.load(tmp_path)

    def test_a_description_cut_short(self, embedder, tmp_path):
        embedder.save(tmp_path)
        path = tmp_path / "model.json"
        path.write_text(path.read_text()[:40])
        with pytest.raises(FileFormatError, match=r"model\.json is damaged"):
            Embedder.load(tmp_path)

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(
            FileFormatError, match=r"model\.json does not exist; expected a folder that holds"
        ):
            Embedder.load(tmp_path)


def test_preprocess_is_fitted_to_the_source(digits, embedder):
    assert embedder.preprocess == Preprocess.fit(digits)
    assert embedder.input_shape == (1, 8, 8)
