"""What this machine does in a second: the constants from which docs/streaming.md plans runs that do not fit on it.

    python benchmarks/constants.py            # about a minute
    python benchmarks/constants.py --smoke    # seconds

One thread each. CPU time is what counts, except for the exchange between processes, which waits.
"""

import argparse
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch


def rate(work: Callable[[], float], seconds: float) -> float:
    """Units of work in a second of CPU time."""
    work()
    done, start = 0.0, time.process_time()
    while time.process_time() - start < seconds:
        done += work()
    return done / (time.process_time() - start)


def decoding(seconds: float) -> tuple[float, float]:
    """Pictures and bytes of JPEG (256×256 to 224×224) in a second."""
    from PIL import Image

    from kyori.data.images import decode

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    body = io.BytesIO()
    coarse.resize((256, 256), Image.Resampling.BICUBIC).save(body, "JPEG", quality=85)
    content = body.getvalue()

    def work() -> float:
        decode(io.BytesIO(content), (224, 224), 3)
        return 1.0

    found = rate(work, seconds)
    return found, found * len(content)


def multiplying(seconds: float) -> float:
    """float32 operations in a second, of matrices 1024 × 1024."""
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)

    def work() -> float:
        torch.mm(a, b)
        return 2.0 * 1024**3

    return rate(work, seconds)


def network(seconds: float) -> float:
    """Pictures of 224×224 that resnet18 is trained on in a second."""
    from kyori.models import create_backbone

    model = create_backbone("resnet18", (3, 224, 224))
    x = torch.rand(8, 3, 224, 224)

    def work() -> float:
        model(x).square().mean().backward()
        return len(x)

    return rate(work, seconds)


def shards(seconds: float) -> float:
    """Bytes in a second from a tar shard on this disk (in its cache) to samples."""
    import tarfile
    import tempfile

    from kyori.data.shards import Shards

    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(file.name, "w") as tar:
            for number in range(1000):
                for suffix, size in (("jpg", 30_000), ("cls", 8)):
                    info = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    info.size = size
                    tar.addfile(info, io.BytesIO(b"7" * size))
        reader = Shards((file.name,))
        return rate(lambda: float(sum(len(sample.data) for sample in reader.read(0))), seconds)


def exchange(seconds: float) -> float:
    """Bytes in a second that two processes all-reduce over the loopback (gloo), by the clock."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, "--rank", str(rank), "--seconds", str(seconds)],
            env=os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return float(ranks[0].communicate()[0].split()[-1]) + 0 * len(ranks[1].communicate()[0])


def run_rank(rank: int, seconds: float) -> None:
    torch.distributed.init_process_group("gloo", rank=rank)
    x = torch.rand(4_000_000)
    torch.distributed.all_reduce(x)
    count = max(2, int(8 * seconds))
    start = time.perf_counter()
    for _ in range(count):
        torch.distributed.all_reduce(x)
    print(count * x.nbytes / (time.perf_counter() - start))
    torch.distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--seconds", type=float, default=1.0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.rank is not None:
        run_rank(chosen.rank, chosen.seconds)
        return
    seconds = 0.2 if chosen.smoke else 2.0
    pictures, bytes_ = decoding(seconds)
    print(f"JPEG 256×256 → 224×224        {pictures:10,.0f} pictures/s   {bytes_ / 1e6:8,.1f} MB/s a core")
    print(f"tar shard → samples           {shards(seconds) / 1e6:10,.0f} MB/s a core")
    print(f"float32 matrix product        {multiplying(seconds) / 1e9:10,.0f} GFLOP/s a core")
    print(f"resnet18, training, 224×224   {network(seconds):10,.1f} pictures/s a core")
    print(f"all-reduce, 2 ranks, loopback {exchange(seconds) / 1e6:10,.0f} MB/s")


if __name__ == "__main__":
    main()
