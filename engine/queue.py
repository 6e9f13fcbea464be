"""The dynamic batcher: one queue of encoded examples, lanes that take from it what goes together, and every
answer to its asker.

Order of service is fair between requests, not between examples (fair queueing: Demers, Keshav and Shenker,
1989). Turns pass as fast as one example of every request that waits is served; a request's turn is the
present one when it comes, and one more with each of its examples that a lane takes. A single example that
comes after a request of 256 waits for one turn, not for 256, and the 256 end though singles never cease. A
free lane takes an example of the request whose turn is lowest, and with it those that make the batch do the
most work a second (engine/planner.py). Work is measured in seconds of a lane, predicted by the cost model;
what batches really take against that corrects it.
"""

import asyncio
import itertools
import logging
import threading
import time
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.errors import BatchLost, DeadlineExceeded, NotReady, QueueFull, WaitTooLong
from engine.planner import BatchPlanner
from models.ensemble import EncodedExample
from models.example import Prediction

log = logging.getLogger("kore")

CAUTION: Final = 1.75
"""How much longer than predicted an admitted request may take: later ones whose length fits a batch better
may overtake it."""

FURTHEST_PROMISE_S: Final = 30.0
"""Nobody is told to come back later than this because of others who may come back: they may have given up."""

Run = Callable[[Sequence[EncodedExample], int], list[Prediction]]
"""Predictions for a batch, in the order of its rows, on the lane of that number; called from several threads,
one a lane."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request's predictions, in the order asked, and where its time went (seconds)."""

    predictions: list[Prediction]
    queue_s: float
    inference_s: float


@dataclass(slots=True, eq=False)
class _Request:
    deadline: float
    submitted: float
    future: asyncio.Future[None]
    predictions: list[Prediction | None]
    missing: int
    turn: float = 0.0
    arrival: int = 0
    waiting: int = 0  # examples
    work: float = 0.0  # of those, seconds of a lane
    started: float | None = None


@dataclass(slots=True, eq=False)
class _Item:
    row: EncodedExample
    request: _Request
    index: int
    work: float  # seconds of a lane
    length: int = field(init=False)

    def __post_init__(self) -> None:
        self.length = len(self.row)


