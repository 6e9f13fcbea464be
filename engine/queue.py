"""The dynamic batcher: one queue of encoded examples, and lanes that take batches from it.

The way of a request, `DynamicBatcher.submit`:

1. Admit the request, or refuse it (`engine/admission.py`).
2. Put its examples into the queue (`engine/waiting.py`), sorted by length.
3. Wait until every prediction is there, the deadline passes or the caller leaves.

What a lane does, in a thread of its own, `_serve`:

1. Take the request whose turn it is, and around it the rows that make the batch do the most work per second
   (`_take`, `engine/planner.py`).
2. Run the batch.
3. Correct the pace by the time that the batch took, and tell the callers.
"""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.admission import Admission
from engine.errors import BatchLost, DeadlineExceeded, NotReady
from engine.planner import BatchPlanner
from engine.waiting import Answered, Item, Request, WaitingRows
from models.encoding import EncodedExample
from models.example import Prediction

log = logging.getLogger("kore")

Run = Callable[[Sequence[EncodedExample], int], list[Prediction]]
"""Predictions for a batch, in the order of its rows, on the lane of that number. Each lane is a thread."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How the queue is served.

    Attributes:
        lanes: how many batches run at a time.
        max_queue: how many examples can wait.
        max_wait_s: how long a waiting request lets a free lane wait for more requests.
    """

    lanes: int
    max_queue: int
    max_wait_s: float = 0.0


