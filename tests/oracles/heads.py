"""The losses with class vectors as loops over floats, to be read beside the papers."""

import math
from collections.abc import Sequence
from typing import Any

from .losses import angle, cross_entropy, distance, dot, norm, psi, relations, unit

Vector = Sequence[float]


def cos(x: Vector, w: Vector) -> float:
    return dot(unit(x), unit(w))


def clip(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


def arc(cosine: float, m: float) -> float:
    theta = math.acos(clip(cosine, -1, 1))
    return math.cos(theta + m) if theta + m < math.pi else math.cos(theta) - m * math.sin(m)


def psi_of(phi: float) -> float:
    return psi(phi, 1.0)


def soft_similarity(x: Vector, centers: Sequence[Vector], temperature: float) -> float:
    cosines = [cos(x, w) for w in centers]
    weights = [math.exp(c / temperature) for c in cosines]
    return sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)


def similarity(name: str, x: Vector, w: Any, o: dict[str, Any]) -> float:
    """The cosine between an item and a class."""
    several = w and isinstance(w[0], list)
    if name == "softtriple" and several:
        return soft_similarity(x, w, o["temperature"])
    return max(cos(x, one) for one in w) if several else cos(x, w)


def target_cosine(name: str, cosine: float, x: Vector, o: dict[str, Any]) -> float:
    if name in ("cosface", "uniformface", "softtriple"):
        return cosine - o["margin"]
    if name in ("arcface", "subcenterarcface", "curricularface"):
        return arc(cosine, o["margin"])
    if name == "combined":
        return psi_of(o["m1"] * math.acos(clip(cosine, -1, 1)) + o["m2"]) - o["m3"]
    if name == "adaface":
        q = clip(o["concentration"] * (norm(x) - o["norm_mean"]) / (o["norm_deviation"] + 0.001), -1, 1)
        theta = clip(math.acos(clip(cosine, -1, 1)) - o["margin"] * q, 0.001, math.pi - 0.001)
        return math.cos(theta) - (o["margin"] + o["margin"] * q)
    if name == "magface":
        (low, high), (short, long) = o["margins"], o["norms"]
        return arc(cosine, low + (high - low) * (clip(norm(x), short, long) - short) / (long - short))
    return cosine


def logits(
    name: str, x: Vector, y: int, W: Sequence[Any], bias: Vector | None, o: dict[str, Any]
) -> list[float]:
    """The logits that enter the softmax, margins and all; −inf where a class is filtered."""
    if name in ("softmax", "center", "l2softmax"):
        f = [o["alpha"] * v for v in unit(x)] if name == "l2softmax" else x
        return [dot(f, w) + (bias[j] if bias else 0.0) for j, w in enumerate(W)]
    if name in ("sphereface", "largemargin"):
        radius = [(o.get("scale") or norm(x)) * (norm(w) if name == "largemargin" else 1.0) for w in W]
        z = [r * cos(x, w) for r, w in zip(radius, W, strict=True)]
        blend = o["annealing"] * cos(x, W[y]) + psi(angle(x, W[y]), o["margin"])
        z[y] = radius[y] * blend / (1 + o["annealing"])
        return z
    if name == "proxynca++":
        return [-distance(unit(x), unit(w), "squared_euclidean") / o["temperature"] for w in W]
    cosines = [similarity(name, x, w, o) for w in W]
    z = [o["scale"] * c for c in cosines]
    for j, c in enumerate(cosines):
        if j == y:
            continue
        hard = c > math.cos(math.acos(clip(cosines[y], -1, 1)) + o.get("margin", 0))
        if name == "curricularface" and hard:
            z[j] = o["scale"] * c * (o["t"] + c)
        if o.get("filter_above") is not None and c > o["filter_above"]:
            z[j] = -math.inf
    z[y] = o["scale"] * target_cosine(name, cosines[y], x, o)
    return z


