"""The grid: data sets × folds × seeds × methods, what is kept, several processes, equal budgets, failures."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kyori
from kyori.cli.main import run
from kyori.comparison import Method, plan
from kyori.comparison import cells as cells_module
from kyori.comparison.memory import PeakMemory
from kyori.errors import ArgumentError, DataError, DataWarning, Interrupted, MissingExtraError, TrainingError

FEW = {"methods": ["raw", "softmax", "triplet", "lda"], "seeds": 2, "epochs": 2, "batch_size": 16}


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """The page has tests of its own, and takes longer than all of the training here."""
    monkeypatch.setattr("kyori.comparison.experiment.write_report", lambda *_, **__: None)


def made(classes=6, items=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), items)
    centres = rng.normal(size=(classes, 8)) * 2
    return (rng.normal(size=(len(labels), 8)) + centres[labels]).astype(np.float32), labels


def values(board):
    return {
        (c.method, c.dataset, c.fold, c.seed): (
            c.results["map@r"].value,
            c.table.vectors.tobytes(),
            dict(c.chosen),
        )
        for c in board.cells
    }


@pytest.fixture(scope="module")
def grid_board(tmp_path_factory):
    out = tmp_path_factory.mktemp("grid")
    data = {"one": made(), "two": made(classes=5, seed=1)}
    return data, out, kyori.compare(data, folds=2, out=out, **FEW)


def test_every_method_meets_every_data_set_fold_and_seed(grid_board):
    _, out, board = grid_board
    keys = set(values(board))
    places = [(d, f) for d in ("one", "two") for f in (0, 1)]
    assert keys == {
        *(("raw", d, f, 0) for d, f in places),
        *((m, d, f, s) for m in ("softmax", "triplet", "lda") for d, f in places for s in (0, 1)),
    }
    assert board.data == "one, two"
    assert board.unit == "query"
    assert not board.failures
    assert (out / "report.html").exists()
    for cell in board.cells:
        assert (
            cell.folder == out / "cells" / cell.dataset / cell.method / f"fold-{cell.fold}-seed-{cell.seed}"
        )
        assert (cell.folder / "results.json").exists()
    by_place = {}
    for cell in board.cells:
        by_place.setdefault((cell.dataset, cell.fold), set()).add(tuple(cell.table.ids))
    assert all(len(found) == 1 for found in by_place.values()), (
        "all methods and seeds answer the same queries"
    )
    for name, n in (("one", 240), ("two", 200)):
        tested = [i for f in (0, 1) for i in next(iter(by_place[name, f]))]
        assert sorted(tested) == list(range(n))


def test_what_is_finished_is_kept_and_the_rest_is_made(grid_board):
    data, out, board = grid_board
    record = {cell.folder: (cell.folder / "cell.json").stat().st_mtime_ns for cell in board.cells}
    broken = [
        out / "cells" / "one" / "softmax" / "fold-1-seed-0",
        out / "cells" / "two" / "lda" / "fold-0-seed-1",
    ]
    (broken[0] / "cell.json").unlink()
    (broken[1] / "results.json").write_text("{half")
    state = {
        (c["method"], c["dataset"], c["fold"], c["seed"]): c
        for c in plan(data, folds=2, out=out, **FEW).state()
    }
    assert [key for key, c in state.items() if not c["finished"]] == [
        ("softmax", "one", 1, 0),
        ("lda", "two", 0, 1),
    ]
    again = kyori.compare(data, folds=2, out=out, **FEW)
    assert values(again) == values(board)
    for place, before in record.items():
        assert ((place / "cell.json").stat().st_mtime_ns == before) == (place not in broken), place
    assert [c.memory_bytes is None for c in again.cells] == [c.memory_bytes is None for c in board.cells]


def test_other_settings_are_other_cells_and_the_former_ones_stay(tmp_path):
    data = made()
    options = {"methods": ["softmax"], "seeds": 1, "out": tmp_path, "batch_size": 32}
    first = kyori.compare(data, epochs=1, **options)
    second = kyori.compare(data, epochs=2, **options)
    assert values(first) != values(second)
    folders = {board.cells[0].folder for board in (first, second)}
    assert len(folders) == 2
    assert second.cells[0].folder.name.startswith("seed-0-")
    assert values(kyori.compare(data, epochs=1, **options)) == values(first)
    other = kyori.compare(made(seed=5), epochs=1, **options)  # other items: the same name is another cell too
    assert other.cells[0].folder not in folders
    assert len(list((tmp_path / "cells" / "arrays" / "softmax").iterdir())) == 3


def test_names_that_give_one_file_name_have_folders_of_their_own(tmp_path):
    methods = [{"name": "a b", "loss": "softmax"}, {"name": "a-b", "loss": "triplet"}]
    options = {"methods": methods, "seeds": 1, "epochs": 1, "out": tmp_path, "batch_size": 16}
    board = kyori.compare(made(), **options)
    assert len({cell.folder for cell in board.cells}) == 2
    assert all(cell["finished"] for cell in plan(made(), **options).state())


def test_unseen_classes_are_asked_about_where_the_data_say_so():
    board = kyori.compare(made(classes=24, items=6), methods=["raw", "lda"], seeds=1, epochs=1)
    assert board.unit == "class"
    assert board.budget["question"] == "unseen classes"
    assert {cell.fold for cell in board.cells} == {0, 1, 2}
    classes = [set(board.of("lda")[fold].table.labels.tolist()) for fold in range(3)]
    assert not classes[0] & classes[1]
    assert len(set.union(*classes)) == 24
    with pytest.raises(
        ArgumentError, match=r"different questions, many: unseen classes .*; few: seen classes"
    ):
        kyori.compare({"many": _named(made(24, 6), "many"), "few": _named(made(), "few")}, methods=["raw"])


def _named(data, name):
    source = kyori.open_source(data)
    source.name = name
    return source


def test_two_processes_give_the_same_bits(tmp_path):
    options = {**FEW, "folds": 2, "seeds": 1, "trials": 2}
    alone = kyori.compare(made(), **options, threads=1)
    both = kyori.compare(made(), **options, threads=1, jobs=2)
    assert values(both) == values(alone)
    for a, b in zip(alone.cells, both.cells, strict=True):
        assert [r.value for r in a.results.values()] == pytest.approx(
            [r.value for r in b.results.values()], abs=0
        )
        assert b.folder is None
        assert b.memory_bytes is None or b.memory_bytes > 10_000_000
    assert alone.budget == both.budget


def test_a_failing_cell_is_named_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    data = tmp_path / "data.npz"
    X, y = made()
    np.savez(data, X=X, y=y)
    fit_split = cells_module.fit_split

    def fails(split, config, **options):
        if (config.loss.name, config.seed) == ("triplet", 1):
            raise TrainingError("the loss became NaN")
        if (config.loss.name, config.seed) == ("softmax", 0):
            raise ZeroDivisionError("a bug\nof two lines")
        return fit_split(split, config, **options)

    monkeypatch.setattr(cells_module, "fit_split", fails)
    out = tmp_path / "out"
    command = ["compare", str(data), "--methods", "softmax,triplet,lda", "--seeds", "2", "--epochs", "1"]
    assert run([*command, "--out", str(out), "--json", "--batch-size", "32"]) == 1
    found = json.loads(capsys.readouterr().out)["failures"]
    assert [(f["method"], f["seed"]) for f in found] == [("softmax", 0), ("triplet", 1)]
    assert found[1]["reason"] == "the loss became NaN"
    assert found[0]["reason"].startswith("ZeroDivisionError: a bug (see ")
    assert "fails" in (out / "cells" / "data" / "softmax" / "seed-0" / "error.txt").read_text()
    assert run([*command, "--out", str(out), "--batch-size", "32"]) == 1
    said = capsys.readouterr()
    assert "missing: triplet (seed 1, data): the loss became NaN" in said.out
    assert "2 cells are missing" in said.err
    monkeypatch.undo()
    assert run([*command, "--out", str(out), "--batch-size", "32"]) == 0
    assert "4 of 6 cells are finished already" in capsys.readouterr().err


def test_where_every_cell_fails_there_is_no_board(monkeypatch):
    def fails(*_, **__):
        raise TrainingError("NaN")

    monkeypatch.setattr(cells_module, "fit_split", fails)
    with pytest.raises(TrainingError, match="no cell could be trained; the first: NaN"):
        kyori.compare(made(), methods=["softmax"], seeds=2, epochs=1)


def test_the_search_looks_at_training_items_only_and_the_test_is_opened_once(monkeypatch):
    looked, searched = [], []
    fit_split, evaluate = cells_module.fit_split, cells_module.evaluate

    def watch(split, config, **options):
        looked.append(split)
        return fit_split(split, config, **options)

    def count(table, **options):
        searched.append(set(table.ids.tolist()))
        return evaluate(table, **options)

    monkeypatch.setattr(cells_module, "fit_split", watch)
    monkeypatch.setattr(cells_module, "evaluate", count)
    board = kyori.compare(made(), methods=["softmax", "lda"], seeds=1, epochs=1, trials=3, batch_size=32)
    train, validation, test = (set(part.ids.tolist()) for part in looked[-1])
    assert len(looked) == 4  # three trials, one training
    for inner in looked[:3]:
        seen = set(inner.train.ids.tolist()) | set(inner.validation.ids.tolist())
        assert seen == train
        assert not seen & (test | validation)
        assert len(inner.test) == 0
    assert len(searched) == 4
    assert all(ids < train for ids in searched[:3])
    assert searched[3] == test
    assert {cell.trials for cell in board.cells} == {3}
    assert board.budget["trials"] == 3


def test_a_search_on_unseen_classes_is_judged_on_unseen_ones(monkeypatch):
    looked = []
    fit_split = cells_module.fit_split
    monkeypatch.setattr(cells_module, "fit_split", lambda s, c, **o: looked.append(s) or fit_split(s, c, **o))
    kyori.compare(
        made(12, 10), methods=["softmax"], seeds=1, epochs=1, trials=1, unseen=True, folds=1, batch_size=32
    )
    inner = looked[0]
    assert not set(inner.train.labels) & set(inner.validation.labels)


def test_budgets_are_equal_or_an_error():
    board = kyori.compare(made(items=20), methods=["softmax", "triplet"], seeds=1, epochs=2, trials=2)
    seen = [cell.items_seen for cell in board.cells]
    assert max(seen) < 1.1 * min(seen)
    assert board.budget["batch_size"] == 84, "128 was asked for, and there are 84 training items"
    assert {board.budget["seen_by_method"][method] for method in ("softmax", "triplet")} == {168}
    for option, message in (
        ({"epochs": 9}, "sets training.epochs to 9, and all methods share it"),
        ({"batch_size": 16}, "sets batches.batch_size to 16"),
        ({"backbone": "cnn"}, "sets model.backbone to cnn"),
        ({"noise": 0.1}, "sets augment.noise to 0.1"),
        ({"batches": "pairs"}, "sets batches.kind to pairs"),
    ):
        with pytest.raises(ArgumentError, match=message):
            plan(made(), methods=["softmax", {"name": "more", "loss": "triplet", **option}])
    plan(made(), methods=["softmax", {"loss": "triplet", "lr": 0.01, "per_class": 5, "margin": 0.1}])


def test_memory_is_measured_afresh():
    with PeakMemory() as large:
        block = np.ones(30_000_000)
    del block
    with PeakMemory() as small:
        pass
    if large.bytes is None:
        pytest.skip("this system cannot measure it")
    assert small.bytes is not None
    assert large.bytes > small.bytes + 200_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs must be a whole number of at least 1; got 0"),
        ({"threads": 0}, "threads must be a whole number of at least 1; got 0"),
        ({"trials": -1}, "trials must be a whole number of at least 0; got -1"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1"),
        ({"folds": 0}, "folds must be at least 1"),
        ({"methods": ["arcfase"]}, "unknown method 'arcfase'; did you mean 'arcface'"),
        ({"measure": "map@q"}, "measure 'map@q' is none .*did you mean 'map@r'"),
        ({"unseen": True, "folds": 4}, "4 folds of classes need at least 8 classes"),
        ({"labels": [1], "data": {"a": "digits"}}, "labels= belongs to one array"),
        ({"data": ["digits", "digits"]}, "'digits' stands twice"),
        ({"data": {}}, "data is empty"),
    ],
)
def test_errors_come_before_any_training(options, message):
    data = options.pop("data", made())
    with pytest.raises((ArgumentError, DataError), match=message):
        kyori.compare(data, **{"methods": ["softmax"], **options})


def test_a_search_without_optuna_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"kyori\[tune\]"):
        kyori.compare(made(), methods=["softmax"], trials=2)


def test_threads_come_back():
    before = torch.get_num_threads()
    kyori.compare(made(), methods=["lda"], seeds=1, threads=before + 1)
    assert torch.get_num_threads() == before


def test_data_that_cannot_be_sent_to_a_process():
    source = kyori.open_source(made())
    source.columns = {"odd": np.array([lambda: None] * 240)}
    with pytest.raises(ArgumentError, match=r"these cannot be sent .* use jobs=1"):
        kyori.compare(source, methods=["lda"], seeds=1, jobs=2)


@pytest.mark.slow
def test_a_script_without_its_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import kyori\nkyori.compare('digits', methods=['lda'], seeds=1, jobs=2)\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]


def test_dry_run_trains_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["compare", "digits", "--methods", "raw,softmax", "--folds", "3", "--seeds", "2", "--trials", "5",
                "--dry-run", "--out", str(out)]) == 0  # fmt: skip
    said = capsys.readouterr()
    assert "9 of 9 cells to train: 39 trainings" in said.out
    assert "seen classes" in said.err
    assert "--unseen asks the other question" in said.err
    assert not out.exists()
    assert run(["compare", "digits", "--methods", "raw", "--unseen", "--dry-run", "--json"]) == 0
    assert [cell["fold"] for cell in json.loads(capsys.readouterr().out)] == [0, 1, 2]


def command_of(tmp_path, *, jobs):
    X, y = made()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    return [
        *(
            sys.executable,
            "-m",
            "kyori",
            "compare",
            str(tmp_path / "data.npz"),
            "--out",
            str(tmp_path / "out"),
        ),
        *("--methods", "softmax,triplet,arcface", "--seeds", "3", "--epochs", "40", "--batch-size", "16"),
        *("--jobs", str(jobs), "--threads", "1", "--json"),
    ]


def finished(tmp_path):
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("cells/*/*/*/cell.json")}


def wait_for_cells(tmp_path, process, count):
    deadline = time.monotonic() + 300
    while len(finished(tmp_path)) < count:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_no_finished_cell(tmp_path):
    command = command_of(tmp_path, jobs=2)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_cells(tmp_path, process, 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with process.stderr as stream:
        stream.read()  # at its end when the last worker has gone: none goes on alone
    before = finished(tmp_path)
    assert 2 <= len(before) < 9, "killed too late to tell"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} of 9 cells are finished already" in done.stderr
    after = finished(tmp_path)
    assert len(after) == 9
    assert {path: after[path] for path in before} == before, "a finished cell was trained again"
    again = json.loads(done.stdout)
    whole = kyori.compare(
        str(tmp_path / "data.npz"),
        methods=["softmax", "triplet", "arcface"],
        seeds=3,
        epochs=40,
        batch_size=16,
        threads=1,
    )
    for row in again["rows"]:
        assert row["per_seed"] == json.loads(whole.to_json())["rows"][again["rows"].index(row)]["per_seed"]


@pytest.mark.slow
def test_a_worker_that_the_oom_killer_takes_loses_its_cell_alone():
    taken = []

    def take():
        while not taken:
            time.sleep(0.01)
            for child in (
                c for p in Path("/proc/self/task").glob("*/children") for c in p.read_text().split()
            ):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    taken.append(child)
                    return

    thread = threading.Thread(target=take)
    thread.start()
    board = kyori.compare(made(), methods=["softmax", "triplet"], seeds=1, epochs=1, threads=1, jobs=2)
    thread.join()
    (failure,) = board.failures
    assert "stopped by SIGKILL; the system does that when memory runs out: try fewer jobs" in failure.reason
    assert {cell.method for cell in board.cells} == {"softmax", "triplet"} - {failure.method}


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_keeps_what_is_finished(tmp_path):
    process = subprocess.Popen(
        command_of(tmp_path, jobs=2),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for_cells(tmp_path, process, 1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)  # at the end of stderr: the workers have gone too
    assert process.returncode == 130
    assert "the same command goes on with the rest" in err.decode()
    assert "Traceback" not in err.decode()
    assert finished(tmp_path)


def test_ctrl_c_says_how_far_it_came(monkeypatch):
    calls = []
    run_cell = cells_module.run_cell

    def stops(task, split, prints):
        if calls:
            raise KeyboardInterrupt
        calls.append(task)
        return run_cell(task, split, prints)

    monkeypatch.setattr("kyori.comparison.workers.run_cell", stops)
    with pytest.raises(Interrupted, match="stopped; 1 of 2 cells are finished, nothing is kept without out="):
        kyori.compare(made(), methods=["lda"], seeds=2)


def test_a_method_may_be_a_value():
    board = kyori.compare(
        made(), methods=[Method("mine", None, {"n_components": 2}, "lda")], seeds=1, trials=2
    )
    assert board.cells[0].table.vectors.shape[1] == 2


def test_warnings_of_a_process_are_heard_here():
    X, y = made()
    y[:10] += 6 + np.arange(10)  # classes of one item: the losses of pairs leave them out, and say so
    with pytest.warns(DataWarning, match=r"triplet \(seed 0, arrays\): .* left out of the batches"):
        kyori.compare((X, y), methods=["triplet"], seeds=1, epochs=1, jobs=2, batch_size=16)


def test_data_that_are_named_by_a_dot_are_shown_by_the_folders_name(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / "shoes" / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(np.full((4, 4), 20 * i + ord(name) % 2, np.uint8)).save(
                tmp_path / f"shoes/{name}/{i}.png"
            )
    monkeypatch.chdir(tmp_path / "shoes")
    assert plan(".", methods=["raw"]).data == "shoes"
    assert plan("../shoes", methods=["raw"]).data == "../shoes"
