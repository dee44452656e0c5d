"""Reloading and stopping: nobody's request is dropped, and a run that cannot be opened changes nothing."""

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import kyori
from kyori.errors import KyoriError
from kyori.serving import Client, Limits, ServerError, Service
from kyori.serving.served import Served

from .conftest import READ, WRITE, copied, source_environment


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    """A run of another model, of 16 dimensions, without an index."""
    folder = tmp_path_factory.mktemp("other") / "run"
    kyori.fit("digits", loss="triplet", embedding_size=16, epochs=1, out=folder, report=None)
    return folder


def test_a_new_run_takes_over_and_nobody_is_dropped(plain_run, other_run, tmp_path, digits):
    first, link = copied(plain_run, tmp_path / "first"), tmp_path / "current"
    link.symlink_to(first)
    stop, sizes, failures = threading.Event(), [], []
    with Service(link, port=0) as service:

        def ask():
            with Client(service.address, retries=0) as client:
                while not stop.is_set():
                    try:
                        sizes.append(client.embed(list(digits.load(range(5)))).shape[1])
                    except KyoriError as error:
                        failures.append(error)

        with concurrent.futures.ThreadPoolExecutor(4) as pool, Client(service.address) as client:
            tasks = [pool.submit(ask) for _ in range(4)]
            mark = client.about()["model"]
            for target in (other_run, first, other_run):
                time.sleep(0.15)
                fresh = tmp_path / "fresh"
                fresh.symlink_to(target)
                os.replace(fresh, link)
                assert (client.reload() == mark) == (target is first)
            time.sleep(0.15)
            stop.set()
            for task in tasks:
                task.result()
            assert client.about()["dimensions"] == 16
    assert not failures
    assert set(sizes) == {64, 16}


def test_items_written_before_a_reload_are_there_after_it(run, digits):
    with Service(run, port=0) as service, Client(service.address) as client:
        client.add([4000], [digits.load([9])[0]], ["kept"], {"half": [1]})
        client.reload()
        client.add([4001], [digits.load([9])[0]], ["new"], {"half": [1]})
        assert [item["label"] for item in client.items([4000, 4001])] == ["kept", "new"]
    with kyori.open_index(
        run / "index"
    ) as index:  # the lock is free again, and what was acknowledged is there
        assert index.delete([4000, 4001]) == 2


def test_a_read_only_server_leaves_the_index_to_others(run, digits):
    with Service(run, port=0, writable=False) as service, Client(service.address, retries=0) as client:
        with pytest.raises(ServerError, match="403: this server does not write"):
            client.add([1], [digits.load([9])[0]], ["x"], {"half": [1]})
        with pytest.raises(ServerError, match="403"):
            client.remove([1])
        before = client.about()["items"]
        with kyori.open_index(run / "index") as index:  # a writer beside it
            index.add([4002], index.get([3]).vectors, ["digit 3"], {"half": [1]})
        client.reload()
        assert client.about()["items"] == before + 1
        with kyori.open_index(run / "index") as index:
            index.delete([4002])


def test_a_broken_run_is_not_taken(plain_run, tmp_path, digits, caplog):
    run = copied(plain_run, tmp_path / "run")
    with Service(run, port=0) as service, Client(service.address, retries=0) as client:
        (run / "model.json").write_text("{")
        with pytest.raises(
            ServerError, match="409: the run cannot be opened, and the old one goes on"
        ) as caught:
            client.reload()
        assert str(run) not in str(caught.value)
        assert str(run) in caplog.text
        assert client.embed(list(digits.load([0]))).shape == (1, 64)


def test_stopping_finishes_what_was_accepted(plain_run, tmp_path, monkeypatch, digits):
    real = Served._encode

    def encode(self, rows):
        time.sleep(0.3)
        return real(self, rows)

    monkeypatch.setattr(Served, "_encode", encode)
    service = Service(copied(plain_run, tmp_path / "run"), port=0, limits=Limits(items=4, batch=2, queue=64))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:

        def ask(row):
            with Client(service.address, retries=0) as client:
                return client.embed(list(digits.load([row]))).shape

        with service:
            tasks = [pool.submit(ask, row) for row in range(6)]
            time.sleep(0.25)  # all are accepted, none is answered
        assert [task.result() for task in tasks] == [(1, 64)] * 6
    with pytest.raises(KyoriError, match="cannot be reached"):
        ask(0)


def serve(run, *options, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "kyori", "serve", str(run), "--port", "0", *options],
        env={**source_environment(), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"http://[\d.]+:\d+", line):
            break
    else:
        process.wait()
        return process, None, "".join(lines)
    for _ in range(200):
        with Client(found[0]) as client:
            if client.health():
                break
        time.sleep(0.05)
    return process, found[0], "".join(lines)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_the_command(run, digits):
    process, address, start = serve(run, KYORI_READ_TOKEN=READ, KYORI_WRITE_TOKEN=WRITE)
    try:
        assert "Tokens(1 read, 1 write)" in start
        with Client(address, token=WRITE) as client:
            before = client.search(list(digits.load([3])), k=2)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert client.search(list(digits.load([3])), k=2) == before
            with pytest.raises(ServerError), Client(address, token="a-wrong-token-12345") as stranger:
                stranger.about()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
    assert "POST /search 200" in log
    assert "GET /about 401" in log
    assert "reloaded: model" in log
    assert "Traceback" not in log
    assert not [secret for secret in (READ, WRITE, "a-wrong-token") if secret in start + log]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "there are no tokens; give --tokens FILE"),
        (["--tokens", "nowhere"], "the file of tokens nowhere cannot be read"),
        (["--max-items", "2000"], "queue must be at least items, 2000; got 1024"),
        (["--host", "203.0.113.7", "--read-only"], "there are no tokens"),
    ],
)
def test_the_command_s_mistakes(run, capsys, options, said):
    from kyori.cli.main import run as command

    assert command(["serve", str(run), *options]) == 2
    _, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1


def test_the_command_without_a_run(tmp_path, capsys):
    from kyori.cli.main import run as command

    assert command(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "is not a run folder" in capsys.readouterr().err
