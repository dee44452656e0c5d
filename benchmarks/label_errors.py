"""Find planted label errors: average precision of Kyori's ranking beside cleanlab's, on the same vectors.

10 % of the labels of Fashion-MNIST (train, 60,000 items) are flipped, at random or to the most similar class. The
items are cross-fitted (5 folds, `cnn` with softmax); every peer then gets the vectors and probabilities of the model
that did not see the item. cleanlab's features path is what its Datalab computes (shares of the 10 nearest neighbours,
then self-confidence), done fold by fold; its pred_probs path is the self-confidence of the held-out probabilities.

    python benchmarks/label_errors.py --cache /tmp/folds     # 60,000 items, 3 seeds; trained folds are kept there
    python benchmarks/label_errors.py --smoke                # digits, seconds
    python benchmarks/label_errors.py --items 6000 --seeds 1
    python benchmarks/label_errors.py --retrain              # also: train on corrected labels, measure on clean ones
    python benchmarks/label_errors.py --synthetic            # 200,000 × 128 vectors, 5,000 classes: seconds, memory
"""

import argparse
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from kyori.data import Split, open_source
from kyori.neighbors import nearest
from kyori.quality import Fold, LabelErrors, cross_fit, find_label_errors
from kyori.runs import fit_split
from kyori.training import RunConfig
from kyori.vectors import VectorTable

FASHION = Path("/usr/share/datasets/fashion-mnist")
SHARE = 0.1  # of the labels are flipped
NOISES = ("random", "similar")
FOLDS = 5


