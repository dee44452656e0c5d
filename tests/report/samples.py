"""Small trials and boards with known contents."""

from dataclasses import fields
from html.parser import HTMLParser

import numpy as np

from kyori.comparison.board import Board, Cell
from kyori.report import Settled, Spring, Trial
from kyori.results import Result, Results
from kyori.vectors import VectorTable

VOID = {"meta", "img", "br", "hr", "col"}


def results_of(vectors, labels, *, curves=True, per_query=True):
    """Recall@1 by query, and the curves of all pairs, written as plainly as possible."""
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    upper = np.triu_indices(len(labels), 1)
    pairs, same = distances[upper], (labels[:, None] == labels[None])[upper]
    np.fill_diagonal(distances, np.inf)
    hits = (labels[distances.argmin(axis=1)] == labels).astype(np.float32)
    measured = [
        Result("map@r", hits.mean(), 0.2, 0.9, hits if per_query else None, len(labels)),
        Result("recall@1", hits.mean(), 0.2, 0.9, hits if per_query else None, len(labels)),
        Result("eer", 0.1, 0.05, 0.15, n=len(pairs)),
        Result("tar@far=1e-2", 0.4, -np.inf, np.inf, n=len(pairs)),
        Result("uniformity", -2.5, -2.6, -2.4, n=len(pairs)),
        Result("nmi", np.nan, np.nan, np.nan, n=0),
    ]
    if not curves or same.all() or not same.any():
        return Results(measured)
    order = np.argsort(pairs, kind="stable")
    edges = np.linspace(0, pairs.max(), 21)
    roc = {
        "far": (~same[order]).cumsum() / (~same).sum(),
        "tar": same[order].cumsum() / same.sum(),
        "threshold": pairs[order],
    }
    histogram = {
        "edges": edges,
        "same": np.histogram(pairs[same], edges)[0],
        "different": np.histogram(pairs[~same], edges)[0],
    }
    return Results(measured, curves={"roc": roc, "histogram": histogram}, provenance={"metric": "euclidean"})


def vectors_of(labels, noise, seed, d=6):
    """Vectors around one centre a class."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(int(labels.max()) + 1, d))
    return (centres[labels] + noise * generator.normal(size=(len(labels), d))).astype(np.float32)


def settled(t=4, n=6, m=2):
    """Points that go straight to the places of their classes."""
    start, labels = np.random.default_rng(0).normal(size=(n + m, 2)), np.arange(n) % m
    ends = np.stack([np.arange(m), np.arange(m)], axis=1)[np.concatenate([labels, np.arange(m)])]
    ways = start + np.linspace(0, 1, t)[:, None, None] * (ends - start)
    return Settled(ways[:, :n], labels, ways[:, n:], np.arange(m), np.linspace(1, 0, t), spherical=False)


def spring(angles=False):
    """A contrastive spring by hand."""
    distance = np.linspace(0.01, 3, 20)
    return Spring(distance, -distance, np.maximum(1 - distance, 0), angles, settled())


def history_of(epochs, validation=True):
    """Epoch records as the trainer writes them; the last epoch has no active share."""
    records = [
        {
            "kind": "epoch",
            "epoch": e,
            "step": 10 * e,
            "loss": 1 / e,
            "active": 0.5 / e if e < epochs else None,
        }
        for e in range(1, epochs + 1)
    ]
    if validation:
        records = [r | {"validation": {"map@r": 1 - 0.5 / r["epoch"]}} for r in records]
    return records


def cell(
    method="arcface", seed=0, *, n=40, classes=4, noise=0.4, epochs=3, validation=True, names=None, norms=False,
    ids=None, **options,
):  # fmt: skip
    """One trained method on easy data."""
    labels = np.arange(n) % classes
    vectors = vectors_of(labels, noise, seed)
    lengths = np.linspace(1, 2, n, dtype=np.float32)
    columns = {"feature_norm": lengths} if norms and method != "raw" else {}
    table = VectorTable(ids=ids, vectors=vectors, labels=labels, class_names=names, columns=columns)
    history = history_of(epochs, validation) if method != "raw" else ()
    parameters = 1234 if method != "raw" else 0
    return Cell(method, seed, results_of(vectors, labels, **options), table, history, 1.5, parameters)


def trial(*args, **options):
    """The same as the report of one run takes it."""
    made = cell(*args, **options)
    return Trial(**{field.name: getattr(made, field.name) for field in fields(Trial)})


def board(methods=("raw", "softmax", "arcface"), seeds=2, data="digits", **options):
    """A board on which the noise decides who wins: the last method has the least."""
    cells = []
    for i, method in enumerate(methods):
        noise = 1.2 - i / len(methods)
        cells += [cell(method, s, noise=noise, **options) for s in range(1 if method == "raw" else seeds)]
    return Board(data, "map@r", tuple(cells), {"epochs": 3, "backbone": "mlp"}, f"kyori compare {data}")


class Pictures:
    """Items that are images of one grey each."""

    def __init__(self, size=8):
        self.size = size

    def read(self, index):
        from PIL import Image

        return Image.new("L", (self.size, self.size), index % 256)


class Vectors:
    """Items that are vectors."""

    def __init__(self, features=100):
        self.features = features

    def read(self, index):
        return np.linspace(-1, index + 1, self.features).astype(np.float32)


class Page(HTMLParser):
    """Reads a page and complains where it is not well formed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.headings, self.ids, self.alts = [], [], [], [], []
        self.words = ""
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"<{tag}> has an attribute twice"
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "img":
            self.alts.append(attributes["alt"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words += data
            if {"h1", "h2", "h3", "dt", "summary"} & set(self.open) or self.open[-1] == "th":
                self.headings.append(data.strip())
