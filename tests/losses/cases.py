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
    + [{"mining": "facenet", "distance": "dot"}, {"mining": "all", "normalize": False}]
    + [{"mining": m} for m in ("easy_positive", "distance_weighted")]
    + [{"mining": "batch", "positives": "semihard"}]
    + [{"mining": "batch", "positives": "easy", "negatives": "easy", "margin": 2.0}]
    + [{"mining": m, "swap": True} for m in ("all", "hard", "semihard", "batch_hard", "facenet")]
    + [{"mining": m, "swap": True, "soft": True} for m in ("all", "semihard")],
    "onlinecontrastive": [{}, {"margin": 2.0, "distance": "euclidean"}],
    "intrapairvariance": [{}],
    "thresholdconsistent": [{}, {"positive_weight": 2.0, "negative_weight": 0.5}],
    "margin": [
        {"mining": "all"},
        {"mining": "distance_weighted", "regularization": 0.1},
        {"mining": "all", "beta_per_class": True, "regularization": 0.1},
    ],
    "centroidtriplet": [{}, {"hardest": True, "distance": "euclidean", "margin": 0.5}],
    "angular": [{}, {"angle": 0.5}],
    "npairs": [{}, {"normalize": True}, {"pairs": "one"}],
    "tuplet": [{}, {"margin": 0.3, "scale": 2.0}],
    "lifted": [{}, {"normalize": True, "positive_margin": 0.1}],
    "generalizedlifted": [{}, {"normalize": True}],
    "multisimilarity": [{}, {"epsilon": None}, {"alpha": 1.0, "beta": 3.0}],
    "circle": [{}, {"margin": 0.25, "scale": 4.0}],
    "rankedlist": [{}, {"positive_temperature": 2.0, "balance": 0.3}],
    "fastap": [{}, {"bins": 25}],
    "smoothap": [{}, {"temperature": 0.3}],
    "pnp": [{"variant": v, "temperature": 0.3} for v in ("O", "Ds", "Dq", "Iu", "Ib")] + [{}],
    "recallk": [{}, {"k": [1, 3], "temperature": 0.3}],
    "histogram": [{}, {"bins": 20}],
    "dynamicsoftmargin": [{}, {"bins": 25, "rate": 0.3}],
    "ge2e": [{}, {"form": "contrast", "scale": 3.0, "bias": -1.0}],
    "ntxent": [{}, {"temperature": 1.0, "distance": "euclidean", "normalize": True}],
    "supcon": [{}, {"temperature": 1.0, "distance": "squared_euclidean"}],
    "mnr": [{}, {"scale": 2.0, "learnable": True}, {"scale": 3.0, "harden": "all", "hardness": 1.0}]
    + [
        {"scale": 2.0, "symmetric": True, "joint": joint, "contrast_anchors": joint}
        for joint in (False, True)
    ],
    "gist": [{"scale": 5.0}, {"scale": 5.0, "guide_margin": 0.1, "margin_kind": "relative"}],
    "siglip": [{}, {"scale": 2.0, "bias": -1.0, "distance": "dot"}],
    "megabatchmargin": [{}],
    "vicreg": [{}],
    "barlowtwins": [{}, {"redundancy": 0.5}],
    "ladder": [
        {},
        {"mining": "hard"},
        {"thresholds": [0.5, 0.0], "margin": [0.1, 0.3], "average": "candidates"},
    ],
    "cosent": [{}, {"scale": 3.0}],
    "angle": [{"scale": 3.0}],
    "cosinemse": [{}],
    "softmax": [{}, {"bias": False}],
    "normface": [{}],
    "l2softmax": [{}, {"learnable": True}],
    "sphereface": [{}, {"margin": 1.5, "scale": 8.0}],
    "cosface": [{}, {"scale": 8.0}],
    "arcface": [{}, {"scale": 8.0}, {"gradient": "exact"}]
    + [
        {"scale": 8.0, "gradient": "exact"} | more
        for more in ({"label_smoothing": 0.1}, {"trim": 0.2}, {"filter_above": 0.3})
    ]
    + [{"scale": 8.0, "label_smoothing": 0.1, "filter_above": 0.3, "trim": 0.1, "gradient": "exact"}],
    "combined": [{}, {"m1": 1.3, "m2": 0.3, "m3": 0.1, "scale": 8.0}],
    "largemargin": [{}, {"margin": 2, "anneal": False}],
    "subcenterarcface": [
        {},
        {"gradient": "exact", "scale": 8.0, "subcenters": 2, "label_smoothing": 0.1},
        {"gradient": "exact", "subcenters": 1},
    ],
    "adaface": [{}, {"scale": 8.0, "rate": 0.5}],
    "magface": [{}, {"scale": 8.0, "norms": [1.0, 4.0], "strength": 1.0}],
    "curricularface": [{}, {"scale": 8.0, "rate": 0.5, "filter_above": 0.5, "label_smoothing": 0.1}],
    "adacos": [{}, {"dynamic": False}],
    "p2sgrad": [{}],
    "uniformface": [{"strength": 3.0, "scale": 8.0}],
    "center": [{}, {"strength": 0.5, "bias": False}],
    "nca": [{}, {"scale": 0.3, "distance": "euclidean", "normalize": False}],
    "proxynca": [{}, {"scale": 1.0}],
    "proxynca++": [{}, {"temperature": 0.5, "label_smoothing": 0.1}],
    "proxyanchor": [{}, {"alpha": 5.0, "margin": 0.3}],
    "softtriple": [{}, {"subcenters": 3, "strength": 0.0}],
}
CASES = [(name, options) for name, variants in VARIANTS.items() for options in variants]
VIEWS = {name for name, loss in losses.LOSSES.items() if issubclass(loss, losses.ViewLoss)}
PAIRWISE = [case for case in CASES if not losses.LOSSES[case[0]].needs_classes and case[0] not in VIEWS]
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
