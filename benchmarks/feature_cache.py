"""A head on a frozen backbone: how long an epoch takes with the features computed once, and that nothing changes.

Two trainings of the same head on the same JPEG files, without and with ``training.cache_features``, and a third one on
the cache that the second left: the first pays the backbone in each epoch, the second once, the third never.

```
python benchmarks/feature_cache.py --smoke
python benchmarks/feature_cache.py --items 5000 --epochs 10 --backbone tf_efficientnet_lite0 --size 96
```
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

import kyori


def photos(folder: Path, items: int, size: int) -> Path:
    """JPEG files of 20 classes: a colour gradient of the class with noise."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, size)
    for item in range(items):
        label = item % 20
        hue = np.array([label % 3, label % 5, label % 7]) / 6
        pixels = 120 * ramp[:, None, None] * hue + 80 * ramp[None, :, None] * (1 - hue)
        pixels = pixels + rng.integers(0, 50, (size, size, 3))
        place = folder / f"{label:02d}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{item}.jpg", quality=90)
    return folder


def run(data: Path, options: dict[str, object]) -> tuple[float, "kyori.runs.Run"]:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = kyori.fit(str(data), report=None, **options)
    return time.perf_counter() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a small network on 400 pictures: seconds")
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.items, arguments.epochs, arguments.size, arguments.backbone = 400, 5, 48, "test_resnet"
    with tempfile.TemporaryDirectory() as root:
        data = photos(Path(root) / "photos", arguments.items, arguments.size)
        options: dict[str, object] = {
            "backbone": arguments.backbone,
            "freeze": "backbone",
            "loss": "arcface",
            "epochs": arguments.epochs,
            "batch_size": 64,
            "seed": 0,
            "device": "cpu",
        }
        cached = {**options, "cache_features": str(Path(root) / "cache")}
        figures: dict[str, float] = {}
        runs = {}
        kyori.Embedder.create(
            arguments.backbone, (arguments.size, arguments.size, 3)
        )  # timm is imported by then
        for name, wanted in (("without", options), ("first", cached), ("second", cached)):
            figures[name], runs[name] = run(data, wanted)
            print(
                f"{name:>8}: {figures[name]:8.2f} s   map@r {runs[name].results['map@r'].value:.4f}",
                flush=True,
            )
        size = sum(path.stat().st_size for path in (Path(root) / "cache").glob("*/*"))
        apart = np.abs(runs["without"].table.vectors - runs["second"].table.vectors).max()
    print(f"   cache: {size / 1e6:.1f} MB; largest difference of an embedding's number: {apart:.1e}")
    print(f"   ratio: {figures['without'] / figures['first']:.1f} times as fast on the first run, ", end="")
    print(f"{figures['without'] / figures['second']:.1f} on the next")
    if arguments.json:
        arguments.json.write_text(json.dumps({**figures, "bytes": size, "apart": float(apart)}))


if __name__ == "__main__":
    main()
