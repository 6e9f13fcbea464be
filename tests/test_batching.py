"""The batcher: every request gets exactly its own answer, whatever happens beside it.

The engine here is a function, so that a test can hold it, fail it and see what it was given; the real one is
behind test_api.py.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.admission import CAUTION, FURTHEST_PROMISE_S, NEWEST_SHARE
from engine.cost import CostModel
from engine.errors import BatchLost, DeadlineExceeded, NotReady, QueueFull, WaitTooLong
from engine.planner import TOKEN_BUDGET, BatchPlanner
from engine.queue import DynamicBatcher, QueueOptions, Run
from engine.waiting import Answered
from models.encoding import Encoded
from models.ensemble import EncodedExample
from models.example import Prediction
from models.labels import RELATIONS

PLANNER = BatchPlanner(CostModel(run=1e-4, row=0.0, token=1e-6, token_length=0.0), TOKEN_BUDGET)
"""A run costs as much as a hundred tokens."""

SLOW = BatchPlanner(CostModel(run=0.0, row=0.0, token=0.01, token_length=0.0), TOKEN_BUDGET)
"""A hundred tokens a second."""

FAR = 60.0
POISON = 13


def row(mark: int, length: int = 10) -> EncodedExample:
    """An example whose first token is `mark`, so that its answer can be told from every other."""
    ids = np.full(length, 7, dtype=np.int64)
    ids[0] = mark
    return EncodedExample((Encoded(ids, np.array([1, 2])),))


def marks(predictions: Sequence[Prediction]) -> list[int]:
    return [prediction.members for prediction in predictions]


class Engine:
    """Answers a row with its mark; keeps what it was given; can be held, and fails on `POISON`."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.lengths: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        batch = [int(row.encodings[0].input_ids[0]) for row in rows]
        self.batches.append(batch)
        self.lengths.append([len(row) for row in rows])
        self.entered.release()
        assert self.open.wait(30)
        if POISON in batch:
            raise RuntimeError("the engine's own words")
        return [Prediction(np.eye(len(RELATIONS))[0], members=mark) for mark in batch]


def with_batcher(
    test: Callable[[DynamicBatcher, Engine], Coroutine[Any, Any, None]],
    lanes: int = 1,
    max_queue: int = 64,
    max_wait_s: float = 0.0,
    planner: BatchPlanner = PLANNER,
    run_alone: Run | None = None,
    recover: Callable[[], None] = lambda: None,
) -> None:
    engine = Engine()
    options = QueueOptions(lanes, max_queue, max_wait_s)
    batcher = DynamicBatcher(engine, planner, options, run_alone, recover)
    try:
        asyncio.run(test(batcher, engine))
    finally:
        engine.open.set()
        batcher.close()


async def hold(batcher: DynamicBatcher, engine: Engine, mark: int = 999) -> asyncio.Future[Answered]:
    """Shut the engine with one request inside, so that what is asked next has to wait."""
    engine.open.clear()
    held = batcher.submit([row(mark)], time.monotonic() + FAR)
    await asyncio.to_thread(engine.entered.acquire)
    return held


async def ask(batcher: DynamicBatcher, *rows: EncodedExample, timeout: float = FAR) -> list[int]:
    return marks((await batcher.submit(rows, time.monotonic() + timeout)).predictions)


def test_a_thousand_requests_each_get_their_own_answers_in_order() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        generator = np.random.default_rng(0)
        requests = [[100 + 10 * n + k for k in range(generator.integers(1, 8))] for n in range(1000)]
        asked = [
            ask(batcher, *(row(mark, int(generator.integers(5, 200))) for mark in request))
            for request in requests
        ]
        assert await asyncio.gather(*asked) == requests
        assert sum(map(len, engine.batches)) == sum(map(len, requests)), "every row ran exactly once"

    with_batcher(test, lanes=3, max_queue=10_000)


def test_batches_hold_rows_of_like_length_within_the_budget() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        asked = [
            asyncio.create_task(ask(batcher, row(n, length)))
            for n, length in enumerate([20, 200, 21, 190, 22, 210, 23])
        ]
        await asyncio.sleep(0)
        engine.open.set()
        await asyncio.gather(held, *asked)
        assert engine.lengths[1:] == [[20, 21, 22, 23], [190, 200], [210]]
        assert all(max(lengths) * len(lengths) <= TOKEN_BUDGET for lengths in engine.lengths)

    with_batcher(test)


