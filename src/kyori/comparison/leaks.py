"""What a fair test must not hold: copies of training items, or a few classes of the training among unseen ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..data import Source, Split
from .folding import Folding

__all__ = ["Leak", "find_leaks"]

_DIGESTED = 1024  # items at a time
_EXAMPLES, _SHOWN = 10, 5


@dataclass(frozen=True)
class Leak:
    """What training or validation sees of a test part.

    Attributes:
        kind: ``"items"``: test items that are copies of training or validation items, to the last byte; ``"classes"``:
            classes of these among test classes of which most are unseen.
        dataset: Name of the data set.
        found: How many; over folds, each test part counts.
        of: Out of how many test items or test classes.
        examples: The first ten: ids of a test item and of what it is a copy of, or names of classes.
    """

    kind: Literal["items", "classes"]
    dataset: str
    found: int
    of: int
    examples: tuple[tuple[str, ...], ...]

    @property
    def named(self) -> str:
        """The first of them in a line, ``a = b, c = d …``."""
        return ", ".join(map(" = ".join, self.examples[:_SHOWN])) + " …" * (self.found > _SHOWN)

    def __str__(self) -> str:
        are = "is" if self.found == 1 else "are"
        what = f"{are} in the training too, {self.of - self.found:,} are unseen"
        if self.kind == "items":
            what = f"{'is a copy' if self.found == 1 else 'are copies'} of training or validation items"
        return f"leak in {self.dataset}: {self.found:,} of {self.of:,} test {self.kind} {what}: {self.named}"


def find_leaks(
    foldings: Mapping[str, Folding], splits: Mapping[tuple[str, int | None], Split]
) -> tuple[Leak, ...]:
    """Return what leaks in each data set.

    Items are the same where all their bytes are, those of the file where an item has one.

    Args:
        foldings: How each data set is dealt out, by its name.
        splits: The parts, by data set and fold.
    """
    found = []
    for name, folding in foldings.items():
        parts = [split for (dataset, _), split in splits.items() if dataset == name]
        if folding.config.data.split == "given":
            found += _shared_classes(name, parts)
        found += _copies(name, folding.source, parts)
    return tuple(found)


def _copies(name: str, source: Source, parts: Sequence[Split]) -> list[Leak]:
    starts = range(0, len(source), _DIGESTED)
    digests = [source.digests(np.arange(i, min(i + _DIGESTED, len(source)))) for i in starts]
    content = np.unique(np.concatenate(digests), return_inverse=True)[1]
    if content.max() + 1 == len(source):
        return []
    content_of = dict(zip(source.ids.tolist(), content.tolist(), strict=True))
    pairs: list[tuple[str, ...]] = []
    for split in parts:
        seen: dict[int, object] = {}
        for item in [*split.train.ids.tolist(), *split.validation.ids.tolist()]:
            seen.setdefault(content_of[item], item)
        copied = ((item, seen.get(content_of[item])) for item in split.test.ids.tolist())
        pairs += [(str(item), str(known)) for item, known in copied if known is not None]
    tested = sum(len(split.test) for split in parts)
    return [Leak("items", name, len(pairs), tested, tuple(pairs[:_EXAMPLES]))] if pairs else []


def _shared_classes(name: str, parts: Sequence[Split]) -> list[Leak]:
    """Few shared classes are a mistake; where most are shared, the test is about seen classes."""
    names: list[tuple[str, ...]] = []
    tested = 0
    for split in parts:
        test = np.unique(np.asarray(split.test.labels))
        shared = np.intersect1d(test, np.concatenate([split.train.labels, split.validation.labels]))
        tested += len(test)
        names += [(str(split.test.class_names[code]),) for code in shared.tolist()]
    few = names and 2 * len(names) < tested
    return [Leak("classes", name, len(names), tested, tuple(names[:_EXAMPLES]))] if few else []
