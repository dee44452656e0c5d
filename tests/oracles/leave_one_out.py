"""What a measure would be without one item, or without one class: measured again on what is left."""

import numpy as np

from . import evaluation as oracle

FORMULAS = {
    "recall@1": lambda hits: oracle.recall_at(hits, 1),
    "recall@3": lambda hits: oracle.recall_at(hits, 3),
    "precision@4": lambda hits: oracle.precision_at(hits, 4),
    "precision@40": lambda hits: oracle.precision_at(hits, 40),
    "r-precision": oracle.r_precision,
    "map@r": oracle.map_at_r,
    "map@5": lambda hits: oracle.map_at_k(hits, 5),
    "map": oracle.average_precision,
    "ndcg@4": lambda hits: oracle.ndcg_at(hits, 4),
    "ndcg@10": lambda hits: oracle.ndcg_at(hits, 10),
    "mrr": oracle.reciprocal_rank,
    "mrr@3": lambda hits: oracle.reciprocal_rank(hits, 3),
}


def orders(vectors):
    """All other items of each query, the nearest first, ties in order of position."""
    found = []
    for query, vector in enumerate(vectors):
        distance = np.float32([np.linalg.norm(vector.astype(float) - other) for other in vectors])
        found.append([j for j in np.lexsort((np.arange(len(vectors)), distance)) if j != query])
    return found


def means(order, labels, gone):
    """Each measure as a mean over the queries that are left and have a positive, without the items ``gone``."""
    values = {name: [] for name in FORMULAS}
    for query, others in enumerate(order):
        hits = [bool(labels[j] == labels[query]) for j in others if j not in gone]
        if query not in gone and any(hits):
            for name, formula in FORMULAS.items():
                values[name].append(formula(hits))
    return {name: float(np.mean(found)) for name, found in values.items()}


def per_query(order, labels, name, gone):
    """One measure of each query ``(n,)`` without the items ``gone``; NaN where it is gone, or has no positive."""
    values = np.full(len(labels), np.nan)
    for query, others in enumerate(order):
        hits = [bool(labels[j] == labels[query]) for j in others if j not in gone]
        if query not in gone and any(hits):
            values[query] = FORMULAS[name](hits)
    return values


def pseudo_values(vectors, labels, groups):
    """Pseudo-values of the groups about the measure, by name: ``(u,)``, for u groups of items."""
    order = orders(vectors)
    without = [means(order, labels, set(group)) for group in groups]
    u, whole = len(groups), means(order, labels, set())
    found = {}
    for name, value in whole.items():
        left = np.array([one[name] for one in without])
        found[name] = value + (u - 1) * (left.mean() - left)
    return found


def squares(vectors, labels):
    """Sum over pairs of a query and another item of the square of what the query gains without it, by measure."""
    order = orders(vectors)
    sums = dict.fromkeys(FORMULAS, 0.0)
    for query, others in enumerate(order):
        hits = [bool(labels[j] == labels[query]) for j in others]
        for name, formula in FORMULAS.items():
            now = formula(hits) if any(hits) else 0.0
            for at in range(len(hits)):
                left = hits[:at] + hits[at + 1 :]
                sums[name] += ((formula(left) if any(left) else 0.0) - now) ** 2
    return sums


def auc(vectors, labels, gone=frozenset()):
    """AUC over all pairs of the items that are left."""
    kept = [i for i in range(len(vectors)) if i not in gone]
    return oracle.auc(*oracle.all_pairs(vectors[kept], np.asarray(labels)[kept]))
