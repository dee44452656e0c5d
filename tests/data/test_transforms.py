"""Preprocessing and augmentation."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from kyori.data import Augment, Preprocess, open_source
from kyori.errors import ArgumentError, DataError, FileFormatError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (50, 6, 7, 3), dtype=np.uint8)
LABELS = np.arange(50) % 2


class TestPreprocess:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_pictures_get_mean_zero_and_deviation_one(self, channels):
        source = open_source((PICTURES[..., :channels], LABELS))
        x = Preprocess.fit(source)(source.load(np.arange(50)))
        assert x.shape == (50, channels, 6, 7)
        assert x.is_contiguous()
        assert torch.allclose(x.mean(dim=(0, 2, 3)), torch.zeros(channels), atol=1e-5)
        assert torch.allclose(x.std(dim=(0, 2, 3), correction=0), torch.ones(channels), atol=1e-5)

    def test_the_statistics_are_exact(self):
        pre = Preprocess.fit(open_source((PICTURES, LABELS)))
        scaled = PICTURES.astype(np.float64) / 255
        assert np.allclose(pre.mean, scaled.mean(axis=(0, 1, 2)), atol=1e-12)
        assert np.allclose(pre.std, scaled.std(axis=(0, 1, 2)), atol=1e-12)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_statistics_of_many_pixels_are_exact(self, channels):
        """Also where they lie close together, far from 0, and are added up in several parts."""
        pictures = RNG.integers(250, 253, (70, 101, 103, channels), dtype=np.uint8)
        pre = Preprocess.fit(open_source((pictures, np.arange(70) % 2)))
        counts = [np.bincount(pictures[..., c].ravel(), minlength=256) for c in range(channels)]
        for mean, std, count in zip(pre.mean, pre.std, counts, strict=True):
            values = np.repeat(np.arange(256), count)
            assert mean == pytest.approx(values.mean() / 255, rel=1e-14)
            assert std == pytest.approx(values.std() / 255, rel=1e-12)

    def test_what_is_given_stays_as_it_is(self):
        pre = Preprocess("vector", (2,), (1.0, 2.0), (3.0, 4.0))
        for given in (torch.tensor([[1.0, 6.0]]), torch.tensor([[1.0, 6.0]], dtype=torch.float64)):
            before = given.clone()
            assert torch.equal(pre(given), torch.tensor([[0.0, 1.0]]))
            assert torch.equal(given, before)

    def test_vectors_with_a_large_offset_and_a_constant_feature(self):
        vectors = RNG.normal(size=(9000, 3)).astype(np.float32)
        vectors[:, 1] += 1000
        vectors[:, 2] = 0.1
        source = open_source((vectors, np.arange(9000) % 2))
        pre = Preprocess.fit(source)
        assert np.allclose(pre.std[:2], vectors[:, :2].astype(np.float64).std(axis=0), rtol=1e-6)
        assert pre.std[2] == 1.0
        x = pre(source.load(np.arange(9000)))
        assert torch.allclose(x.mean(dim=0), torch.zeros(3), atol=1e-3)
        assert torch.all(x[:, 2].abs() < 1e-6)

    def test_rounding_of_a_constant_is_not_blown_up(self):
        feature = np.full(100, 1000, dtype=np.float32)
        feature[::2] = np.nextafter(feature[0], np.float32(0))
        pre = Preprocess.fit(open_source((feature[:, None], np.arange(100) % 2)))
        assert pre.std == (1.0,)

    def test_floats_in_the_unit_interval_are_pictures_too(self):
        pre = Preprocess.fit(open_source((PICTURES, LABELS)))
        assert torch.allclose(pre(PICTURES), pre((PICTURES / 255).astype(np.float32)), atol=1e-5)
        assert torch.equal(pre(PICTURES), pre(torch.from_numpy(PICTURES), device="cpu"))

    def test_constant_pictures(self):
        source = open_source((np.full((4, 3, 3), 7, dtype=np.uint8), [0, 1, 0, 1]))
        pre = Preprocess.fit(source)
        assert pre.std == (1.0,)
        assert torch.isfinite(pre(source.load([0]))).all()

    def test_json_round_trip(self):
        pre = Preprocess.fit(open_source((PICTURES, LABELS)))
        again = Preprocess.from_dict(json.loads(json.dumps(pre.to_dict())))
        assert again == pre
        assert (again.size, again.channels) == ((6, 7), 3)
        assert Preprocess.fit(open_source(([[1.0, 2.0], [3.0, 5.0]], [0, 1]))).size is None

    def test_a_streaming_source_is_sampled(self, photos):
        memory, stream = open_source(photos), open_source(photos, memory_limit=0)
        assert Preprocess.fit(memory) == Preprocess.fit(stream)

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "sound"},
            {"shape": [3]},
            {"mean": [0.0]},
            {"std": [1.0, 0.0, 1.0]},
            {"std": None},
            {"more": 1},
        ],
    )
    def test_damaged_dictionaries(self, change):
        values = Preprocess.fit(open_source((PICTURES, LABELS))).to_dict()
        with pytest.raises(FileFormatError, match="preprocessing"):
            Preprocess.from_dict({**values, **change})

    def test_errors(self):
        source = open_source((PICTURES, LABELS))
        pre = Preprocess.fit(source)
        with pytest.raises(ArgumentError, match=r"items must have the shape \(6, 7, 3\).*got \(6, 7, 1\)"):
            pre(PICTURES[..., :1])
        with pytest.raises(DataError, match="need at least 1 item"):
            Preprocess.fit(source.take([]))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.rand(64, 2, 9, 11, generator=generator())
EVERYTHING = Augment(flip=True, shift=2, rotate=20, scale=0.2, noise=0.1, erase=0.5)


class TestAugment:
    def test_nothing_is_the_default(self):
        assert Augment()(X, generator()) is X
        assert not Augment()
        assert EVERYTHING

    def test_same_generator_same_result(self):
        assert torch.equal(EVERYTHING(X, generator(1)), EVERYTHING(X, generator(1)))
        assert not torch.equal(EVERYTHING(X, generator(1)), EVERYTHING(X, generator(2)))

    @pytest.mark.parametrize("name", ["flip", "shift", "rotate", "scale", "noise", "erase"])
    def test_each_changes_something_and_leaves_the_input_alone(self, name):
        before = X.clone()
        changed = Augment(**{name: True if name == "flip" else 0.5})(X, generator())
        assert changed.shape == X.shape
        assert changed.dtype == X.dtype
        assert not torch.allclose(changed, X)
        assert torch.equal(X, before)

    def test_flip_mirrors_about_half(self):
        changed = Augment(flip=True)(X, generator())
        same = torch.tensor([torch.allclose(a, b, atol=1e-5) for a, b in zip(changed, X, strict=True)])
        mirrored = torch.tensor(
            [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(changed, X, strict=True)]
        )
        assert torch.all(same ^ mirrored)
        assert 16 < mirrored.sum() < 48

    def test_shift_moves_by_at_most_so_many_pixels_and_repeats_the_edge(self):
        ramp = torch.arange(5.0, 16.0).expand(64, 1, 9, 11)
        moved = Augment(shift=3)(ramp, generator()) - ramp
        centre = moved[:, 0, 4, 5]
        assert centre.abs().max() <= 3
        assert centre.abs().max() > 2
        assert torch.all(moved + ramp <= 15 + 1e-4)
        assert torch.all(moved + ramp >= 5 - 1e-4)

    @pytest.mark.parametrize("shape", [(21, 21), (21, 41), (41, 21)])
    def test_rotation_keeps_circles_round(self, shape):
        """In a picture that is not square, too: distances from the centre stay."""
        height, width = shape
        y, x = torch.meshgrid(
            torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij"
        )
        radius = (x**2 + y**2).float().sqrt()
        picture = (-((radius - 6) ** 2) / 4).exp().expand(16, 1, height, width)
        turned = Augment(rotate=90)(picture, generator())
        assert (turned - picture).abs().max() < 0.1

    def test_rotation_turns(self):
        dot = torch.zeros(200, 1, 21, 21)
        dot[:, :, 10, 18] = 1
        turned = Augment(rotate=30)(pad(dot, (2, 2, 2, 2)), generator())
        places = turned.flatten(1).argmax(1)
        angle = torch.rad2deg(torch.atan2((places // 25 - 12).float(), (places % 25 - 12).float()))
        assert angle.abs().max() <= 36
        assert angle.abs().max() > 20
        assert angle.min() < 0 < angle.max()

    def test_scale_is_between_its_bounds(self):
        y, x = torch.meshgrid(torch.arange(41) - 20, torch.arange(41) - 20, indexing="ij")
        disc = ((x**2 + y**2) <= 100).float().expand(200, 1, 41, 41)
        area = Augment(scale=0.25)(disc, generator()).sum(dim=(1, 2, 3)) / disc[0].sum()
        factor = area.sqrt()
        assert 0.78 < factor.min() < 0.86
        assert 1.18 < factor.max() < 1.27
        assert abs(factor.log().mean()) < 0.05

    def test_erase_sets_rectangles_to_the_mean(self):
        ones = torch.ones(400, 2, 20, 30)
        changed = Augment(erase=0.5)(ones, generator())
        hit = (changed == 0).any(dim=(1, 2, 3))
        assert 150 < hit.sum() < 250
        for item in changed[hit]:
            hole = item[0] == 0
            assert torch.equal(hole, item[1] == 0)
            rows, columns = hole.any(1).sum(), hole.any(0).sum()
            assert hole.sum() == rows * columns, "a rectangle"
            assert 0.005 < hole.float().mean() < 0.25

    def test_noise_has_the_deviation_asked_for(self):
        vectors = torch.zeros(100, 100)
        assert abs(Augment(noise=0.3)(vectors, generator()).std() - 0.3) < 0.01

    def test_errors(self):
        for name, value in (
            ("shift", -1),
            ("rotate", 181),
            ("erase", 1.5),
            ("noise", float("nan")),
            ("scale", -0.1),
        ):
            with pytest.raises(ArgumentError, match=f"augment {name} must be between 0 and"):
                Augment(**{name: value})
        for options in ({"flip": True}, {"erase": 0.1}, {"shift": 1}):
            with pytest.raises(ArgumentError, match="need pictures"):
                Augment(**options)(torch.zeros(3, 4), generator())
