"""The server under load: its capacity, latency at half of it, and what twice as much does to it.

The server runs as ``kyori serve`` in a process of its own, the clients in another. Capacity is what 32 clients get done
that each send their next request when the last is answered. The other two loads arrive on a schedule whether or not the
server keeps up, and latency counts from the scheduled moment. Each request is a picture to be embedded and searched.

    python benchmarks/serving.py                         # 60 s each, on a model of digits (trained in seconds)
    python benchmarks/serving.py --run runs/photos --picture a.jpg
    python benchmarks/serving.py --smoke                 # 2 s each, to see that it runs
"""

import argparse
import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

TOKEN = "only-for-this-benchmark"
CLIENTS = 32
MOST = 256  # connections that a load on a schedule may open


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", type=Path, help="a run folder with an index; a small one is made if left out"
    )
    parser.add_argument("--picture", type=Path, help="a picture file to ask with")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--load", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        address, rate, seconds, picture = options.load
        print(json.dumps(asyncio.run(load(address, float(rate), float(seconds), Path(picture)))))
        return
    seconds = 2.0 if options.smoke else options.seconds
    with tempfile.TemporaryDirectory() as folder:
        picture = options.picture or digit(Path(folder) / "digit.png")
        benchmark(options.run or made_run(Path(folder) / "run"), picture, seconds)


def made_run(folder: Path) -> Path:
    """Train a model of digits for a moment, and index them."""
    import kyori

    kyori.fit("digits", loss="triplet", epochs=3, out=folder, report=None)
    subprocess.run(
        [sys.executable, "-m", "kyori", "index", str(folder), "digits"], check=True, capture_output=True
    )
    return folder


def digit(path: Path) -> Path:
    from PIL import Image

    import kyori

    Image.fromarray(kyori.open_source("digits").load([7])[0][:, :, 0]).save(path)
    return path


def benchmark(run: Path, picture: Path, seconds: float) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "kyori", "serve", str(run), "--port", "0"],
        env={**os.environ, "KYORI_READ_TOKEN": TOKEN},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        address = next(found[0] for line in server.stderr if (found := re.search(r"http://[\d.]+:\d+", line)))
        threading.Thread(target=server.stderr.read, daemon=True).start()  # its log must not fill the pipe
        time.sleep(1)
        measured("warming up", server.pid, address, 0, min(seconds, 5), picture)
        capacity = measured("capacity", server.pid, address, 0, seconds, picture)
        measured("half of it", server.pid, address, capacity / 2, seconds, picture)
        measured("twice it", server.pid, address, capacity * 2, seconds, picture)
        after = measured("capacity again", server.pid, address, 0, min(seconds, 10), picture)
        assert server.poll() is None, "the server died"
        print(f"after the overload it does {after / capacity:.2f} of what it did before")
    finally:
        server.terminate()
        server.wait(30)


def measured(name: str, server: int, address: str, rate: float, seconds: float, picture: Path) -> float:
    """Run one load, print what came back and how much memory the server had, and return answers (200) a second."""
    clients = subprocess.Popen(
        [sys.executable, __file__, "--load", address, str(rate), str(seconds), str(picture)],
        stdout=subprocess.PIPE,
        text=True,
    )
    memory = []
    while clients.poll() is None:
        memory.append(resident(server))
        time.sleep(0.2)
    assert clients.stdout is not None
    found = json.loads(clients.stdout.read())
    good = found["statuses"].get("200", 0) / found["seconds"]
    asked = f"{rate:8,.0f} asked/s" if rate else f"{CLIENTS:3d} clients     "
    times = found["milliseconds"]
    print(
        f"{name:15s} {asked}  {good:8,.0f} answered/s  p50 {times['50']:7.1f} ms  p99 {times['99']:7.1f} ms"
        f"  {found['statuses']}  memory {memory[0]:,.0f} → {max(memory):,.0f} MiB",
        flush=True,
    )
    if found["without_retry_after"] or set(found["statuses"]) - {"200", "429", "503"}:
        print(
            f"  !! {found['without_retry_after']} refusals say nothing of when to come back, or another status came"
        )
    return float(good)


def resident(process: int) -> float:
    """Return the MiB that a process has in memory (Linux)."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


async def load(address: str, rate: float, seconds: float, picture: Path) -> dict[str, object]:
    """Send requests for some seconds: on a schedule, or with rate 0 each when the last is answered."""
    host, port = address.removeprefix("http://").split(":")
    image = base64.b64encode(picture.read_bytes()).decode()
    body = json.dumps({"items": [{"image": image}], "k": 10}).encode()
    head = (
        f"POST /search HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {TOKEN}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    statuses: Counter[str] = Counter()
    times: list[float] = []
    silent = 0
    start = time.perf_counter()
    planned = iter(range(int(rate * seconds))) if rate else None

    async def client() -> None:
        nonlocal silent
        reader, writer = await asyncio.open_connection(host, int(port))
        while True:
            if planned is None:
                due = time.perf_counter()
                if due - start > seconds:
                    break
            else:
                number = next(planned, None)
                if number is None:
                    break
                due = start + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", answer)[1]))  # type: ignore[index]
            code = answer[9:12].decode()
            statuses[code] += 1
            silent += code in ("429", "503") and b"retry-after: " not in answer
            if code == "200":
                times.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(client() for _ in range(MOST if rate else CLIENTS)))
    spent = time.perf_counter() - start
    quantiles = np.percentile(times or [float("nan")], [50, 99]) * 1e3
    return {
        "statuses": dict(statuses),
        "seconds": spent,
        "milliseconds": {"50": quantiles[0], "99": quantiles[1]},
        "without_retry_after": silent,
    }


if __name__ == "__main__":
    main()