class DynamicBatcher:
    """Batches the examples of concurrent requests over a synchronous `run`.

    Args:
        run: runs a batch on one lane.
        planner: chooses the batches.
        run_alone: runs one example on the whole machine; used while nothing else runs or waits.
        recover: called after a failed run, once its callers have been told.
    """

    def __init__(
        self,
        run: Run,
        planner: BatchPlanner,
        options: QueueOptions,
        run_alone: Run | None = None,
        recover: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._run_alone = run_alone
        self._recover = recover
        self._planner = planner
        self._options = options
        self._waiting = WaitingRows()
        self._admission = Admission(options.lanes, options.max_queue)
        self._unanswered: set[Request] = set()
        self._changed = threading.Condition()  # guards `_waiting`, `_admission`, `_closed` and `_busy`
        self._closed = False
        self._busy = 0  # lanes that run a batch
        self._threads = [
            threading.Thread(target=self._serve, args=(lane,), name=f"lane-{lane}", daemon=True)
            for lane in range(options.lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Examples in the queue."""
        return len(self._waiting)

    @property
    def estimated_wait_s(self) -> float:
        """Seconds that a request of one example would wait if it arrived now."""
        with self._changed:
            return self._admission.wait_s(self._waiting, rows=1)

    @property
    def closed(self) -> bool:
        """Whether new requests are refused."""
        return self._closed

    def require_room(self, deadline: float) -> None:
        """Refuse a request that would be refused even with one example of no work, before its body is read.

        Raises:
            QueueFull, WaitTooLong, NotReady: as `submit`.
        """
        with self._changed:
            self._check(rows=1, work=None, deadline=deadline)

    def submit(self, rows: Sequence[EncodedExample], deadline: float) -> asyncio.Future[Answered]:
        """Predict a request's rows; called on an event loop. To cancel the future takes its rows out of the
        queue.

        Args:
            rows: at least one.
            deadline: on `time.monotonic`'s clock. Rows that have not started by then are dropped.

        Returns:
            The future answer. It fails with DeadlineExceeded: the deadline passed; BatchLost: `run` failed
            under one of the rows; NotReady: see `give_up`.

        Raises:
            QueueFull: the queue has too few free slots.
            WaitTooLong: the estimated wait exceeds the deadline, or the deadline has passed.
            NotReady: the batcher is closed.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        request = Request(now, deadline, loop.create_future(), [None] * len(rows), len(rows))
        self._admit(request, rows)
        clock = loop.call_later(max(0.0, deadline - now), _expire, request)
        self._unanswered.add(request)

        def leave(_: object) -> None:
            self._unanswered.discard(request)
            clock.cancel()
            if request.missing:
                with self._changed:
                    self._waiting.remove({request})

        request.future.add_done_callback(leave)
        return request.future

    def give_up(self) -> None:
        """Answer every waiting and every later request with `NotReady`; called on the callers' event loop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for request in self._unanswered:
            if not request.future.done():
                failure = NotReady("the server shuts down before this request's turn", retry_after_s=1)
                request.future.set_exception(failure)

    def close(self, limit_s: float | None = None) -> bool:
        """Let the lanes finish the queue, then end them. Later requests get `NotReady`.

        Returns:
            Whether all lanes ended within the limit, in seconds.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = None if limit_s is None else time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        ended = not any(thread.is_alive() for thread in self._threads)
        if ended:
            # Bound methods would keep the members' memory until a full garbage collection.
            self._run, self._run_alone, self._recover = _ended, None, lambda: None
        return ended

    def _admit(self, request: Request, rows: Sequence[EncodedExample]) -> None:
        works = [self._planner.work(len(row)) for row in rows]
        with self._changed:
            self._check(len(rows), sum(works), request.deadline)
            self._waiting.add(request, rows, works)
            self._changed.notify(len(rows))

    def _check(self, rows: int, work: float | None, deadline: float) -> None:
        if self._closed:
            raise NotReady("the server is shutting down", retry_after_s=1)
        self._admission.check(self._waiting, rows, work, deadline, time.monotonic())

    def _serve(self, lane: int) -> None:
        while batch := self._next_batch():
            alone = self._alone(batch)
            rows = [item.row for item in batch]
            work = sum(item.work for item in batch)
            began = time.monotonic()
            try:
                predictions = _checked((alone or self._run)(rows, lane), len(rows))
            except Exception:
                log.exception("a batch of %d examples was lost", len(batch))
                predictions = None
            # A run on the whole machine tells nothing about the lanes.
            seconds = None if alone else time.monotonic() - began
            with self._changed:
                self._busy -= 1
                if predictions is None:
                    self._admission.failed(work, self._busy)
                else:
                    self._admission.finished(work, seconds, self._busy)
            _tell(batch, predictions)  # only now: a caller that is told can ask again at once
            if predictions is None:
                self._recover()

    def _alone(self, batch: list[Item]) -> Run | None:
        """The run on the whole machine, if there is one and nothing else runs or waits."""
        with self._changed:
            return self._run_alone if len(batch) == self._busy == 1 and not self._waiting.items else None

    def _next_batch(self) -> list[Item]:
        """As `_take`. If the choice itself fails, the callers are told and the lane lives on."""
        while True:
            try:
                return self._take()
            except Exception:
                log.exception("no batch could be chosen; every waiting example is lost")
                with self._changed:
                    lost = self._waiting.clear()
                _tell(lost, None)

    def _take(self) -> list[Item]:
        """The next batch, as soon as there is one; an empty one once the batcher is closed and nothing waits.

        1. Drop the examples of requests whose deadline has passed.
        2. Find the request whose turn it is, and its first waiting example: the anchor.
        3. Choose the batch around the anchor (`BatchPlanner.choose`).
        4. If the batch holds every waiting row, and `_can_wait_s` allows it, wait for more requests.
        5. Take the batch out of the queue.
        """
        with self._changed:
            while True:
                now = time.monotonic()
                self._waiting.remove_expired(now)
                if self._waiting.items:
                    wait_s = self._can_wait_s(now)
                    request = self._waiting.next_request()
                    cut = self._choose(request, now, by_age=wait_s <= 0)
                    if wait_s <= 0 or self._closed or len(cut) < len(self._waiting):
                        break
                    self._changed.wait(wait_s)
                elif self._closed:
                    return []
                else:
                    self._changed.wait()
            batch = self._waiting.take(cut, request.turn, now)
            self._admission.started(sum(item.work for item in batch))
            self._busy += 1
            return batch

    def _can_wait_s(self, now: float) -> float:
        """How many seconds a free lane can still wait for more requests. A request allows `max_wait_s` after
        its arrival, but at most half of the time until its deadline: the other half is kept for the run."""
        longest_s = self._options.max_wait_s
        if not longest_s:
            return 0.0
        return min(
            request.submitted + min(longest_s, (request.deadline - request.submitted) / 2) - now
            for request in self._waiting.requests
        )

    def _choose(self, request: Request, now: float, by_age: bool) -> range:
        """The batch to run next, as a slice of the waiting rows.

        Args:
            request: whose turn it is. Its first waiting row is in the batch.
            by_age: whether rows that have waited longer count more. While the lane can still wait they do
                not: the question is then only whether all rows fit one good batch.
        """
        items = self._waiting.items
        lengths = [item.length for item in items]
        # A lane that collects rows for a full batch does not share them with other free lanes.
        free_lanes = 1 if self._options.max_wait_s else self._options.lanes - self._busy
        waited = [now - item.request.submitted for item in items] if by_age else None
        return self._planner.choose(lengths, self._waiting.place_of(request), free_lanes, waited)


def _checked(predictions: list[Prediction], rows: int) -> list[Prediction]:
    if len(predictions) != rows:
        raise RuntimeError(f"{len(predictions)} predictions for {rows} rows: this is a bug")
    return predictions


def _ended(rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
    raise NotReady("the lanes have ended")


def _tell(batch: list[Item], predictions: list[Prediction] | None) -> None:
    """Hand a batch's predictions to its callers' event loops; None means that the batch was lost."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Item, Prediction | None]]] = {}
    for item, prediction in zip(batch, predictions or itertools.repeat(None), strict=False):
        by_loop.setdefault(item.request.future.get_loop(), []).append((item, prediction))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_deliver, answers)
        except RuntimeError:
            log.debug("predictions arrived after their caller's event loop had closed")


def _deliver(answers: Sequence[tuple[Item, Prediction | None]]) -> None:
    """On the callers' event loop: keep each prediction, and resolve the requests that are complete."""
    for item, prediction in answers:
        request = item.request
        if request.future.done():
            continue
        if prediction is None:
            lost = BatchLost("the engine failed on this request; it can be sent again", retry_after_s=1)
            request.future.set_exception(lost)
            continue
        request.predictions[item.index] = prediction
        request.missing -= 1
        if not request.missing:
            request.future.set_result(_answered(request))


def _answered(request: Request) -> Answered:
    started = request.submitted if request.started is None else request.started
    predictions = [prediction for prediction in request.predictions if prediction is not None]
    return Answered(predictions, started - request.submitted, time.monotonic() - started)


def _expire(request: Request) -> None:
    if not request.future.done():
        request.future.set_exception(DeadlineExceeded("the deadline passed before the answer was ready"))
