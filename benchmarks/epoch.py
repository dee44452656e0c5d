"""One epoch of `cnn` + triplet-semihard on Fashion-MNIST: Kyori beside pytorch-metric-learning's documented example.

Both train the same network on the same batches' shape (10 classes × 26 items) with Adam, each in a process of its own
as its users run it, several rounds in turn. The peer is its MNIST example: torchvision transforms item by item,
DataLoader, MPerClassSampler, TripletMarginMiner, TripletMarginLoss. The network's own forward and backward are timed
inside the run, by hooks, so "the rest" (data, loss, optimizer, loop) is the epoch without them.

    python benchmarks/epoch.py            # a whole epoch each, 3 rounds
    python benchmarks/epoch.py --smoke    # a few steps, to see that it runs
"""

import argparse
import gzip
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kyori.data import Source, open_source
from kyori.models import create_backbone
from kyori.training import RunConfig, build, keep_memory, train

FASHION = Path("/usr/share/datasets/fashion-mnist")
CLASSES, PER_CLASS = 10, 26  # 260 items: the nearest to 256 that holds all classes equally often
MARGIN, RATE, SIZE = 0.2, 1e-3, 64


clock: Callable[[], float] = time.perf_counter


class Timed(nn.Module):
    """A network that adds up the seconds of its own forward and backward (on the CPU, where nothing is deferred)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.seconds = 0.0
        self._started = self._last = 0.0
        for weight in network.parameters():
            weight.register_post_accumulate_grad_hook(self._arrived)

    def forward(self, x: Tensor) -> Tensor:
        start = clock()
        features = self.network(x)
        self.seconds += clock() - start
        if features.requires_grad:
            features.register_hook(self._begin)
        return features

    def _begin(self, gradient: Tensor) -> None:
        self._last = clock()

    def _arrived(self, weight: Tensor) -> None:  # the last weight to get its gradient ends the backward pass
        now = clock()
        self.seconds += now - self._last
        self._last = now


def network() -> Timed:
    torch.manual_seed(0)
    return Timed(nn.Sequential(create_backbone("cnn", (1, 28, 28)), nn.Linear(128, SIZE)))


def kyori_epoch(source: Source) -> tuple[float, float, int]:
    """Return seconds in all, seconds of the network, steps."""
    config = RunConfig.from_options(
        loss="triplet", mining="semihard", margin=MARGIN, lr=RATE, epochs=1, device="cpu",
        batch_size=CLASSES * PER_CLASS, per_class=PER_CLASS, embedding_size=None,
    )  # fmt: skip
    timed = network()
    start = clock()
    embedder, loss = build(config, source, backbone=timed)
    timed.seconds = 0.0  # without the dry run
    history = train(embedder, loss, source, config)
    return clock() - start, timed.seconds, history.steps


class Pictures(torch.utils.data.Dataset):
    """What torchvision.datasets.FashionMNIST does for an item: array → PIL → transform."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        from torchvision import transforms

        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def peer_epoch(images: np.ndarray, labels: np.ndarray, steps: int, workers: int) -> tuple[float, float, int]:
    """The loop of pytorch-metric-learning's MNIST example."""
    from pytorch_metric_learning import distances, losses, miners, reducers, samplers

    model, done = network(), 0
    start = clock()
    batch = CLASSES * PER_CLASS
    sampler = samplers.MPerClassSampler(labels, PER_CLASS, batch, length_before_new_iter=steps * batch)
    loader = torch.utils.data.DataLoader(
        Pictures(images, labels), batch, sampler=sampler, num_workers=workers
    )
    distance = distances.CosineSimilarity()
    loss_func = losses.TripletMarginLoss(
        margin=MARGIN, distance=distance, reducer=reducers.ThresholdReducer(low=0)
    )
    mining_func = miners.TripletMarginMiner(margin=MARGIN, distance=distance, type_of_triplets="semihard")
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    model.train()
    for data, target in loader:
        optimizer.zero_grad()
        embeddings = model(data)
        indices = mining_func(embeddings, target)
        loss = loss_func(embeddings, target, indices)
        loss.backward()
        optimizer.step()
        done += 1
    return clock() - start, model.seconds, done


def read_fashion(items: int) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(FASHION / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:items]
    with gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:items].astype(np.int64)
    return images.copy(), labels


def side(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one side in this process, a few steps first to warm up; return its seconds and steps."""
    if options.cpu_time:
        globals()["clock"] = time.process_time
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    images, labels = read_fashion(2_600 if options.smoke else 60_000)
    few = slice(0, 1_300)
    if name == "kyori":
        keep_memory()  # as its command line does
        kyori_epoch(open_source((images[few], labels[few])))
        whole, network, steps = kyori_epoch(open_source((images, labels)))
    else:
        peer_epoch(images[few], labels[few], 5, options.workers)
        steps = -(-len(labels) // (CLASSES * PER_CLASS))
        whole, network, steps = peer_epoch(images, labels, steps, options.workers)
    return {"whole": whole, "network": network, "steps": steps, "threads": torch.get_num_threads()}


def measure(name: str, arguments: list[str]) -> dict[str, float]:
    """Run one side in a process of its own, as its users do."""
    command = [sys.executable, __file__, "--side", name, *arguments]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found["rest"] = found["whole"] - found["network"]
    print(
        f"{name:<8} epoch {found['whole']:7.2f} s   network {found['network']:7.2f} s   rest {found['rest']:7.3f} s"
        f"   rest/step {1e3 * found['rest'] / found['steps']:6.2f} ms   ({found['steps']} steps)",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="2,600 items, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--workers", type=int, default=0, help="the peer's DataLoader workers (its example: 0)"
    )
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU seconds: for a machine that others use too"
    )
    parser.add_argument("--side", choices=("kyori", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options.side, options)))
        return
    found: dict[str, list[dict[str, float]]] = {"kyori": [], "peer": []}
    for _ in range(1 if options.smoke else options.rounds):
        for name, rounds in found.items():
            rounds.append(measure(name, sys.argv[1:]))
    middle = {
        name: {key: float(np.median([one[key] for one in rounds])) for key in rounds[0]}
        for name, rounds in found.items()
    }
    ours, theirs = middle["kyori"], middle["peer"]
    seconds = "CPU" if options.cpu_time else "wall-clock"
    print(
        f"median: epoch {theirs['whole'] / ours['whole']:.2f}× faster than the peer; the rest takes "
        f"{ours['rest'] / theirs['rest']:.3f} of the peer's ({theirs['rest'] / ours['rest']:.1f}× less); {seconds} "
        f"seconds, {ours['threads']:.0f} threads, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