def test_a_failing_batch_fails_alone_and_the_engine_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        good = asyncio.create_task(ask(batcher, row(1, 20), row(2, 20)))
        bad = asyncio.create_task(ask(batcher, row(POISON, 400)))
        await asyncio.sleep(0)
        engine.open.set()
        with pytest.raises(BatchLost) as lost:
            await bad
        assert "own words" not in str(lost.value), "what went wrong inside stays inside"
        assert await good == [1, 2]
        assert await ask(batcher, row(3)) == [3]
        await held

    with_batcher(test)
    assert "the engine's own words" in caplog.text


def test_a_choice_that_fails_loses_who_waits_and_not_the_lane() -> None:
    class Faulty(BatchPlanner):
        def choose(self, lengths: Sequence[int], *others: Any) -> range:
            if POISON in lengths:
                raise RuntimeError("the planner's own words")
            return super().choose(lengths, *others)

    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        for mark in (1, 2):  # with one lane, the second answer needs a lane that lived on
            with pytest.raises(BatchLost):
                await ask(batcher, row(3, POISON), row(4))
            assert await ask(batcher, row(mark)) == [mark]
        assert not batcher.waiting

    with_batcher(test, planner=Faulty(PLANNER.cost, PLANNER.token_budget))


def test_whoever_lost_a_batch_is_told_before_the_engine_recovers() -> None:
    told, recovered = threading.Event(), threading.Event()

    def recover() -> None:
        assert told.wait(30)
        recovered.set()

    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        with pytest.raises(BatchLost):
            await ask(batcher, row(POISON))
        told.set()
        assert await ask(batcher, row(1)) == [1]

    with_batcher(test, recover=recover)
    assert recovered.is_set()


def test_what_remains_of_a_lost_request_is_not_run() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        lost = asyncio.create_task(ask(batcher, row(POISON, 300), *(row(20 + n, 400) for n in range(5))))
        await asyncio.sleep(0)
        engine.open.set()
        with pytest.raises(BatchLost):
            await lost
        await held
        assert batcher.waiting == 0

    with_batcher(test)


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        waiting = asyncio.create_task(ask(batcher, *(row(n) for n in range(4))))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as refused:
            await ask(batcher, row(5))
        assert refused.value.retry_after_s is not None
        engine.open.set()
        assert await waiting == [0, 1, 2, 3]
        await held

    with_batcher(test, max_queue=4)


def test_a_passed_deadline_is_told_and_its_rows_cost_nothing() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        with pytest.raises(DeadlineExceeded):
            await ask(batcher, row(1), timeout=0.01)
        assert batcher.waiting == 0
        engine.open.set()
        await held
        assert await ask(batcher, row(2)) == [2]
        assert [1] not in engine.batches

    with_batcher(test)


def test_a_caller_who_leaves_takes_the_work_along() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        gone = asyncio.create_task(ask(batcher, row(1)))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batcher.waiting == 0
        engine.open.set()
        await held

    with_batcher(test)


def test_a_large_request_does_not_starve_a_small_one() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        large = asyncio.create_task(ask(batcher, *(row(100 + n, TOKEN_BUDGET) for n in range(20))))
        await asyncio.sleep(0)
        small = asyncio.create_task(ask(batcher, row(1, TOKEN_BUDGET)))
        await asyncio.sleep(0)
        engine.open.set()
        await asyncio.gather(held, large, small)
        assert engine.batches.index([1]) <= 2, "after the held batch and the large request's first row"

    with_batcher(test)


