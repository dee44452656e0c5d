"""Which method suits which data: the page of figures docs/methods-compared.md, made by one command.

The methods of the field on handwritten digits and Fashion-MNIST (new items of known classes) and on kanji (characters
that training never saw). On each data set all of them see the same items equally often, in batches of the same size,
through the same network, with their documented defaults; nothing is tuned. What is finished in ``--out`` is kept, so
that a run that was stopped goes on, and more seeds may be added.

    python benchmarks/methods.py                      # everything; writes the tables into the page
    python benchmarks/methods.py --budget large       # a small ResNet, more items and epochs, 3 folds for kanji
    python benchmarks/methods.py --data digits --seeds 1 --no-page
    python benchmarks/methods.py --smoke              # two methods, two data sets, seconds
"""

import argparse
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kyori
from kanji import RESNET, render
from kyori.comparison import Board
from kyori.comparison.diagram import rank_diagram
from kyori.comparison.ranks import Ranks, rank_methods
from label_errors import FASHION, read

PAGE = Path(__file__).parents[1] / "docs" / "methods-compared.md"
MARKS = ("<!-- tables: written by benchmarks/methods.py -->", "<!-- end of tables -->")
MEASURE = "map@r"
SAID = (
    "train_items",
    "epochs",
    "batch_size",
    "backbone",
    "embedding_size",
    "augmentation",
    "optimizer",
    "lr",
)
SHOWN = ("map@r", "recall@1", "auc", "tar@far=1e-2")

METHODS: list[Any] = [
    "raw", "nca", "lmnn", "itml",
    "softmax", "normface", "l2softmax", "sphereface", "cosface", "arcface", "subcenterarcface",
    "contrastive", "triplet-random", "triplet-hard", "triplet-batch-hard", "triplet-semihard",
    "multisimilarity", "circle", "supcon", "ntxent", "mnr", "margin", "proxynca", "proxyanchor", "softtriple",
]  # fmt: skip
FAMILY = {
    "raw": "none",
    **dict.fromkeys(("nca", "lmnn", "itml"), "linear"),
    **dict.fromkeys(("softmax", "normface", "l2softmax"), "softmax"),
    **dict.fromkeys(("sphereface", "cosface", "arcface", "subcenterarcface"), "angular margin"),
    **dict.fromkeys(("proxynca", "proxyanchor", "softtriple"), "proxies"),
}  # the others are losses of pairs and triplets
PLAIN = {"backbone": "mlp", "backbone_options": {"widths": [512, 256]}}
#: A ResNet-18 of a quarter of the width: 0.7 million numbers.
SMALL = {**RESNET, "backbone_options": {"channels": [16, 32, 64, 128], "stem_width": 16}}


def digits(budget: str) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
    images, labels = read("digits", 0)
    epochs = {"smoke": 1, "small": 15, "large": 40}[budget]
    return (
        images,
        labels,
        {
            "backbone": "cnn",
            "epochs": epochs,
            "per_class": 12,
            "fractions": (0.5, 0.1, 0.4),
            "unseen": False,
        },
    )


def fashion(budget: str) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
    items, epochs = {"smoke": (300, 1), "small": (6_000, 10), "large": (60_000, 5)}[budget]
    images, labels = read("train", items)
    network = SMALL if budget == "large" else PLAIN
    return images, labels, {**network, "epochs": epochs, "fractions": (0.7, 0.1, 0.2), "unseen": False}


