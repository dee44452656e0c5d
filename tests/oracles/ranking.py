"""Pair, triplet and ranking losses as slow loops over floats, to be read beside the papers.

`D[a][j]` is the distance of anchor a to item j, `S` the cosine; `positives` and `negatives` are lists of lists.
"""

import math
from collections.abc import Callable, Sequence

from .losses import Vector, distance, dot, mean, softplus, unit

Matrix = Sequence[Sequence[float]]
Lists = Sequence[Sequence[int]]


def log_sum_exp(values: Sequence[float]) -> float:
    if not values:
        return -math.inf
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def with_both(positives: Lists, negatives: Lists) -> list[int]:
    return [a for a in range(len(positives)) if positives[a] and negatives[a]]


# --- pairs -----------------------------------------------------------------------------------------------


def online_contrastive(D: Matrix, positives: Lists, negatives: Lists, margin: float) -> float:
    near = [D[a][p] for a in range(len(D)) for p in positives[a]]
    far = [D[a][n] for a in range(len(D)) for n in negatives[a]]
    terms = [d**2 for d in near if d > min(far)]
    terms += [max(0.0, margin - d) ** 2 for d in far if d < max(near)]
    return mean(terms)


def intra_pair_variance(S: Matrix, positives: Lists, negatives: Lists, slacks: tuple[float, float]) -> float:
    near = [S[a][p] for a in range(len(S)) for p in positives[a]]
    far = [S[a][n] for a in range(len(S)) for n in negatives[a]]
    floor, ceiling = (1 - slacks[0]) * mean(near), (1 + slacks[1]) * mean(far)
    return mean([max(0.0, floor - s) ** 2 for s in near]) + mean([max(0.0, s - ceiling) ** 2 for s in far])


def threshold_consistent(
    S: Matrix, positives: Lists, negatives: Lists, limits: tuple[float, float], weights: tuple[float, float]
) -> float:
    near = [limits[0] - S[a][p] for a in range(len(S)) for p in positives[a] if S[a][p] < limits[0]]
    far = [S[a][n] - limits[1] for a in range(len(S)) for n in negatives[a] if S[a][n] > limits[1]]
    return weights[0] * mean(near) + weights[1] * mean(far)


def margin(
    D: Matrix, positives: Lists, negatives: Lists, margin: float, beta: Sequence[float], nu: float
) -> float:
    """Every triplet; `beta` of each anchor."""
    parts = []
    for a in range(len(D)):
        for p in positives[a]:
            for n in negatives[a]:
                parts += [D[a][p] - beta[a] + margin, beta[a] - D[a][n] + margin]
    usable = with_both(positives, negatives)
    return mean([v for v in parts if v > 0]) + nu * mean([beta[a] for a in usable])


# --- triplets --------------------------------------------------------------------------------------------


def swapped_triplet(
    D: Matrix, among: Matrix, positives: Lists, negatives: Lists, margin: float, mining: str, soft: bool
) -> float:
    """`among` holds the distances of the references to each other."""
    terms = []
    for a in range(len(D)):
        for p in positives[a]:
            for n in negatives[a]:
                gap = D[a][p] - D[a][n]
                if (mining == "hard" and gap < 0) or (mining == "semihard" and not -margin < gap < 0):
                    continue
                gap = D[a][p] - min(D[a][n], among[p][n])
                terms.append(softplus(gap) if soft else max(0.0, gap + margin))
    return mean([v for v in terms if v > 0])


def one_triplet(
    D: Matrix, positives: Lists, negatives: Lists, margin: float, positive: str, negative: str
) -> float:
    terms = []
    for a in with_both(positives, negatives):
        near, far = sorted(D[a][p] for p in positives[a]), sorted(D[a][n] for n in negatives[a])
        if positive == "semihard":
            n = far[-1] if negative == "easy" else far[0]
            closer = [d for d in near if d < n]
            if not closer:
                continue
            p = closer[-1]
        else:
            p = near[0] if positive == "easy" else near[-1]
            beyond = [d for d in far if d > p] if negative == "semihard" else far
            if not beyond:
                continue
            n = beyond[-1] if negative == "easy" else beyond[0]
        terms.append(max(0.0, p - n + margin))
    return mean(terms)


def centroid_triplet(
    X: Sequence[Vector], labels: Sequence[int], margin: float, kind: str, hardest: bool
) -> float:
    terms = []
    for a, x in enumerate(X):
        own = [X[j] for j in range(len(X)) if labels[j] == labels[a] and j != a]
        if not own:
            continue
        near = distance(x, middle(own), kind)
        far = [
            distance(x, middle([X[j] for j in range(len(X)) if labels[j] == k]), kind)
            for k in sorted(set(labels))
            if k != labels[a]
        ]
        terms += [max(0.0, near - d + margin) for d in ([min(far)] if hardest and far else far)]
    return mean([v for v in terms if v > 0])


