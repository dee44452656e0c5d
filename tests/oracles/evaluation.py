"""Measures of evaluation written as plain loops, to be read against the definitions and not to be fast."""

import itertools
import math
from collections.abc import Sequence

import numpy as np


def ranked_hits(vectors, labels, query, gallery=None, gallery_labels=None):
    """Hits of one query in order of distance; ties in order of position; the query itself left out."""
    within = gallery is None
    gallery = vectors if within else gallery
    gallery_labels = labels if within else gallery_labels
    others = [j for j in range(len(gallery)) if not (within and j == query)]
    distance = {j: math.dist(vectors[query], gallery[j]) for j in others}
    order = sorted(others, key=lambda j: (np.float32(distance[j]), j))
    return [bool(gallery_labels[j] == labels[query]) for j in order]


def recall_at(hits: Sequence[bool], k: int) -> float:
    return float(any(hits[:k]))


def precision_at(hits: Sequence[bool], k: int) -> float:
    return sum(hits[:k]) / k


def r_precision(hits: Sequence[bool]) -> float:
    return precision_at(hits, sum(hits))


def map_at_r(hits: Sequence[bool]) -> float:
    R = sum(hits)
    return sum(precision_at(hits, i) for i in range(1, R + 1) if hits[i - 1]) / R


def map_at_k(hits: Sequence[bool], k: int) -> float:
    found = sum(precision_at(hits, i) for i in range(1, min(k, len(hits)) + 1) if hits[i - 1])
    return found / min(k, sum(hits))


def average_precision(hits: Sequence[bool]) -> float:
    return sum(precision_at(hits, i + 1) for i, hit in enumerate(hits) if hit) / sum(hits)


def ndcg_at(hits: Sequence[bool], k: int) -> float:
    def gain(ranking):
        return sum(1 / math.log2(i + 2) for i, hit in enumerate(ranking[:k]) if hit)

    return gain(hits) / gain(sorted(hits, reverse=True))


def reciprocal_rank(hits: Sequence[bool], k: float = math.inf) -> float:
    rank = 1 + list(hits).index(True)
    return 1 / rank if rank <= k else 0.0


def all_pairs(vectors, labels):
    """Distances of all unordered pairs, and which are of one class."""
    n = len(vectors)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    distances = [math.dist(vectors[i], vectors[j]) for i, j in pairs]
    return np.array(distances), np.array([labels[i] == labels[j] for i, j in pairs])


def auc(distances, same) -> float:
    wins = [1.0 if p < n else 0.5 if p == n else 0.0 for p in distances[same] for n in distances[~same]]
    return sum(wins) / len(wins)


def operating_points(distances, same):
    """(far, tar) at every useful threshold: accept what is closer than it."""
    thresholds = [*sorted(set(distances)), math.inf]
    return [(float((distances[~same] < t).mean()), float((distances[same] < t).mean())) for t in thresholds]


def tar_at_far(distances, same, rate: float) -> float:
    return max(tar for far, tar in operating_points(distances, same) if far <= rate)


def equal_error_rate(distances, same) -> float:
    points = operating_points(distances, same)
    for (far0, tar0), (far1, tar1) in itertools.pairwise(points):
        before, after = far0 - (1 - tar0), far1 - (1 - tar1)
        if after >= 0:
            share = -before / (after - before)
            return far0 + share * (far1 - far0)
    raise AssertionError("the curve ends at FAR = TAR = 1")


def best_accuracy(distances, same) -> float:
    thresholds = [*sorted(set(distances)), math.inf]
    return max(float(((distances < t) == same).mean()) for t in thresholds)


def nearest(queries, gallery, k: int):
    """Positions of the k nearest gallery items of each query, ties in gallery order."""
    rows = []
    for query in queries:
        distance = [np.float32(math.dist(query, item)) for item in gallery]
        rows.append(sorted(range(len(gallery)), key=lambda j: (distance[j], j))[:k])
    return np.array(rows)


def alignment(unit, labels) -> float:
    n = len(unit)
    return float(
        np.mean(
            [
                ((unit[i] - unit[j]) ** 2).sum()
                for i in range(n)
                for j in range(n)
                if i != j and labels[i] == labels[j]
            ]
        )
    )


def uniformity(unit) -> float:
    n = len(unit)
    terms = [math.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(n) for j in range(n) if i != j]
    return math.log(sum(terms) / len(terms))


def purity(classes, clusters) -> float:
    right = 0
    for cluster in set(clusters.tolist()):
        inside = [c for c, k in zip(classes, clusters, strict=True) if k == cluster]
        right += max(inside.count(c) for c in set(inside))
    return right / len(classes)


def b_cubed(classes, clusters) -> float:
    n = len(classes)
    precision = recall = 0.0
    for i in range(n):
        cluster = [j for j in range(n) if clusters[j] == clusters[i]]
        own = [j for j in range(n) if classes[j] == classes[i]]
        both = len(set(cluster) & set(own))
        precision += both / len(cluster) / n
        recall += both / len(own) / n
    return 2 * precision * recall / (precision + recall)


def k_occurrence(vectors, k: int) -> np.ndarray:
    counts = np.zeros(len(vectors), int)
    for i, vector in enumerate(vectors):
        others = [j for j in range(len(vectors)) if j != i]
        for j in sorted(others, key=lambda j: (np.float32(math.dist(vector, vectors[j])), j))[:k]:
            counts[j] += 1
    return counts
