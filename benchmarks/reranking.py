"""What re-ranking gains and costs: Recall@1 and MAP@R of items that were not trained on, with and without it.

The pairwise model learns from one held-out part and all ways are measured on another. Intervals are paired: of the
gain over the plain search of the same query. Figures that are bad are printed like the others.

    python benchmarks/reranking.py                       # digits and Fashion-MNIST, weak and strong embeddings
    python benchmarks/reranking.py --data digits
    python benchmarks/reranking.py --smoke               # seconds, to see that it runs
"""

import argparse
import time
from pathlib import Path

import numpy as np

import kyori
from kyori.index import KReciprocal, QueryExpansion
from kyori.recognition import Gain, PairwiseReranker, measure_reranking
from kyori.runs import table_of

FASHION = Path("/usr/share/datasets/fashion-mnist")


def embedded(name: str, epochs: int, smoke: bool) -> tuple[kyori.VectorTable, kyori.VectorTable, float]:
    """Vectors of two parts that the run was not trained on, and its seconds."""
    source = kyori.open_source("digits" if name == "digits" else str(FASHION))
    if name == "fashion":
        rows = np.sort(np.random.default_rng(0).permutation(len(source))[: 1_500 if smoke else 12_000])
        source = kyori.open_source((source.load(rows), source.labels[rows]))
    order = np.random.default_rng(1).permutation(len(source))
    train, learn, test = (source.take(np.sort(part)) for part in np.array_split(order, 3))
    start = time.perf_counter()
    data = train.load(np.arange(len(train))), train.labels
    run = kyori.fit(data, loss="triplet", epochs=epochs, seed=0, report=None, split="none")
    return table_of(run.embedder, learn), table_of(run.embedder, test), time.perf_counter() - start


def show(rows: list[Gain]) -> None:
    for row in rows:
        gain = "" if row.rerank == "none" else f"   gain {row.gain:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
        print(
            f"  {row.rerank:<11} {row.measure:<9} {row.value:.4f}{gain}   {row.milliseconds:6.2f} ms a query",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "fashion"], nargs="*", default=["digits", "fashion"])
    parser.add_argument(
        "--epochs", type=int, nargs="*", default=[1, 10], help="a weak and a strong embedding"
    )
    parser.add_argument("--queries", type=int, default=600)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    for name in asked.data:
        if name == "fashion" and not FASHION.is_dir():
            print("fashion: Debian's package dataset-fashion-mnist is not installed")
            continue
        for epochs in [1] if asked.smoke else asked.epochs:
            learn, test, seconds = embedded(name, epochs, asked.smoke)
            start = time.perf_counter()
            model = PairwiseReranker.fit(learn, seed=0)
            print(
                f"{name}, {epochs} epochs ({seconds:.0f} s): {len(test):,} items; pairwise model from"
                f" {model.facts['pairs']:,} pairs in {time.perf_counter() - start:.1f} s, held-out loss"
                f" {model.facts['loss_of_distance']:.4f} by the distance, {model.facts['loss']:.4f} by the model"
            )
            ways = {"expansion": QueryExpansion(), "reciprocal": KReciprocal(), "pairwise": model}
            show(measure_reranking(test, ways, queries=60 if asked.smoke else asked.queries))


if __name__ == "__main__":
    main()
