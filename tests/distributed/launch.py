"""Start ranks as `torchrun` does: one process each, told by its environment who it is."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment(rank: int, world: int, port: int, host: str = "127.0.0.1") -> dict[str, str]:
    return os.environ | {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
        "MASTER_ADDR": host, "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests"),
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def start(rank: int, world: int, port: int, *arguments: str, cwd: Path = ROOT) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *arguments], env=environment(rank, world, port), cwd=cwd,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run_ranks(
    world: int, *arguments: str, timeout: float = 300.0, cwd: Path = ROOT
) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each rank of `python *arguments`."""
    port = free_port()
    processes = [start(rank, world, port, *arguments, cwd=cwd) for rank in range(world)]
    try:
        told = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, out, err) for p, (out, err) in zip(processes, told, strict=True)]
