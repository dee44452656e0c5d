"""Backbones: networks that turn a batch of inputs into features or feature maps.

`create_backbone` knows three families: the two small networks written here (`mlp`, `cnn`), every model of timm by
its name (extra ``image``), and any ``nn.Module`` of the caller's own.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, nearest_name
from ..optional import require

__all__ = ["BACKBONES", "CNN", "MLP", "create_backbone", "feature_count", "output_shape"]


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


BACKBONES: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN}
"""The backbones of Kyori itself; any other name is looked up in timm."""


def create_backbone(
    name: str, input_shape: Sequence[int], *, pretrained: bool = False, **options: Any
) -> nn.Module:
    """Build a backbone by name.

    Backbones for texts come with a tokenizer: :func:`kyori.models.texts.create_text_backbone`.

    Args:
        name: ``"mlp"``, ``"cnn"``, or the name of a timm model such as ``"resnet18"`` (extra ``image``).
        input_shape: Shape of one input, ``(c, h, w)`` for images or ``(f,)`` for vectors.
        pretrained: Start from timm's published weights (downloaded once); ``mlp`` and ``cnn`` have none.
        **options: Options of that backbone; an unknown one is an error that names the nearest.

    Returns:
        A module that maps (b, *input_shape) to features (b, d) or maps (b, d, h, w), with ``out_features`` = d.

    Raises:
        ArgumentError: Unknown name or option, or an input the backbone cannot take.
        MissingExtraError: A timm name without timm installed.

    >>> create_backbone("mlp", (4,), widths=[8, 2]).out_features
    2
    """
    if name not in BACKBONES:
        return _create_timm(name, input_shape, pretrained, options)
    if pretrained:
        raise ArgumentError(
            f"pretrained=True needs published weights, and backbone '{name}' has none; set pretrained to false "
            "or choose a timm name, for example 'resnet18'."
        )
    build = BACKBONES[name]
    known = [p for p in inspect.signature(build).parameters if p != "input_shape"]
    for option in options:
        if option not in known:
            raise ArgumentError(f"backbone '{name}' has no option '{option}'{nearest_name(option, known)}")
    return build(input_shape, **options)


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
    if not isinstance(output, Tensor) or output.ndim not in (2, 4) or len(output) != 2:
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


def _create_timm(
    name: str, input_shape: Sequence[int], pretrained: bool, options: dict[str, Any]
) -> nn.Module:
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
            f"backbone '{name}' needs images (c, h, w); got vectors of shape {tuple(input_shape)}. Use 'mlp'."
        )
    build = _TimmBuilder(timm, name, input_shape[0], pretrained, options)
    backbone = build(global_pool="")  # the map itself, so that the head's pooling applies
    shape = output_shape(backbone, input_shape) if _gives_maps(backbone, input_shape) else ()
    if (
        len(shape) != 3 or shape[0] != backbone.num_features
    ):  # tokens, or channels last: the model's own pooling
        backbone = build()
        shape = output_shape(backbone, input_shape)
    backbone.out_features = shape[0]
    return backbone


class _TimmBuilder:
    """timm.create_model with its failures said in words."""

    def __init__(self, timm: Any, name: str, channels: int, pretrained: bool, options: dict[str, Any]):
        self.timm, self.name, self.channels = timm, name, channels
        self.pretrained, self.options = pretrained, options

    def __call__(self, **more: Any) -> Any:
        settings = {"num_classes": 0, "in_chans": self.channels, **more, **self.options}
        try:
            return self.timm.create_model(self.name, pretrained=self.pretrained, **settings)
        except TypeError as error:
            raise ArgumentError(
                f"backbone '{self.name}' does not take these options: {error}. Check model.options against "
                f"timm's documentation of the model; got {self.options}."
            ) from error
        except Exception as error:
            if not self.pretrained:
                raise
            raise ArgumentError(
                f"the published weights of '{self.name}' cannot be had ({type(error).__name__}: {error}). Connect "
                "to the network once (they are kept in Hugging Face's cache), or set pretrained to false."
            ) from error


def _gives_maps(backbone: nn.Module, input_shape: Sequence[int]) -> bool:
    try:
        return len(output_shape(backbone, input_shape)) == 3
    except ArgumentError:  # tokens (b, t, d), or an input that the second, pooled try will complain about
        return False


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ArgumentError(f"{name} must be a share in [0, 1); got {value}.")
