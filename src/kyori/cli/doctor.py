"""``kyori doctor``: what is installed, what is missing, and how much memory a batch will take."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import typer

from .console import JSON, print_json, stops_at_ctrl_c

__all__ = ["register"]

_CORE = (
    "torch", "numpy", "scipy", "scikit-learn", "pydantic", "PyYAML", "typer", "rich", "safetensors", "pillow",
    "pyarrow", "matplotlib", "faiss-cpu",
)  # fmt: skip
_EXTRAS = {
    "timm": ("image", "pretrained and larger networks"),
    "torchvision": ("image", "what timm stands on"),
    "openTSNE": ("plot", "faster t-SNE pictures"),
    "igraph": ("graph", "clusters by communities"),
    "tensorboard": ("track", "training curves in TensorBoard"),
    "psycopg": ("postgres", "an index in PostgreSQL"),
    "pymilvus": ("milvus", "an index in Milvus"),
    "milvus-lite": ("milvus", "an index in a Milvus file"),
}


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("doctor")(doctor)


@stops_at_ctrl_c
def doctor(
    backbone: str = typer.Option("mlp", help="mlp, cnn, or any timm name."),
    image_size: int = typer.Option(28, min=1, help="Height and width of the pictures in pixels."),
    channels: int = typer.Option(1, min=1, max=4, help="1 for grey, 3 for colour."),
    batch_size: int = typer.Option(128, min=1, help="Items in a batch."),
    embedding_size: int = typer.Option(64, min=1, help="Numbers in a vector."),
    as_json: bool = JSON,
) -> None:
    """Say what is installed, what is missing, and how much memory a batch will take."""
    report = {
        "system": _system(),
        "core": {name: _version(name) for name in _CORE},
        "extras": {name: _version(name) for name in _EXTRAS},
        "batch": _batch(backbone, (image_size, image_size, channels), batch_size, embedding_size),
    }
    if as_json:
        print_json(report)
    else:
        _print(report)
    if missing := [name for name, version in report["core"].items() if version is None]:
        raise typer.Exit(2 if missing else 0)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _system() -> dict[str, Any]:
    import torch

    from .. import __version__

    return {
        "kyori": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
    }


def _batch(
    backbone: str, shape: tuple[int, int, int], batch_size: int, embedding_size: int
) -> dict[str, Any]:
    """Count what one training step keeps: weights and optimizer, activations, the distance matrix."""
    from ..models import training_memory

    memory = training_memory(backbone, shape, batch_size=batch_size, embedding_size=embedding_size)
    return {"backbone": backbone, "shape": list(shape), "batch_size": batch_size, **memory}


def _print(report: dict[str, Any]) -> None:
    system = report["system"]
    print(f"kyori {system['kyori']} · Python {system['python']} · {system['platform']}")
    gpus = ", ".join(system["gpus"]) or ("Apple GPU" if system["mps"] else "none")
    print(f"cores {system['cores']} · threads {system['threads']} · GPU: {gpus}\n")
    for name, version in report["core"].items():
        print(f"  {'ok ' if version else 'MISSING'} {name} {version or ''}")
    for name, version in report["extras"].items():
        extra, purpose = _EXTRAS[name]
        state = f"ok  {name} {version}" if version else f'--  {name}: {purpose}; pip install "kyori[{extra}]"'
        print(f"  {state}")
    batch = report["batch"]
    shape = "×".join(str(side) for side in batch["shape"])
    weights, activations, distances, total = (
        f"{batch[f'{part}_bytes'] / 2**20:.1f}" for part in ("weights", "activations", "distances", "total")
    )
    print(
        f"\nA batch of {batch['batch_size']} pictures {shape} through {batch['backbone']} takes about {total} MiB: "
        f"weights, gradients and Adam {weights}, activations {activations}, distances {distances}."
    )
