"""Backbones: networks that turn a batch of inputs into features or feature maps.

`create_backbone` knows three families: the small ones written here (`mlp`, `cnn`, and `linear`, a linear map; for sets
of vectors `mlp` is `DeepSets`), every model of timm by its name (extra ``image``), and any ``nn.Module`` of the caller.
"""

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, nearest_name
from ..optional import require
from .heads import Arrangement
from .pretrained import load_weights, published_weights
from .sets import SET_BACKBONES

__all__ = ["BACKBONES", "CNN", "MLP", "arrangement_of", "create_backbone", "feature_count", "output_shape"]


class MLP(nn.Module):
    """A multilayer perceptron: flatten, then dense layers with ReLU and dropout between them.

    The defaults are the network of Keras' "Siamese MLP" example: three dense layers of 128, dropout 0.1 after the
    first two.

    Args:
        input_shape: Shape of one input, ``(c, h, w)`` or ``(f,)``; it is flattened.
        widths: Units of each dense layer, all ≥ 1.
        dropout: Share of the units dropped between layers in training, in [0, 1).

    >>> MLP((1, 28, 28))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 128])
    """

    def __init__(
        self, input_shape: Sequence[int], *, widths: Sequence[int] = (128, 128, 128), dropout: float = 0.1
    ):
        super().__init__()
        if not widths or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in widths):
            raise ArgumentError(
                f"widths must be one or more whole numbers ≥ 1, one per layer; got {list(widths)}."
            )
        _check_share("dropout", dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        fan_in = math.prod(input_shape)
        for width in widths:
            layers += [nn.Linear(fan_in, width), nn.ReLU(), nn.Dropout(dropout)]
            fan_in = width
        self.layers = nn.Sequential(*layers[:-1])  # no dropout on the features themselves
        self.out_features = fan_in

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, out_features) of inputs (b, ...)."""
        return self.layers(x)


class CNN(nn.Module):
    """The network of PyTorch's MNIST example up to its 128 features, for images of any size from 6×6.

    Two 3×3 convolutions (32 and 64 channels), max-pooling by 2, dropout, a dense layer of 128 with ReLU, dropout.

    Args:
        input_shape: Shape of one image, ``(c, h, w)`` with h, w ≥ 6.
        map_dropout: Share dropped after pooling, in [0, 1).
        dropout: Share of the 128 features dropped in training, in [0, 1).

    Raises:
        ArgumentError: The input is no image or smaller than 6×6.

    >>> CNN((3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 128])
    """

    smallest = 6  # two 3×3 convolutions and a pooling by 2 leave one pixel

    def __init__(self, input_shape: Sequence[int], *, map_dropout: float = 0.25, dropout: float = 0.5):
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < self.smallest:
            raise ArgumentError(
                f"backbone 'cnn' needs images (c, h, w) of at least {self.smallest}×{self.smallest} pixels; got "
                f"shape {tuple(input_shape)}. Use backbone 'mlp', or enlarge the images (data.image_size)."
            )
        _check_share("map_dropout", map_dropout)
        _check_share("dropout", dropout)
        channels, height, width = input_shape
        cells = ((height - 4) // 2) * ((width - 4) // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(map_dropout),
            nn.Flatten(),
            nn.Linear(64 * cells, 128),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.out_features = 128

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, 128) of images (b, c, h, w)."""
        return self.layers(x)


class Flat(nn.Flatten):
    """The pixels or features themselves, row by row: with the projection of the head, a linear map.

    Args:
        input_shape: Shape of one input, ``(c, h, w)`` or ``(f,)``.

    >>> Flat((1, 4, 4))(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([2, 16])
    """

    def __init__(self, input_shape: Sequence[int]):
        super().__init__()
        self.out_features = math.prod(input_shape)


BACKBONES: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, "linear": Flat}
"""The backbones of Kyori itself; any other name is looked up in timm."""


