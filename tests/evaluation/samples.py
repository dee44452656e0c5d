"""Small tables with a known or a random structure."""

import numpy as np

from kyori.vectors import VectorTable


def blobs(n=60, classes=4, d=5, spread=1.0, seed=0, **table) -> VectorTable:
    """Overlapping Gaussian classes of unequal sizes, in random order."""
    generator = np.random.default_rng(seed)
    labels = np.sort(generator.integers(classes, size=n))
    labels[:classes] = np.arange(classes)
    generator.shuffle(labels)
    centres = generator.normal(size=(classes, d))
    vectors = centres[labels] + spread * generator.normal(size=(n, d))
    return VectorTable(vectors=vectors.astype(np.float32), labels=labels, **table)


def perfect(classes=4, each=5) -> VectorTable:
    """Every class in its own place, its items side by side."""
    labels = np.repeat(np.arange(classes), each)
    vectors = np.stack([10.0 * labels, 0.1 * np.tile(np.arange(each), classes)], axis=1)
    return VectorTable(vectors=vectors, labels=labels)