def middle(rows: Sequence[Vector]) -> list[float]:
    return [mean(column) for column in zip(*rows, strict=True)]


def ge2e(X: Sequence[Vector], labels: Sequence[int], form: str, scale: float, bias: float) -> float:
    def likeness(x: Vector, rows: Sequence[Vector]) -> float:
        return scale * dot(unit(x), unit(middle(rows))) + bias

    terms = []
    for a, x in enumerate(X):
        own = [X[j] for j in range(len(X)) if labels[j] == labels[a] and j != a]
        if not own:
            continue
        to_own = likeness(x, own)
        to_others = [
            likeness(x, [X[j] for j in range(len(X)) if labels[j] == k])
            for k in sorted(set(labels))
            if k != labels[a]
        ]
        if form == "softmax":
            terms.append(-to_own + log_sum_exp([to_own, *to_others]))
        else:
            terms.append(1 - sigmoid(to_own) + max(sigmoid(s) for s in to_others))
    return mean(terms)


# --- one positive against many negatives -----------------------------------------------------------------


def angular(X: Sequence[Vector], positives: Lists, negatives: Lists, angle: float) -> float:
    t, terms = math.tan(angle) ** 2, []
    for a in with_both(positives, negatives):
        for p in positives[a]:
            both = [u + v for u, v in zip(X[a], X[p], strict=True)]
            z = [4 * t * dot(both, X[n]) - 2 * (1 + t) * dot(X[a], X[p]) for n in negatives[a]]
            terms.append(softplus(log_sum_exp(z)))
    return mean(terms)


def n_pairs(X: Sequence[Vector], positives: Lists, negatives: Lists) -> float:
    terms = []
    for a in with_both(positives, negatives):
        for p in positives[a]:
            others = [dot(X[a], X[n]) - dot(X[a], X[p]) for n in negatives[a]]
            terms.append(softplus(log_sum_exp(others)))
    return mean(terms)


def n_pairs_one_a_class(X: Sequence[Vector], labels: Sequence[int]) -> float:
    chosen = [[j for j in range(len(labels)) if labels[j] == k][:2] for k in sorted(set(labels))]
    pairs = [pair for pair in chosen if len(pair) == 2]
    terms = [
        softplus(log_sum_exp([dot(X[a], X[q]) - dot(X[a], X[p]) for _, q in pairs if q != p]))
        for a, p in pairs
    ]
    return mean(terms)


def tuplet(S: Matrix, positives: Lists, negatives: Lists, margin: float, scale: float) -> float:
    terms = []
    for a in with_both(positives, negatives):
        for p in positives[a]:
            slack = math.cos(math.acos(min(1.0, S[a][p])) - margin)
            terms.append(softplus(log_sum_exp([scale * (S[a][n] - slack) for n in negatives[a]])))
    return mean(terms)


def lifted(
    D: Matrix,
    among: Matrix,
    positives: Lists,
    negatives: Lists,
    negatives_of_references: Lists,
    margin: float,
    positive_margin: float,
) -> float:
    terms = []
    for a in range(len(D)):
        for p in positives[a]:
            both = [margin - D[a][n] for n in negatives[a]]
            both += [margin - among[p][n] for n in negatives_of_references[p]]
            if both:
                terms.append(0.5 * max(0.0, log_sum_exp(both) + D[a][p] - positive_margin) ** 2)
    return mean(terms)


def generalized_lifted(
    D: Matrix, positives: Lists, negatives: Lists, margin: float, positive_margin: float
) -> float:
    terms = []
    for a in with_both(positives, negatives):
        near = log_sum_exp([margin - D[a][n] for n in negatives[a]])
        terms.append(max(0.0, log_sum_exp([D[a][p] - positive_margin for p in positives[a]]) + near))
    return mean(terms)


def multi_similarity(
    S: Matrix,
    positives: Lists,
    negatives: Lists,
    alpha: float,
    beta: float,
    base: float,
    epsilon: float | None,
) -> float:
    terms = []
    for a in range(len(S)):
        near, far = [S[a][p] for p in positives[a]], [S[a][n] for n in negatives[a]]
        if not near and not far:
            continue
        if epsilon is not None:
            near, far = (
                [s for s in near if far and s - epsilon < max(far)],
                [s for s in far if near and s + epsilon > min(near)],
            )
        pull = math.log(1 + sum(math.exp(-alpha * (s - base)) for s in near)) / alpha
        terms.append(pull + math.log(1 + sum(math.exp(beta * (s - base)) for s in far)) / beta)
    return mean(terms)


