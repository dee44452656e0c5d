"""Recipes: named configurations that reproduce a published set-up or a sound default.

```
kyori train DATA --recipe siamese-mlp
kyori train --recipe arcface-cnn --print-config
```
"""

from ..errors import ConfigError, nearest_name
from .config import RunConfig

__all__ = ["RECIPES", "recipe"]

_CNN = {"backbone": "cnn"}
_SHORT = {"epochs": 10}
_GENTLE = {"name": "onecycle"}

RECIPES: dict[str, RunConfig] = {
    # Keras' example "Siamese MLP" on MNIST, after Hadsell, Chopra & LeCun 2006: pairs, raw distances, margin 1.
    # Keras' RMSprop has rho 0.9 and epsilon 1e-7; PyTorch's own defaults differ.
    "siamese-mlp": RunConfig(
        data={
            "scaling": "unit",
            "fractions": (0.8, 0.0, 0.2),
        },  # nothing is chosen, so all of train is trained on
        model={"backbone": "mlp", "embedding_size": None, "unit_norm": False},
        loss={"name": "contrastive", "convention": "keras", "margin": 1.0},
        batches={"kind": "pairs", "batch_size": 128},
        optimizer={"name": "rmsprop", "lr": 1e-3, "smoothing": 0.9, "eps": 1e-7},
        schedule={"name": "constant"},
        training={"epochs": 20, "keep": "last"},
    ),
    # Ranjan, Castillo & Chellappa 2017: the features themselves on a sphere of radius 16, then a plain softmax.
    "l2-cnn": RunConfig(
        model={**_CNN, "embedding_size": None},
        loss={"name": "l2softmax", "alpha": 16.0},
        training=_SHORT,
    ),
    "softmax-cnn": RunConfig(
        model={**_CNN, "embedding_size": None},
        loss={"name": "softmax"},
        training=_SHORT,
    ),
    # Schroff, Kalenichenko & Philbin 2015: squared distances on the sphere, 40 items of a class in large batches.
    "facenet-triplet": RunConfig(
        model={**_CNN, "embedding_size": 128},
        loss={"name": "triplet", "mining": "facenet", "distance": "squared_euclidean", "margin": 0.2},
        batches={"kind": "pk", "batch_size": 400, "per_class": 40},
        schedule=_GENTLE,
        training=_SHORT,
    ),
    "triplet-cnn": RunConfig(
        model=_CNN,
        loss={"name": "triplet", "mining": "semihard", "margin": 0.2},
        schedule=_GENTLE,
        training=_SHORT,
    ),
    "contrastive-cnn": RunConfig(
        model=_CNN,
        loss={"name": "contrastive", "normalize": True},
        schedule=_GENTLE,
        training=_SHORT,
    ),
    # Henderson et al. 2017, with the settings that sentence-transformers gives for fine-tuning on pairs of texts.
    # The backbone is a folder or a name on the hub: --backbone FOLDER.
    "text-pairs": RunConfig(
        model={
            "backbone": "sentence-transformers/all-MiniLM-L6-v2",
            "embedding_size": None,
            "pretrained": True,
        },
        loss={"name": "mnr", "scale": 20.0},
        batches={"kind": "aligned", "batch_size": 64},
        optimizer={"name": "adamw", "lr": 2e-5, "weight_decay": 0.01},
        schedule={"name": "cosine", "warmup_steps": 20},
        training={"epochs": 1, "measure": "recall@1"},
    ),
    "arcface-cnn": RunConfig(model=_CNN, loss={"name": "arcface"}, schedule=_GENTLE, training=_SHORT),
    "cosface-cnn": RunConfig(model=_CNN, loss={"name": "cosface"}, schedule=_GENTLE, training=_SHORT),
    "sphereface-cnn": RunConfig(model=_CNN, loss={"name": "sphereface"}, schedule=_GENTLE, training=_SHORT),
}
"""The recipes by name."""


def recipe(name: str) -> RunConfig:
    """Return a recipe by name.

    Raises:
        ConfigError: No such recipe; the message names the nearest.

    >>> recipe("siamese-mlp").optimizer.name
    'rmsprop'
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe '{name}'{nearest_name(name, RECIPES)}")
    return RECIPES[name]
