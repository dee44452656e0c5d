"""How the network is run: the number format, the memory order of pictures, compiled or not; the loss is in float32."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, TrainingError
from ..models import Embedder
from .rows import clip_gradients

__all__ = ["Network", "Updater", "autocast", "choose_precision"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """Return the type of autocast, None for plain float32; ``"auto"`` is bf16 on GPUs that have it.

    >>> choose_precision("auto", torch.device("cpu")) is None
    True
    """
    if name == "auto":
        name = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; got device cpu. Use float32 or bf16.")
    return DTYPES.get(name)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return the context in which the network runs."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


class Network:
    """An embedder as it is run in training: preprocessed items (b, …) to float32 features (b, d).

    Args:
        embedder: Moved to the device already.
        dtype: The type of autocast, None for float32.
        channels_last: Keep pictures and the weights of convolutions with the channels innermost, the order that the
            fast convolutions of CPUs and of tensor cores want.
        compiled: Run through `torch.compile`. Each size of a batch is compiled by itself, so that what runs does not
            depend on the sizes seen before, and a resumed run has the same bits.

    Raises:
        ConfigError: ``channels_last`` without pictures.
    """

    def __init__(
        self,
        embedder: Embedder,
        device: torch.device,
        dtype: torch.dtype | None,
        *,
        channels_last: bool = False,
        compiled: bool = False,
    ):
        if channels_last and len(embedder.input_shape) != 3:
            raise ConfigError(
                f"training.channels_last needs pictures; the items have the shape {embedder.input_shape}. Leave it out."
            )
        self.embedder, self.device, self.dtype = embedder, device, dtype
        self.channels_last, self.compiled = channels_last, compiled
        if channels_last:
            _reorder(embedder, torch.channels_last)
        self._run: Callable[[Tensor], Tensor] = (
            torch.compile(embedder.features, dynamic=False) if compiled else embedder.features
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Return features (b, d), float32 whatever the network computes in.

        Raises:
            TrainingError: The network cannot be compiled here.
        """
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        try:
            with autocast(self.device, self.dtype):
                features = self._run(x)
        except Exception as error:
            if self.compiled and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise TrainingError(
                    f"training.compile: PyTorch cannot compile this network here ({_first_line(error)}). It needs a "
                    "C++ compiler, and Triton on a GPU. Leave compile out to train without."
                ) from error
            raise
        return features.float()

    def restore(self) -> None:
        """Give the embedder back with its weights in PyTorch's usual order, as a loaded one has them."""
        if self.channels_last:
            _reorder(self.embedder, torch.contiguous_format)


def _reorder(module: nn.Module, order: torch.memory_format) -> None:
    module.to(memory_format=order)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class Updater:
    """Moves weights along their gradients: unscales them in fp16, clips them, steps every optimizer.

    Args:
        optimizers: All of a run's.
        device: Where the weights are.
        half: Whether the network runs in fp16, whose small gradients vanish unless the loss is scaled up.
        clip_norm: Largest norm of the whole gradient, None for no limit.
    """

    def __init__(
        self,
        optimizers: Iterable[torch.optim.Optimizer],
        device: torch.device,
        *,
        half: bool,
        clip_norm: float | None,
    ):
        self.optimizers = list(optimizers)
        self.clip_norm = clip_norm
        self.scaler = torch.amp.GradScaler(device.type) if half else None
        self.weights = [p for o in self.optimizers for group in o.param_groups for p in group["params"]]

    def scaled(self, value: Tensor) -> Tensor:
        """The loss as it is to be differentiated."""
        return value if self.scaler is None else self.scaler.scale(value)

    def step(self) -> None:
        """Move the weights, and forget the gradients."""
        if self.clip_norm is not None:
            if self.scaler is not None:
                for optimizer in self.optimizers:
                    self.scaler.unscale_(optimizer)
            clip_gradients(self.weights, self.clip_norm)
        for optimizer in self.optimizers:
            if self.scaler is None:
                optimizer.step()
            else:
                self.scaler.step(optimizer)
        if self.scaler is not None:
            self.scaler.update()
        for weight in self.weights:  # what each `zero_grad` does, without its groups and hooks
            weight.grad = None