def read(part: str, items: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (n, h, w) and labels (n,) of one part of Fashion-MNIST or, without it, of the digits."""
    import gzip

    if part == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return (digits.images * 15).astype(np.uint8), digits.target.astype(np.int64)
    with gzip.open(FASHION / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[:items])
    return images[chosen], labels[chosen]


def flip(images: NDArray[np.uint8], labels: NDArray[np.int64], noise: str, seed: int) -> NDArray[np.int64]:
    """Labels of which a tenth is wrong: any other class, or the one that raw pixels confuse it with most."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(labels))[: round(SHARE * len(labels))]
    noisy, c = labels.copy(), int(labels.max()) + 1
    if noise == "random":
        noisy[chosen] = (labels[chosen] + rng.integers(1, c, len(chosen))) % c
        return noisy
    some = np.random.default_rng(0).permutation(len(labels))[:6000]
    pixels = images[some].reshape(len(some), -1).astype(np.float32)
    found = nearest(pixels, pixels, 1, exclude_self=True).ids[:, 0]
    confusion = np.zeros((c, c))
    np.add.at(confusion, (labels[some], labels[some][found]), 1)
    np.fill_diagonal(confusion, -1)
    noisy[chosen] = confusion.argmax(axis=1)[labels[chosen]]
    return noisy


def settings(epochs: int, device: str) -> RunConfig:
    return RunConfig.from_options(loss="softmax", backbone="cnn", epochs=epochs, device=device)


def peak() -> float:
    """Largest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cleanlab_scores(
    folds: list[Fold], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Scores of cleanlab's features path and of its pred_probs path, and the seconds of the first."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.neighbors import KNeighborsClassifier

    n, c = len(labels), int(labels.max()) + 1
    votes, heads = np.zeros((n, c)), np.zeros((n, c))
    start = time.perf_counter()
    for fold in folds:
        rows = np.flatnonzero(fold.held_out)
        # As in cleanlab 2.9, datalab/internal/issue_manager/label.py: 11 neighbours, less the item's own vote.
        classifier = KNeighborsClassifier(n_neighbors=11).fit(fold.table.vectors, labels)
        shares = classifier.predict_proba(fold.table.vectors[rows])
        votes[rows] = (shares - np.eye(c)[labels[rows]] / 11) * 11 / 10
    seconds = time.perf_counter() - start
    for fold in folds:
        if fold.probabilities is None:
            raise SystemExit("the loss needs a head")
        rows = np.flatnonzero(fold.held_out)
        dense = np.zeros((len(rows), c))
        np.put_along_axis(dense, fold.probabilities.classes[rows], fold.probabilities.values[rows], axis=1)
        dense[np.arange(len(rows)), labels[rows]] = fold.probabilities.own[rows]
        heads[rows] = dense / dense.sum(axis=1, keepdims=True)
    return (
        get_label_quality_scores(labels, votes.clip(0, 1)),
        get_label_quality_scores(labels, heads),
        seconds,
    )


def compare(options: argparse.Namespace, noise: str, seed: int, cache: Path) -> dict[str, float]:
    """One noise and one seed: average precision of all rankings."""
    images, labels = read("digits" if options.smoke else "train", options.items)
    noisy = flip(images, labels, noise, seed)
    wrong = noisy != labels
    config = settings(options.epochs, options.device)
    folder = cache / f"{noise}-{seed}-{len(labels)}-{options.epochs}"
    start = time.process_time()
    folds = cross_fit(open_source((images, noisy)), config, folds=FOLDS, folder=folder)
    trained, start = time.process_time() - start, time.perf_counter()
    found = find_label_errors(folds)
    seconds = time.perf_counter() - start
    plain = find_label_errors([Fold(fold.table, fold.held_out) for fold in folds])
    features, heads, their_seconds = cleanlab_scores(folds, noisy)
    rankings = {
        "kyori": found.label_score,
        "kyori, vectors alone": plain.label_score,
        **{f"  signal {name}": values for name, values in found.signals.items()},
        "cleanlab pred_probs": heads,
        "cleanlab features": features,
    }
    result = {name: float(average_precision_score(wrong, -score)) for name, score in rankings.items()}
    for name, value in result.items():
        print(f"{noise:<8} seed {seed}  {name:<24} average precision {value:.4f}")
    issue = found.is_label_issue
    suggested = found.suggested_label.astype(np.int64)
    print(
        f"{noise:<8} seed {seed}  {issue.mean():.1%} look wrong ({wrong.mean():.1%} are): precision"
        f" {wrong[issue].mean():.3f}, recall {issue[wrong].mean():.3f}; suggestions right for"
        f" {(suggested == labels)[wrong & issue].mean():.3f} of them; scored in {seconds:.1f} s (cleanlab's"
        f" neighbours {their_seconds:.1f} s) after {trained:.0f} CPU s of training; peak {peak():.2f} GiB",
        flush=True,
    )
    if options.retrain:
        result |= retrain(options, found, images, labels, noisy, seed)
    return result


def retrain(
    options: argparse.Namespace,
    found: LabelErrors,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    noisy: NDArray[np.int64],
    seed: int,
) -> dict[str, float]:
    """MAP@R on the clean test items after training on noisy, corrected and clean labels."""
    corrected = np.where(found.is_label_issue, found.suggested_label.astype(np.int64), noisy)
    if options.smoke:
        cut = len(labels) * 4 // 5
        test, train = open_source((images[cut:], labels[cut:])), slice(0, cut)
    else:
        test, train = open_source(read("t10k", 10_000)), slice(None)
    config = RunConfig.from_options(settings(options.retrain_epochs, options.device), seed=seed)
    result = {}
    for name, given in (("noisy", noisy), ("corrected", corrected), ("clean", labels)):
        source = open_source((images[train], given[train]))
        run = fit_split(Split(source, source.take([]), test), config)
        shown = run.results["map@r"] if run.results is not None else None
        if shown is None:
            raise SystemExit("nothing was measured")
        result[f"map@r {name}"] = shown.value
        result[f"per query {name}"] = shown.per_query  # type: ignore[assignment]
        print(
            f"         trained on {name:<10} labels: MAP@R {shown.value:.4f} ({shown.low:.4f} – {shown.high:.4f})"
        )
    gain = np.asarray(result.pop("per query corrected")) - np.asarray(result.pop("per query noisy"))
    result.pop("per query clean")
    low, high = np.quantile(
        [np.random.default_rng(i).choice(gain, len(gain)).mean() for i in range(1000)], [0.025, 0.975]
    )
    print(
        f"         corrected − noisy, paired over the test items: {gain.mean():+.4f} ({low:+.4f} – {high:+.4f})",
        flush=True,
    )
    return result


def synthetic(n: int, d: int, c: int) -> None:
    """Many items of many classes: nothing may be as large as n × c. Exact search takes nearly all of the time."""
    rng = np.random.default_rng(0)
    true = np.arange(n) % c
    centres = rng.normal(size=(c, d)).astype(np.float32)
    vectors = centres[true] + rng.normal(size=(n, d)).astype(np.float32)
    wrong = rng.permutation(n)[: n // 10]
    given = true.copy()
    given[wrong] = rng.integers(0, c, len(wrong))
    before, start = peak(), time.perf_counter()
    found = find_label_errors(VectorTable(vectors=vectors, labels=given))
    seconds = time.perf_counter() - start
    value = average_precision_score(given != true, -found.label_score)
    print(
        f"{n:,} × {d}, {c:,} classes: {seconds:.0f} s, peak {peak():.2f} GiB ({before:.2f} before; items × classes"
        f" would be {n * c * 4 / 2**30:.1f} GiB), average precision {value:.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="digits, one seed, and 2,000 synthetic items")
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--noise", choices=NOISES, help="only this one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, help="folder in which trained folds are kept and found again")
    parser.add_argument("--retrain", action="store_true", help="also train on the corrected labels")
    parser.add_argument(
        "--retrain-epochs",
        type=int,
        default=20,
        help="of the trainings on noisy, corrected and clean labels: in the first few a network has not yet learnt "
        "wrong labels by heart, and clean ones gain nothing over noisy ones",
    )
    parser.add_argument(
        "--synthetic", action="store_true", help="200,000 × 128 vectors of 5,000 classes only"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.synthetic:
        return synthetic(200_000, 128, 5_000)
    if options.smoke:
        options.seeds, options.epochs, options.retrain = 1, 4, True
    with tempfile.TemporaryDirectory() as scratch:
        for noise in [options.noise] if options.noise else NOISES:
            results = [
                compare(options, noise, seed, options.cache or Path(scratch)) for seed in range(options.seeds)
            ]
            summarise(noise, results)
    if options.smoke:
        synthetic(2_000, 16, 200)
    return None


def summarise(noise: str, results: list[dict[str, float]]) -> None:
    """Mean over seeds with its standard deviation, and the least lead over each of cleanlab's paths."""
    for name in results[0]:
        values = np.array([result[name] for result in results])
        print(
            f"{noise:<8} {len(values)} seeds  {name:<24} {values.mean():.4f} ± {values.std(ddof=len(values) > 1):.4f}"
        )
    for peer in ("cleanlab pred_probs", "cleanlab features"):
        lead = np.array([result["kyori"] - result[peer] for result in results])
        print(
            f"{noise:<8} {len(lead)} seeds  kyori − {peer}: {lead.mean():+.4f} (least {lead.min():+.4f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
