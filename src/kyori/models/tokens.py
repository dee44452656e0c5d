"""Texts as numbers: tokens (b, t) int64, padded with −1, as hashed n-grams or by a model's own tokenizer."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, FileFormatError
from ..optional import require

__all__ = ["PAD", "NGrams", "Tokenizer", "read_texts"]

PAD = -1
CHARACTERS_A_TOKEN = (
    32  # a text is cut to so many characters a token before it is tokenized: a book costs no more
)


class _Texts:
    """What the two have in common with `Preprocess`: kind, shape, and raw texts in, tokens out."""

    kind: ClassVar[Literal["text"]] = "text"
    shape: ClassVar[tuple[int, ...]] = ()
    input_shape: ClassVar[tuple[int, ...]] = ()
    size: ClassVar[None] = None
    max_length: int

    def prepare(self, raw: np.ndarray | Sequence[str]) -> Tensor:
        """Tokens (b, t) of texts (b,), on the CPU: the part of the work that loading threads do ahead.

        Raises:
            ArgumentError: An item is no string.
        """
        rows = self._rows([text[: self.most_characters] for text in read_texts(raw)])
        tokens = np.full((len(rows), max((len(row) for row in rows), default=0)), PAD, dtype=np.int64)
        for place, row in zip(tokens, rows, strict=True):
            place[: len(row)] = row
        return torch.from_numpy(tokens)

    def __call__(
        self, raw: np.ndarray | Sequence[str] | Tensor, device: torch.device | str | None = None
    ) -> Tensor:
        """Tokens (b, t) on the device, of texts (b,) or of tokens."""
        tokens = raw if isinstance(raw, Tensor) else self.prepare(raw)
        return tokens if device is None else tokens.to(device)

    def _rows(self, texts: list[str]) -> list[Any]:
        raise NotImplementedError

    @property
    def most_characters(self) -> int:
        """Characters of a text that are looked at."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """The number of different tokens."""
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """What is saved beside ``model.json``, by file name."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        raise NotImplementedError


@dataclass(frozen=True)
class NGrams(_Texts):
    """Words and the n-grams of their characters, hashed to buckets (the subwords of fastText).

    Texts are lower-cased; a word is a run without white space, with a mark on both sides. Works for any language
    without training; Japanese, which puts no spaces, is covered by its n-grams.

    Bojanowski et al., "Enriching word vectors with subword information", TACL 2017.

    Attributes:
        buckets: Number of hash buckets, ≥ 2.
        shortest, longest: Lengths n of the n-grams, 1 ≤ shortest ≤ longest.
        max_length: Most characters of a text; the rest is cut off.

    >>> NGrams(buckets=1000)(["cat", "a cat"]).shape
    torch.Size([2, 17])
    """

    buckets: int = 2**17
    shortest: int = 2
    longest: int = 4
    max_length: int = 1024

    def __post_init__(self) -> None:
        if self.buckets < 2 or not 1 <= self.shortest <= self.longest or self.max_length < 1:
            raise ArgumentError(
                "n-grams need buckets ≥ 2, 1 ≤ shortest ≤ longest and max_length ≥ 1; got "
                f"{self.buckets}, {self.shortest}, {self.longest}, {self.max_length}."
            )

    @property
    def most_characters(self) -> int:
        return self.max_length

    @property
    def channels(self) -> int:
        return self.buckets

    def _rows(self, texts: list[str]) -> list[np.ndarray]:
        return [self._tokens(text) for text in texts]

    def _tokens(self, text: str) -> np.ndarray:
        marked = f" {' '.join(text.lower().split())} "
        points = np.frombuffer(marked.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
        found = [np.array([_fold(word) for word in marked.split()], dtype=np.uint64)]
        value = np.zeros(len(points), dtype=np.uint64)
        for n in range(1, self.longest + 1):
            # one polynomial hash a length, each from the one before; it wraps at 2^64 by design
            value = value[: len(points) - n + 1] * _PRIME + points[n - 1 :]
            if n >= self.shortest:
                found.append(value)
        mixed = np.concatenate(found)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _MIX
        return ((mixed ^ (mixed >> np.uint64(32))) % np.uint64(self.buckets)).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "ngrams",
            "buckets": self.buckets,
            "shortest": self.shortest,
            "longest": self.longest,
            "max_length": self.max_length,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NGrams":
        """The inverse of `to_dict`."""
        try:
            return cls(**{key: value for key, value in values.items() if key != "kind"})
        except TypeError as error:
            raise FileFormatError(f"preprocessing cannot be read: {error}") from error


_PRIME, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def _fold(word: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


@dataclass(frozen=True)
class Tokenizer(_Texts):
    """The tokenizer of a pretrained model, kept as the JSON of the package ``tokenizers`` (extra ``text``).

    Attributes:
        rules: The JSON: vocabulary, normalisation, special tokens.
        max_length: Most tokens of a text, special ones included; the rest is cut off.

    Raises:
        MissingExtraError: The package ``tokenizers`` is missing.
        FileFormatError: The JSON is damaged.
    """

    rules: str = field(repr=False)
    max_length: int = 512

    FILE: ClassVar[str] = "tokenizer.json"

    @cached_property
    def _engine(self) -> Any:
        tokenizers = require("tokenizers", extra="text", purpose="a text model")
        try:
            engine = tokenizers.Tokenizer.from_str(self.rules)
        except Exception as error:  # the package raises plain Exception
            raise FileFormatError(f"{self.FILE} cannot be read: {error}") from error
        engine.no_padding()
        engine.enable_truncation(self.max_length)
        return engine

    @property
    def most_characters(self) -> int:
        return self.max_length * CHARACTERS_A_TOKEN

    @property
    def channels(self) -> int:
        return int(self._engine.get_vocab_size())

    def _rows(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._engine.encode_batch(texts)]

    def files(self) -> dict[str, bytes]:
        return {self.FILE: self.rules.encode("utf-8")}

    def to_dict(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.rules.encode("utf-8")).hexdigest()
        return {"kind": "tokenizer", "max_length": self.max_length, "file": self.FILE, "sha256": digest}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], content: bytes) -> "Tokenizer":
        """The inverse of `to_dict`, with the content of the file.

        Raises:
            FileFormatError: The content is not what was saved.
        """
        if hashlib.sha256(content).hexdigest() != values.get("sha256"):
            raise FileFormatError(f"{cls.FILE} is damaged: it is not the one that model.json was saved with.")
        return cls(content.decode("utf-8"), int(values["max_length"]))


def read_texts(raw: Any) -> list[str]:
    """Texts of a batch as a list; an item that is no string is an `ArgumentError`."""
    texts = raw.tolist() if isinstance(raw, np.ndarray) else list(raw)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise ArgumentError(
                f"item {position} must be a text, which this model takes; got {type(text).__name__}."
            )
    return texts
