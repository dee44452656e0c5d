"""Models: backbone, head and preprocessing in one `Embedder` that encodes items and is saved without pickle."""

from .backbones import BACKBONES, CNN, MLP, create_backbone
from .embedder import Embedder
from .heads import POOLINGS, GeM, Head
from .memory import training_memory
from .sentences import SentenceLoss
from .sets import SET_POOLINGS, DeepSets
from .texts import TOKEN_POOLINGS, NGramMLP, TextEncoder
from .tokens import NGrams, Tokenizer

__all__ = [
    "BACKBONES",
    "CNN",
    "MLP",
    "POOLINGS",
    "SET_POOLINGS",
    "TOKEN_POOLINGS",
    "DeepSets",
    "Embedder",
    "GeM",
    "Head",
    "NGramMLP",
    "NGrams",
    "SentenceLoss",
    "TextEncoder",
    "Tokenizer",
    "create_backbone",
    "training_memory",
]
