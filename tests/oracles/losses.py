"""Every loss and distance as slow loops over floats, to be read beside the papers."""

import math
from collections.abc import Sequence

Vector = Sequence[float]


# --- distances -------------------------------------------------------------------------------------------


def dot(a: Vector, b: Vector) -> float:
    return sum(u * v for u, v in zip(a, b, strict=True))


def norm(a: Vector) -> float:
    return math.sqrt(dot(a, a))


def unit(a: Vector) -> list[float]:
    return [v / norm(a) for v in a] if norm(a) > 0 else [0.0] * len(a)


def variance(a: Vector) -> float:
    mean = sum(a) / len(a)
    return sum((v - mean) ** 2 for v in a) / (len(a) - 1)


def distance(a: Vector, b: Vector, kind: str) -> float:
    difference = [u - v for u, v in zip(a, b, strict=True)]
    if kind == "euclidean":
        return norm(difference)
    if kind == "squared_euclidean":
        return dot(difference, difference)
    if kind == "cosine":
        return 1 - dot(unit(a), unit(b))
    if kind == "dot":
        return -dot(a, b)
    if kind == "manhattan":
        return sum(abs(v) for v in difference)
    assert kind == "snr"
    return variance(difference) / variance(a)


# --- pairs and triplets ----------------------------------------------------------------------------------


def relations(
    labels: Sequence[int], ids: Sequence[int] | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """Lists of positives and of negatives of each anchor."""
    n = len(labels)
    ids = range(n) if ids is None else ids
    positives = [[j for j in range(n) if ids[j] != ids[i] and labels[j] == labels[i]] for i in range(n)]
    negatives = [[j for j in range(n) if ids[j] != ids[i] and labels[j] != labels[i]] for i in range(n)]
    return positives, negatives


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def contrastive(
    D: list[list[float]], labels: Sequence[int], margin: float, positive_margin: float, convention: str
) -> float:
    positives, negatives = relations(labels)
    pulls = [max(0.0, D[a][p] - positive_margin) for a in range(len(D)) for p in positives[a]]
    pushes = [max(0.0, margin - D[a][n]) for a in range(len(D)) for n in negatives[a]]
    if convention == "unsquared":
        return mean([v for v in pulls if v > 0]) + mean([v for v in pushes if v > 0])
    half = 0.5 if convention == "hadsell" else 1.0
    return mean([half * v**2 for v in pulls + pushes])


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def triplet(
    D: list[list[float]], labels: Sequence[int], margin: float, mining: str, average: str, soft: bool = False
) -> float:
    positives, negatives = relations(labels)
    terms, others = [], 0
    for a in range(len(D)):
        triplets = [(p, n) for p in positives[a] for n in negatives[a]]
        if mining == "hard":
            chosen = [(p, n) for p, n in triplets if D[a][n] <= D[a][p]]
        elif mining == "semihard":
            chosen = [(p, n) for p, n in triplets if D[a][p] < D[a][n] < D[a][p] + margin]
        elif mining == "facenet" and negatives[a]:
            chosen = []
            for p in positives[a]:
                beyond = [n for n in negatives[a] if D[a][n] > D[a][p]]
                pick = (
                    min(beyond, key=lambda n: D[a][n]) if beyond else max(negatives[a], key=lambda n: D[a][n])
                )
                chosen.append((p, pick))
        elif mining == "batch_hard" and triplets:
            chosen = [(max(positives[a], key=lambda p: D[a][p]), min(negatives[a], key=lambda n: D[a][n]))]
        else:
            chosen = triplets
        others += len(triplets) - len(chosen) if mining in ("hard", "semihard") else 0
        gaps = [D[a][p] - D[a][n] for p, n in chosen]
        terms += [softplus(gap) if soft else max(0.0, gap + margin) for gap in gaps]
    if average == "candidates":
        return sum(terms) / (len(terms) + others) if terms else 0.0
    return mean([v for v in terms if v > 0])


# --- classes ---------------------------------------------------------------------------------------------


def cross_entropy(logits: Sequence[float], label: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(z - top) for z in logits)) - logits[label]


def angle(x: Vector, w: Vector) -> float:
    return math.acos(max(-1.0, min(1.0, dot(unit(x), unit(w)))))


def psi(theta: float, m: float) -> float:
    k = math.floor(m * theta / math.pi)
    return (-1) ** k * math.cos(m * theta) - 2 * k


def target_logit(name: str, x: Vector, w: Vector, plain: float, **options: float) -> float:
    """The target's logit with its margin; `plain` is the one without."""
    theta = angle(x, w)
    scale, m = options.get("scale", 1.0), options.get("margin", 0.0)
    if name == "cosface":
        return scale * (math.cos(theta) - m)
    if name == "arcface":
        return scale * (math.cos(theta + m) if theta + m < math.pi else math.cos(theta) - m * math.sin(m))
    if name == "sphereface":
        annealing = options["annealing"]
        return norm(x) * (annealing * math.cos(theta) + psi(theta, m)) / (1 + annealing)
    return plain


def classification(
    name: str,
    X: Sequence[Vector],
    labels: Sequence[int],
    W: Sequence[Vector],
    bias: Vector | None,
    **options: float,
) -> float:
    losses = []
    for x, y in zip(X, labels, strict=True):
        if name == "softmax":
            logits = [dot(x, w) + b for w, b in zip(W, bias or [], strict=True)]
        elif name == "l2softmax":
            logits = [options["alpha"] * dot(unit(x), w) + b for w, b in zip(W, bias or [], strict=True)]
        else:
            radius = norm(x) if name == "sphereface" else options["scale"]
            logits = [radius * math.cos(angle(x, w)) for w in W]
        logits[y] = target_logit(name, x, W[y], logits[y], **options)
        losses.append(cross_entropy(logits, y))
    return mean(losses)
