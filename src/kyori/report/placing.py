"""``project`` in a process of its own: t-SNE holds Python's lock for seconds, in which a server would answer nobody.

Vectors come on its standard input as float32, the method that was drawn and the points go to its standard output.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

from .projection import Layout, project

__all__ = ["main", "packed", "start", "unpacked"]

_NAME = 8  # bytes of a method's name before the points


def start(method: Layout, seed: int, shape: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start the process for vectors of a shape ``(n, d)``; Ctrl-C at the terminal does not reach it."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, method, str(seed), *map(str, shape)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def packed(points: NDArray[np.float32], method: str) -> bytes:
    """Return points ``(n, 2)`` and how they were found as bytes.

    >>> unpacked(packed(np.ones((1, 2), np.float32), "tsne"))
    (array([[1., 1.]], dtype=float32), 'tsne')
    """
    return method.encode().ljust(_NAME) + np.asarray(points, np.float32).tobytes()


def unpacked(data: bytes) -> tuple[NDArray[np.float32], str]:
    """Return what :func:`packed` was given."""
    return np.frombuffer(data, np.float32, offset=_NAME).reshape(-1, 2), data[:_NAME].decode().strip()


def main(method: Layout, seed: str, n: str, d: str) -> None:
    """Read ``n`` × ``d`` numbers, lay all of them out, and write the map."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)  # whoever looks at a page comes first
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what packages print is no part of the map
    vectors = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(int(n), int(d))
    found = project(vectors, method=method, seed=int(seed), max_items=len(vectors))
    with answer:
        answer.write(packed(found.points, found.method))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