def smoothed(z: Sequence[float], y: int, epsilon: float) -> float:
    """Cross-entropy with smoothed labels over the classes that are there."""
    there = [j for j, v in enumerate(z) if v > -math.inf]
    wanted = {j: epsilon / len(there) + (1 - epsilon) * (j == y) for j in there}
    kept = [z[j] for j in there]
    return sum(wanted[j] * cross_entropy(kept, i) for i, j in enumerate(there))


def item(name: str, x: Vector, y: int, W: Sequence[Any], bias: Vector | None, o: dict[str, Any]) -> float:
    """The loss of one item, without what all items share."""
    if name == "p2sgrad":
        return 0.5 * sum((cos(x, w) - (j == y)) ** 2 for j, w in enumerate(W))
    if name == "proxynca":
        d = [distance(unit(x), unit(w), "squared_euclidean") for w in W]
        below = sum(math.exp(-o["scale"] * v) for j, v in enumerate(d) if j != y)
        return -math.log(math.exp(-o["scale"] * d[y]) / below)
    value = smoothed(logits(name, x, y, W, bias, o), y, o.get("label_smoothing", 0.0))
    if name == "center":
        value += 0.5 * o["strength"] * distance(x, o["centers"][y], "squared_euclidean")
    if name == "magface":
        a = clip(norm(x), *o["norms"])
        value += o["strength"] * (a / o["norms"][1] ** 2 + 1 / a)
    return value


def shared_by_all(name: str, labels: Sequence[int], W: Sequence[Any], o: dict[str, Any]) -> float:
    if name == "uniformface":
        present = sorted(set(labels))
        pairs = [(i, j) for i in present for j in range(len(W)) if i != j]
        near = [1 / (1 + distance(unit(W[i]), unit(W[j]), "euclidean")) for i, j in pairs]
        return o["strength"] * sum(near) / len(near)
    if name == "softtriple" and isinstance(W[0][0], list):
        K = len(W[0])
        gaps = [math.sqrt(2 - 2 * cos(w[i], w[j])) for w in W for i in range(K) for j in range(i + 1, K)]
        return o["strength"] * sum(gaps) / (len(W) * K * (K - 1))
    return 0.0


def proxy_anchor(X: Sequence[Vector], labels: Sequence[int], W: Sequence[Vector], o: dict[str, Any]) -> float:
    alpha, delta = o["alpha"], o["margin"]
    pulls, pushes = [], []
    for j, w in enumerate(W):
        own = [math.exp(-alpha * (cos(x, w) - delta)) for x, y in zip(X, labels, strict=True) if y == j]
        rest = [math.exp(alpha * (cos(x, w) + delta)) for x, y in zip(X, labels, strict=True) if y != j]
        pulls += [math.log(1 + sum(own))] if own else []
        pushes.append(math.log(1 + sum(rest)))
    return sum(pulls) / len(pulls) + sum(pushes) / len(W)


def loss(
    name: str,
    X: Sequence[Vector],
    labels: Sequence[int],
    W: Sequence[Any],
    bias: Vector | None,
    o: dict[str, Any],
) -> float:
    """The loss of a batch. `o` has every option by name, and the state that the step uses."""
    if name == "proxyanchor":
        return proxy_anchor(X, labels, W, o)
    common = shared_by_all(name, labels, W, o)
    values = sorted(item(name, x, y, W, bias, o) + common for x, y in zip(X, labels, strict=True))
    kept = values[: len(values) - math.floor(o.get("trim", 0.0) * len(values))]
    return sum(kept) / len(kept)


def nca(X: Sequence[Vector], labels: Sequence[int], scale: float, kind: str, normalize: bool) -> float:
    rows = [unit(x) if normalize else x for x in X]
    positives, negatives = relations(labels)
    values = []
    for a, x in enumerate(rows):
        p = [math.exp(-scale * distance(x, rows[j], kind)) for j in positives[a]]
        n = [math.exp(-scale * distance(x, rows[j], kind)) for j in negatives[a]]
        if p:
            values.append(-math.log(sum(p) / (sum(p) + sum(n))))
    return sum(values) / len(values) if values else 0.0
