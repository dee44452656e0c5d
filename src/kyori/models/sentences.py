"""Any of Kyori's losses in the trainer of sentence-transformers."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError

__all__ = ["SentenceLoss"]


class SentenceLoss(nn.Module):
    """A loss of Kyori as one of sentence-transformers: ``SentenceTransformerTrainer(…, loss=SentenceLoss(model, …))``.

    What the columns of the data set become:

    | columns | call |
    |---|---|
    | one text, label | ``loss(embeddings, labels)`` |
    | anchor, positive, any negatives | ``loss(anchors, references=positives and negatives)`` |
    | two texts, label or score | ``loss(both, pairs(first, second, label))`` |

    Args:
        model: The ``SentenceTransformer``.
        loss: Any loss of `kyori.losses`; one with class vectors takes labels.
        pairs: What two texts with a label become, ``kyori.relations.ScoredPairs``, for losses of pairs and of scores.
    """

    def __init__(self, model: nn.Module, loss: nn.Module, *, pairs: Any = None):
        super().__init__()
        self.model = model
        self.loss = loss
        self.pairs = pairs

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            sentence_features: Tokens of each column, as the trainer hands them over.
            labels: (b,) the column of labels, or None.

        Raises:
            ArgumentError: The columns fit no row of the table above.
        """
        columns = [self.model(features)["sentence_embedding"] for features in sentence_features]
        labels = None if labels is None or labels.numel() == 0 else labels
        if len(columns) == 1 and labels is not None:
            return self.loss(columns[0], labels)
        if len(columns) > 1 and labels is None:
            return self.loss(columns[0], references=torch.cat(columns[1:]))
        if len(columns) == 2 and labels is not None and self.pairs is not None:
            place = torch.arange(len(labels), device=labels.device)
            listed = self.pairs(place, place + len(labels), labels)
            return self.loss(torch.cat(columns), listed)
        what = "with" if labels is not None else "without"
        raise ArgumentError(
            "the data set must have one text with a label, or anchor, positive and any negatives without, or two "
            f"texts with a label and pairs=; got {len(columns)} texts {what} a label."
        )
