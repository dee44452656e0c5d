"""Blocks side by side: in order, with errors, and the threads of linear algebra given back."""

import threading
import time

import numpy as np
import pytest
import threadpoolctl

import kyori
from kyori.evaluation.influence import EffectSums
from kyori.evaluation.measures import plan_measures
from kyori.evaluation.retrieval import retrieve
from kyori.evaluation.task import Task
from kyori.neighbors import nearest
from kyori.threads import in_order, side_by_side


@pytest.fixture
def two_threads():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        yield


def blas_threads() -> set[int]:
    return {
        library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"
    }


def test_results_come_in_order_from_several_threads(two_threads):
    assert side_by_side() == 2
    meet = threading.Barrier(2)

    def work(item: int) -> tuple[int, str]:
        meet.wait(timeout=30)  # two are at it at the same time
        return item, threading.current_thread().name

    found = list(in_order(work, range(10)))
    assert [item for item, _ in found] == list(range(10))
    assert len({name for _, name in found}) == 2
    assert blas_threads() == {2}


def test_an_error_ends_it_and_gives_the_threads_back(two_threads):
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    found = in_order(work, range(100))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)
    assert blas_threads() == {2}


def test_who_stops_early_leaves_nothing_behind(two_threads):
    done = []

    def work(item: int) -> int:
        done.append(item)
        return item

    for result in in_order(work, range(1000)):
        if result == 5:
            break
    assert blas_threads() == {2}
    assert len(done) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kyori-block")]


def test_a_second_one_at_the_same_time_goes_one_by_one(two_threads):
    for outer in in_order(lambda item: item, range(4)):
        inner = list(in_order(lambda item: (item, threading.current_thread().name), range(4)))
        assert [item for item, _ in inner] == list(range(4))
        assert {name for _, name in inner} == {threading.main_thread().name}, outer
    assert blas_threads() == {2}


def test_an_error_that_is_kept_does_not_keep_the_threads(two_threads, monkeypatch):
    """As in a notebook, which holds the last traceback, and with it every frame and what it goes through."""

    def fails(self, ranks):
        raise KeyboardInterrupt

    monkeypatch.setattr("kyori.evaluation.influence.EffectSums.add", fails)
    rng = np.random.default_rng(0)
    table = kyori.VectorTable(vectors=rng.normal(size=(3000, 8)), labels=np.arange(3000) // 10)
    with pytest.raises(KeyboardInterrupt) as kept:
        kyori.evaluate(table, measures=["recall@1"])
    assert kept.tb is not None
    assert blas_threads() == {2}


@pytest.mark.parametrize("spread", [0.3, 1.0, 5.0])
def test_the_answers_do_not_depend_on_the_number_of_threads(spread):
    rng = np.random.default_rng(0)
    labels = rng.integers(300, size=3000)
    rows = rng.normal(size=(300, 16))[labels] + spread * rng.normal(size=(3000, 16))
    table = kyori.VectorTable(vectors=rows.astype(np.float32), labels=labels)
    found = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            found.append((kyori.evaluate(table), nearest(rows, rows, 5, exclude_self=True)))
    (one, near), (two, same) = found
    assert list(one) == list(two)
    for name in one:
        assert one[name].value == two[name].value
        np.testing.assert_allclose(
            [one[name].low, one[name].high], [two[name].low, two[name].high], rtol=1e-9
        )
    np.testing.assert_array_equal(near.ids, same.ids)
    np.testing.assert_array_equal(near.distances, same.distances)


def test_the_values_of_a_block_stay_while_they_are_looked_at(monkeypatch):
    """Blocks are computed ahead, into memory that is used again; the effects of a poor embedding need it once more."""

    def late(self, ranks, add=EffectSums.add):
        time.sleep(0.02)
        add(self, ranks)

    monkeypatch.setattr(EffectSums, "add", late)
    rng = np.random.default_rng(0)
    table = kyori.VectorTable(vectors=rng.normal(size=(1000, 8)), labels=np.arange(1000) // 5)
    found = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            found.append(kyori.evaluate(table, measures=["map"], block_rows=50)["map"])
    assert found[0].low == pytest.approx(found[1].low, rel=1e-9)
    assert found[0].high == pytest.approx(found[1].high, rel=1e-9)


def test_which_block_is_done_first_changes_no_bit(two_threads, monkeypatch):
    rng = np.random.default_rng(0)
    table = kyori.VectorTable(vectors=rng.normal(size=(1000, 8)), labels=np.arange(1000) // 5)
    task, measures = (
        Task.from_tables(table, None, "euclidean"),
        plan_measures(["map", "ndcg@10"], (), (), None),
    )
    plain = retrieve(task, measures, 50, effects="query").effects
    order = []

    def late(self, ranks, add=EffectSums.add):
        time.sleep(0.03 * (ranks.rows.start // 50 % 3))
        add(self, ranks)
        order.append(ranks.rows.start)

    monkeypatch.setattr(EffectSums, "add", late)
    found = retrieve(task, measures, 50, effects="query").effects
    assert order != sorted(order)
    for name in plain.gains:
        np.testing.assert_array_equal(plain.gains[name], found.gains[name])
        np.testing.assert_array_equal(plain.signed[name], found.signed[name])
