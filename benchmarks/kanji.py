"""Unseen kanji: does the large batch pay, and does a sampled head reach the exact one?

Characters are rendered in every typeface that the machine has and that knows them; a network trains on some characters
and is asked about others: which pictures show the same character? All methods see the same number of pictures.

    apt-get install fonts-ipafont fonts-takao fonts-vlgothic fonts-hanazono …   # any fonts with kanji
    python benchmarks/kanji.py                     # renders, trains, compares; the report is in runs/kanji
    python benchmarks/kanji.py --render kanji.npz  # only the data, for kyori compare and others
    python benchmarks/kanji.py --goal arcface      # one run with a small ResNet, how far it comes and when; goes on
                                                   # where it was stopped
    python benchmarks/kanji.py --smoke             # a few characters, seconds
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FONTS = Path("/usr/share/fonts")
SIDE = 32
METHODS = {
    "batch": [
        {"name": "semihard, 128", "loss": "triplet", "mining": "semihard", "batch_size": 128, "per_class": 4},
        {"name": "semihard, 1800", "loss": "triplet", "mining": "semihard", "batch_size": 1800, "per_class": 4},
        {"name": "semihard, 1800, lr 3e-3", "loss": "triplet", "mining": "semihard", "batch_size": 1800,
         "per_class": 4, "lr": 3e-3},
        {"name": "all, 128", "loss": "triplet", "mining": "all", "batch_size": 128, "per_class": 4},
        {"name": "all, 1800, lr 3e-3", "loss": "triplet", "mining": "all", "batch_size": 1800, "per_class": 4,
         "lr": 3e-3},
    ],
    "heads": [
        {"name": "arcface", "loss": "arcface"},
        {"name": "arcface, 30 % of the classes", "loss": "arcface", "sample": 0.3},
        {"name": "arcface, 10 % of the classes", "loss": "arcface", "sample": 0.1},
    ],
    "families": ["raw", "softmax", "triplet-semihard", "arcface"],
}  # fmt: skip
#: A ResNet-18 of half the width, in about a quarter of its time: 2.8 million numbers, batch normalisation.
RESNET = {
    "backbone": "resnet18",
    "backbone_options": {"channels": [32, 64, 128, 256], "stem_width": 32},
    "channels_last": True,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": {"backbone": "cnn"},
    "resnet": RESNET,
    "mlp": {"backbone": "mlp", "backbone_options": {"widths": [512, 256]}},
}
GOAL = {
    "arcface": {"loss": "arcface"},
    "triplet": {"loss": "triplet", "mining": "semihard"},
    "multisimilarity": {"loss": "multisimilarity"},
}


def faces() -> Iterator[tuple[Path, int, set[int]]]:
    """Every typeface with more than 2,000 kanji, and the characters it knows."""
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    for path in sorted(p for p in FONTS.rglob("*") if p.suffix.lower() in (".ttf", ".otf", ".ttc")):
        try:
            if path.suffix.lower() == ".ttc":
                tables = [font.getBestCmap() for font in TTCollection(str(path), lazy=True).fonts]
            else:
                tables = [TTFont(str(path), lazy=True).getBestCmap()]
        except (TTLibError, OSError, KeyError):
            continue
        for index, table in enumerate(tables):
            known = {code for code in table or () if 0x4E00 <= code < 0xA000}
            if len(known) > 2000:
                yield path, index, known


def render(characters: int, per_character: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 32, 32) uint8 and characters (n,) as strings: the characters that most typefaces know."""
    from PIL import Image, ImageDraw, ImageFont

    found = list(faces())
    spread = np.random.default_rng(0).permutation(len(found))
    counts: dict[int, int] = {}
    for _, _, known in found:
        for code in known:
            counts[code] = counts.get(code, 0) + 1
    chosen = sorted(counts, key=lambda code: (-counts[code], code))[:characters]
    pictures: dict[int, dict[bytes, np.ndarray]] = {code: {} for code in chosen}
    for number in spread:
        path, index, known = found[number]
        try:
            font = ImageFont.truetype(str(path), SIDE - 6, index=index)
        except OSError:
            continue
        for code in chosen:
            if code not in known or len(pictures[code]) >= per_character:
                continue
            image = Image.new("L", (SIDE, SIDE))
            ImageDraw.Draw(image).text((SIDE / 2, SIDE / 2), chr(code), 255, font, anchor="mm")
            array = np.asarray(image)
            if array.any():  # faces that are the same drawing give the same picture, which counts once
                pictures[code].setdefault(array.tobytes(), array)
    full = [code for code in chosen if len(pictures[code]) >= min(15, per_character)]
    images = np.stack([picture for code in full for picture in pictures[code].values()])
    labels = np.array([chr(code) for code in full for _ in pictures[code]])
    return images, labels


