"""Augmentation beyond moves: crops, colours, blur and policies, each item its own, drawn from the generator alone."""

import pytest
import torch

from kyori.data import Augment, Preprocess
from kyori.errors import ArgumentError

SCALE = Preprocess("image", (16, 20, 3), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
GREY = Preprocess("image", (16, 20, 1), (0.4,), (0.2,))
EVERYTHING = [
    Augment(crop=0.3), Augment(crop=0.3, flip=True, rotate=20), Augment(jitter=0.5), Augment(hue=0.3),
    Augment(grey=0.5), Augment(blur=1.0), Augment(policy="rand"), Augment(policy="trivial"), Augment(policy="augmix"),
]  # fmt: skip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(scale=SCALE, b=6, height=16, width=20):
    pixels = torch.rand(b, scale.channels, height, width, generator=generator(9))
    return normal(pixels, scale)


def normal(pixels, scale=SCALE):
    mean, std = (torch.tensor(v)[:, None, None] for v in (scale.mean, scale.std))
    return (pixels - mean) / std


def pixels_of(x, scale=SCALE):
    mean, std = (torch.tensor(v)[:, None, None] for v in (scale.mean, scale.std))
    return x * std + mean


@pytest.mark.parametrize("augment", EVERYTHING, ids=range(len(EVERYTHING)))
@pytest.mark.parametrize("scale", [SCALE, GREY], ids=["colour", "grey"])
def test_draws_come_from_the_generator_and_differ_between_items(augment, scale):
    if augment.policy != "none":
        pytest.importorskip("torchvision")
    big = (
        torch.nn.functional.interpolate(batch(scale, b=1), scale_factor=16).expand(6, -1, -1, -1).contiguous()
    )
    state = torch.get_rng_state()
    first = augment(big, generator(1), scale)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)  # the global state plays no part
    assert torch.equal(first, augment(big, generator(1), scale))
    assert not torch.equal(first, augment(big, generator(2), scale)) or scale is GREY
    assert first.shape == big.shape
    assert torch.isfinite(first).all()
    if scale is SCALE:
        assert len({picture.sum().item() for picture in first}) > 1


def test_a_crop_is_a_part_enlarged():
    ramp = torch.linspace(-1, 1, 64).expand(50, 1, 64, 64)  # grows to the right
    cropped = Augment(crop=0.2)(ramp, generator())
    slopes = (cropped[:, 0, 32, 40] - cropped[:, 0, 32, 20]) / (ramp[0, 0, 32, 40] - ramp[0, 0, 32, 20])
    assert slopes.min() > 0.35  # a width of √(0.2 × 3/4) at least
    assert slopes.max() <= 1.001
    assert slopes.std() > 0.05


def test_jitter_keeps_pixels_and_dims_them():
    x = Augment(jitter=0.4)(batch(b=200), generator(), SCALE)
    pixels = pixels_of(x)
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5
    means = pixels.mean(dim=(1, 2, 3))
    assert means.min() < 0.36 < 0.6 < means.max()


def test_hue_keeps_luminance():
    grey_ish = normal(0.5 + 0.05 * torch.randn(8, 3, 16, 20, generator=generator()).clamp(-2, 2))
    turned = Augment(hue=0.5)(grey_ish, generator(), SCALE)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close(
        (pixels_of(turned) * weights).sum(1), (pixels_of(grey_ish) * weights).sum(1), atol=2e-3, rtol=0
    )
    assert (turned - grey_ish).abs().mean() > 0.05


def test_grey_has_equal_channels():
    pixels = pixels_of(Augment(grey=1.0)(batch(), generator(), SCALE))
    torch.testing.assert_close(pixels[:, 0], pixels[:, 1])
    torch.testing.assert_close(pixels[:, 0], pixels[:, 2])
    share = pixels_of(Augment(grey=0.25)(batch(b=400), generator(), SCALE))
    plain = ((share[:, 0] - share[:, 1]).abs().amax(dim=(1, 2)) < 1e-5).float().mean()
    assert 0.18 < plain < 0.32


def test_blur_smooths_some_and_keeps_the_mean():
    x = torch.randn(40, 1, 224, 224, generator=generator())
    blurred = Augment(blur=0.5)(x, generator())
    touched = (blurred != x).flatten(1).any(1)
    assert 10 < touched.sum() < 30
    assert blurred[touched].std() < 0.6
    torch.testing.assert_close(blurred.mean(), x.mean(), atol=1e-3, rtol=0)
    flat = torch.full((4, 3, 224, 224), 0.7)
    torch.testing.assert_close(Augment(blur=1.0)(flat, generator()), flat)


def test_policies_are_those_of_torchvision():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    whole = torch.randint(0, 256, (3, 3, 16, 20), generator=generator(), dtype=torch.uint8)
    seeds = torch.randint(2**31, (3,), generator=generator(5)).tolist()
    expected = []
    with torch.random.fork_rng():
        for picture, seed in zip(whole, seeds, strict=True):
            torch.manual_seed(seed)
            expected.append(v2.RandAugment()(picture))
    found = pixels_of(Augment(policy="rand")(normal(whole / 255), generator(5), SCALE)) * 255
    torch.testing.assert_close(found, torch.stack(expected).float(), atol=0.01, rtol=0)


def test_what_is_wrong_is_said():
    with pytest.raises(ArgumentError, match="need scale=, the preprocessing"):
        Augment(jitter=0.1)(batch(), generator())
    with pytest.raises(ArgumentError, match=r"need pictures .* got shape \(4, 3\)"):
        Augment(blur=0.1)(torch.zeros(4, 3), generator())
    with pytest.raises(ArgumentError, match="policy must be none, rand, trivial, augmix; got 'auto'"):
        Augment(policy="auto")
    with pytest.raises(ArgumentError, match=r"hue must be between 0 and 0.5; got 0.6"):
        Augment(hue=0.6)
