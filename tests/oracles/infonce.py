"""InfoNCE, its relatives and the losses of views as slow loops over floats, to be read beside the papers."""

import math
from collections.abc import Callable, Sequence

from .losses import Vector, dot, mean, softplus, unit

Matrix = list[list[float]]
Lists = list[list[int]]


def cosine(a: Vector, b: Vector) -> float:
    return dot(unit(a), unit(b))


def cosines(X: Sequence[Vector], Y: Sequence[Vector]) -> Matrix:
    return [[cosine(x, y) for y in Y] for x in X]


def log_sum_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def ntxent(S: Matrix, positives: Lists, negatives: Lists, temperature: float) -> float:
    terms = []
    for a, row in enumerate(S):
        for p in positives[a]:
            others = [row[n] / temperature for n in negatives[a]]
            terms.append(log_sum_exp([row[p] / temperature, *others]) - row[p] / temperature)
    return mean(terms)


def supcon(
    S: Matrix, positives: Lists, negatives: Lists, temperature: float, weight: Callable[[int, int], float]
) -> float:
    terms = []
    for a, row in enumerate(S):
        if not positives[a]:
            continue
        total = log_sum_exp([row[j] / temperature for j in positives[a] + negatives[a]])
        weights = [weight(a, p) for p in positives[a]]
        each = [(total - row[p] / temperature) * w for p, w in zip(positives[a], weights, strict=True)]
        terms.append(sum(each) / sum(weights))
    return mean(terms)


def mnr(
    A: Sequence[Vector],
    R: Sequence[Vector],
    scale: float,
    *,
    labels: Sequence[int] | None = None,
    reference_labels: Sequence[int] | None = None,
    symmetric: bool = False,
    joint: bool = False,
    contrast_anchors: bool = False,
    contrast_references: bool = False,
) -> float:
    """Anchor i belongs to reference i; what shares its label is no negative; hard negatives i + k·n share its row."""
    n, m = len(A), len(R)

    def apart(i: int, j: int, of: Sequence[int] | None) -> bool:
        return labels is None or of is None or labels[i] != of[j]

    terms = []
    for i in range(n):
        positive = scale * cosine(A[i], R[i])
        forth = [positive] + [
            scale * cosine(A[i], R[j]) for j in range(m) if j != i and apart(i, j, reference_labels)
        ]
        back = [positive] + [scale * cosine(A[j], R[i]) for j in range(n) if j != i and apart(i, j, labels)]
        if contrast_anchors:
            forth += [scale * cosine(A[i], A[j]) for j in range(n) if j != i and apart(i, j, labels)]
        if contrast_references:
            forth += [
                scale * cosine(R[i], R[j]) for j in range(m) if (j - i) % n and apart(i, j, reference_labels)
            ]
        if joint:
            terms.append(log_sum_exp(forth + back) - positive)
        elif symmetric:
            terms.append((log_sum_exp(forth) + log_sum_exp(back)) / 2 - positive)
        else:
            terms.append(log_sum_exp(forth) - positive)
    return mean(terms)


def siglip(S: Matrix, positives: Lists, negatives: Lists, scale: float, bias: float) -> float:
    terms = []
    for a, row in enumerate(S):
        terms.append(
            sum(softplus(-(scale * row[p] + bias)) for p in positives[a])
            + sum(softplus(scale * row[n] + bias) for n in negatives[a])
        )
    return mean(terms)


def mega_batch_margin(
    S: Matrix, positives: Lists, negatives: Lists, positive_margin: float, negative_margin: float
) -> float:
    pull = [max(0.0, positive_margin - S[a][p]) for a in range(len(S)) for p in positives[a]]
    push = [
        max(0.0, max(S[a][n] for n in negatives[a]) - negative_margin) for a in range(len(S)) if negatives[a]
    ]
    return mean(pull) + mean(push)


def column(X: Sequence[Vector], k: int) -> list[float]:
    return [x[k] for x in X]


def covariance(a: Sequence[float], b: Sequence[float], divisor: int) -> float:
    return sum((u - mean(a)) * (v - mean(b)) for u, v in zip(a, b, strict=True)) / divisor


def vicreg(X: Sequence[Vector], Y: Sequence[Vector], pairs: Sequence[tuple[int, int]]) -> float:
    d = len(X[0])
    apart = mean([sum((X[i][k] - Y[j][k]) ** 2 for k in range(d)) / d for i, j in pairs])
    narrow = entangled = 0.0
    for V in (X, Y):
        for k in range(d):
            own = covariance(column(V, k), column(V, k), len(V) - 1)
            narrow += max(0.0, 1 - math.sqrt(own + 1e-4)) / (2 * d)
            entangled += (
                sum(covariance(column(V, k), column(V, j), len(V) - 1) ** 2 for j in range(d) if j != k) / d
            )
    return 25 * apart + 25 * narrow + entangled


def barlow_twins(
    X: Sequence[Vector], Y: Sequence[Vector], pairs: Sequence[tuple[int, int]], redundancy: float
) -> float:
    d = len(X[0])

    def standard(V: Sequence[Vector], i: int, k: int) -> float:
        values = column(V, k)
        return (V[i][k] - mean(values)) / math.sqrt(covariance(values, values, len(V)))

    total = 0.0
    for k in range(d):
        for j in range(d):
            C = mean([standard(X, a, k) * standard(Y, b, j) for a, b in pairs])
            total += (1 - C) ** 2 if j == k else redundancy * C**2
    return total
