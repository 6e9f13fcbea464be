"""Admission: which requests the queue takes, and when a refused request should come back.

Work is measured in seconds of a lane, as the cost model predicts them. `pace` corrects the prediction: it is
a moving average of the seconds that one predicted second really takes.

1. Estimate the wait: the work in the lanes, the work that is served first, and the request's own work, times
   the pace, divided by the number of lanes.
2. Refuse with `QueueFull` if the queue has too few free slots.
3. Refuse with `WaitTooLong` if the estimated wait, times `CAUTION`, exceeds the time until the deadline. If
   nothing is ahead of the request, refuse it only if its deadline has passed.
4. A refused request is told when to come back: once there is room for it and for the requests that were
   refused before it, with the same caution. If all of them were told the same time, they would all come back
   at once. A request that has not been read counts as much as those before it did on average.
5. If the requests before it would send it away for more than `FURTHEST_PROMISE_S`, begin again with the
   earliest time: the callers that were told it first could have given up.

As `engine/waiting.py`, this file knows no threads: the caller holds the lock and says what time it is.
"""

from typing import Final

from engine.errors import QueueFull, WaitTooLong
from engine.waiting import WaitingRows

CAUTION: Final = 1.75
"""An admitted request can take this many times as long as estimated: later requests whose length fits a batch
better can overtake it."""

FURTHEST_PROMISE_S: Final = 30.0
"""The most seconds that other refused requests can make of a `Retry-After`."""

NEWEST_SHARE: Final = 0.1
"""What the newest value counts in a moving average."""


class Admission:
    """Estimates waits and refuses requests.

    Args:
        lanes: how many batches run at a time.
        max_queue: how many examples can wait.

    Attributes:
        running: work in the lanes, in predicted seconds.
        pace: seconds that a predicted second takes.
    """

    def __init__(self, lanes: int, max_queue: int) -> None:
        self._lanes = lanes
        self._max_queue = max_queue
        self.running = 0.0
        self.pace = 1.0
        self._row_work = 0.0  # work of an example: a moving average over the requests that have been read
        self._promised_until = 0.0  # by then, the requests that were told to come back fill the lanes

    def check(self, waiting: WaitingRows, rows: int, work: float | None, deadline: float, now: float) -> None:
        """Admit a request with this number of rows, or refuse it.

        Args:
            work: the request's own work; None before it has been read. Then the request is refused only if it
                would be refused without any work.
            deadline, now: on `time.monotonic`'s clock.

        Raises:
            QueueFull, WaitTooLong: see this file's steps; `retry_after_s` is set.
        """
        ahead = self._ahead(waiting, rows)
        if work is not None:
            usual = self._row_work or work / rows
            self._row_work = usual + NEWEST_SHARE * (work / rows - usual)
        wait_s = self._lane_seconds(ahead + (work or 0.0))
        needed = len(waiting) + rows
        if needed > self._max_queue:
            share = (needed - self._max_queue) / needed
            retry_s = self._promise(wait_s * share, work, now)
            own = "" if work is None else f"; this request needs {rows} slots"
            raise QueueFull(f"the queue is full ({len(waiting)} of {self._max_queue}){own}", retry_s)
        late_s = now + wait_s * CAUTION - deadline
        if deadline <= now:
            message = "no time is left until the request's deadline"
            raise WaitTooLong(message, self._promise(late_s, work, now))
        if ahead and late_s > 0:
            message = f"estimated wait {wait_s * CAUTION:.1f} s exceeds the request's deadline"
            raise WaitTooLong(message, self._promise(late_s, work, now))

    def wait_s(self, waiting: WaitingRows, rows: int) -> float:
        """Estimated seconds until the work ahead of a request of `rows` examples is done."""
        return self._lane_seconds(self._ahead(waiting, rows))

    def started(self, work: float) -> None:
        """A lane has taken so much work."""
        self.running += work

    def finished(self, work: float, seconds: float | None, busy: int) -> None:
        """A lane has finished so much work.

        Args:
            seconds: how long it took; None if that tells nothing about the lanes. Then the pace moves back
                towards 1: one stall must not be believed for ever.
            busy: lanes that still run.
        """
        self.running = self.running - work if busy else 0.0  # exactly nothing, also in floats
        seen = 1.0 if seconds is None else seconds / work
        self.pace += NEWEST_SHARE * (seen - self.pace)

    def failed(self, work: float, busy: int) -> None:
        """A lane has lost so much work."""
        self.running = self.running - work if busy else 0.0

    def _ahead(self, waiting: WaitingRows, rows: int) -> float:
        return self.running + waiting.work_ahead(rows)

    def _lane_seconds(self, work: float) -> float:
        return work * self.pace / self._lanes

    def _promise(self, room_s: float, work: float | None, now: float) -> float:
        """Seconds after which a refused request is admitted if it comes back."""
        returns = max(now + room_s, self._promised_until)
        if returns - now > max(room_s, FURTHEST_PROMISE_S):
            returns = now + room_s
        work = self._row_work if work is None else work
        self._promised_until = returns + CAUTION * self._lane_seconds(work)
        return returns - now
