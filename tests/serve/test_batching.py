"""Batches over requests, lanes, turns, and what happens to requests that are given up or too many."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from mretrieve.encode.gears import GearChange
from mretrieve.serve.batching import SHORT_TOKENS, Batcher, Lane, _Speed
from mretrieve.serve.errors import ApiError
from mretrieve.serve.metrics import Metrics
from mretrieve.serve.models import ModelRegistry


class Recorder:
    """Stands for a model: its vector of a text is (first id, length); it waits when it is told to."""

    batch_tokens = 100

    def __init__(self):
        self.batches = []
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.error = None
        self.gears = GearChange(lambda: None, name="fake")

    def embed(self, ids, **_):
        self.batches.append([one.tolist() for one in ids])
        self.started.set()
        assert self.go_on.wait(30)
        if self.error is not None:
            raise self.error
        return np.array([[one[0], len(one)] for one in ids], np.float32)


def texts(*lengths, mark=7):
    return [np.full(length, mark, np.int32) for length in lengths]


def lane(**options):
    return Lane(
        "long", **({"batch_tokens": None, "max_waiting_tokens": 1000, "metrics": Metrics()} | options)
    )


async def until(condition):
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not happen")


async def blocked(one, model):
    """A request that keeps the lane's thread busy until the model may go on."""
    model.go_on.clear()
    model.started.clear()
    task = asyncio.create_task(one.run(model, texts(1, mark=0)))
    await until(model.started.is_set)
    return task


def with_lane(work, **options):
    async def run():
        one, model = lane(**options), Recorder()
        try:
            return await work(one, model)
        finally:
            model.go_on.set()
            await one.close()

    return asyncio.run(run())


def test_requests_that_wait_share_a_batch_each_gets_its_own():
    async def work(one, model):
        first = await blocked(one, model)
        waiting = [asyncio.create_task(one.run(model, texts(n, mark=n))) for n in (3, 4, 5)]
        await until(lambda: one.waiting_texts == 3)
        model.go_on.set()
        await first
        assert [(await task).tolist() for task in waiting] == [[[3, 3]], [[4, 4]], [[5, 5]]]
        assert len(model.batches) == 2
        assert sorted(map(len, model.batches[1])) == [3, 4, 5]

    with_lane(work)


def test_vectors_are_in_the_order_of_the_texts():
    async def work(one, model):
        ids = [np.full(n, mark, np.int32) for mark, n in enumerate((30, 90, 10, 60, 20))]
        vectors = await one.run(model, ids)
        assert vectors.tolist() == [[0, 30], [1, 90], [2, 10], [3, 60], [4, 20]]

    with_lane(work)


def test_a_batch_has_its_budget_at_most_or_one_text():
    async def work(one, model):
        await one.run(model, texts(250, 60, 50, 40, 30, 20))
        sizes = [sum(map(len, batch)) for batch in model.batches]
        assert [len(batch) for batch in model.batches][0] == 1  # 250 tokens, more than the budget
        assert all(size <= 100 for size in sizes[1:])
        assert sum(sizes) == 450

    with_lane(work)


def test_a_large_request_does_not_keep_a_small_one_waiting():
    async def work(one, model):
        first = await blocked(one, model)
        large = asyncio.create_task(one.run(model, texts(*[50] * 15, mark=1)))
        await until(lambda: one.waiting_texts == 15)
        small = asyncio.create_task(one.run(model, texts(50, mark=2)))
        await until(lambda: one.waiting_texts == 16)
        model.go_on.set()
        await asyncio.gather(first, small)
        assert not large.done()
        assert [batch[0][0] for batch in model.batches[:2]] == [0, 1]
        assert [one[0] for one in model.batches[1]] == [1, 2]  # one text of each
        await large

    with_lane(work)


def test_models_do_not_mix_in_a_batch():
    async def work(one, model):
        other = Recorder()
        first = await blocked(one, model)
        tasks = [asyncio.create_task(one.run(m, texts(2, 2))) for m in (model, other, model, other)]
        await until(lambda: one.waiting_texts == 8)
        model.go_on.set()
        await asyncio.gather(first, *tasks)
        assert [len(batch) for batch in model.batches] == [1, 4]
        assert [len(batch) for batch in other.batches] == [4]

    with_lane(work)