def kanji(budget: str, rendered: Path | None = None) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
    characters, epochs = {"smoke": (20, 1), "small": (300, 15), "large": (1_500, 20)}[budget]
    if rendered is not None:
        with np.load(rendered) as file:
            images, labels = file["images"], file["labels"]
        kept = np.isin(labels, np.unique(labels)[:: len(np.unique(labels)) // characters][:characters])
        images, labels = images[kept], labels[kept]
    else:
        images, labels = render(characters, 20)
    folds = {"folds": 3} if budget == "large" else {"folds": 1, "fractions": (0.6, 0.07, 0.33)}
    network = {**SMALL, "shift": 1, "rotate": 5, "zoom": 0.1} if budget == "large" else PLAIN
    return images, labels, {**network, **folds, "epochs": epochs, "unseen": True}


DATA: dict[str, Callable[..., tuple[NDArray[Any], NDArray[Any], dict[str, Any]]]] = {
    "digits": digits,
    "fashion": fashion,
    "kanji": kanji,
}
TITLES = {"digits": "Digits", "fashion": "Fashion-MNIST", "kanji": "Kanji, unseen characters"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--methods", nargs="+", default=None, help="names of kyori compare")
    parser.add_argument("--budget", choices=["small", "large"], default="small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kanji", type=Path, help="pictures that kanji.py --render wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--no-page", action="store_true", help="print the tables only")
    parser.add_argument(
        "--page-only", action="store_true", help="write the page again from the boards in --out"
    )
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        options.budget, options.seeds, options.no_page = "smoke", 1, True
        options.methods, options.data = ["softmax", "triplet-semihard"], ["digits", "kanji"]
    boards: dict[str, Board] = {}
    for name in options.data:
        if name == "fashion" and not FASHION.exists():
            print(f"{name}: not here (Debian's package dataset-fashion-mnist)")
            continue
        out = options.out / options.budget / name
        if options.page_only:
            boards[name] = Board.from_json(out / "board.json")
            continue
        images, labels, settings = DATA[name](options.budget, *([options.kanji] if name == "kanji" else []))
        if not len(images):
            print(f"{name}: no fonts with kanji here")
            continue
        boards[name] = kyori.compare(
            images, labels=labels, methods=options.methods or METHODS, seeds=options.seeds, measure=MEASURE,
            batch_size=128, embedding_size=64, jobs=options.jobs, threads=options.threads, progress=True,
            out=None if options.smoke else out, **settings,
        )  # fmt: skip
        print(f"{TITLES[name]}: {len(images)} items\n\n{boards[name].to_markdown()}", flush=True)
    ranks = ranks_of(boards)
    if ranks is not None:
        print(average_ranks(ranks))
    if not options.no_page:
        write_page(boards, ranks)


def ranks_of(boards: Mapping[str, Board]) -> Ranks | None:
    """Average ranks over the data sets of the methods that all of them have."""
    methods = [m for m in next(iter(boards.values())).methods if all(m in b.methods for b in boards.values())]
    values = [
        [{r.method: r for r in b.rows()}[m].measures[MEASURE].value for m in methods] for b in boards.values()
    ]
    return rank_methods(methods, np.array(values))


def table(board: Board) -> str:
    """The measures of each method with their intervals, the best first, and how far behind the best it is."""
    against = {c.worse if c.better == board.winner else c.better: c for c in board.comparisons()}
    titles = ["method", "family", "MAP@R", "Recall@1", "AUC", "TAR@FAR 1 %", "behind the best", "training"]
    lines = [titles, ["---"] * 2 + ["---:"] * 6]
    for row in board.rows():
        best = row.method == board.winner
        cells = [row.method, FAMILY.get(row.method, "pairs, triplets")]
        for number, name in enumerate(SHOWN):
            found = row.measures[name]
            between = f" ({100 * found.low:.1f}–{100 * found.high:.1f})" if number < 2 else ""
            cells.append(f"{100 * found.value:.1f}{between}")
        cells += [
            behind(against.get(row.method), board.winner),
            f"{row.seconds:.1f} s" if row.parameters else "–",
        ]
        lines.append([f"**{cell}**" if best and i in (0, 2) else cell for i, cell in enumerate(cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def behind(found: Any, winner: str) -> str:
    if found is None:
        return "–"
    sign = 1 if found.better == winner else -1
    low, high = sorted((sign * found.low, sign * found.high))
    said = f"{100 * sign * found.difference:.1f} ({100 * low:.1f} to {100 * high:.1f})".replace("-", "−")
    return said if found.decided else f"{said}, undecided"


def decided(board: Board) -> str:
    """Which methods the best one is shown to beat, in words."""
    beaten = [c.worse for c in board.comparisons() if c.better == board.winner and c.decided]
    if not beaten:
        return f"{board.winner} has the best mean; with these seeds it is not shown to beat any other method."
    return f"{board.winner} has the best mean and is shown to beat {', '.join(beaten)}."


def average_ranks(ranks: Ranks) -> str:
    named = ", ".join(f"{name} {rank:.1f}" for name, rank in zip(ranks.methods, ranks.average, strict=True))
    return (
        f"Average ranks over {ranks.datasets} data sets: {named}. Friedman's test that all are alike: p = "
        f"{ranks.friedman:.2g}; two methods differ (Nemenyi, 5 %) from {ranks.critical:.1f} ranks on."
    )


def write_page(boards: Mapping[str, Board], ranks: Ranks | None) -> None:
    """Put the tables between the marks of the page, and their data and the diagram beside it."""
    folder = PAGE.parent / "data"
    folder.mkdir(exist_ok=True)
    parts = []
    for name, board in boards.items():
        said = ", ".join(
            f"{key.replace('_', ' ')} {board.budget[key]}" for key in SAID if key in board.budget
        )
        parts += [f"### {TITLES[name]}", table(board), decided(board), f"Budget: {said}. "
                  f"[All measures](data/methods-{name}.csv)."]  # fmt: skip
        parts += [str(failure) for failure in board.failures]
        (folder / f"methods-{name}.csv").write_text(board.to_csv(), encoding="utf-8")
    if ranks is not None:
        drawing = io.StringIO()
        drawing.write(str(rank_diagram(ranks, {}, "critical differences")))
        svg = drawing.getvalue().replace(
            "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" ', 1
        )
        head = svg.index(">") + 1
        (PAGE.parent / "images" / "methods-ranks.svg").write_text(
            f'{svg[:head]}<rect width="100%" height="100%" style="fill:#fff"/>{svg[head:]}', encoding="utf-8"
        )
        parts += ["### Over the data sets", "![Average ranks with critical difference](images/methods-ranks.svg)",
                  average_ranks(ranks)]  # fmt: skip
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    body = "\n\n".join(parts)
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{body}\n\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
