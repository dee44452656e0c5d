"""A writer that is killed at any moment loses at most the batch that was not acknowledged; damage is an error."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import threading
import time
import warnings
from pathlib import Path
from pkgutil import resolve_name as resolve

import numpy as np
import pytest

import kyori
from kyori.errors import ArgumentError, DataWarning, FileFormatError, KyoriError


def write(folder, first, acknowledge):
    """Write batch after batch, and acknowledge each once the call has returned."""
    index = kyori.open_index(folder, factory="HNSW8")
    acknowledge.send(-1)
    for i in range(first, 1_000_000):
        step(index, i)
        acknowledge.send(i)


def step(index, i):
    """Do what belongs to number ``i``, the same whether it was done before or not."""
    if i % 7 == 3:
        index.delete(deleted(i))
    else:
        ids = written(i)
        index.upsert(ids, [vector(id_, i) for id_ in ids], columns={"batch": [i] * len(ids)})
    if i % 23 == 5:
        index.save()
    if i % 61 == 9:
        index.compact()


def written(i):
    return [f"é{(i * 20 + j) % 400}" for j in range(20)]


def deleted(i):
    return [f"é{(i * 13 + 3 * j) % 400}" for j in range(5)]


def vector(id_, i):
    return [float(id_[1:]), float(i), 1.0, 0.0]


def expected(numbers):
    """What the index holds after the batches of these numbers: batch number by id."""
    held = {}
    for i in numbers:
        if i % 7 == 3:
            for id_ in deleted(i):
                held.pop(id_, None)
        else:
            held |= dict.fromkeys(written(i), i)
    return held


def held_by(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # a torn last batch is dropped, and said
        index = kyori.open_index(folder)
    with index:
        return checked_content(index)


def checked_content(index):
    if len(index) == 0:
        return {}
    table = index.get(index.ids())
    assert len(table) == len(index)
    found = dict(zip(table.ids.tolist(), table.columns["batch"].tolist(), strict=True))
    wanted = np.array([vector(id_, i) for id_, i in found.items()], np.float32)
    np.testing.assert_array_equal(table.vectors, wanted)
    nearest = index.search(wanted, 1).ids[:, 0]  # in an approximate graph
    assert np.mean(nearest == np.array(list(found), object)) > 0.9
    batches = np.array(list(found.values()))
    middle = int(np.median(batches))
    for where, part in ((("<=", middle), batches <= middle), ((">", middle), batches > middle)):
        if 0 < part.sum() < len(part):  # so few of the rows are searched exactly
            exactly = index.search(wanted[part], 1, where={"batch": where})
            assert exactly.ids[:, 0].tolist() == [
                id_ for id_, inside in zip(found, part, strict=True) if inside
            ]
    return found


def kill_at_random(folder, times, seed):
    rng = random.Random(seed)
    processes = multiprocessing.get_context("forkserver")  # imports once
    processes.set_forkserver_preload(["faiss", "kyori.index", "kyori.index.folder", "pandas", "pytest"])
    done = 0
    for _ in range(times):
        ear, mouth = processes.Pipe(duplex=False)
        writer = processes.Process(target=write, args=(folder, done, mouth))
        writer.start()
        mouth.close()
        assert ear.recv() == -1
        time.sleep(rng.uniform(0.0, 0.25))
        writer.kill()
        heard = [done - 1]
        with contextlib.suppress(EOFError, OSError):
            while True:
                heard.append(ear.recv())
        writer.join()
        writer.close()
        ear.close()
        acknowledged = heard[-1] + 1
        found = held_by(folder)
        # The batch after the last acknowledged one may have reached the disk before the kill: all of it, or nothing.
        possible = [count for count in (acknowledged, acknowledged + 1) if found == expected(range(count))]
        assert possible, f"after {acknowledged} acknowledged batches"
        done = possible[-1]
    return done


def test_kill_9_at_random_moments(tmp_path):
    assert kill_at_random(tmp_path / "index", 10, seed=1) > 10


@pytest.mark.slow
def test_kill_9_fifty_times(tmp_path):
    assert kill_at_random(tmp_path / "index", 50, seed=2) > 50


BASE, LOGGED = range(4), (11, 12, 31, 13, 14)  # 3 and 31 delete


def small(folder):
    """An index with batches in its base and in its log."""
    with kyori.open_index(folder) as index:
        for i in BASE:
            step(index, i)
        index.save()
        for i in LOGGED:
            step(index, i)
    return folder / "log-1.bin"


def test_every_torn_tail_is_dropped_and_said(tmp_path):
    log = small(tmp_path / "index")
    content = log.read_bytes()
    ends = [0]
    while ends[-1] < len(content):
        ends.append(ends[-1] + 20 + int.from_bytes(content[ends[-1] + 4 : ends[-1] + 12], "little"))
    assert ends[-1] == len(content)
    cuts = sorted(
        {
            *ends[1:],
            *range(1, len(content), 397),
            *(end + 3 for end in ends[:-1]),
            *(end + 25 for end in ends[:-1]),
        }
    )
    for cut in cuts:
        shutil.copytree(tmp_path / "index", tmp_path / "copy")
        (tmp_path / "copy" / log.name).write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends) - 1
        if cut not in ends:
            with pytest.warns(DataWarning, match=rf"dropped {cut - ends[whole]:,} bytes"):
                kyori.open_index(tmp_path / "copy").close()
            assert (tmp_path / "copy" / log.name).stat().st_size == ends[whole]
        assert held_by(tmp_path / "copy") == expected([*BASE, *LOGGED[:whole]])
        shutil.rmtree(tmp_path / "copy")


def test_zeros_that_a_power_cut_leaves_are_a_torn_tail(tmp_path):
    log = small(tmp_path / "index")
    with open(log, "ab") as file:
        file.write(bytes(5_000))
    with pytest.warns(DataWarning, match="dropped 5,000 bytes"):
        kyori.open_index(tmp_path / "index").close()
    assert held_by(tmp_path / "index") == expected([*BASE, *LOGGED])


def test_damage_before_the_end_of_the_log_is_an_error(tmp_path):
    log = small(tmp_path / "index")
    content = bytearray(log.read_bytes())
    for at in (0, 6, 14, 19, 200):  # the header's fields, the payload
        changed = content.copy()
        changed[at] ^= 0x40
        log.write_bytes(changed)
        with pytest.raises(
            FileFormatError, match=r"log-1\.bin is damaged at byte 0, and acknowledged batches follow"
        ):
            kyori.open_index(tmp_path / "index")
    log.unlink()
    with pytest.raises(FileFormatError, match=r"log-1\.bin is missing"):
        kyori.open_index(tmp_path / "index")


def test_damaged_files_are_named(tmp_path):
    folder = tmp_path / "index"
    small(folder)
    for path in sorted(folder.iterdir()):
        if path.name == "lock" or path.name.startswith("log"):
            continue
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(FileFormatError, match=path.name):
            kyori.open_index(folder)
        path.unlink()
        with pytest.raises(FileFormatError, match=f"{path.name} is missing"):
            kyori.open_index(folder)
        path.write_bytes(content)
    for name in ("manifest.json", "items-1.arrow"):
        content = bytearray((folder / name).read_bytes())
        for at in range(0, len(content), max(1, len(content) // 40)):
            changed = content.copy()
            changed[at] ^= 1
            (folder / name).write_bytes(changed)
            with pytest.raises(FileFormatError, match=name):
                kyori.open_index(folder)
        (folder / name).write_bytes(content)
    base = folder / "base-1.faiss"
    content = bytearray(base.read_bytes())
    content[-5] ^= 1  # inside the vectors: found when everything is read
    base.write_bytes(content)
    with kyori.open_index(folder) as index, pytest.raises(FileFormatError, match=r"base-1\.faiss is damaged"):
        index.compact()


def test_one_writer_many_readers(tmp_path):
    folder = tmp_path / "index"
    with kyori.open_index(folder) as writer:
        writer.add([1, 2], [[0.0, 1.0], [1.0, 0.0]])
        with pytest.raises(KyoriError, match="open for writing already"):
            kyori.open_index(folder)
        reader = kyori.open_index(folder, read_only=True)
        writer.add([3], [[5.0, 5.0]])
        writer.compact()
        assert len(reader) == 2  # as it was
        assert reader.search([0.0, 1.0], 1).ids.tolist() == [[1]]
        with pytest.raises(KyoriError, match="read_only=True"):
            reader.add([4], [[1.0, 1.0]])
        reader.close()
        with kyori.open_index(folder, read_only=True) as again:
            assert len(again) == 3
    with pytest.raises(KyoriError, match="is closed"):
        writer.search([0.0, 1.0])


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    with kyori.open_index(folder) as index:
        index.add(["é1"], [[1.0, 1.0, 1.0, 0.0]], columns={"batch": [1]})

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(OSError, match="No space"):
                index.add(["é2"], [[2.0, 1.0, 1.0, 0.0]], columns={"batch": [1]})
            assert len(index) == 1
        index.add(["é3"], [[3.0, 1.0, 1.0, 0.0]], columns={"batch": [1]})
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(OSError, match="No space"):
                index.save()
        with pytest.raises(KyoriError, match="what was acknowledged is on the disk: open it again"):
            index.search([1.0, 1.0, 1.0, 0.0])
    assert held_by(folder) == {"é1": 1, "é3": 1}
    assert not [path for path in folder.iterdir() if "-1." in path.name]  # what the failed save left


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "config.yaml").write_text("loss: triplet")
    with pytest.raises(kyori.errors.ArgumentError, match=r"holds other files and no index.*/index"):
        kyori.open_index(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    with pytest.raises(kyori.errors.ArgumentError, match="is a file"):
        kyori.open_index(tmp_path / "config.yaml")


def test_a_creation_that_was_cut_off_begins_again(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "log-0.bin").touch()
    with kyori.open_index(folder) as index:
        index.add([1], [[1.0]])
    with kyori.open_index(folder) as index:
        assert len(index) == 1


def test_the_first_batch_brings_the_schema_back_from_the_log(tmp_path):
    folder = tmp_path / "index"
    with kyori.open_index(folder) as index:
        index.add(["é1"], [[1.0, 2.0]], labels=["x"], columns={"price": [1.5], "new": [True]})
        index.delete(["é1"])
    for read_only in (True, False):
        with kyori.open_index(folder, read_only=read_only) as index:
            assert (index.dimension, len(index)) == (2, 0)
            assert index.columns == {"label": "str", "price": "float", "new": "bool"}
    with kyori.open_index(folder) as index, pytest.raises(ArgumentError, match="must have 2 numbers"):
        index.add(["é2"], [[1.0]])


def test_a_first_batch_that_was_cut_off_has_decided_nothing(tmp_path):
    folder = tmp_path / "index"
    with kyori.open_index(folder) as index:
        index.add(["é1"], [[1.0, 2.0]])
    log = folder / "log-0.bin"
    log.write_bytes(log.read_bytes()[:-1])
    with pytest.warns(DataWarning, match="dropped"), kyori.open_index(folder) as index:
        index.add([7], [[1.0, 2.0, 3.0]])
    with kyori.open_index(folder) as index:
        assert index.ids().tolist() == [7]


def test_all_that_a_manifest_names_is_on_the_disk_before_it(tmp_path, monkeypatch):
    """As a power cut would find it: bytes before the name that counts, and names before the call returns."""
    on_disk, steps, (sync, rename) = set(), [], (os.fsync, os.replace)

    def recorded_sync(descriptor):
        sync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        on_disk.add((path.name, path.stat().st_size))
        steps.append(path.name)

    def recorded_rename(old, new):
        named = json.loads(old.read_text())
        wanted = {(name, facts["bytes"]) for name, facts in named["files"].items()}
        assert wanted | {(old.name, old.stat().st_size)} <= on_disk
        assert (old.parent / f"log-{named['generation']}.bin").exists()
        rename(old, new)
        steps.append("manifest")

    monkeypatch.setattr("os.fsync", recorded_sync)
    monkeypatch.setattr("os.replace", recorded_rename)
    folder = tmp_path / "index"
    with kyori.open_index(folder, factory="SQ8") as index:
        assert steps[-2:] == ["manifest", "index"]
        rng = np.random.default_rng(0)
        for n, save in ((100, True), (20_000, False)):  # through the log, and into a base at once
            steps.clear()
            index.upsert(np.arange(n), rng.normal(size=(n, 4)))
            assert steps == ["log-0.bin"] or steps[-2:] == ["manifest", "index"]
            if save:
                index.save()
                assert steps[-2:] == ["manifest", "index"]
        index.clear()
        assert steps[-2:] == ["manifest", "index"]


@pytest.mark.parametrize("moment", ["log", "base"])
def test_a_reader_that_opens_while_the_writer_replaces_the_files_reads_the_new_ones(
    moment, tmp_path, monkeypatch
):
    folder = tmp_path / "index"
    module = "kyori.index.folder.read_log" if moment == "log" else "kyori.index.snapshot._read_items"
    with kyori.open_index(folder) as writer:
        writer.add([1], [[1.0, 1.0]])
        writer.save()
        before = resolve(module)

        def late(*given):
            monkeypatch.undo()
            writer.add([2], [[2.0, 2.0]])
            if moment == "log":
                writer.save()
                return before(*given)
            found = before(*given)
            writer.save()
            return found

        monkeypatch.setattr(module, late)
        with kyori.open_index(folder, read_only=True) as reader:
            assert reader.ids().tolist() == [1, 2]


def test_who_waited_for_a_writer_that_failed_is_told(tmp_path, monkeypatch):
    """What would be written then could be lost: the files that count may be others."""
    from concurrent.futures import ThreadPoolExecutor

    index = kyori.open_index(tmp_path / "index")
    index.add([1], [[1.0, 1.0]])
    started = threading.Event()

    def fail(*_):
        started.set()
        time.sleep(0.2)  # the others come to wait meanwhile
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kyori.index.folder.open_base", fail)
    with ThreadPoolExecutor(3) as pool:
        saving = pool.submit(index.save)
        started.wait()
        waiting = [
            pool.submit(index.add, [2], [[2.0, 2.0]]),
            pool.submit(index.search, [1.0, 1.0]),
        ]
    assert isinstance(saving.exception(), OSError)
    for one in waiting:
        assert "open it again" in str(one.exception())
    index.close()
    monkeypatch.undo()
    with kyori.open_index(tmp_path / "index") as index:
        assert index.ids().tolist() == [1]


def test_closing_waits_for_who_writes(tmp_path, monkeypatch):
    index = kyori.open_index(tmp_path / "index")
    index.add([1], [[1.0, 1.0]])
    started, write = threading.Event(), resolve("kyori.index.folder.write_base")

    def slow(*given):
        started.set()
        time.sleep(0.2)
        return write(*given)

    monkeypatch.setattr("kyori.index.folder.write_base", slow)
    saving = threading.Thread(target=index.save)
    saving.start()
    started.wait()
    index.close()
    saving.join()
    with kyori.open_index(tmp_path / "index") as index:
        assert index.statistics()["in_base"] == 1


def test_a_reader_counts_the_bytes_while_the_writer_replaces_the_files(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    with kyori.open_index(folder) as writer:
        writer.add([1], [[1.0, 1.0]])
        with kyori.open_index(folder, read_only=True) as reader:
            listed = list(folder.iterdir())
            writer.save()
            monkeypatch.setattr(Path, "iterdir", lambda path: iter(listed))
            assert reader.statistics()["bytes"] > 0
