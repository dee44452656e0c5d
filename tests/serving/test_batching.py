"""The batcher alone: rows of many requests together, in order, within bounds."""

import asyncio
import threading
import time

import numpy as np
import pytest

from kyori.serving import Refused
from kyori.serving.batching import Batcher


class Model:
    """Doubles rows, slowly if asked, and remembers the batches."""

    def __init__(self, seconds: float = 0.0):
        self.seconds, self.batches, self.open = seconds, [], threading.Event()
        self.open.set()

    def __call__(self, rows):
        self.open.wait(10)
        time.sleep(self.seconds)
        self.batches.append(len(rows))
        if any(row[0] < 0 for row in rows):
            raise ValueError("a row that the model cannot take")
        return 2 * np.stack(rows).astype(np.float32)


def batcher(model, *, batch=8, queue=100, wait_seconds=10.0):
    return Batcher(model, batch=batch, queue=queue, wait_seconds=wait_seconds)


def rows(*values):
    return [np.full(3, value, np.float32) for value in values]


def test_each_gets_its_own_rows():
    async def main():
        model = Model(0.002)
        gathers = batcher(model, queue=1000)
        asked = [rows(*range(10 * i, 10 * i + 1 + i % 4)) for i in range(50)]
        found = await asyncio.gather(*(gathers(one) for one in asked))
        for one, vectors in zip(asked, found, strict=True):
            np.testing.assert_array_equal(vectors, 2 * np.stack(one))
        assert max(model.batches) <= 8
        assert len(model.batches) < 30  # 123 rows in batches of up to 8, not 50 calls
        assert gathers.waiting == 0
        await gathers.close()

    asyncio.run(main())


def test_a_request_larger_than_a_batch():
    async def main():
        model = Model()
        gathers = batcher(model, batch=4)
        assert (await gathers(rows(*range(11))))[:, 0].tolist() == list(range(0, 22, 2))
        assert model.batches == [4, 4, 3]
        await gathers.close()

    asyncio.run(main())


def test_a_full_queue_refuses_and_recovers():
    async def main():
        model = Model()
        model.open.clear()
        gathers = batcher(model, batch=2, queue=4)
        first = asyncio.ensure_future(gathers(rows(1, 2)))
        await asyncio.sleep(0.05)  # the model has it
        waiting = [asyncio.ensure_future(gathers(rows(3, 4))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="4 items wait") as caught:
            await gathers(rows(5))
        assert (caught.value.status, caught.value.retry_after) == (503, 1)
        model.open.set()
        await asyncio.gather(first, *waiting)
        assert (await gathers(rows(5)))[0, 0] == 10
        await gathers.close()

    asyncio.run(main())


def test_what_waited_too_long_is_not_worked_on():
    async def main():
        model = Model()
        model.open.clear()
        gathers = batcher(model, batch=1, wait_seconds=0.05)
        first = asyncio.ensure_future(gathers(rows(1)))
        await asyncio.sleep(0.02)
        late = asyncio.ensure_future(gathers(rows(2)))
        gone = asyncio.ensure_future(gathers(rows(3)))
        await asyncio.sleep(0.1)
        gone.cancel()
        model.open.set()
        assert (await first)[0, 0] == 2
        with pytest.raises(Refused, match="did not come to this request within"):
            await late
        await asyncio.sleep(0.05)
        assert model.batches == [1]
        assert gathers.waiting == 0
        await gathers.close()

    asyncio.run(main())


def test_one_request_s_error_is_its_own():
    async def main():
        model = Model()
        model.open.clear()
        gathers = batcher(model)
        first = asyncio.ensure_future(gathers(rows(0)))
        await asyncio.sleep(0.02)
        good, bad, fine = (asyncio.ensure_future(gathers(rows(v))) for v in (1, -1, 2))
        await asyncio.sleep(0.02)
        model.open.set()
        assert [(await task)[0, 0] for task in (first, good, fine)] == [0, 2, 4]
        with pytest.raises(ValueError, match="cannot take"):
            await bad
        await gathers.close()

    asyncio.run(main())


def test_closing_finishes_what_waits():
    async def main():
        gathers = batcher(Model(0.01), batch=1)
        tasks = [asyncio.ensure_future(gathers(rows(v))) for v in range(5)]
        await asyncio.sleep(0)
        await gathers.close()
        assert [(await task)[0, 0] for task in tasks] == [0, 2, 4, 6, 8]
        with pytest.raises(Refused, match="stopping"):
            await gathers(rows(1))

    asyncio.run(main())