def create_backbone(
    name: str,
    input_shape: Sequence[int],
    *,
    kind: str = "vector",
    pretrained: bool = False,
    weights: str | os.PathLike[str] | None = None,
    own_pooling: bool = True,
    **options: Any,
) -> nn.Module:
    """Build a backbone by name.

    Backbones for texts come with a tokenizer: :func:`kyori.models.texts.create_text_backbone`.

    Args:
        name: ``"mlp"``, ``"cnn"``, or the name of a timm model such as ``"resnet18"`` (extra ``image``).
        input_shape: Shape of one input, ``(c, h, w)`` for images, ``(f,)`` for vectors, ``(m, f)`` for sets.
        kind: What comes in, as in `kyori.data.kinds`: for ``"set"`` the network must be one for sets.
        pretrained: Start from timm's published weights (downloaded once); ``mlp`` and ``cnn`` have none.
        weights: Start from the weights in this safetensors file; see `kyori.models.pretrained.load_weights`.
        own_pooling: Let transformers pool their tokens as they were trained to; else they return all of them.
        **options: Options of that backbone; an unknown one is an error that names the nearest.

    Returns:
        A module that maps (b, *input_shape) to features (b, d) or maps (b, d, h, w), with ``out_features`` = d; without
        ``own_pooling`` transformers return tokens (b, t, d) or maps (b, h, w, d).

    Raises:
        ArgumentError: Unknown name or option, weights that do not fit, or an input the backbone cannot take.
        FileFormatError: The file of weights is missing, damaged, or a pickle.
        MissingExtraError: A timm name without timm installed.

    >>> create_backbone("mlp", (4,), widths=[8, 2]).out_features
    2
    """
    if pretrained and weights is not None:
        raise ArgumentError(
            f"pretrained and weights are two starting points; give one. Got weights {weights}."
        )
    own: Mapping[str, Callable[..., nn.Module]] = SET_BACKBONES if kind == "set" else BACKBONES
    if kind == "set" and name not in own:
        raise ArgumentError(
            f"backbone '{name}' takes no sets of vectors; known: {', '.join(own)} (Deep Sets), or a module of your own."
        )
    if name not in own:
        backbone = _create_timm(name, input_shape, own_pooling, options)
        if pretrained:
            weights = published_weights(name, backbone.default_cfg)
        if weights is not None:
            load_weights(backbone, weights, f"backbone '{name}'")
        return backbone
    if pretrained:
        raise ArgumentError(
            f"pretrained=True needs published weights, and backbone '{name}' has none; set pretrained to false "
            "or choose a timm name, for example 'resnet18'."
        )
    build = own[name]
    known = [p for p in inspect.signature(build).parameters if p != "input_shape"]
    for option in options:
        if option not in known:
            raise ArgumentError(f"backbone '{name}' has no option '{option}'{nearest_name(option, known)}")
    backbone = build(input_shape, **options)
    if weights is not None:
        load_weights(backbone, weights, f"backbone '{name}'")
    return backbone


def arrangement_of(backbone: nn.Module, shape: Sequence[int]) -> tuple[Arrangement, int, int]:
    """Return how one output of the given shape is arranged, its number of features, and its tokens at the front.

    >>> arrangement_of(nn.Conv2d(1, 5, 3), (5, 6, 6))
    ('maps', 5, 0)
    """
    if len(shape) == 1:
        return "flat", shape[0], 0
    if len(shape) == 2:
        return "tokens", shape[1], getattr(backbone, "num_prefix_tokens", 0)
    features = getattr(backbone, "num_features", shape[0])
    if shape[0] != features and shape[-1] == features:
        return "maps-last", features, 0
    return "maps", shape[0], 0