def test_a_small_request_that_comes_into_the_middle_of_a_large_one_waits_for_a_turn() -> None:
    steps, ran = threading.Semaphore(20), list[list[int]]()

    def run(rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        ran.append([int(row.encodings[0].input_ids[0]) for row in rows])
        assert steps.acquire(timeout=30)
        return [Prediction(np.eye(len(RELATIONS))[0], members=mark) for mark in ran[-1]]

    batcher = DynamicBatcher(run, PLANNER, QueueOptions(lanes=1, max_queue=1000))

    async def test() -> None:
        # rows of like length are taken from all over the request
        lengths = np.random.default_rng(0).integers(20, 200, 200).tolist()
        large = asyncio.create_task(ask(batcher, *(row(100 + n, length) for n, length in enumerate(lengths))))
        while len(ran) < 21:
            await asyncio.sleep(0)
        small = asyncio.create_task(ask(batcher, row(1, 400)))  # longer than any other, so nobody's company
        await asyncio.sleep(0)
        steps.release(1000)
        await asyncio.gather(large, small)
        assert 1 in ran[21] + ran[22]

    try:
        asyncio.run(test())
    finally:
        batcher.close()


def test_a_request_of_several_ends_though_single_ones_never_cease() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        several = asyncio.create_task(ask(batcher, row(1, 60), row(2, TOKEN_BUDGET)))
        singles = 0

        async def caller(mark: int) -> None:
            nonlocal singles
            while not several.done() and singles < 1000:
                await ask(batcher, row(mark, 50))
                singles += 1

        callers = [asyncio.create_task(caller(100 + n)) for n in range(32)]
        await asyncio.sleep(0)
        engine.open.set()
        assert await several == [1, 2]
        await asyncio.gather(held, *callers)
        assert singles < 200, "a second example waits for a second turn, not for the last single one"

    with_batcher(test, lanes=2)


def test_an_idle_server_refuses_nobody_whatever_ran_before() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        lengths = np.random.default_rng(0).integers(5, 200, 40).tolist()
        await asyncio.gather(
            *(ask(batcher, row(100 + n, length), timeout=1000) for n, length in enumerate(lengths))
        )
        assert await ask(batcher, row(1, 300), timeout=1) == [1], (
            "3 s of work, but it may well be done sooner: nobody waits for it"
        )

    with_batcher(test, lanes=2, planner=SLOW)


def test_a_small_request_is_not_refused_for_a_large_one_that_it_overtakes() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        large = asyncio.create_task(
            ask(batcher, *(row(100 + n, TOKEN_BUDGET) for n in range(20)), timeout=1000)
        )
        await asyncio.sleep(0)
        # The large request takes 102.4 s, its first example 5.
        small = asyncio.create_task(ask(batcher, row(1, 10), timeout=30))
        await asyncio.sleep(0)
        with pytest.raises(WaitTooLong):
            await ask(batcher, *(row(200 + n, TOKEN_BUDGET) for n in range(20)), timeout=30)
        engine.open.set()
        assert await small == [1]
        await asyncio.gather(held, large)

    with_batcher(test, planner=SLOW)


def test_those_who_are_refused_are_told_to_come_back_one_after_another() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        waits = asyncio.create_task(ask(batcher, row(1, 100)))
        await asyncio.sleep(0)
        refused = []
        for number in range(5):
            with pytest.raises(WaitTooLong) as error:
                await ask(batcher, row(2 + number, 200), timeout=3)
            refused.append(error.value.retry_after_s)
        assert refused[0] == pytest.approx((0.1 + 1 + 2) * CAUTION - 3, abs=0.1), (
            "by then the predicted wait fits the deadline"
        )
        assert np.diff(refused) == pytest.approx([2 * CAUTION] * 4, abs=0.1), (
            "each leaves room for the work of the one before"
        )
        engine.open.set()
        await asyncio.gather(held, waits)

    with_batcher(test, planner=SLOW)


def test_who_would_be_refused_whatever_he_asks_need_not_be_read_first() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        batcher.require_room(time.monotonic() + 0.01)  # nothing runs or waits: everybody is let in
        held = await hold(batcher, engine)
        waits = [asyncio.create_task(ask(batcher, row(n, 10 * n))) for n in (1, 1, 30)]
        await asyncio.sleep(0)
        in_time = (0.1 + 0.1 + 0.1 + 3) * CAUTION
        batcher.require_room(time.monotonic() + in_time + 0.1)
        refused = []
        for _ in range(4):
            with pytest.raises(WaitTooLong) as error:
                batcher.require_room(time.monotonic() + 3)
            refused.append(error.value.retry_after_s)
        assert refused[0] == pytest.approx(in_time - 3, abs=0.1)
        usual = 0.1 + NEWEST_SHARE * (3 - 0.1)
        assert np.diff(refused) == pytest.approx([usual * CAUTION] * 3, abs=0.1), (
            "what he asks is taken for what others asked on average"
        )
        engine.open.set()
        await asyncio.gather(held, *waits)

    with_batcher(test, planner=SLOW)


def test_who_is_late_before_he_is_read_is_told_to_come_back_after_the_others_though_nothing_runs() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        await ask(batcher, row(1, 100))
        refused = []
        for _ in range(4):
            with pytest.raises(WaitTooLong, match="no time is left") as error:
                batcher.require_room(time.monotonic() - 2)
            refused.append(error.value.retry_after_s)
        pace = 1 - NEWEST_SHARE  # the batch took no time
        assert refused == pytest.approx([2 + CAUTION * pace * number for number in range(4)], abs=0.1)

    with_batcher(test, planner=SLOW)


def test_a_full_queue_need_not_read_anybody() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        waits = [asyncio.create_task(ask(batcher, row(n))) for n in range(3)]
        await asyncio.sleep(0)
        batcher.require_room(time.monotonic() + FAR)
        waits.append(asyncio.create_task(ask(batcher, row(3))))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match=r"4 of 4\)$"):
            batcher.require_room(time.monotonic() + FAR)
        engine.open.set()
        await asyncio.gather(held, *waits)

    with_batcher(test, max_queue=4)


