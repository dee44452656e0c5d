"""Find planted label errors: average precision of Kyori's ranking beside cleanlab's, on the same vectors.

10 % of the labels of Fashion-MNIST (train, 60,000 items) are flipped, at random or to the most similar class. The
items are cross-fitted (`cnn` with softmax); every peer then gets the vectors and probabilities of the model
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
from scipy import stats
from sklearn.metrics import average_precision_score

from kyori.data import Split, open_source
from kyori.neighbors import nearest
from kyori.quality import Fold, LabelErrors, cross_fit, find_label_errors
from kyori.runs import fit_split
from kyori.training import RunConfig
from kyori.vectors import VectorTable

FASHION = Path("/usr/share/datasets/fashion-mnist")
NOISES = ("random", "similar")


def read(part: str, items: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (n, h, w) and labels (n,) of one part of Fashion-MNIST or, without it, of the digits."""
    import gzip

    if part.startswith("digits"):
        from sklearn.datasets import load_digits

        digits, every = load_digits(), np.random.default_rng(0).permutation(1797)
        chosen = np.sort({"digits": every, "digits train": every[450:], "digits test": every[:450]}[part])
        return (digits.images[chosen] * 15).astype(np.uint8), digits.target[chosen].astype(np.int64)
    with gzip.open(FASHION / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[:items])
    return images[chosen], labels[chosen]


