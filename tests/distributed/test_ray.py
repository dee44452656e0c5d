"""`kyori embed --ray` gives the vectors of one process."""

import os
import subprocess
import sys

import numpy as np
import pytest

import kyori
from kyori.errors import ArgumentError
from kyori.runs import encode_on_ray


@pytest.mark.slow
def test_a_ray_cluster_embeds_as_one_process_does(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    labels = np.arange(60) % 3
    data = tmp_path / "items.npz"
    np.savez(
        data, X=np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32) + labels[:, None], y=labels
    )
    run = kyori.fit(str(data), loss="softmax", backbone="mlp", epochs=1, out=tmp_path / "run", report=None)
    command = [
        sys.executable,
        "-m",
        "kyori",
        "embed",
        "run",
        "items.npz",
        "--ray",
        "--workers",
        "1",
        "--json",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    table = kyori.VectorTable.load(tmp_path / "vectors.parquet")
    source = kyori.open_source(str(data))
    assert (table.ids == source.ids).all()
    assert abs(table.vectors - run.embedder.encode(source)).max() < 1e-5


def test_workers_must_be_some(tmp_path):
    with pytest.raises(ArgumentError, match="workers must be at least 1"):
        encode_on_ray(tmp_path, "digits", workers=0)
