"""Sums over soft neighbours: p_ij ∝ exp(−‖Lx_i − Lx_j‖²), the part that NCA and MLKR share.

With W_ij = ∂F/∂D²_ij the gradient of any such sum is 2L·Σ W_ij (x_i−x_j)(x_i−x_j)ᵀ. Rows are worked on in blocks, so
that memory is O(block × n): no matrix (n, n) is ever held. Arithmetic is in float32 for mini-batches and for more than
2,000 rows; in float64 otherwise, and where squared lengths reach 10⁵: there float32 cannot tell neighbours apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LONGEST", "Rows", "Weigh", "differences_gradient", "row_blocks", "soft_neighbours", "transformed"]

Matrix = NDArray[np.float64]
Weigh = Callable[[Tensor, slice], tuple[float, Tensor]]

_BLOCK_ITEMS = 500_000  # numbers of a block: it and its temporaries stay in the cache, or near it
_WIDE = 2_000
LONGEST = 1e5  # squared length: float32 then leaves errors of about 0.01 in a squared distance


class Rows:
    """Rows ``(n, f)`` around their mean, in both precisions (the second one made when it is needed).

    Args:
        X: The rows.
        narrow: Whether float32 is good enough; by default for more than `_WIDE` rows.
    """

    def __init__(self, X: Matrix, *, narrow: bool | None = None):
        self.wide = torch.from_numpy(X - X.mean(0))
        self.narrow = len(X) > _WIDE if narrow is None else narrow
        self._narrow: Tensor | None = None

    def __len__(self) -> int:
        return len(self.wide)

    def at(self, dtype: torch.dtype) -> Tensor:
        """The rows in float32 or float64."""
        if dtype == torch.float64:
            return self.wide
        if self._narrow is None:
            self._narrow = self.wide.float()
        return self._narrow


def transformed(L: Matrix, rows: Rows) -> tuple[Tensor, Tensor]:
    """Z = XLᵀ ``(n, d)`` and X ``(n, f)`` in the type in which distances between rows of Z are computed."""
    Z = rows.wide @ torch.from_numpy(L).T
    narrow = rows.narrow and float(Z.square().sum(1).max()) < LONGEST
    dtype = torch.float32 if narrow else torch.float64
    return Z.to(dtype), rows.at(dtype)


def row_blocks(n: int, m: int) -> list[slice]:
    """Cut n rows so that a block against m others is small."""
    step = max(1, _BLOCK_ITEMS // max(1, m))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


@torch.no_grad()
def soft_neighbours(L: Matrix, rows: Rows, weigh: Weigh) -> tuple[float, Matrix]:
    """Value and gradient of F(L), a sum over rows of functions of their soft neighbours.

    Args:
        L: ``(d, f)``.
        rows: n rows.
        weigh: From P ``(b, n)``, whose rows add up to 1 with 0 for the row itself, and the block's rows to the
            block's value and to W = ∂F/∂D² ``(b, n)``, which may reuse the memory of P. The rows of W must add up
            to 0, as they do for every function of P alone.

    Returns:
        F, and its gradient ``(d, f)``.
    """
    Z, X = transformed(L, rows)
    lengths = Z.square().sum(1).neg_()
    value = 0.0
    S = torch.zeros(X.shape[1], X.shape[1], dtype=torch.float64)
    columns = torch.zeros(len(X), dtype=torch.float64)
    for block in row_blocks(len(X), len(X)):
        logits = torch.addmm(lengths, Z[block], Z.T, alpha=2.0)  # −D² up to a constant of each row
        logits.diagonal(block.start).fill_(-torch.inf)
        part, W = weigh(torch.softmax(logits, 1), block)
        value += part
        columns += W.sum(0)
        S += X[block].T @ (W @ X)
    return value, differences_gradient(L, rows.wide, columns, S)


def differences_gradient(L: Matrix, X: Tensor, weights: Tensor, S: Tensor) -> Matrix:
    """2L·Σ_ij W_ij (x_i−x_j)(x_i−x_j)ᵀ from the sums of W: weights_i = Σ_j (W_ij + W_ji), and S = XᵀWX."""
    inner = (X * weights[:, None]).T @ X - S - S.T
    return 2.0 * (L @ inner.numpy())
