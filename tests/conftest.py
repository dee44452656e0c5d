"""Shared settings: one thread a worker under pytest-xdist, no pictures on screens, real data where it is installed."""

import os
from pathlib import Path

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # two workers with two threads each would fight over two cores
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="session")
def fashion() -> Path:
    """The folder of Fashion-MNIST's idx files, from Debian's package."""
    if not FASHION.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    return FASHION