def test_a_request_that_is_given_up_leaves_the_queue():
    async def work(one, model):
        first = await blocked(one, model)
        gone = asyncio.create_task(one.run(model, texts(3, 4, mark=1)))
        stays = asyncio.create_task(one.run(model, texts(5, mark=2)))
        await until(lambda: one.waiting_texts == 3)
        gone.cancel()
        await asyncio.wait([gone])
        assert (one.waiting_texts, one.waiting_tokens) == (1, 5)
        model.go_on.set()
        await asyncio.gather(first, stays)
        assert model.batches[1:] == [[[2] * 5]]

    with_lane(work)


def test_a_request_that_is_given_up_while_it_is_computed():
    async def work(one, model):
        gone = await blocked(one, model)
        gone.cancel()
        await asyncio.wait([gone])
        model.go_on.set()
        assert (await one.run(model, texts(3))).tolist() == [[7, 3]]
        assert (one.waiting_texts, one.waiting_tokens) == (0, 0)

    with_lane(work)


def test_too_much_that_waits_is_turned_away():
    async def work(one, model):
        first = await blocked(one, model)
        waiting = asyncio.create_task(one.run(model, texts(*[90] * 11)))
        await until(lambda: one.waiting_texts == 11)
        with pytest.raises(ApiError) as caught:
            await one.run(model, texts(11))
        assert (caught.value.status, caught.value.to_dict()["error"]["code"]) == (503, "overloaded")
        assert 1 <= caught.value.retry_after <= 60
        assert one._metrics.rejected.labels(reason="queue")._value.get() == 1
        small = asyncio.create_task(one.run(model, texts(10)))  # just as much as may wait
        model.go_on.set()
        await asyncio.gather(first, waiting, small)
        assert (one.waiting_texts, one.waiting_tokens) == (0, 0)

    with_lane(work)


def test_one_request_that_is_larger_than_the_queue_is_taken_when_nothing_waits():
    async def work(one, model):
        assert len(await one.run(model, texts(*[90] * 20))) == 20

    with_lane(work)


def test_an_error_goes_to_those_in_the_batch_and_the_lane_goes_on():
    async def work(one, model):
        model.error = RuntimeError("broken")
        with pytest.raises(RuntimeError, match="broken"):
            await one.run(model, texts(60, 60, 60))
        assert (one.waiting_texts, one.waiting_tokens) == (0, 0)
        model.error = None
        assert len(await one.run(model, texts(5))) == 1

    with_lane(work)


def test_what_waits_when_all_ends_is_told_so():
    async def work(one, model):
        first = await blocked(one, model)
        waiting = asyncio.create_task(one.run(model, texts(5)))
        await until(lambda: one.waiting_texts == 1)
        closing = asyncio.create_task(one.close())
        with pytest.raises(ApiError) as caught:
            await waiting
        assert caught.value.status == 503
        model.go_on.set()
        await closing
        first.cancel()

    with_lane(work)


def test_speed_is_that_of_the_last_seconds():
    speed = _Speed()
    assert speed.seconds_for(1000) == 1  # nothing is known yet
    speed.note(1000, 1.0)
    assert speed.seconds_for(5000) == 5
    for _ in range(100):
        speed.note(2000, 1.0)
    assert speed.seconds_for(9_900) == 5
    assert speed.seconds_for(10_000_000) == 60


@pytest.fixture
def batcher(model):
    return lambda **options: Batcher(
        ModelRegistry([f"tiny={model}"]),
        Metrics(),
        **({"max_tokens": 1000, "max_waiting_tokens": 10_000} | options),
    )


def embed(batcher, *arguments, **options):
    async def run():
        try:
            return await batcher.embed(*arguments, **options)
        finally:
            await batcher.close()

    return asyncio.run(run())


def test_the_encoders_own_vectors(model, batcher):
    from mretrieve import Encoder

    some = ["the cat", "a dog runs", "the"]
    one = embed(batcher(), some, "tiny", "query")
    encoder = Encoder(str(model))
    assert one.vectors == pytest.approx(encoder.encode_queries(some), abs=1e-5)
    assert one.tokens == encoder.count_tokens(some, query=True)
    assert (one.n_tokens, one.cut) == (sum(one.tokens), 0)


def test_a_text_that_is_too_long_is_cut_or_refused(batcher):
    long = "the cat " * 40
    one = embed(batcher(), ["cat", long], "tiny", "document")
    assert (one.tokens[1], one.cut) == (30, 1)
    with pytest.raises(ApiError, match="reads 30 tokens of a text, but 1 of the texts") as caught:
        embed(batcher(), ["cat", long], "tiny", "document", may_cut=False)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


