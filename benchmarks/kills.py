"""`kill -9` at random moments of a run, resumed each time: is the end bit for bit that of a run left in peace?

A run is `kyori.fit` on digits in a process of its own: it reads the data, trains, validates, saves after every second
step, measures, and writes the model. It is killed at a random moment, gone on with, killed again, and so on until it
ends; then the next run begins, until there were as many kills as asked for. Half of the kills wait for a file that is
being written (its temporary file is there) and strike then. After every kill each file under its own name must be
whole.

    python benchmarks/kills.py            # 50 kills
    python benchmarks/kills.py --smoke    # 2 kills
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

import kyori
from kyori.models.weights import read_tensors
from kyori.training import read_metrics

STEPS_AN_EPOCH, EPOCHS = 10, 12
OPTIONS = {
    "backbone": "mlp", "loss": "triplet", "mining": "random", "memory": 200, "epochs": EPOCHS, "batch_size": 128,
    "checkpoint_every": "2 steps", "noise": 0.1, "ema": 0.9, "patience": 50, "device": "cpu",
}  # fmt: skip


def train(folder: Path) -> None:
    """Start the run, or go on with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kyori.fit("digits", out=folder, resume=(folder / "config.yaml").exists(), report=None, **OPTIONS)


def start(folder: Path) -> int:
    """Train in a new process (a copy of this one, which has no threads, so that packages are loaded once)."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        train(folder)
        status = 0
    except BaseException as error:  # a traceback of a killed test would be lost otherwise
        print(f"a resumed run failed: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def kill(child: int, folder: Path, delay: float, *, saving: bool) -> tuple[bool, bool]:
    """Kill a run after some seconds; return whether it had ended by itself, and whether a file was half written."""
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline or (saving and not half_files(folder)):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                sys.exit("a resumed run failed")
            return True, False
        time.sleep(0 if saving else 1e-3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, bool(half_files(folder))


def half_files(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.tmp"))


def check_whole(folder: Path) -> int:
    """Read everything that has a name of its own; a half file raises. Return the number of files."""
    tensors = [*folder.glob("checkpoints/step-*.safetensors"), *folder.glob("model.safetensors")]
    for path in tensors:
        read_tensors(path)
    for path in (folder / "data.json", folder / "results.json"):
        if path.exists():
            json.loads(path.read_text())
    return len(tensors)


def outcome(folder: Path) -> tuple[str, list[tuple[int, float]]]:
    """The bits of the model, and the loss of each epoch as written."""
    epochs = [(r["epoch"], r["loss"]) for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "epoch"]
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(), epochs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="2 kills")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    wanted = 2 if options.smoke else options.kills
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kyori.fit(
            "digits", report=None, **{**OPTIONS, "epochs": 1}
        )  # packages are loaded before there are copies
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="kyori-kills-"))
    try:
        begun = time.monotonic()
        if not kill(start(folder / "peace"), folder / "peace", 600.0, saving=False)[0]:
            sys.exit("the undisturbed run did not end within 600 s")
        seconds = time.monotonic() - begun
        expected = outcome(folder / "peace")
        kills = halves = runs = files = 0
        while kills < wanted:
            runs += 1
            run, over, here = folder / f"run-{runs}", False, 0
            while not over:
                # A run that is killed very early again and again never ends: it is left alone after 10 kills.
                enough = kills >= wanted or here >= 10
                over, half = kill(
                    start(run), run, 600.0 if enough else rng.uniform(0, seconds / 2),
                    saving=not enough and rng.random() < 0.5,
                )  # fmt: skip
                if not over:
                    kills, here, halves = kills + 1, here + 1, halves + half
                    files += check_whole(run)
            if outcome(run) != expected:
                sys.exit(
                    f"run {runs} ended in other bits than the run left in peace: {outcome(run)}, {expected}"
                )
            if half_files(run):
                sys.exit(f"run {runs} left unfinished files: {half_files(run)}")
            print(f"run {runs}: {here} kills, same bits", flush=True)
        print(
            f"{kills} kills in {runs} runs of {EPOCHS * STEPS_AN_EPOCH} steps ({seconds:.1f} s left in peace), "
            f"{halves} of them with a file half written; every run ended in the same bits, and each of {files} "
            "files read after a kill was whole"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
