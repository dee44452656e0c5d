"""Does it help against wrong labels? Sub-centre ArcFace, `filter_above` and `trim` beside plain ArcFace.

20 % or 40 % of the training labels are flipped to another class at random; the test labels are right. No validation
chooses an epoch (it would have to be clean): the last weights are measured. The share that `trim` leaves out is the
share of wrong labels, as its documentation says; half of it too, since nobody knows the share.

    python benchmarks/noise.py                       # digits and 6,000 items of Fashion-MNIST, 3 seeds
    python benchmarks/noise.py --items 60000 --backbone cnn --seeds 5
    python benchmarks/noise.py --smoke               # digits, one seed, seconds
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kyori.data import Split, open_source
from kyori.runs import fit_split
from kyori.training import RunConfig
from label_errors import FASHION, read

SHARES = (0.0, 0.2, 0.4)


def methods(share: float) -> dict[str, dict[str, Any]]:
    """The options of each method at a share of wrong labels."""
    found: dict[str, dict[str, Any]] = {
        "arcface": {"loss": "arcface"},
        "sub-centres, 3": {"loss": "subcenterarcface"},
        "filter_above 0.4": {"loss": "arcface", "filter_above": 0.4},
        "filter_above 0.7": {"loss": "arcface", "filter_above": 0.7},
        "softmax": {"loss": "softmax"},
    }
    if share:
        found["trim, the share"] = {"loss": "arcface", "trim": share}
        found["trim, half of it"] = {"loss": "arcface", "trim": share / 2}
        found["sub-centres and trim"] = {"loss": "subcenterarcface", "trim": share}
    return found


def flip(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Labels (n,) of which exactly the share is another class, each other class alike."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy, c = labels.copy(), int(labels.max()) + 1
    noisy[chosen] = (labels[chosen] + rng.integers(1, c, len(chosen))) % c
    return noisy


def race(
    images: NDArray[Any], labels: NDArray[np.int64], seeds: int, settings: Mapping[str, Any], name: str
) -> None:
    """Print a Markdown table: MAP@R on clean test items, and the gain over plain ArcFace seed by seed."""
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[len(order) // 4 :], order[: len(order) // 4]
    clean = open_source((images[test], labels[test]))
    print(f"\n{name}: {len(train)} training items, {len(test)} clean test items, {seeds} seeds\n")
    print("| wrong labels | method | MAP@R | Recall@1 | gain over ArcFace (95 %) |\n|---|---|---:|---:|---:|")
    for share in SHARES:
        plain: list[float] = []
        for method, options in methods(share).items():
            found: list[tuple[float, float]] = []
            for seed in range(seeds):
                source = open_source((images[train], flip(labels[train], share, seed)))
                config = RunConfig.from_options(**settings, **options, keep="last", seed=seed)
                run = fit_split(Split(source, source.take([]), clean), config)
                assert run.results is not None
                found.append((run.results["map@r"].value, run.results["recall@1"].value))
            values = np.array(found) * 100
            plain = plain or list(values[:, 0])
            gain = "–" if method == "arcface" else interval(values[:, 0] - np.array(plain))
            low, high = values[:, 0].min(), values[:, 0].max()
            print(
                f"| {share:.0%} | {method} | {values[:, 0].mean():.1f} ({low:.1f}–{high:.1f}) |"
                f" {values[:, 1].mean():.1f} | {gain} |",
                flush=True,
            )


def interval(gains: NDArray[np.float64]) -> str:
    """Mean of paired gains with the t interval over seeds."""
    if len(gains) < 2:
        return f"{gains.mean():+.1f}"
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
    return f"{gains.mean():+.1f} ({gains.mean() - half:+.1f} to {gains.mean() + half:+.1f})".replace("-", "−")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--items", type=int, default=6_000, help="of Fashion-MNIST")
    parser.add_argument("--backbone", default="mlp", help="mlp or cnn")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", choices=["digits", "fashion"], default=["digits", "fashion"])
    options = parser.parse_args()
    if options.smoke:
        options.data, options.seeds, options.epochs = ["digits"], 1, 2
    shared = {"epochs": options.epochs, "embedding_size": 64, "backbone": options.backbone}
    if "digits" in options.data:
        race(*read("digits", 0), options.seeds, shared, "Digits")
    if "fashion" in options.data and FASHION.exists():
        images, labels = read("train", options.items)
        race(images, labels, options.seeds, shared, "Fashion-MNIST")


if __name__ == "__main__":
    main()