class DynamicBatcher:
    """Batches examples of concurrent requests over a synchronous `run`.

    Args:
        run: predictions for a batch.
        planner: which rows go together.
        lanes: how many batches run at a time.
        max_queue: examples that may wait.
        max_wait_s: how long a free lane waits for company for the oldest example.
        run_alone: the same as `run`, on the whole machine, for one example that nothing runs or waits beside.
        recover: called behind a run that failed, once its askers know.
    """

    def __init__(
        self,
        run: Run,
        planner: BatchPlanner,
        lanes: int,
        max_queue: int,
        max_wait_s: float = 0.0,
        run_alone: Run | None = None,
        recover: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._run_alone = run_alone
        self._recover = recover
        self._planner = planner
        self._max_queue = max_queue
        self._max_wait_s = max_wait_s
        self._lanes = lanes
        self._waiting: list[_Item] = []  # by length, so that a batch is a slice
        self._asking: set[_Request] = set()  # with examples that wait
        self._inside: set[_Request] = set()  # without an answer
        self._changed = threading.Condition()
        self._closed = False
        self._turn = 0.0  # the present one: what a request has that comes now
        self._arrivals = itertools.count()
        self._busy = 0  # lanes
        self._running = 0.0  # work in the lanes
        # seconds that a second of work takes, a moving average: padding, neighbours on the machine
        self._pace = 1.0
        # until when, on the monotonic clock, those who were refused may come back and fill the lanes
        self._promised = 0.0
        self._threads = [
            threading.Thread(target=self._serve, args=(index,), name=f"lane-{index}", daemon=True)
            for index in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Examples in the queue."""
        return len(self._waiting)

    def require_room(self, deadline: float) -> None:
        """Refuse a request that would be refused even with one example of no work: then nobody needs to read
        it first.

        Raises:
            QueueFull, WaitTooLong, NotReady: as `submit`.
        """
        with self._changed:
            self._require_room(1, 0.0, deadline)

    async def submit(self, rows: Sequence[EncodedExample], deadline: float) -> Answered:
        """Predict a request's rows.

        Args:
            rows: at least one.
            deadline: on `time.monotonic`'s clock. What has not started by then is dropped before it costs
                anything.

        Raises:
            QueueFull: the rows do not fit into the queue.
            WaitTooLong: their turn would come after the deadline.
            DeadlineExceeded: the deadline passed.
            BatchLost: `run` failed under one of the rows.
            NotReady: the batcher is closed, or gave up.
        """
        loop = asyncio.get_running_loop()
        request = _Request(deadline, time.monotonic(), loop.create_future(), [None] * len(rows), len(rows))
        self._admit(rows, request)
        clock = loop.call_later(max(0.0, deadline - time.monotonic()), _expire, request)
        self._inside.add(request)
        try:
            await request.future
        finally:
            self._inside.discard(request)
            clock.cancel()
            if request.missing:
                self._withdraw(request)
        assert request.started is not None
        predictions = [prediction for prediction in request.predictions if prediction is not None]
        return Answered(predictions, request.started - request.submitted, time.monotonic() - request.started)

    def give_up(self) -> None:
        """Send everybody away with `NotReady`, and whoever comes from now on; called on the event loop of
        those who asked."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for request in self._inside:
            if not request.future.done():
                request.future.set_exception(
                    NotReady("the server shuts down before this request's turn", retry_after_s=1)
                )

    def close(self, limit_s: float | None = None) -> bool:
        """Let the lanes finish what waits, then end them. Requests that come later get `NotReady`.

        Returns:
            Whether all lanes ended within the limit.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = None if limit_s is None else time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        ended = not any(thread.is_alive() for thread in self._threads)
        # whoever made this batcher is let go, and the members' memory: bound methods would keep both until a
        # full collection
        if ended:
            self._run, self._run_alone, self._recover = _ended, None, lambda: None
        return ended

    def _admit(self, rows: Sequence[EncodedExample], request: _Request) -> None:
        works = [self._planner.work(len(row)) for row in rows]
        with self._changed:
            self._require_room(len(rows), sum(works), request.deadline)
            request.turn, request.arrival = self._turn, next(self._arrivals)
            request.waiting, request.work = len(rows), sum(works)
            self._asking.add(request)
            for index, (row, work) in enumerate(zip(rows, works, strict=True)):
                insort(self._waiting, _Item(row, request, index, work), key=_length)
            self._changed.notify(len(rows))

    def _require_room(self, rows: int, work: float, deadline: float) -> None:
        """Room in the queue, and time for so much work, none if it is not known yet; raises as `submit`."""
        if self._closed:
            raise NotReady("the server is shutting down", retry_after_s=1)
        last_turn = self._turn + rows  # what others have left by then is served after this request
        # of every request that waits, at each admission: with two calls a request it takes four times as long
        works = [
            other.work
            if (turns := last_turn - other.turn) >= other.waiting
            else other.work * max(0.0, turns) / other.waiting
            for other in self._asking
        ]
        ahead = self._running + sum(works)
        done_s = (ahead + work) * self._pace / self._lanes
        if (over := len(self._waiting) + rows - self._max_queue) > 0:
            retry_s = self._promise(done_s * over / (len(self._waiting) + rows), work)
            own = f", and this request has {rows}" if work else ""
            raise QueueFull(
                f"the queue is full: {len(self._waiting)} examples wait, {self._max_queue} may{own}", retry_s
            )
        if ahead and (late_s := time.monotonic() + done_s * CAUTION - deadline) > 0:
            retry_s = self._promise(late_s, work)
            raise WaitTooLong(
                f"its answer could take {done_s * CAUTION:.1f} s, and the deadline would pass", retry_s
            )

    def _promise(self, room_s: float, work: float) -> float:
        """Seconds after which a refused request is admitted if it comes back: when there is room for it, and
        for those who were refused before it. Told all the same time, they would all come back at once. Work
        that is not known is guessed from what waits."""
        now = time.monotonic()
        comes_back = max(now + room_s, min(self._promised, now + FURTHEST_PROMISE_S))
        work = work or sum(item.work for item in self._waiting) / max(1, len(self._waiting))
        self._promised = comes_back + work * self._pace / self._lanes
        return comes_back - now

    def _withdraw(self, request: _Request) -> None:
        with self._changed:
            self._asking.discard(request)
            self._waiting = [item for item in self._waiting if item.request is not request]

    def _serve(self, lane: int) -> None:
        while batch := self._next():
            alone = self._alone(batch)
            started = time.monotonic()
            try:
                predictions = (alone or self._run)([item.row for item in batch], lane)
                assert len(predictions) == len(batch)
            except Exception:
                log.exception("a batch of %d examples was lost", len(batch))
                predictions = None
            work = sum(item.work for item in batch)
            with self._changed:
                self._busy -= 1
                # nothing is exactly nothing, in floats too
                self._running = self._running - work if self._busy else 0.0
                if predictions:
                    # A run on the whole machine tells nothing of the lanes; what was known fades, or one
                    # stall were believed for ever.
                    seen = 1.0 if alone else (time.monotonic() - started) / work
                    self._pace += 0.1 * (seen - self._pace)
            self._tell(batch, predictions)  # after the lane is free again: whoever is told may ask at once
            if predictions is None:
                self._recover()

    def _alone(self, batch: list[_Item]) -> Run | None:
        """The way over the whole machine, if it is there and nobody else needs the machine."""
        with self._changed:
            return self._run_alone if len(batch) == self._busy == 1 and not self._waiting else None

    def _next(self) -> list[_Item]:
        """As `_take`. Should the choice itself fail, whoever waits is told, and the lane lives on."""
        while True:
            try:
                return self._take()
            except Exception:
                log.exception("no batch could be chosen")
                with self._changed:
                    lost, self._waiting = self._waiting, []
                    self._asking.clear()
                self._tell(lost, None)

    def _take(self) -> list[_Item]:
        """The next batch, once there is one; an empty one when the batcher is closed and nothing waits."""
        with self._changed:
            while True:
                now = time.monotonic()
                if late := {request for request in self._asking if request.deadline <= now}:
                    self._asking -= late
                    self._waiting = [item for item in self._waiting if item.request not in late]
                if self._waiting:
                    oldest = min(self._asking, key=_turn)
                    anchor = min(
                        (item.index, place)
                        for place, item in enumerate(self._waiting)
                        if item.request is oldest
                    )[1]
                    waited = [now - item.request.submitted for item in self._waiting]
                    lengths = [item.length for item in self._waiting]
                    wait_s = (
                        oldest.submitted
                        + min(self._max_wait_s, (oldest.deadline - oldest.submitted) / 2)
                        - now
                    )
                    # Where company is asked for it is not dealt out to other lanes; while there is time for
                    # more, age does not count.
                    free_lanes = 1 if self._max_wait_s else self._lanes - self._busy
                    cut = self._planner.choose(lengths, anchor, free_lanes, None if wait_s > 0 else waited)
                    if wait_s <= 0 or self._closed or len(cut) < len(self._waiting):
                        break
                    self._changed.wait(wait_s)
                elif self._closed:
                    return []
                else:
                    self._changed.wait()
            batch = self._waiting[cut.start : cut.stop]
            del self._waiting[cut.start : cut.stop]
            self._turn = max(self._turn + len(batch) / len(self._asking), oldest.turn)
            for item in batch:
                request = item.request
                request.started = request.started or now
                request.turn += 1
                request.waiting -= 1
                request.work -= item.work
                if not request.waiting:
                    self._asking.discard(request)
                self._running += item.work
            self._busy += 1
            return batch

    def _tell(self, batch: list[_Item], predictions: list[Prediction] | None) -> None:
        """Hand a batch's answers to its askers' event loops; `None` means that the batch was lost."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Item, Prediction | None]]] = {}
        for item, prediction in zip(batch, predictions or itertools.repeat(None), strict=False):
            by_loop.setdefault(item.request.future.get_loop(), []).append((item, prediction))
        for loop, answers in by_loop.items():
            try:
                loop.call_soon_threadsafe(_deliver_all, answers)
            except RuntimeError:  # the askers' loop is closed: nobody waits any more
                log.debug("answers came after their event loop had closed")


def _ended(rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
    raise NotReady("the lanes have ended")


def _expire(request: _Request) -> None:
    if not request.future.done():
        request.future.set_exception(
            DeadlineExceeded("the request's deadline passed before its answer was ready")
        )


def _deliver_all(answers: Sequence[tuple[_Item, Prediction | None]]) -> None:
    for item, prediction in answers:
        _deliver(item, prediction)


def _deliver(item: _Item, prediction: Prediction | None) -> None:
    request = item.request
    if request.future.done():
        return
    if prediction is None:
        request.future.set_exception(
            BatchLost("the engine failed under this request; it can be sent again", retry_after_s=1)
        )
        return
    request.predictions[item.index] = prediction
    request.missing -= 1
    if not request.missing:
        request.future.set_result(None)


def _turn(request: _Request) -> tuple[float, int]:
    return request.turn, request.arrival


def _length(item: _Item) -> int:
    return item.length
