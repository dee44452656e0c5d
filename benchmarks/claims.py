"""What introductions to metric learning say, tried on real data: each claim a small experiment and a table.

    python benchmarks/claims.py                              # all of them, one thread
    python benchmarks/claims.py triplets sphereface          # some
    python benchmarks/claims.py --items 60000 --backbone cnn --seeds 5
    python benchmarks/claims.py --smoke

Numbers are means over seeds with the lowest and highest seed behind. MAP@R is that of held-out items. Seconds are CPU
seconds of this process, so that other work on the machine does not count.
"""

import argparse
import itertools
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import kyori
from kyori.data import Source, open_source
from kyori.errors import TrainingError
from kyori.report.norms import THIRDS, norm_rates
from kyori.runs.fitting import table_of
from kyori.training import Callback, Progress, RunConfig, build, train
from label_errors import FASHION, read
from noise import interval


@dataclass
class Curve(Callback):
    """A training, epoch by epoch.

    Attributes:
        loss: Its last statistics are read at the end of each epoch.
        map_at_r: One number an epoch, as the following; 0 where the vectors are all zero and have no neighbours.
        active: Share of terms that act.
        spread: Of the embeddings around their centre, relative to their length.
        lengths: Mean length of the features before they are scaled to 1, where the loss knows it.
        seconds: CPU time of the training alone, summed up.
        failed: What ended the training early.
    """

    loss: Any
    map_at_r: list[float] = field(default_factory=list)
    active: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: str = ""
    clock: float = 0.0
    used: float = 0.0

    def on_start(self, progress: Progress) -> None:
        self.clock = time.process_time()

    def measure(self, embedder: kyori.Embedder, source: Source) -> dict[str, float]:
        """The validation: its own time is left out."""
        self.used += time.process_time() - self.clock
        table = table_of(embedder, source)
        value = float(kyori.evaluate(table, measures=["map@r"], bootstrap=0)["map@r"].value)
        self.map_at_r.append(0.0 if np.isnan(value) else value)
        self.clock = time.process_time()
        return {"map@r": value}

    def on_epoch(self, record: Mapping[str, Any], progress: Progress) -> None:
        self.seconds.append(self.used)
        self.active.append(record["active"] if record["active"] is not None else np.nan)
        stats = self.loss.stats
        self.spread.append(stats.get("spread", np.nan))
        self.lengths.append(stats.get("feature_norm", np.nan))


def learn(parts: tuple[Source, Source], settings: Mapping[str, Any], seed: int) -> tuple[Curve, Any]:
    """Train on the first part, judge each epoch on the second; the last epoch's weights stay."""
    config = RunConfig.from_options(**settings, seed=seed, keep="last")
    embedder, loss = build(config, parts[0])
    curve = Curve(loss)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a collapse warns, and is what is looked for
            train(
                embedder, loss, parts[0], config,
                validate=lambda embedder: curve.measure(embedder, parts[1]), callbacks=[curve],
            )  # fmt: skip
    except TrainingError as error:
        curve.failed = str(error).split(";")[0].split(".")[0]
    return curve, embedder


def said(values: Sequence[float], digits: int = 1, factor: float = 100) -> str:
    """Mean, lowest and highest."""
    found = np.array(values, dtype=float) * factor
    if np.isnan(found).all():
        return "–"
    return f"{np.nanmean(found):.{digits}f} ({np.nanmin(found):.{digits}f}–{np.nanmax(found):.{digits}f})"


def acting(curves: Sequence[Curve]) -> str:
    """The mean share of active terms in the first and in the last epoch."""
    ends = [100 * np.mean([curve.active[place] for curve in curves]) for place in (0, -1)]
    return f"{ends[0]:.0f} → {ends[1]:.0f} %"


def deepest_fall(values: Sequence[float]) -> float:
    """The largest loss from one epoch to the next."""
    return max([0.0, *(a - b for a, b in itertools.pairwise(values))])