def flip(
    images: NDArray[np.uint8], labels: NDArray[np.int64], noise: str, seed: int, share: float
) -> NDArray[np.int64]:
    """Labels of which a share is wrong: any other class, or the one that raw pixels confuse it with most."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
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


def settings(options: argparse.Namespace) -> RunConfig:
    return RunConfig.from_options(
        loss="softmax",
        backbone=options.backbone,
        batch_size=256,
        epochs=options.epochs,
        device=options.device,
    )


def peak() -> float:
    """Largest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cleanlab_scores(
    folds: list[Fold], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of cleanlab's features path and of its pred_probs path."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.neighbors import KNeighborsClassifier

    n, c = len(labels), int(labels.max()) + 1
    votes, heads = np.zeros((n, c)), np.zeros((n, c))
    for fold in folds:
        rows = np.flatnonzero(fold.held_out)
        # As in cleanlab 2.9, datalab/internal/issue_manager/label.py: 11 neighbours, less the item's own vote.
        classifier = KNeighborsClassifier(n_neighbors=11).fit(fold.table.vectors, labels)
        shares = classifier.predict_proba(fold.table.vectors[rows])
        votes[rows] = (shares - np.eye(c)[labels[rows]] / 11) * 11 / 10
    for fold in folds:
        if fold.probabilities is None:
            raise SystemExit("the loss needs a head")
        rows = np.flatnonzero(fold.held_out)
        dense = np.zeros((len(rows), c))
        np.put_along_axis(dense, fold.probabilities.classes[rows], fold.probabilities.values[rows], axis=1)
        dense[np.arange(len(rows)), labels[rows]] = fold.probabilities.own[rows]
        heads[rows] = dense / dense.sum(axis=1, keepdims=True)
    return get_label_quality_scores(labels, votes.clip(0, 1)), get_label_quality_scores(labels, heads)


def rank(
    folds: list[Fold], found: LabelErrors, noisy: NDArray[np.int64], wrong: NDArray[np.bool_]
) -> dict[str, float]:
    """Average precision of all rankings."""
    plain = find_label_errors([Fold(fold.table, fold.held_out) for fold in folds])
    features, heads = cleanlab_scores(folds, noisy)
    rankings = {
        "kyori": found.label_score,
        "kyori, vectors alone": plain.label_score,
        **{f"  signal {name}": values for name, values in found.signals.items()},
        "cleanlab pred_probs": heads,
        "cleanlab features": features,
    }
    return {name: float(average_precision_score(wrong, -score)) for name, score in rankings.items()}


def compare(options: argparse.Namespace, noise: str, seed: int, cache: Path) -> dict[str, float]:
    """One noise and one seed: average precision of all rankings."""
    images, labels = read("digits train" if options.digits else "train", options.items)
    noisy = flip(images, labels, noise, seed, options.share)
    wrong = noisy != labels
    config = settings(options)
    folder = (
        cache
        / f"{options.backbone}-{noise}-{options.share}-{seed}-{len(labels)}-{options.folds}-{options.epochs}"
    )
    start = time.process_time()
    folds = cross_fit(open_source((images, noisy)), config, folds=options.folds, folder=folder)
    trained, start = time.process_time() - start, time.perf_counter()
    found = find_label_errors(folds)
    seconds, memory = time.perf_counter() - start, peak()
    result = rank(folds, found, noisy, wrong) if wrong.any() else {}
    for name, value in result.items():
        print(f"{noise:<8} seed {seed}  {name:<24} average precision {value:.4f}")
    issue = found.is_label_issue
    suggested = found.suggested_label.astype(np.int64)
    print(
        f"{noise:<8} seed {seed}  {issue.mean():.1%} look wrong ({wrong.mean():.1%} are): precision"
        f" {wrong[issue].mean():.3f}, recall {issue[wrong].mean():.3f}; suggestions right for"
        f" {(suggested == labels)[wrong & issue].mean():.3f} of them; scored in {seconds:.1f} s"
        f" after {trained:.0f} CPU s of training; peak {memory:.2f} GiB",
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
    action, suggested = found.suggested_action, found.suggested_label.astype(np.int64)
    relabelled = action == "relabel"
    corrected = np.where(relabelled, suggested, noisy)
    everything, kept = np.ones(len(labels), bool), action != "drop"
    print(
        f"         {relabelled.mean():.1%} relabelled ({(suggested == labels)[relabelled].mean():.3f} of them rightly),"
        f" {1 - kept.mean():.1%} dropped; {(corrected != labels)[kept].mean():.1%} of the rest are wrong"
    )
    test = open_source(read("digits test" if options.digits else "t10k", options.test_items))
    config = RunConfig.from_options(
        loss=options.retrain_loss, backbone=options.backbone, epochs=options.retrain_epochs, keep="last",
        device=options.device, seed=seed,
    )  # fmt: skip
    values, queries = {}, {}
    trainings = {"noisy": (everything, noisy), "corrected": (kept, corrected), "clean": (everything, labels)}
    for name, (chosen, given) in trainings.items():
        source = open_source((images[chosen], given[chosen]))
        run = fit_split(Split(source, source.take([]), test), config)
        if run.results is None:
            raise SystemExit("nothing was measured")
        shown = run.results["map@r"]
        values[f"map@r {name}"], queries[name] = shown.value, np.asarray(shown.per_query)
        print(
            f"         trained on {name:<10} labels: MAP@R {shown.value:.4f} ({shown.low:.4f} – {shown.high:.4f})"
        )
    gain = queries["corrected"] - queries["noisy"]
    low, high = np.quantile(
        [np.random.default_rng(i).choice(gain, len(gain)).mean() for i in range(1000)], [0.025, 0.975]
    )
    print(
        f"         corrected − noisy, paired over the test items: {gain.mean():+.4f} ({low:+.4f} – {high:+.4f})",
        flush=True,
    )
    return values


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
    parser.add_argument(
        "--digits", action="store_true", help="instead of Fashion-MNIST; a quarter is the test part"
    )
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--test-items", type=int, default=10_000, help="clean ones to measure trainings on")
    parser.add_argument(
        "--share",
        type=float,
        default=0.1,
        help="of the labels that are flipped; 0 with --retrain: is it harmful?",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--noise", choices=NOISES, help="only this one")
    parser.add_argument("--backbone", default="cnn", help="cnn or mlp")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, help="folder in which trained folds are kept and found again")
    parser.add_argument("--retrain", action="store_true", help="also train on the corrected labels")
    parser.add_argument("--retrain-loss", default="triplet")
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
        options.digits, options.seeds, options.epochs, options.retrain = True, 1, 4, True
    with tempfile.TemporaryDirectory() as scratch:
        for noise in [options.noise] if options.noise else NOISES:
            results = [
                compare(options, noise, options.first_seed + i, options.cache or Path(scratch))
                for i in range(options.seeds)
            ]
            summarise(noise, results)
    if options.smoke:
        synthetic(2_000, 16, 200)
    return None


def summarise(noise: str, results: list[dict[str, float]]) -> None:
    """Mean over seeds with its standard deviation, and the leads with their 95 % t interval over the seeds."""
    for name in results[0]:
        values = np.array([result[name] for result in results])
        print(
            f"{noise:<8} {len(values)} seeds  {name:<24} {values.mean():.4f} ± {values.std(ddof=len(values) > 1):.4f}"
        )
    pairs = [
        ("kyori", "cleanlab pred_probs"),
        ("kyori", "cleanlab features"),
        ("map@r corrected", "map@r noisy"),
    ]
    for ours, theirs in pairs:
        if ours in results[0]:
            lead = np.array([result[ours] - result[theirs] for result in results])
            half = 0.0
            if len(lead) > 1:
                half = stats.t.ppf(0.975, len(lead) - 1) * lead.std(ddof=1) / len(lead) ** 0.5
            print(
                f"{noise:<8} {len(lead)} seeds  {ours} − {theirs}: {lead.mean():+.4f} ± {half:.4f}"
                f" (least {lead.min():+.4f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