def test_too_many_tokens_in_all(batcher):
    with pytest.raises(ApiError, match="tokens together, but a request may have 20") as caught:
        embed(batcher(max_tokens=20), ["cat dog"] * 10, "tiny", "document")
    assert (caught.value.status, caught.value.code) == (400, "max_tokens_per_request")


def test_long_work_takes_the_other_lane(batcher):
    one = batcher()
    embed(one, ["cat"], "tiny", "query")
    assert one._metrics.batch_texts.labels(lane="short")._sum.get() == 1
    one = batcher()
    embed(one, ["cat"] * SHORT_TOKENS, "tiny", "document")
    assert one._metrics.batch_texts.labels(lane="short")._sum.get() == 0
    assert one._metrics.batch_texts.labels(lane="long")._sum.get() == SHORT_TOKENS


def test_a_query_is_short_however_long_it_is(batcher):
    one = batcher()
    one._models.default.encoder.checkpoint = replace(one._models.default.encoder.checkpoint, max_length=400)
    one._models.default.embed = lambda ids, **_: np.ones((len(ids), 32), np.float32)
    embed(one, ["the cat sat on the mat " * 12], "tiny", "query")
    assert one._metrics.batch_tokens.labels(lane="short")._sum.get() > SHORT_TOKENS


def test_no_texts_no_vectors(batcher):
    none = embed(batcher(), [], "tiny", "document")
    assert none.vectors.shape == (0, 32)
    assert (none.tokens, none.n_tokens) == ([], 0)


def test_a_short_request_is_answered_while_long_ones_are_computed(model, batcher):
    async def run():
        one = batcher()
        served = one._models.default
        served.load()
        compute, started, go_on = served.embed, threading.Event(), threading.Event()

        def slowly(ids, **_):
            if len(ids) > 1:
                started.set()
                assert go_on.wait(30)
            return compute(ids)

        served.embed = slowly
        long = asyncio.create_task(one.embed(["the cat sat"] * 80, "tiny", "document"))
        await until(started.is_set)
        assert len((await one.embed(["cat"], "tiny", "query")).vectors) == 1
        assert not long.done()
        go_on.set()
        assert len((await long).vectors) == 80
        await one.close()

    asyncio.run(run())


def test_two_threads_compute_two_batches_at_once():
    async def work(one, model):
        model.go_on.clear()
        waiting = [asyncio.create_task(one.run(model, texts(5, mark=mark))) for mark in range(4)]
        await until(lambda: len(model.batches) == 2)  # neither may go on yet
        assert [len(batch) for batch in model.batches] == [2, 2]
        model.go_on.set()
        found = await asyncio.gather(*waiting)
        assert [vectors[0, 0] for vectors in found] == [0, 1, 2, 3]

    with_lane(work, n_threads=2)


def test_a_thread_that_is_alone_takes_all_that_waits():
    async def work(one, model):
        first = await blocked(one, model)
        model.started.clear()
        second = asyncio.create_task(one.run(model, texts(5, mark=1)))
        await until(model.started.is_set)
        waiting = [asyncio.create_task(one.run(model, texts(5, mark=mark))) for mark in (2, 3, 4)]
        await asyncio.sleep(0.05)
        assert len(model.batches) == 2  # both threads are busy
        model.go_on.set()
        await asyncio.gather(first, second, *waiting)
        assert sum(map(len, model.batches)) == 5

    with_lane(work, n_threads=2)


def test_threads_of_a_lane_share_the_cores(batcher):
    import torch

    from mretrieve.encode.threads import cores, take_share

    def threads():
        take_share()
        return torch.get_num_threads()

    one, before = batcher(), torch.get_num_threads()
    try:
        assert one.short._threads.submit(threads).result() == max(1, cores() // min(2, cores()))
        assert one.long._threads.submit(threads).result() == cores()
    finally:
        torch.set_num_threads(before)
        asyncio.run(one.close())


def test_the_long_lane_gives_way(batcher):
    import os
    import sys

    if sys.platform != "linux":
        pytest.skip("threads have priorities of their own on Linux only")
    one = batcher()

    def priority():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = priority()
    assert one.short._threads.submit(priority).result() == own
    assert one.long._threads.submit(priority).result() == min(own + 10, 19)
    asyncio.run(one.close())
