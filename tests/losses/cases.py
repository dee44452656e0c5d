"""What the laws run over: every loss in LOSSES, and every option of it that changes the formula."""

from typing import Any

import torch

from kyori import losses

CLASSES, SIZE = 5, 6

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "contrastive": [{"convention": c} for c in ("hadsell", "keras", "unsquared")]
    + [{"convention": "unsquared", "positive_margin": 0.4, "normalize": True}],
    "triplet": [{"mining": m} for m in ("all", "hard", "semihard", "facenet", "batch_hard", "random")]
    + [{"mining": m, "soft": True} for m in ("all", "hard", "semihard", "facenet", "batch_hard")]
    + [{"mining": m, "average": "candidates"} for m in ("all", "semihard")]
    + [{"mining": m, "average": "active"} for m in ("facenet", "batch_hard")]
    + [{"mining": "all", "margin": 0.0}, {"mining": "hard", "margin": 0.0}]
    + [{"mining": "all", "distance": d} for d in ("squared_euclidean", "cosine", "manhattan", "snr")]
    + [{"mining": "facenet", "distance": "dot"}, {"mining": "all", "normalize": False}],
    "softmax": [{}, {"bias": False}],
    "normface": [{}],
    "l2softmax": [{}, {"learnable": True}],
    "sphereface": [{}, {"margin": 1.5, "scale": 8.0}],
    "cosface": [{}, {"scale": 8.0}],
    "arcface": [{}, {"scale": 8.0}, {"gradient": "straight_through"}],
}
CASES = [(name, options) for name, variants in VARIANTS.items() for options in variants]
PAIRWISE = [case for case in CASES if not losses.LOSSES[case[0]].needs_classes]
CLASSIFIERS = [case for case in CASES if losses.LOSSES[case[0]].needs_classes]


def name_of(case: Any) -> str | None:
    if isinstance(case, str):
        return case
    if isinstance(case, dict):
        return ",".join(f"{key}={value}" for key, value in case.items()) or "default"
    return None


def make(name: str, options: dict[str, Any], dtype: torch.dtype = torch.float64) -> Any:
    """The loss with weights that do not depend on global state."""
    loss = losses.create(name, num_classes=CLASSES, embedding_size=SIZE, **options).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in loss.parameters():
            if parameter.ndim:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return loss


def batch(
    n: int = 23, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings and labels in classes of very different size, one of them a single item."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, SIZE, generator=generator, dtype=dtype)
    labels = torch.tensor([4] + [0] * (n // 2) + [1] * (n // 4))
    rest = torch.arange(n - len(labels)) % 2 + 2
    labels = torch.cat([labels, rest])[torch.randperm(n, generator=generator)]
    return x.requires_grad_(), labels