def show(title: str, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    print(f"\n{title}\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines), flush=True)


# -- contrastive: fast, but pairs grow quadratically ---------------------------------------------------------------


def contrastive(options: argparse.Namespace) -> None:
    """How fast each loss gets to what it will reach, in epochs and seconds; and what pairs cost."""
    for name, parts, settings in sets(options):
        rows, marks = [], sorted({1, 2, 5, options.epochs})
        for method, wanted in {
            "contrastive": {"loss": "contrastive", "normalize": True},
            "contrastive, raw distance": {"loss": "contrastive"},
            "triplet-semihard": {"loss": "triplet", "mining": "semihard"},
            "triplet-all": {"loss": "triplet", "mining": "all"},
            "softmax": {"loss": "softmax"},
            "arcface": {"loss": "arcface"},
        }.items():
            curves = [learn(parts, {**settings, **wanted}, seed)[0] for seed in range(options.seeds)]
            near = [first(c.map_at_r, 0.95 * max(c.map_at_r)) for c in curves]
            spent = [c.seconds[n] for c, n in zip(curves, near, strict=True)]
            rows.append([
                method, *(said([c.map_at_r[mark - 1] for c in curves]) for mark in marks if mark <= options.epochs),
                said([n + 1 for n in near], 0, 1), said(spent, 1, 1),
                acting(curves),
            ])  # fmt: skip
        after = [f"after {mark}" for mark in marks if mark <= options.epochs]
        show(
            f"Contrastive converges fast ({name}): MAP@R",
            ["loss", *after, "epochs to 95 % of its best", "CPU seconds", "active, first → last epoch"],
            rows,
        )
    sizes = (256, 512) if options.smoke else (512, 1024, 2048, 4096, 8192)
    rows, before = [], 0.0
    for n in sizes:
        seconds = median_step(n, 64)
        growth = f"{np.log2(seconds / before):.2f}" if before else "–"
        rows.append([f"{n:,}", f"{n * (n - 1) // 2:,}", f"{1000 * seconds:.1f} ms", growth])
        before = seconds
    show(
        "All pairs of a set at once, forward and backward, d = 64",
        ["items", "pairs", "time", "exponent"],
        rows,
    )
    rows = [
        [f"{n:,}", f"{n * (n - 1) // 2:,}", f"{(n // 128) * 128 * 127 // 2:,}", f"{127 / (n - 1):.2%}"]
        for n in (1_000, 60_000, 1_000_000)
    ]
    show("An epoch in batches of 128", ["items", "pairs", "pairs an epoch sees", "share"], rows)


def first(values: Sequence[float], least: float) -> int:
    return int(np.argmax(np.array(values) >= least))


def median_step(n: int, d: int) -> float:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator).requires_grad_()
    labels = torch.arange(n) % (n // 8)
    loss = kyori.losses.ContrastiveLoss(normalize=True)
    times = []
    for _ in range(4 if n > 4000 else 8):
        start = time.process_time()
        loss(x, labels).backward()
        times.append(time.process_time() - start)
    return float(np.median(times[1:]))


# -- triplets: which ones, and what collapses ----------------------------------------------------------------------


def triplets(options: argparse.Namespace) -> None:
    """Selections at two learning rates: what they reach, how many triplets still act, whether all becomes one point."""
    for name, parts, settings in sets(options):
        rows = []
        for lr in (1e-3, 1e-2):
            for mining in ("random", "all", "semihard", "hard", "batch_hard"):
                wanted = {"loss": "triplet", "mining": mining, "lr": lr}
                curves = [learn(parts, {**settings, **wanted}, seed)[0] for seed in range(options.seeds)]
                rows.append([
                    f"{lr:g}", mining, said([c.map_at_r[-1] for c in curves]),
                    acting(curves),
                    said([min(c.spread) for c in curves], 3, 1), said([c.spread[-1] for c in curves], 3, 1),
                    f"{sum(c.spread[-1] < 0.05 for c in curves)} of {len(curves)}",
                ])  # fmt: skip
        show(
            f"Triplets ({name})",
            [
                "lr",
                "triplets",
                "MAP@R",
                "active, first → last epoch",
                "least spread",
                "spread at the end",
                "collapsed",
            ],
            rows,
        )


# -- the price of a margin -----------------------------------------------------------------------------------------


def cost(options: argparse.Namespace) -> None:
    """CPU seconds of a step of the head alone, in turns, so that all see the same machine."""
    heads = {
        "normface": kyori.losses.NormFaceLoss,
        "cosface": kyori.losses.CosFaceLoss,
        "arcface": kyori.losses.ArcFaceLoss,
        "sphereface": kyori.losses.SphereFaceLoss,
    }
    rows = []
    for classes, turns in ((100, 3), (1_000, 3)) if options.smoke else ((1_000, 200), (100_000, 15)):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(128, 128, generator=generator).requires_grad_()
        labels = torch.randint(0, classes, (128,), generator=generator)
        losses = {name: head(num_classes=classes, embedding_size=128) for name, head in heads.items()}
        times: dict[str, list[float]] = {name: [] for name in heads}
        for turn in range(turns + 2):
            for name in np.random.default_rng(turn).permutation(list(heads)):
                start = time.process_time()
                losses[name](x, labels).backward()
                times[name].append(time.process_time() - start)
                losses[name].weight.grad = None
        base = np.array(times["cosface"][2:])
        for name, found in times.items():
            ratio = np.array(found[2:]) / base
            low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
            rows.append([f"{classes:,}", name, f"{1000 * np.median(found[2:]):.2f} ms",
                         "1" if name == "cosface" else f"{middle:.3f} ({low:.3f}–{high:.3f})"])  # fmt: skip
    show(
        "A step of the head, forward and backward, 128 items, d = 128 (quartiles of the ratio over turns)",
        ["classes", "head", "CPU time", "times CosFace"],
        rows,
    )


# -- SphereFace without annealing ----------------------------------------------------------------------------------


def sphereface(options: argparse.Namespace) -> None:
    """SphereFace with and without λ, at margins 2 and 4 and two learning rates."""
    for name, parts, settings in sets(options):
        rows = []
        for lr in (1e-3, 1e-2):
            for margin in (2.0, 4.0):
                gains: list[list[float]] = []
                for anneal in (True, False):
                    wanted = {"loss": "sphereface", "margin": margin, "anneal": anneal, "lr": lr}
                    curves = [learn(parts, {**settings, **wanted}, seed)[0] for seed in range(options.seeds)]
                    ends = [c.map_at_r[-1] if not c.failed else 0.0 for c in curves]
                    gains.append(ends)
                    fell = [deepest_fall(curve.map_at_r) for curve in curves]
                    rows.append([
                        f"{lr:g}", f"{margin:g}", "λ from 1000 to 5" if anneal else "none", said(ends),
                        said([c.map_at_r[0] if c.map_at_r else np.nan for c in curves]), said(fell),
                        said([c.lengths[-1] if c.lengths else np.nan for c in curves], 4, 1),
                        f"{sum(bool(c.failed) for c in curves)} of {len(curves)}",
                        "–" if anneal else interval(100 * (np.array(gains[1]) - np.array(gains[0]))),
                    ])  # fmt: skip
        show(
            f"SphereFace with and without annealing ({name})",
            ["lr", "m", "annealing", "MAP@R at the end", "after 1 epoch", "deepest fall between epochs",
             "feature length", "NaN",
             "without − with (95 %)"],
            rows,
        )  # fmt: skip


# -- the norm ------------------------------------------------------------------------------------------------------


def norms(options: argparse.Namespace) -> None:
    """Softmax with and without constrained features: clusters, and verification by thirds of the feature norms."""
    for name, parts, settings in sets(options):
        rows, thirds = [], []
        for method, wanted in {
            "softmax": {"loss": "softmax"},
            "l2softmax, α = 16": {"loss": "l2softmax"},
            "arcface": {"loss": "arcface"},
        }.items():
            tables = [
                table_of(learn(parts, {**settings, **wanted}, s)[1], parts[1]) for s in range(options.seeds)
            ]
            found = [
                kyori.evaluate(t, measures=["map@r", "silhouette", "distance-ratio"], bootstrap=0)
                for t in tables
            ]
            clusters = [[f[m].value for f in found] for m in ("map@r", "distance-ratio", "silhouette")]
            rows.append([method, said(clusters[0]), said(clusters[1], 3, 1), said(clusters[2])])
            rates = [norm_rates(table) for table in tables]
            eer = np.array([[100 * part.eer for part in rate] for rate in rates])
            tar = [
                [100 * part.tar[np.searchsorted(part.far, 0.01, side="right") - 1] for part in rate]
                for rate in rates
            ]
            thirds.append([method, *(said(eer[:, i], 1, 1) for i in range(len(THIRDS))),
                           interval(eer[:, 0] - eer[:, 2]).replace("+", ""),
                           " / ".join(f"{v:.0f}" for v in np.mean(tar, axis=0))])  # fmt: skip
        show(
            f"Constraining the norm ({name})", ["method", "MAP@R", "intra/inter distance", "silhouette"], rows
        )
        show(
            f"Verification by feature norm ({name}): equal error rate in %",
            ["method", "short–short", "middle–middle", "long–long", "short − long (95 %)",
             "TAR@FAR 1 %, short / middle / long"],
            thirds,
        )  # fmt: skip


CLAIMS = {f.__name__: f for f in (contrastive, triplets, cost, sphereface, norms)}


def sets(options: argparse.Namespace) -> list[tuple[str, tuple[Source, Source], dict[str, Any]]]:
    """The data of the experiments: name, training and held-out items, settings."""
    shared = {"epochs": options.epochs, "embedding_size": 64, "backbone": options.backbone}
    found = []
    if "digits" in options.data:
        found.append(("digits", halves(*read("digits", 0)), {**shared, "per_class": 12}))
    if "fashion" in options.data and FASHION.exists():
        found.append(("Fashion-MNIST", halves(*read("train", options.items)), shared))
    if "kanji" in options.data:
        found.append(("kanji, known characters", halves(*characters(options)), shared))
    return found


def characters(options: argparse.Namespace) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pictures and labels of 300 characters: many classes of few items, where hard negatives are very near."""
    if options.kanji is None:
        from kanji import render

        return render(300, 20)
    with np.load(options.kanji) as file:
        images, labels = file["images"], file["labels"]
    kept = np.isin(labels, np.unique(labels)[::10])
    return images[kept], labels[kept]


def halves(images: NDArray[Any], labels: NDArray[Any]) -> tuple[Source, Source]:
    """Two thirds to train on, the rest held out; the same for all seeds."""
    order = np.random.default_rng(0).permutation(len(labels))
    cut = len(order) // 3
    return open_source((images[order[cut:]], labels[order[cut:]])), open_source(
        (images[order[:cut]], labels[order[:cut]])
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("claims", nargs="*", help=f"of {', '.join(CLAIMS)}; all by default")
    parser.add_argument(
        "--data", nargs="+", choices=["digits", "fashion", "kanji"], default=["digits", "fashion"]
    )
    parser.add_argument("--items", type=int, default=6_000, help="of Fashion-MNIST")
    parser.add_argument("--kanji", type=Path, help="pictures that kanji.py --render wrote")
    parser.add_argument("--backbone", default="mlp")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    for claim in options.claims:
        if claim not in CLAIMS:
            parser.error(f"unknown claim '{claim}'; known: {', '.join(CLAIMS)}")
    if options.smoke:
        options.data, options.epochs, options.seeds = ["digits"], 2, 2
    torch.set_num_threads(options.threads)
    for claim in options.claims or CLAIMS:
        CLAIMS[claim](options)


if __name__ == "__main__":
    main()
