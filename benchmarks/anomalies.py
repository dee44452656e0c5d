"""Anomalies: classes that were not there in training, told from the others by the learned distance.

For each pair of classes a network is trained on the others; the test items of the pair are to score as anomalies.
Beside it, on raw pixels: scikit-learn's IsolationForest and LocalOutlierFactor, and k-NN distance. "turned" is the
recipe for anomalies: pictures turned by 90°, 180° and 270° are further classes, so that the network has to know more of
a picture than what tells the classes apart (Tack et al., "CSI", NeurIPS 2020), and the distance is that of the
backbone's features, before the projection has thrown away what the loss does not ask for. "both" adds it to the
Mahalanobis distance of the plain embedding, each in units of its spread over clean items. AUROC of each pair, the mean
with its 95 % t interval over pairs, and the false alarms at a requested 5 %, calibrated on items not trained on.

    python benchmarks/anomalies.py                                   # Fashion-MNIST, ten pairs, cnn: 17 CPU minutes
    python benchmarks/anomalies.py --backbone mlp --pairs 5 --items 4000 --test-items 2000    # a minute or two
    python benchmarks/anomalies.py --digits --losses triplet         # ten pairs of digits
    python benchmarks/anomalies.py --smoke                           # digits, two pairs
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

import kyori
from kyori.data import Source, open_source
from kyori.quality import OutlierDetector

FASHION = Path("/usr/share/datasets/fashion-mnist")
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (0, 5), (1, 6), (2, 7), (3, 8), (4, 9))
RATE = 0.05
CLOSEST = 1  # neighbours; more of them were worse on pixels and on features alike


def three_parts(
    source: Source, unseen: tuple[int, ...], items: int, tested: int | None = None
) -> tuple[Source, Source, Source]:
    """Return items to train on, to calibrate on (both without the unseen classes), and to test with (all classes)."""
    order = np.random.default_rng(0).permutation(len(source))
    if "split" in source.columns:
        training, test = (order[source.columns["split"][order] == name] for name in ("train", "test"))
    else:
        training, test = order[: len(order) // 2], order[len(order) // 2 :]
    seen = training[~np.isin(source.labels[training], unseen)][: items + items // 10]
    calibration = len(seen) // 11
    return source.take(seen[calibration:]), source.take(seen[:calibration]), source.take(test[:tested])


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
        "pixels, k-NN": OutlierDetector("knn", k=CLOSEST).fit(train).score(test),
    }


def turned(source: Source) -> Source:
    """The pictures and their three turns, each turn of each class a class of its own."""
    pictures = source.load(np.arange(len(source)))
    turns = [np.rot90(pictures, turn, axes=(1, 2)) for turn in range(4)]
    labels = [source.labels * 4 + turn for turn in range(4)]
    return open_source((np.concatenate(turns), np.concatenate(labels)))


def features(embedder: kyori.Embedder, source: Source) -> np.ndarray:
    """What the backbone says of the pictures, (n, f) of length 1: the embedder without its head."""
    found = []
    for start in range(0, len(source), 512):
        items = source.load(np.arange(start, min(start + 512, len(source))))
        with torch.no_grad():
            found.append(
                embedder.backbone(embedder.preprocess(items, embedder.device)).flatten(1).cpu().numpy()
            )
    rows = np.concatenate(found)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def compare(
    source: Source, unseen: tuple[int, ...], losses: list[str], options: argparse.Namespace
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, tuple[int, int]]]:
    """Return the scores of each method, which test items are anomalies, and false alarms of the learned methods."""
    train, calibration, test = three_parts(source, unseen, options.items, options.test_items)
    strange = np.isin(test.labels, unseen)
    scores, alarms = peers(pixels(train), pixels(test)), {}
    standard: dict[
        str, np.ndarray
    ] = {}  # in units of the clean items' spread, so that methods can be added up

    def judge(name: str, method: str, spaces: list[np.ndarray], k: int) -> None:
        detector = OutlierDetector(method, k=k, false_alarm_rate=RATE)
        found = detector.fit(spaces[0], train.labels, calibration=spaces[1]).detect(spaces[2])
        scores[f"{name}, {method}"] = found.raw
        clean = detector.score(spaces[1])
        standard[f"{name}, {method}"] = (found.raw - clean.mean()) / clean.std()
        alarms[f"{name}, {method}"] = (int(found.is_outlier[~strange].sum()), int((~strange).sum()))

    settings = {"backbone": options.backbone, "seed": 0}
    for loss in losses:
        embedder = kyori.fit(train, loss=loss, epochs=options.epochs, **settings).embedder
        spaces = [embedder.encode(part) for part in (train, calibration, test)]
        for method, k in (("knn", CLOSEST), ("lof", 10), ("mahalanobis", 10)):
            judge(loss, method, spaces, k)
        epochs = max(1, options.epochs * 3 // 4)  # three times as many steps, of four times as many pictures
        embedder = kyori.fit(turned(train), loss=loss, epochs=epochs, **settings).embedder
        spaces = [features(embedder, part) for part in (train, calibration, test)]
        judge(f"{loss} turned", "knn", spaces, CLOSEST)
        judge(f"{loss} turned", "mahalanobis", spaces, 10)
        scores[f"{loss}, both"] = standard[f"{loss}, mahalanobis"] + standard[f"{loss} turned, knn"]
    return scores, strange, alarms


def interval(values: np.ndarray) -> str:
    """Mean of the pairs with its 95 % t interval."""
    if len(values) < 2:
        return f"{values.mean():.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.3f} ({values.mean() - half:+.3f} to {values.mean() + half:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="digits, two pairs, few epochs")
    parser.add_argument("--digits", action="store_true", help="instead of Fashion-MNIST")
    parser.add_argument("--losses", default="arcface", help="names with commas between")
    parser.add_argument("--backbone", default="cnn", help="mlp or cnn")
    parser.add_argument("--items", type=int, default=8_000, help="training items")
    parser.add_argument("--test-items", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=10, help="1 to 10")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.smoke:
        options.digits, options.pairs, options.losses = True, 2, "triplet"
    if options.digits:
        options.backbone, options.epochs = "mlp", 10
    source = open_source("digits" if options.digits else str(FASHION))
    totals: dict[str, list[float]] = {}
    false: dict[str, list[tuple[int, int]]] = {}
    for pair in PAIRS[: options.pairs]:
        start = time.process_time()
        scores, strange, alarms = compare(source, pair, options.losses.split(","), options)
        for name, values in scores.items():
            totals.setdefault(name, []).append(float(roc_auc_score(strange, values)))
        for name, counts in alarms.items():
            false.setdefault(name, []).append(counts)
        line = "  ".join(f"{name} {values[-1]:.3f}" for name, values in totals.items())
        print(f"unseen {pair}: {line}  ({time.process_time() - start:.0f} CPU s)", flush=True)
    areas = {name: np.array(values) for name, values in totals.items()}
    for name, values in areas.items():
        alarm = ""
        if name in false:
            count, of = np.sum(false[name], axis=0)
            alarm = f"   false alarms {count / of:.3f} at {RATE} requested"
        print(f"{name:<28} AUROC {interval(values)}{alarm}")
    theirs = max((name for name in areas if name.startswith("pixels")), key=lambda name: areas[name].mean())
    for name in [name for name in areas if name.endswith(("turned, knn", "both"))]:
        print(f"{name} - {theirs}, the best on pixels: {interval(areas[name] - areas[theirs])}")


if __name__ == "__main__":
    main()