def test_a_refusal_never_sends_anyone_away_for_long_because_of_others() -> None:
    """Nor are those beyond the limit all told the same time: they would all come back at once."""

    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        retry_after = []
        for number in range(40):
            with pytest.raises(QueueFull) as error:
                await ask(batcher, row(1, 200), row(2, 200), timeout=FAR + number)
            retry_after.append(error.value.retry_after_s)
        assert max(retry_after) <= FURTHEST_PROMISE_S
        steps = np.diff(retry_after)
        again = steps < 0
        assert 1 < again.sum() < 10
        assert steps[~again] == pytest.approx([4 * CAUTION] * int((~again).sum()), abs=0.1)
        assert np.array(retry_after[1:])[again] == pytest.approx([retry_after[0]] * int(again.sum()), abs=0.1)
        engine.open.set()
        await held

    with_batcher(test, max_queue=1, planner=SLOW)


def test_an_example_without_company_has_the_whole_machine() -> None:
    alone = Engine()

    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        assert await ask(batcher, row(1)) == [1]
        assert (alone.batches, engine.batches) == ([[1]], []), "nothing ran or waited beside it"
        assert sorted(await ask(batcher, row(2), row(3))) == [2, 3]
        alone.open.clear()
        held = asyncio.create_task(ask(batcher, row(4)))
        while alone.batches[-1:] != [[4]]:
            await asyncio.sleep(0)
        assert await ask(batcher, row(5)) == [5]
        assert [5] in engine.batches, "the machine was taken"
        alone.open.set()
        assert await held == [4]

    with_batcher(test, lanes=2, run_alone=alone)


