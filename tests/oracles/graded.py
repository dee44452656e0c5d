"""The losses of graded relevance as slow loops over floats."""

import math
from collections.abc import Sequence

from .infonce import cosine
from .losses import Vector, mean, unit


def ladder(
    D: list[list[float]],
    relevance: list[list[float]],
    thresholds: Sequence[float],
    margins: Sequence[float],
    weights: Sequence[float],
    mining: str,
    average: str,
    excluded: set[tuple[int, int]],
) -> float:
    total = 0.0
    for threshold, margin, weight in zip(thresholds, margins, weights, strict=True):
        terms = []
        for a, row in enumerate(D):
            candidates = [j for j in range(len(row)) if (a, j) not in excluded]
            above = [j for j in candidates if relevance[a][j] > threshold]
            below = [j for j in candidates if relevance[a][j] <= threshold]
            pairs = [(i, j) for i in above for j in below]
            if mining == "hard" and pairs:
                pairs = [(max(above, key=lambda i: row[i]), min(below, key=lambda j: row[j]))]
            terms += [max(0.0, row[i] - row[j] + margin) for i, j in pairs]
        total += weight * mean(terms if average == "candidates" else [t for t in terms if t > 0])
    return total


def angle_similarity(x: Vector, y: Vector) -> float:
    x, y = unit(x), unit(y)
    half = len(x) // 2
    a = [complex(x[k], x[k + half]) for k in range(half)]
    b = [complex(y[k], y[k + half]) for k in range(half)]
    product = sum(u * v.conjugate() for u, v in zip(a, b, strict=True))
    return abs(product.real + product.imag)


def cosent(similarities: Sequence[float], scores: Sequence[float], scale: float) -> float:
    """Every two pairs of which one has the higher score."""
    total = 0.0
    for high, more in zip(similarities, scores, strict=True):
        for low, less in zip(similarities, scores, strict=True):
            if more > less:
                total += math.exp(scale * (low - high))
    return math.log1p(total)


def cosine_mse(pairs: Sequence[tuple[Vector, Vector]], scores: Sequence[float]) -> float:
    return mean([(score - cosine(x, y)) ** 2 for (x, y), score in zip(pairs, scores, strict=True)])
