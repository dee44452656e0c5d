"""Small real files of every kind that a folder of pictures may hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(height=12, width=16, seed=0, channels=3):
    """A smooth picture (h, w, c) that survives JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 3, channels), dtype=np.uint8)
    image = Image.fromarray(coarse if channels == 3 else coarse[:, :, 0])
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).reshape(
        height, width, channels
    )


def save(path: Path, array=None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = picture() if array is None else array
    Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array).save(
        path, **options
    )
    return path


@pytest.fixture
def photos(tmp_path):
    """Three classes with three PNG pictures each."""
    root = tmp_path / "photos"
    for number, name in enumerate(("ant", "bee", "cat")):
        for item in range(3):
            save(root / name / f"{item}.png", picture(seed=3 * number + item))
    return root
