"""Trainings that must not depend on the number of ranks: `python -m distributed.train_checks FOLDER`, once per rank."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kyori import distributed
from kyori.data import Source, open_source
from kyori.training import RunConfig, build, train

PLAIN = {
    "backbone": "mlp", "backbone_options": {"widths": [16], "dropout": 0.0}, "embedding_size": 4, "batch_size": 22,
    "epochs": 2, "optimizer": "sgd", "lr": 0.1, "schedule": "constant",
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "pk": {"loss": "triplet", "mining": "semihard"},
    "shuffled": {"loss": "arcface", "scale": 8.0},  # 83 items: the last batch is smaller
    "sharded": {"loss": "arcface", "scale": 8.0, "shard_classes": True, "optimizer": "adamw", "lr": 0.01},
    "sharded-sample": {
        "loss": "cosface",
        "scale": 8.0,
        "shard_classes": True,
        "sample": 0.7,
        "optimizer": "adamw",
    },
    "pairs": {"loss": "contrastive", "batches": "pairs"},
    "memory": {"loss": "supcon", "memory": 64, "matryoshka": [4, 2]},
    "chunks": {"loss": "ntxent", "cache_rows": 5},
    "accumulated": {"loss": "margin", "mining": "all", "accumulate": 2, "clip_norm": 0.5},
    "normed": {"loss": "softmax"},  # batch normalisation
}
RESUMED = ("sharded", "sharded-sample", "memory")


def source() -> Source:
    rng = np.random.default_rng(0)
    labels = np.arange(83) % 6
    centres = rng.integers(0, 256, (6, 8, 8, 1))
    return open_source(
        ((centres[labels] + rng.normal(0, 60, (83, 8, 8, 1))).clip(0, 255).astype(np.uint8), labels)
    )


def run(name: str, folder: Path | None = None, **more: Any) -> dict[str, torch.Tensor]:
    """The weights after a training."""
    resume = more.pop("resume", False)
    config = RunConfig.from_options(**{**PLAIN, **CASES[name], **more})
    network = None
    if name == "normed":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU())
    embedder, loss = build(config, source(), backbone=network)
    train(embedder, loss, source(), config, folder=folder, resume=resume)
    weights = [*embedder.state_dict().items(), *loss.state_dict().items()]
    return {key: tensor.double() for key, tensor in weights if isinstance(tensor, torch.Tensor)}


def main(folder: Path) -> None:
    with distributed.joined():
        for name in CASES:
            found = run(name)
            if not distributed.alike(found.values()):
                raise AssertionError(f"{name}: ranks ended with different weights")
            if distributed.first():
                torch.save(found, folder / f"{name}.pt")
        for name in RESUMED:
            run(name, folder / name, epochs=1)
            distributed.wait()
            if distributed.first():
                (folder / f"{name}-alone").mkdir()
            found = run(name, folder / name, epochs=2, resume=True)
            if distributed.first():
                torch.save(found, folder / f"{name}-resumed.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
