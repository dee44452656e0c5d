"""Anomalies: classes that were not there in training, told from the others by the learned distance.

For each pair of classes a network is trained on the others; the test items of the pair are to score as anomalies.
Beside it, on raw pixels: scikit-learn's IsolationForest and LocalOutlierFactor, and k-NN distance. AUROC with 95 %
bootstrap intervals over test items, and the false alarms at a requested 5 %, calibrated on items held out from
training.

    python benchmarks/anomalies.py            # Fashion-MNIST, five pairs: a quarter of an hour on 2 cores
    python benchmarks/anomalies.py --smoke    # digits, two pairs
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

import kyori
from kyori.data import Source, open_source
from kyori.quality import OutlierDetector

FASHION = Path("/usr/share/datasets/fashion-mnist")
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
RATE = 0.05
REPLICATES = 500


def three_parts(source: Source, unseen: tuple[int, ...], items: int) -> tuple[Source, Source, Source]:
    """Return items to train on, to calibrate on (both without the unseen classes), and to test with (all classes)."""
    order = np.random.default_rng(0).permutation(len(source))
    if "split" in source.columns:
        training, test = (order[source.columns["split"][order] == name] for name in ("train", "test"))
    else:
        training, test = order[: len(order) // 2], order[len(order) // 2 :]
    seen = training[~np.isin(source.labels[training], unseen)][: items + items // 10]
    calibration = len(seen) // 11
    return source.take(seen[calibration:]), source.take(seen[:calibration]), source.take(test)


def pixels(source: Source) -> np.ndarray:
    items = source.load(np.arange(len(source)))
    return items.reshape(len(items), -1).astype(np.float32) / items.max()


def peers(train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    few = train[:10_000]
    return {
        "pixels, IsolationForest": -IsolationForest(random_state=0).fit(train).score_samples(test),
        "pixels, LocalOutlierFactor": -LocalOutlierFactor(n_neighbors=20, novelty=True)
        .fit(few)
        .score_samples(test),
        "pixels, k-NN": OutlierDetector("knn").fit(train).score(test),
    }


def compare(
    source: Source, unseen: tuple[int, ...], losses: list[str], items: int, **settings: object
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, tuple[int, int]]]:
    """Return the scores of each method, which test items are anomalies, and false alarms of the learned methods."""
    train, calibration, test = three_parts(source, unseen, items)
    strange = np.isin(test.labels, unseen)
    scores, alarms = peers(pixels(train), pixels(test)), {}
    for loss in losses:
        embedder = kyori.fit(train, loss=loss, seed=0, **settings).embedder
        clean, tested = embedder.encode(calibration), embedder.encode(test)
        vectors = embedder.encode(train)
        for method in ("knn", "lof", "mahalanobis"):
            detector = OutlierDetector(method, false_alarm_rate=RATE)
            detector.fit(vectors, train.labels, calibration=clean)
            found = detector.detect(tested)
            scores[f"{loss}, {method}"] = found.raw
            alarms[f"{loss}, {method}"] = (int(found.is_outlier[~strange].sum()), int((~strange).sum()))
    return scores, strange, alarms


def auroc(scores: np.ndarray, strange: np.ndarray) -> np.ndarray:
    """Return the AUROC, followed by that of each resample of the test items."""
    values = np.empty(REPLICATES + 1)
    values[0] = roc_auc_score(strange, scores)
    generator = np.random.default_rng(0)  # the same resamples for every method: differences are paired
    for i in range(1, REPLICATES + 1):
        drawn = generator.integers(len(scores), size=len(scores))
        values[i] = roc_auc_score(strange[drawn], scores[drawn])
    return values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="digits, two pairs, few epochs")
    parser.add_argument("--losses", default="triplet,softmax")
    parser.add_argument("--items", type=int, default=20_000, help="training items")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=len(PAIRS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    source = open_source("digits" if options.smoke else str(FASHION))
    settings = (
        {"backbone": "mlp", "epochs": 10} if options.smoke else {"backbone": "cnn", "epochs": options.epochs}
    )
    totals: dict[str, list[np.ndarray]] = {}
    false: dict[str, list[tuple[int, int]]] = {}
    for pair in PAIRS[: 2 if options.smoke else options.pairs]:
        start = time.perf_counter()
        scores, strange, alarms = compare(source, pair, options.losses.split(","), options.items, **settings)
        for name, values in scores.items():
            totals.setdefault(name, []).append(auroc(values, strange))
        for name, counts in alarms.items():
            false.setdefault(name, []).append(counts)
        line = "  ".join(f"{name} {values[-1][0]:.3f}" for name, values in totals.items())
        print(f"unseen {pair}: {line}  ({time.perf_counter() - start:.0f} s)", flush=True)
    means = {name: np.mean(values, axis=0) for name, values in totals.items()}
    for name, values in means.items():
        low, high = np.quantile(values[1:], [0.025, 0.975])
        alarm = ""
        if name in false:
            count, of = np.sum(false[name], axis=0)
            alarm = f"   false alarms {count / of:.3f} at {RATE} requested"
        print(f"{name:<28} AUROC {values[0]:.3f} ({low:.3f}-{high:.3f}){alarm}")
    theirs = max((name for name in means if name.startswith("pixels")), key=lambda name: means[name][0])
    ours = max((name for name in means if not name.startswith("pixels")), key=lambda name: means[name][0])
    difference = means[ours] - means[theirs]
    low, high = np.quantile(difference[1:], [0.025, 0.975])
    print(f"{ours} - {theirs}: {difference[0]:+.3f} ({low:+.3f}-{high:+.3f})")


if __name__ == "__main__":
    main()
