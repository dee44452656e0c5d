"""`Augment`: random changes of a batch in training, drawn anew each time, on the batch's device."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError
from ..optional import require

if TYPE_CHECKING:
    from .transforms import Preprocess

__all__ = ["POLICIES", "Augment"]

POLICIES = {"rand": "RandAugment", "trivial": "TrivialAugmentWide", "augmix": "AugMix"}
LUMINANCE = (0.299, 0.587, 0.114)
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_RATIO = 4 / 3  # of the sides of a crop, at most
_SIGMA = (0.1 / 224, 2.0 / 224)  # of the blur, in sides of the picture: 0.1 to 2 pixels at 224


@dataclass(frozen=True)
class Augment:
    """Random changes to a preprocessed batch, on its device, each item its own. The default changes nothing.

    Crop, flip, rotation, scale and shift are one bilinear resampling; what comes in from outside repeats the edge.
    Then come the policy, the colours, blur, erasing and noise. Vectors know only `noise`; colours of grey pictures
    are brightness and contrast.

    Attributes:
        flip: Mirror left and right with probability ½.
        shift: Largest shift in pixels, each way.
        rotate: Largest rotation in degrees, each way.
        scale: Largest change of size: 0.1 means between 1/1.1 and 1.1 times.
        noise: Deviation of added Gaussian noise, in deviations of the training data.
        erase: Probability that a rectangle of 2 % to 20 % of a picture is set to the mean.
        crop: Least share of the area of a random part (sides 3:4 to 4:3 of the picture's) that is enlarged to fill the
            picture; 0: no crop.
        jitter: Largest change of brightness, contrast and saturation, in this order: factors from 1 − jitter to
            1 + jitter.
        hue: Largest turn of the hue, as a share of the circle, each way, at constant luminance (in YIQ).
        grey: Probability of taking the colours away.
        blur: Probability of a Gaussian blur of 0.1 to 2 pixels where the shorter side has 224, in proportion elsewhere.
        policy: ``"rand"`` (RandAugment: Cubuk et al. 2020), ``"trivial"`` (TrivialAugment: Müller & Hutter 2021) or
            ``"augmix"`` (Hendrycks et al. 2020) of torchvision (extra ``image``), on each picture by itself.

    Example:
        >>> x = torch.zeros(4, 1, 8, 8)
        >>> Augment(shift=1, noise=0.1)(x, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 1, 8, 8])
    """

    flip: bool = False
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    erase: float = 0.0
    crop: float = 0.0
    jitter: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    policy: Literal["none", "rand", "trivial", "augmix"] = "none"

    def __post_init__(self) -> None:
        limits = {"shift": 1000.0, "rotate": 180.0, "scale": 10.0, "noise": 100.0, "erase": 1.0}
        limits |= {"crop": 1.0, "jitter": 1.0, "hue": 0.5, "grey": 1.0, "blur": 1.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise ArgumentError(f"augment {name} must be between 0 and {limit:g}; got {value}.")
        if self.policy not in ("none", *POLICIES):
            raise ArgumentError(f"augment policy must be none, {', '.join(POLICIES)}; got {self.policy!r}.")

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self != Augment()

    @property
    def _moves(self) -> bool:
        return self.flip or self.shift > 0 or self.rotate > 0 or self.scale > 0 or self.crop > 0

    @property
    def _colours(self) -> bool:
        return self.jitter > 0 or self.hue > 0 or self.grey > 0

    def __call__(self, x: Tensor, generator: torch.Generator, scale: "Preprocess | None" = None) -> Tensor:
        """Change a batch.

        Args:
            x: Preprocessed pictures (b, c, h, w) or vectors (b, f).
            generator: Where the changes are drawn from; a CPU generator gives the same changes on every device.
            scale: The preprocessing that made `x`, so that colours are changed as pixels; needed for jitter, hue,
                grey and policy.

        Returns:
            The changed batch, of the same shape; `x` itself when there is nothing to change.

        Raises:
            ArgumentError: Vectors are to be changed as only pictures can, or `scale` is missing.
            MissingExtraError: A policy without torchvision.
        """
        if x.ndim != 4 and (self._moves or self._colours or self.erase or self.blur or self.policy != "none"):
            raise ArgumentError(
                "flip, shift, rotate, scale, crop, jitter, hue, grey, blur, policy and erase need pictures "
                f"(b, c, h, w); got shape {tuple(x.shape)}."
            )
        if self._moves:
            x = self._move(x, generator)
        if self._colours or self.policy != "none":
            if scale is None:
                raise ArgumentError(
                    "jitter, hue, grey and policy need scale=, the preprocessing of the batch."
                )
            x = self._colour(x, generator, scale)
        if self.blur:
            x = self._blurred(x, generator)
        if self.erase:
            x = self._erase(x, generator)
        if self.noise:
            drawn = torch.randn(x.shape, generator=generator, device=generator.device)
            x = x + self.noise * drawn.to(x)
        return x

    def _move(self, x: Tensor, generator: torch.Generator) -> Tensor:
        b, _, height, width = x.shape
        angle, zoom, down, right, side = _uniform(5, b, generator)
        angle = angle * math.radians(self.rotate)
        factor = (1 + self.scale) ** zoom  # as often larger as smaller
        mirror = torch.where(side < 0, -1.0, 1.0) if self.flip else torch.ones(b)
        mirror = mirror.to(angle)
        cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
        # grid_sample asks where each output pixel comes from, in units of half the width and half the height
        across = torch.stack([cos * mirror, -sin * (height / width), 2 * self.shift / width * right], dim=1)
        upright = torch.stack([sin * mirror * (width / height), cos, 2 * self.shift / height * down], dim=1)
        theta = torch.stack([across, upright], dim=1)
        if self.crop:
            theta = theta @ self._crops(b, generator)
        theta = theta.to(x)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def _crops(self, b: int, generator: torch.Generator) -> Tensor:
        """(b, 3, 3) where the corners of each crop lie, in units of half the picture."""
        area, ratio, right, down = _uniform(4, b, generator)
        area = self.crop + (1 - self.crop) * (area + 1) / 2
        stretch = torch.exp(ratio * math.log(_RATIO) / 2)
        wide, high = (torch.sqrt(area) * stretch).clamp(max=1), (torch.sqrt(area) / stretch).clamp(max=1)
        crops = torch.zeros(b, 3, 3, device=area.device)
        crops[:, 0, 0], crops[:, 1, 1], crops[:, 2, 2] = wide, high, 1.0
        crops[:, 0, 2], crops[:, 1, 2] = right * (1 - wide), down * (1 - high)
        return crops

    def _colour(self, x: Tensor, generator: torch.Generator, scale: "Preprocess") -> Tensor:
        """Change pixels in [0, 1], clipped to it; what is left as it was keeps its bits."""
        mean, std = (torch.tensor(v, device=x.device).to(x)[:, None, None] for v in (scale.mean, scale.std))
        pixels = x * std + mean
        if self.policy != "none":
            pixels = self._by_policy(pixels, generator)
        b, channels = pixels.shape[:2]
        light, contrast, saturation, turn, chance = _uniform(5, b, generator).to(x)
        changed = pixels
        if self.jitter:
            changed = (changed * (1 + self.jitter * light)[:, None, None, None]).clamp(0, 1)
            middle = _luminance(changed).mean(dim=(2, 3), keepdim=True)
            changed = _mix(changed, middle, 1 + self.jitter * contrast)
            changed = _mix(changed, _luminance(changed), 1 + self.jitter * saturation)
        if self.hue and channels == 3:
            changed = _turned(changed, 2 * math.pi * self.hue * turn)
        if self.grey:
            plain = ((chance + 1) / 2 < self.grey)[:, None, None, None]
            changed = torch.where(plain, _luminance(changed).expand_as(changed), changed)
        return (changed - mean) / std

    def _by_policy(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        require("torchvision", extra="image", purpose=f"augment policy '{self.policy}'")
        from torchvision.transforms import v2

        policy: Any = getattr(v2, POLICIES[self.policy])()
        seeds = torch.randint(2**31, (len(pixels),), generator=generator, device=generator.device).tolist()
        whole = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator of the CPU
            changed = []
            for picture, seed in zip(whole, seeds, strict=True):
                torch.default_generator.manual_seed(seed)
                changed.append(policy(picture))
        return torch.stack(changed).to(pixels) / 255

    def _blurred(self, x: Tensor, generator: torch.Generator) -> Tensor:
        b, channels, height, width = x.shape
        chance, strength = (_uniform(2, b, generator) + 1) / 2
        rows = torch.nonzero(chance < self.blur).flatten()
        side = min(height, width)
        low, high = (share * side for share in _SIGMA)
        radius = math.ceil(3 * high)
        if len(rows) == 0 or radius >= side:
            return x
        sigma = (low + (high - low) * strength[rows])[:, None]
        offsets = torch.arange(-radius, radius + 1, device=sigma.device)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, 0).to(x)
        rows = rows.to(x.device)
        part = x[rows].reshape(1, -1, height, width)
        part = F.pad(part, (radius, radius, radius, radius), mode="replicate")
        groups = part.shape[1]
        part = F.conv2d(part, kernel[:, None, None, :], groups=groups)
        part = F.conv2d(part, kernel[:, None, :, None], groups=groups)
        return x.index_copy(0, rows, part.reshape(-1, channels, height, width))

    def _erase(self, x: Tensor, generator: torch.Generator) -> Tensor:
        b, _, height, width = x.shape
        chance, area, shape, top, left = ((value + 1) / 2 for value in _uniform(5, b, generator))
        side = torch.sqrt(0.02 + 0.18 * area)
        stretch = torch.exp((shape - 0.5) * math.log(3.0))  # height : width between 1/3 and 3
        tall, wide = (side * torch.sqrt(stretch)).clamp(max=1), (side / torch.sqrt(stretch)).clamp(max=1)
        rows = (torch.arange(height, device=tall.device) + 0.5) / height
        columns = (torch.arange(width, device=tall.device) + 0.5) / width
        first, start = top * (1 - tall), left * (1 - wide)
        in_rows = (rows >= first[:, None]) & (rows < (first + tall)[:, None])
        in_columns = (columns >= start[:, None]) & (columns < (start + wide)[:, None])
        hole = in_rows[:, :, None] & in_columns[:, None, :] & (chance < self.erase)[:, None, None]
        return x.masked_fill(hole[:, None].to(x.device), 0.0)


def _uniform(rows: int, b: int, generator: torch.Generator) -> Tensor:
    """(rows, b) numbers between -1 and 1."""
    return torch.rand(rows, b, generator=generator, device=generator.device) * 2 - 1


def _luminance(pixels: Tensor) -> Tensor:
    """(b, 1, h, w) of pictures (b, c, h, w)."""
    if pixels.shape[1] != 3:
        return pixels.mean(dim=1, keepdim=True)
    weights = torch.tensor(LUMINANCE, device=pixels.device).to(pixels)
    return (pixels * weights[:, None, None]).sum(dim=1, keepdim=True)


def _mix(pixels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (other + (pixels - other) * factor[:, None, None, None]).clamp(0, 1)


def _turned(pixels: Tensor, angle: Tensor) -> Tensor:
    """Colours (b, 3, h, w) turned by angles (b,) around the axis of greys."""
    to = torch.tensor(_TO_YIQ, dtype=pixels.dtype, device=pixels.device)
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.zeros(len(angle), 3, 3, dtype=pixels.dtype, device=pixels.device)
    turn[:, 0, 0], turn[:, 1, 1], turn[:, 2, 2] = 1.0, cos, cos
    turn[:, 1, 2], turn[:, 2, 1] = -sin, sin
    matrix = torch.linalg.inv(to) @ turn @ to
    return torch.einsum("bij,bjhw->bihw", matrix, pixels).clamp(0, 1)
