"""Duplicates, outliers and clusters written as plain loops, to be read against the definitions and not to be fast."""

import itertools

import numpy as np


def all_distances(vectors, metric="euclidean"):
    """Every pair in float64."""
    vectors = np.asarray(vectors).astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(vectors, axis=1)
        return 1 - vectors @ vectors.T / np.outer(lengths, lengths)
    squared = np.array([((vectors - row) ** 2).sum(axis=1) for row in vectors])
    return squared if metric == "squared_euclidean" else np.sqrt(squared)


def duplicates(vectors, threshold, splits, contents=None):
    """Group numbers, nearest partners, and the nearest partner in another split of each item that has one."""
    n = len(vectors)
    D = all_distances(vectors)
    if contents is not None:
        D[np.equal.outer(contents, contents)] = 0
    np.fill_diagonal(D, np.inf)
    groups = [{i} for i in range(n)]
    for i, j in itertools.combinations(range(n), 2):
        if D[i, j] <= threshold and groups[i] is not groups[j]:
            joined = groups[i] | groups[j]
            for member in joined:
                groups[member] = joined
    numbers: dict[int, int] = {}
    group = [numbers.setdefault(min(g), len(numbers)) if len(g) > 1 else -1 for g in groups]
    partners = [int(row.argmin()) if row.min() <= threshold else -1 for row in D]
    leaks = {}
    for i in range(n):
        others = [j for j in range(n) if splits[j] != splits[i] and D[i, j] <= threshold]
        if others:
            leaks[i] = min(others, key=lambda j: (D[i, j], j))
    return group, partners, leaks


def average_linkage(vectors, count):
    """Merge the two clusters with the smallest mean squared distance until ``count`` are left."""
    D = all_distances(vectors, "squared_euclidean")
    clusters = [[i] for i in range(len(vectors))]
    while len(clusters) > count:
        a, b = min(
            itertools.combinations(range(len(clusters)), 2),
            key=lambda pair: D[np.ix_(clusters[pair[0]], clusters[pair[1]])].mean(),
        )
        clusters[a] += clusters.pop(b)
    return {frozenset(cluster) for cluster in clusters}


def b_cubed(classes, clusters):
    """F of the mean precision and recall of the items, each counted by hand."""
    n = len(classes)
    precision = recall = 0.0
    for i in range(n):
        cluster = [j for j in range(n) if clusters[j] == clusters[i]]
        own = [j for j in range(n) if classes[j] == classes[i]]
        both = len(set(cluster) & set(own))
        precision += both / len(cluster) / n
        recall += both / len(own) / n
    return 2 * precision * recall / (precision + recall)


def propagate(vectors, labels, k, spread):
    """Labels (−1: unknown) spread over the k-NN graph: the closed form, one dense matrix."""
    n = len(vectors)
    D = all_distances(vectors)
    np.fill_diagonal(D, np.inf)
    neighbors = np.argsort(D, axis=1, kind="stable")[:, :k]
    mean = np.take_along_axis(D, neighbors, axis=1).mean()
    W = np.zeros((n, n))
    for i in range(n):
        for j in neighbors[i]:
            W[i, j] = W[j, i] = np.exp(-((D[i, j] / mean) ** 2)) + 1e-12
    S = W / np.sqrt(np.outer(W.sum(0), W.sum(0)))
    Y = np.array([[float(label == c) for c in range(max(labels) + 1)] for label in labels])
    return (1 - spread) * np.linalg.solve(np.eye(n) - spread * S, Y)