def test_a_stall_is_not_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every request that finds another one running would be refused, and so no lane would ever run again
    to tell better."""
    clock = itertools.count(step=1e-3)
    stalled: list[float] = [0.0]
    monkeypatch.setattr("engine.queue.time", SimpleNamespace(monotonic=lambda: next(clock) + sum(stalled)))
    alone = Engine()

    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        async def submit(mark: int, timeout: float = FAR) -> list[int]:
            deadline = next(clock) + sum(stalled) + timeout
            return marks((await batcher.submit([row(mark)], deadline)).predictions)

        alone.open.clear()
        held = asyncio.create_task(submit(1))
        await asyncio.to_thread(alone.entered.acquire)
        engine.open.clear()
        slow = asyncio.create_task(submit(2, timeout=1e6))
        await asyncio.to_thread(engine.entered.acquire)
        stalled.append(1e4)
        engine.open.set()
        await slow
        with pytest.raises(WaitTooLong):
            await submit(3, timeout=2)
        alone.open.set()
        await held
        for mark in range(100, 200):
            await submit(mark)
        alone.open.clear()
        held = asyncio.create_task(submit(4))
        while alone.batches[-1:] != [[4]]:
            await asyncio.sleep(0)
        assert await submit(5, timeout=2) == [5]
        alone.open.set()
        await held

    with_batcher(test, lanes=2, run_alone=alone)


def test_a_lane_waits_for_company_when_it_is_told_to() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        budget_full = [row(n, 100) for n in range(6)]
        assert await asyncio.gather(*(ask(batcher, one) for one in budget_full)) == [[n] for n in range(6)]
        assert engine.batches[0] == [0, 1, 2, 3, 4], "the batch left as soon as a row found no room in it"

    with_batcher(test, max_wait_s=0.2)


def test_a_lane_waits_no_longer_than_the_most_urgent_request_allows() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        patient = asyncio.create_task(ask(batcher, row(1)))
        await asyncio.sleep(0)
        assert await ask(batcher, row(2), timeout=1.0) == [2], "it is run by half of its deadline"
        assert await patient == [1]
        assert sorted(map(sorted, engine.batches)) == [[1, 2]]

    with_batcher(test, max_wait_s=30.0)


def test_several_free_lanes_wait_for_company_as_one_does() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        assert await asyncio.gather(*(ask(batcher, row(n, 50)) for n in range(3))) == [[0], [1], [2]]
        assert engine.batches == [[0, 1, 2]]

    with_batcher(test, lanes=3, max_wait_s=0.2)


def test_who_waits_is_sent_away_when_the_batcher_gives_up_and_a_lane_that_never_ends_is_left() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        waiting = asyncio.create_task(ask(batcher, row(1)))
        await asyncio.sleep(0)
        batcher.give_up()
        for task in (held, waiting):
            with pytest.raises(NotReady) as gone:
                await task
            assert gone.value.retry_after_s is not None
        with pytest.raises(NotReady):
            await ask(batcher, row(1))  # whose body took until now to be read
        assert not batcher.close(limit_s=0.01)
        engine.open.set()
        assert batcher.close(limit_s=30)

    with_batcher(test)


def test_a_closed_batcher_finishes_what_waits_and_refuses_what_comes() -> None:
    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        held = await hold(batcher, engine)
        waiting = asyncio.create_task(ask(batcher, row(1)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        while not batcher.closed:
            await asyncio.sleep(0)
        with pytest.raises(NotReady):
            await ask(batcher, row(2))
        engine.open.set()
        assert await waiting == [1]
        await asyncio.gather(held, closing)

    with_batcher(test)


@st.composite
def storms(draw: st.DrawFn) -> list[tuple[float, list[tuple[int, int]], float, float | None]]:
    """Requests as (arrives at, rows as (kind, length), deadline, leaves at); times in hundredths of a second,
    kind 13 fails its run."""
    request = st.tuples(
        st.floats(0, 5),
        st.lists(
            st.tuples(st.sampled_from([0, 0, 0, 0, POISON]), st.integers(3, 400)), min_size=1, max_size=6
        ),
        st.sampled_from([FAR, FAR, 0.01, 0.0]),
        st.sampled_from([None, None, None, 1.0]),
    )
    return draw(st.lists(request, min_size=1, max_size=30))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(storms(), st.integers(1, 3), st.sampled_from([4, 20, 1000]))
def test_whatever_comes_every_request_gets_exactly_one_answer_its_own(
    caplog: pytest.LogCaptureFixture,
    storm: list[tuple[float, list[tuple[int, int]], float, float | None]],
    lanes: int,
    max_queue: int,
) -> None:
    caplog.set_level("CRITICAL")
    ran: list[int] = []
    poisoned = any(kind == POISON for _, rows, _, _ in storm for kind, _ in rows)
    asked_rows = sum(len(rows) for _, rows, _, _ in storm)

    async def test(batcher: DynamicBatcher, engine: Engine) -> None:
        async def one(
            number: int, arrives: float, rows: list[tuple[int, int]], timeout: float, leaves: float | None
        ) -> None:
            await asyncio.sleep(arrives / 100)
            own = [
                POISON if kind == POISON else 100 + 10 * number + place
                for place, (kind, _) in enumerate(rows)
            ]
            asked = asyncio.create_task(  # noqa: RUF006
                ask(batcher, *map(row, own, (length for _, length in rows)), timeout=timeout)
            )
            if leaves is not None:
                await asyncio.sleep(leaves / 100)
                asked.cancel()
            try:
                assert await asked == own
                assert POISON not in own, "a failed run was answered"
            except BatchLost:
                assert poisoned, "no run failed"
            except QueueFull:
                assert asked_rows > max_queue, "the queue cannot have been full"
            except (WaitTooLong, DeadlineExceeded):
                assert timeout < FAR, "the deadline was far away"
            except asyncio.CancelledError:
                assert leaves is not None

        async with asyncio.timeout(30):
            await asyncio.gather(*(one(number, *request) for number, request in enumerate(storm)))
        assert batcher.waiting == 0
        ran.extend(mark for batch in engine.batches for mark in batch if mark != POISON)

    with_batcher(test, lanes, max_queue)
    assert len(ran) == len(set(ran)), "a row ran twice"
