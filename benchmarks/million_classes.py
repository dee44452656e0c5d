"""A head with a million classes on the CPU: time and memory of a training step, exact and with sampled classes.

    python benchmarks/million_classes.py            # 1,000,000 classes, d = 128, batch 256
    python benchmarks/million_classes.py --smoke    # the same on 20,000 classes, in seconds

Each measurement runs in a process of its own; memory is that process's peak resident size, Python and PyTorch
included. A step is forward, backward and a move of the optimizer (SGD with momentum and weight decay). A sampled
step works on `sample` of the classes and moves these rows alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import time


def measure(loss_name: str, classes: int, size: int, batch: int, sample: float | None, steps: int) -> dict:
    """Peak memory and seconds a step, in this process."""
    import torch

    from kyori import losses
    from kyori.training import RowOptimizer

    before = peak()
    torch.manual_seed(0)
    loss = losses.create(loss_name, num_classes=classes, embedding_size=size, sample=sample)
    weights = list(loss.parameters())
    if sample is None:
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            weights, lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True
        )
    else:
        optimizer = RowOptimizer(weights, "sgd", lr=0.1, momentum=0.9, weight_decay=5e-4)
    x = torch.randn(batch, size)
    labels = torch.randint(0, classes, (batch,))
    seconds = []
    for _ in range(steps + 1):
        embeddings = x.clone().requires_grad_()
        start = time.perf_counter()
        loss(embeddings, labels).backward()
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append((middle - start, time.perf_counter() - start))
    kept = seconds[1:]  # the first makes the optimizer's state
    return {
        "imports_gb": before,
        "peak_gb": peak(),
        "weights_gb": sum(w.numel() for w in weights) * 4e-9,
        "loss_seconds": min(one for one, _ in kept),
        "step_seconds": min(whole for _, whole in kept),
    }


def peak() -> float:
    """Peak resident memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="20,000 classes and one step: seconds")
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--sample", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--losses", default="arcface", help="names, separated by commas")
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(**json.loads(options.one))))
        return
    classes, steps = (20_000, 1) if options.smoke else (options.classes, options.steps)
    figures = {}
    for name in options.losses.split(","):
        for sample in (None, options.sample):
            what = {
                "loss_name": name, "classes": classes, "size": options.size, "batch": options.batch,
                "sample": sample, "steps": steps,
            }  # fmt: skip
            command = [sys.executable, __file__, "--one", json.dumps(what)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = figures[f"{name} {'exact' if sample is None else f'sample={sample}'}"] = json.loads(
                output
            )
            print(
                f"{name:16} {'exact' if sample is None else f'sample={sample}':12} {classes:,} classes: "
                f"peak {found['peak_gb']:.2f} GB (imports {found['imports_gb']:.2f}, weights "
                f"{found['weights_gb']:.2f}), loss {found['loss_seconds']:.3f} s, step {found['step_seconds']:.3f} s"
            )
        exact, sampled = (
            figures[f"{name} {kind}"]["step_seconds"] for kind in ("exact", f"sample={options.sample}")
        )
        print(f"{name:16} a sampled step takes {sampled / exact:.3f} of an exact one's time")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