def output_shape(backbone: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one output of ``backbone``, found by a dry run on zeros in evaluation mode.

    Raises:
        ArgumentError: The backbone cannot take such an input, or gives neither (b, d) nor (b, d, h, w).

    >>> output_shape(nn.Linear(4, 3), (4,))
    (3,)
    """
    was_training = backbone.training
    parameter = next(iter(backbone.parameters()), None)
    lazy = isinstance(parameter, nn.parameter.UninitializedParameter)
    device = torch.device("cpu") if parameter is None or lazy else parameter.device
    # two items, so that a squeezed batch axis shows; texts have no shape and come as tokens
    zeros = (
        torch.zeros(2, *input_shape, device=device)
        if input_shape
        else torch.zeros(2, 3, dtype=torch.int64, device=device)
    )
    try:
        with torch.no_grad():
            output = backbone.eval()(zeros)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        raise ArgumentError(
            f"backbone {type(backbone).__name__} must take a batch of inputs of shape {tuple(input_shape)}; "
            f"a dry run failed: {error}. Change the backbone, or data.image_size and data.channels."
        ) from error
    finally:
        backbone.train(was_training)
    known = (2, 3, 4) if hasattr(backbone, "num_prefix_tokens") else (2, 4)  # tokens: timm's transformers
    if not isinstance(output, Tensor) or output.ndim not in known or len(output) != 2:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ArgumentError(
            f"backbone {type(backbone).__name__} must return features (b, d) or maps (b, d, h, w); for a batch "
            f"b = 2 of inputs {tuple(input_shape)} it returned {got}. Wrap it in a module that returns a tensor."
        )
    return tuple(output.shape[1:])


def feature_count(backbone: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the number of features (or channels of the map) that ``backbone`` gives for one input.

    >>> feature_count(nn.Conv2d(1, 5, 3), (1, 8, 8))
    5
    """
    return output_shape(backbone, input_shape)[0]


def _create_timm(name: str, input_shape: Sequence[int], own_pooling: bool, options: dict[str, Any]) -> Any:
    timm = require("timm", extra="image", purpose=f"backbone '{name}'")
    if not timm.is_model(name):
        known = [*BACKBONES, *timm.list_models()]
        hint = nearest_name(name, known)
        if not hint.startswith("; did you mean"):  # a thousand names help nobody
            hint = (
                f"; known: {', '.join(BACKBONES)} and the {len(known) - len(BACKBONES)} of timm.list_models()"
            )
        raise ArgumentError(f"unknown backbone '{name}'{hint}")
    if len(input_shape) != 3:
        raise ArgumentError(
            f"backbone '{name}' needs images (c, h, w); got items of shape {tuple(input_shape)}. Use 'mlp'."
        )
    build = _TimmBuilder(timm, name, input_shape, options)
    # the map itself, so that the head's pooling applies; what no pooling of ours suits is pooled by the model
    backbone = build.build(global_pool="")
    arrangement, features, _ = arrangement_of(backbone, build.shape) if build.shape else ("flat", 0, 0)
    if features != backbone.num_features or (
        arrangement != "maps" and (own_pooling or arrangement == "flat")
    ):
        backbone = build.build()
        if build.shape is None:
            raise build.failure
        features = arrangement_of(backbone, build.shape)[1]
    backbone.out_features = features
    return backbone


class _TimmBuilder:
    """timm.create_model with its failures said in words, and with the pictures' size where the model asks for it."""

    def __init__(self, timm: Any, name: str, input_shape: Sequence[int], options: dict[str, Any]):
        self.timm, self.name, self.input_shape, self.options = timm, name, tuple(input_shape), options
        self.shape: tuple[int, ...] | None = None
        self.failure = ArgumentError("not built yet")

    def build(self, **more: Any) -> Any:
        """Return the model; ``shape`` is then that of one output, or None, with the ``failure``."""
        backbone = self._create(**more)
        self._try(backbone)
        if self.shape is None and "img_size" not in self.options and hasattr(backbone, "patch_embed"):
            # a transformer is built for one size of pictures; the rebuilt one resamples its published positions
            with contextlib.suppress(ArgumentError, AssertionError, ValueError, RuntimeError):
                backbone = self._create(img_size=self.input_shape[1:], **more)
                self._try(backbone)
        return backbone

    def _try(self, backbone: nn.Module) -> None:
        self.shape = None
        try:
            self.shape = output_shape(backbone, self.input_shape)
        except ArgumentError as error:
            self.failure = error

    def _create(self, **more: Any) -> Any:
        settings = {"num_classes": 0, "in_chans": self.input_shape[0], **more, **self.options}
        try:
            return self.timm.create_model(self.name, pretrained=False, **settings)
        except TypeError as error:
            raise ArgumentError(
                f"backbone '{self.name}' does not take these options: {error}. Check model.options against "
                f"timm's documentation of the model; got {self.options}."
            ) from error


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ArgumentError(f"{name} must be a share in [0, 1); got {value}.")
