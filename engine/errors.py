"""Why a request gets no predictions. `api/errors.py` gives each kind its HTTP status.

Failure
├── QueueFull          the queue has no free slots for the request's examples
├── WaitTooLong        the estimated wait exceeds the request's deadline
├── NotReady           the bundle is loading, or the server is shutting down
├── BatchLost          the run failed under one of the request's examples
└── DeadlineExceeded   the deadline passed
"""

from typing import Any


class Failure(Exception):
    """A request that gets no predictions.

    Attributes:
        detail: what the caller is told.
        retry_after_s: when it makes sense to ask again, in seconds; None where it does not.
    """

    def __init__(self, detail: Any, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class QueueFull(Failure): ...


class WaitTooLong(Failure): ...


class NotReady(Failure): ...


class BatchLost(Failure): ...


class DeadlineExceeded(Failure): ...
