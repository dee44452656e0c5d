"""How long a manifest of ten million pictures takes to open, how much memory, and when the first steps are taken.

    python benchmarks/manifest.py            # 10⁷ rows as CSV and Parquet, and shards of pictures (minutes)
    python benchmarks/manifest.py --smoke    # 10⁵ rows (seconds)

Every figure comes from a process of its own. Memory is the peak above that of the imports. The files are made in a
temporary folder and deleted.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES = 100_000


def make_manifests(folder: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv, parquet

    import kyori.data.manifests as manifests

    rng = np.random.default_rng(0)
    folder.mkdir()
    picture = png(0, 0)
    number = np.arange(rows)
    looked = np.unique(np.linspace(0, rows - 1, manifests.SAMPLED).astype(np.int64))
    for row in looked.tolist():  # only these are looked at
        place = folder / f"pictures/{row % 1000:03d}/{row:09d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture)
    pad = pc.utf8_lpad
    paths = pc.binary_join_element_wise(
        "pictures",
        pad(pa.array(number % 1000).cast(pa.string()), 3, "0"),
        pad(pa.array(number).cast(pa.string()), 9, "0"),
        "/",
    )
    paths = pc.binary_join_element_wise(paths, "png", ".")
    labels = pc.binary_join_element_wise(
        "class", pa.array(rng.integers(0, CLASSES, rows)).cast(pa.string()), "-"
    )
    table = pa.table({"path": paths, "label": labels})
    csv.write_csv(table, folder / "m.csv")
    parquet.write_table(table, folder / "m.parquet")


def png(seed: int, label: int) -> bytes:
    from PIL import Image

    rng = np.random.default_rng(seed)
    pixels = (rng.integers(0, 60, (32, 32, 3)) + label % 10 * 19).astype(np.uint8)
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()


def make_shards(folder: Path, shards: int, each: int) -> None:
    folder.mkdir()
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as tar:
            for item in range(each):
                label = (shard * each + item) % 100
                for suffix, body in (("png", png(item, label)), ("cls", str(label).encode())):
                    info = tarfile.TarInfo(f"{item:06d}.{suffix}")
                    info.size = len(body)
                    tar.addfile(info, io.BytesIO(body))


def peak() -> float:
    """Peak memory in MiB; getrusage would count what the parent had when it started this process."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_open(path: str, many: int) -> dict[str, float]:
    import kyori.data.manifests as manifests
    import kyori.data.tables as tables
    from kyori.data import PKBatches, open_source

    manifests.MANY = tables.MANY = many
    open_source((np.zeros((4, 2), dtype=np.float32), [0, 0, 1, 1]))  # what is imported late
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    source = open_source(path)
    opened, cpu, memory = time.perf_counter() - start, time.process_time() - cpu, peak() - before
    assert source.labels is not None
    start, pk_cpu = time.perf_counter(), time.process_time()
    batches = PKBatches(source.labels, 32, 4, seed=0)
    next(batches.epoch(0))
    return {
        "rows": len(source),
        "open_seconds": opened,
        "open_cpu_seconds": cpu,
        "open_mib": memory,
        "first_pk_batch_seconds": time.perf_counter() - start,
        "first_pk_batch_cpu_seconds": time.process_time() - pk_cpu,
        "mib_with_batches": peak() - before,
    }


def measure_shards(pattern: str, items: int) -> dict[str, float]:
    import kyori
    from kyori.data.streams import open_stream
    from kyori.training import Callback, RunConfig, build, train

    class First(Callback):
        at = 0.0

        def on_step(self, progress: object) -> None:
            self.at = self.at or time.perf_counter()

    first = First()
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    stream = open_stream(pattern, buffer=1024, epoch_items=items)
    config = RunConfig.from_options(loss="triplet", backbone="mlp", epochs=1, batch_size=128, device="cpu")
    embedder, loss = build(config, stream)
    train(embedder, loss, stream, config, callbacks=[first])
    seconds = time.perf_counter() - first.at
    return {
        "kyori": kyori.__version__,
        "first_step_seconds": first.at - start,
        "cpu_seconds": time.process_time() - cpu,
        "items_per_second": items / seconds,
        "mib": peak() - before,
    }


def apart(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--open", nargs=2)
    parser.add_argument("--shards", nargs=2)
    chosen = parser.parse_args()
    if chosen.open:
        print(json.dumps(measure_open(chosen.open[0], int(chosen.open[1]))))
        return
    if chosen.shards:
        print(json.dumps(measure_shards(chosen.shards[0], int(chosen.shards[1]))))
        return
    rows = chosen.rows or (100_000 if chosen.smoke else 10_000_000)
    shards, each = (4, 1000) if chosen.smoke else (20, 5000)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_manifests(place / "manifest", rows)
        for name in ("m.csv", "m.parquet"):
            found = apart("--open", str(place / "manifest" / name), str(min(rows, 1_000_000)))
            print(
                f"{name:10} {found['rows']:>12,.0f} rows: open {found['open_seconds']:6.2f} s "
                f"(CPU {found['open_cpu_seconds']:5.2f}), {found['open_mib']:6.0f} MiB; first P×K batch "
                f"{found['first_pk_batch_seconds']:5.2f} s (CPU {found['first_pk_batch_cpu_seconds']:5.2f}), "
                f"{found['mib_with_batches']:6.0f} MiB in all"
            )
        make_shards(place / "shards", shards, each)
        found = apart(
            "--shards", str(place / "shards" / f"{{000..{shards - 1:03d}}}.tar"), str(shards * each)
        )
        print(
            f"{shards} shards  {shards * each:>12,} items: first step after {found['first_step_seconds']:5.2f} s, then "
            f"{found['items_per_second']:7,.0f} items/s, {found['mib']:5.0f} MiB"
        )


if __name__ == "__main__":
    main()