def reach_goal(options: argparse.Namespace, images: np.ndarray, labels: np.ndarray) -> None:
    """Train one method on two thirds of the characters and say what Recall@1 is on the others, after how long."""
    import kyori

    out = None if options.smoke else options.out / f"goal-{options.goal}"
    raw = kyori.VectorTable(
        ids=np.arange(len(images)), vectors=images.reshape(len(images), -1) / np.float32(255), labels=labels
    )
    unseen = np.unique(labels)[::3]  # as many as the test part has, to see how easy the question is
    found = kyori.evaluate(
        raw.take(np.flatnonzero(np.isin(labels, unseen))), measures=["recall@1"], bootstrap=0
    )
    print(f"raw pixels, {len(unseen)} characters: Recall@1 {found['recall@1'].value:.4f}", flush=True)
    used = time.process_time()
    run = kyori.fit(
        images, labels=labels, out=out, resume=out is not None and (out / "config.yaml").exists(), progress=True,
        split="class-disjoint", fractions=(0.62, 0.05, 0.33), measure="recall@1", embedding_size=256, batch_size=128,
        epochs=options.epochs, shift=1, rotate=5, zoom=0.1, checkpoint_every="5 minutes", report=None,
        **GOAL[options.goal], **RESNET,
    )  # fmt: skip
    for record in run.history:
        print(
            {key: value for key, value in record.items() if key in ("epoch", "seconds", "loss", "recall@1")}
        )
    measured = run.results
    for name in ("recall@1", "map@r"):
        value = measured[name]
        print(f"{options.goal}: {name} {value.value:.4f} ({value.low:.4f}–{value.high:.4f})")
    print(f"{run.seconds:.0f} s of training, {time.process_time() - used:.0f} s of CPU in this process")


def race_batches(options: argparse.Namespace, images: np.ndarray, labels: np.ndarray) -> None:
    """Large batches beside small ones, through the same number of pictures.

    ``kyori compare`` holds the batch size equal for all methods, so here each training stands alone.
    """
    import kyori

    print("\n| method | steps | MAP@R | Recall@1 | seconds |\n|---|---:|---:|---:|---:|")
    for method in METHODS["batch"]:
        settings = {key: value for key, value in method.items() if key != "name"}
        found, steps, seconds = [], 0, []
        for seed in range(options.seeds):
            run = kyori.fit(
                images, labels=labels, split="class-disjoint", fractions=(0.6, 0.07, 0.33), embedding_size=128,
                epochs=options.epochs, shift=1, rotate=5, zoom=0.1, seed=seed, report=None, **settings,
                **NETWORKS[options.backbone],
            )  # fmt: skip
            found.append([100 * run.results[name].value for name in ("map@r", "recall@1")])
            steps, seconds = run.history[-1]["step"], [*seconds, run.seconds]
        texts = [f"{v.mean():.1f} ({v.min():.1f}–{v.max():.1f})" for v in np.array(found).T]
        print(
            f"| {method['name']} | {steps} | {texts[0]} | {texts[1]} | {np.mean(seconds):.0f} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--characters", type=int, default=3000)
    parser.add_argument("--faces", type=int, default=20, help="pictures of each character")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=list(METHODS), default=["batch", "heads"])
    parser.add_argument("--out", type=Path, default=Path("runs/kanji"))
    parser.add_argument(
        "--data", type=Path, help="pictures that --render wrote, instead of rendering them again"
    )
    parser.add_argument(
        "--goal", choices=list(GOAL), help="one run for the highest Recall@1, instead of the sets"
    )
    parser.add_argument("--backbone", choices=list(NETWORKS), default="cnn", help="network of the sets")
    parser.add_argument("--render", type=Path, help="only write the pictures to this .npz")
    parser.add_argument("--smoke", action="store_true", help="a few characters, to see that it runs")
    options = parser.parse_args()
    if options.smoke:
        options.characters, options.faces, options.epochs, options.seeds, options.sets = (
            30,
            6,
            1,
            1,
            ["heads"],
        )
    if options.data:
        with np.load(options.data) as file:
            images, labels = file["images"], file["labels"]
        kept = np.isin(labels, np.unique(labels)[: options.characters])
        images, labels = images[kept], labels[kept]
    else:
        images, labels = render(options.characters, options.faces)
    print(f"{len(images)} pictures of {len(np.unique(labels))} characters")
    if options.render:
        np.savez(options.render, images=images, labels=labels)
        return
    if not len(images):
        print("no fonts with kanji here")
        return
    if options.goal:
        reach_goal(options, images, labels)
        return
    import kyori

    network = NETWORKS[options.backbone]
    if "batch" in options.sets:
        race_batches(options, images, labels)
    for name in [name for name in options.sets if name != "batch"]:
        board = kyori.compare(
            images, labels=labels, methods=METHODS[name], seeds=options.seeds, measure="map@r",
            out=None if options.smoke else options.out / name, split="class-disjoint", fractions=(0.6, 0.07, 0.33),
            embedding_size=128, epochs=options.epochs, progress=True, shift=1, rotate=5, zoom=0.1, **network,
        )  # fmt: skip
        print(board.to_markdown() if hasattr(board, "to_markdown") else board)
        for comparison in board.comparisons():
            print(comparison)


if __name__ == "__main__":
    main()