def circle(S: Matrix, positives: Lists, negatives: Lists, margin: float, scale: float) -> float:
    terms = []
    for a in with_both(positives, negatives):
        pull = [-scale * max(0.0, 1 + margin - s) * (s - 1 + margin) for s in (S[a][p] for p in positives[a])]
        push = [scale * max(0.0, s + margin) * (s - margin) for s in (S[a][n] for n in negatives[a])]
        terms.append(softplus(log_sum_exp(pull) + log_sum_exp(push)))
    return mean(terms)


def ranked_list(
    D: Matrix,
    positives: Lists,
    negatives: Lists,
    margin: float,
    alpha: float,
    balance: float,
    temperatures: tuple[float, float],
) -> float:
    def weighted(excess: Sequence[float], temperature: float) -> float:
        weights = [math.exp(temperature * v) for v in excess]
        return sum(w * v for w, v in zip(weights, excess, strict=True)) / sum(weights) if excess else 0.0

    terms = []
    for a in range(len(D)):
        if positives[a] or negatives[a]:
            pull = [D[a][p] - (alpha - margin) for p in positives[a] if D[a][p] > alpha - margin]
            push = [alpha - D[a][n] for n in negatives[a] if D[a][n] < alpha]
            terms.append(
                (1 - balance) * weighted(pull, temperatures[1]) + balance * weighted(push, temperatures[0])
            )
    return mean(terms)


# --- ranks -----------------------------------------------------------------------------------------------


def ranks(
    S: Matrix,
    positives: Lists,
    negatives: Lists,
    temperature: float,
    quality: Callable[[float, float, int], float],
) -> float:
    """Mean over anchors and their positives of quality(positives before, negatives before, positives in all)."""
    terms = []
    for a in range(len(S)):
        if not positives[a]:
            continue
        values = []
        for p in positives[a]:
            beside = sum(sigmoid((S[a][j] - S[a][p]) / temperature) for j in positives[a] if j != p)
            before = sum(sigmoid((S[a][n] - S[a][p]) / temperature) for n in negatives[a])
            values.append(quality(beside, before, len(positives[a])))
        terms.append(mean(values))
    return mean(terms)


def pnp(variant: str, R: float, alpha: float, b: float) -> float:
    return {
        "O": R,
        "Ds": math.log(1 + R),
        "Dq": 1 - 1 / (1 + R) ** alpha,
        "Iu": (1 + R) * math.log(1 + R),
        "Ib": (b * R - math.log(1 + b * R)) / b**2,
    }[variant]


def soft_counts(values: Sequence[float], nodes: int, low: float, width: float) -> list[float]:
    return [sum(max(0.0, 1 - abs(v - (low + j * width)) / width) for v in values) for j in range(nodes)]


def fast_ap(D: Matrix, positives: Lists, negatives: Lists, bins: int) -> float:
    terms = []
    for a in range(len(D)):
        if not positives[a]:
            continue
        hits = soft_counts([D[a][p] for p in positives[a]], bins + 1, 0.0, 4 / bins)
        others = soft_counts([D[a][n] for n in negatives[a]], bins + 1, 0.0, 4 / bins)
        precision = 0.0
        for j in range(bins + 1):
            found, seen = sum(hits[: j + 1]), sum(hits[: j + 1]) + sum(others[: j + 1])
            precision += hits[j] * found / seen if seen > 0 else 0.0
        terms.append(1 - precision / len(positives[a]))
    return mean(terms)


def histogram(S: Matrix, positives: Lists, negatives: Lists, bins: int) -> float:
    near = [S[a][p] for a in range(len(S)) for p in positives[a]]
    far = [S[a][n] for a in range(len(S)) for n in negatives[a]]
    equal = [v / len(near) for v in soft_counts(near, bins + 1, -1.0, 2 / bins)]
    other = [v / len(far) for v in soft_counts(far, bins + 1, -1.0, 2 / bins)]
    return sum(other[r] * sum(equal[: r + 1]) for r in range(bins + 1))


def soft_margin_gaps(D: Matrix, positives: Lists, negatives: Lists) -> list[float]:
    gaps = []
    for a in range(len(D)):
        for p in positives[a]:
            near = [D[a][n] for n in negatives[a]] + [D[b][p] for b in range(len(D)) if p in negatives[b]]
            if near:
                gaps.append(D[a][p] - min(near))
    return gaps


def dynamic_soft_margin(steps: Sequence[Sequence[float]], bins: int, momentum: float) -> float:
    """The last step's loss, from the gaps of all steps."""
    known, width = [0.0] * (bins + 1), 4 / bins
    for gaps in steps:
        newest = soft_counts(gaps, bins + 1, -2.0, width)
        share = momentum if sum(known) > 0 else 1.0
        known = [(1 - share) * k + share * v / sum(newest) for k, v in zip(known, newest, strict=True)]
    cumulative = [sum(known[: j + 1]) for j in range(bins + 1)]
    return mean([cumulative[math.floor((gap + 2) / width)] * gap for gap in steps[-1]])
