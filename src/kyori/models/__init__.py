"""Models: backbone, head and preprocessing in one `Embedder` that encodes items and is saved without pickle."""

from .backbones import BACKBONES, CNN, MLP, create_backbone
from .embedder import Embedder
from .heads import POOLINGS, GeM, Head
from .memory import training_memory

__all__ = [
    "BACKBONES",
    "CNN",
    "MLP",
    "POOLINGS",
    "Embedder",
    "GeM",
    "Head",
    "create_backbone",
    "training_memory",
]
