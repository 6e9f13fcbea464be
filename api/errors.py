"""The one table that gives each failure its HTTP status, and the answer that a client gets.

Failure                 engine/errors.py: QueueFull, WaitTooLong, NotReady, BatchLost, DeadlineExceeded
├── Unauthorized        the bearer token is missing or wrong
├── TooLarge            the body or the number of examples exceeds its limit
├── InvalidRequest      the request cannot be asked; lists every fault with its place
├── UnknownEncoding     the body is compressed in a way that the server does not know
└── BodyTimeout         the deadline passed before the body had arrived
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic_core import to_json

from api.metrics import MEASURED_PATH, rejected
from engine.errors import BatchLost, DeadlineExceeded, Failure, NotReady, QueueFull, WaitTooLong

Fault = dict[str, Any]
"""`{"type": kind, "loc": ["body", ...], "msg": sentence}`: FastAPI's list form without echoing the input."""


class Unauthorized(Failure): ...


class TooLarge(Failure): ...


class InvalidRequest(Failure):
    """`detail` is a list of faults."""


class UnknownEncoding(Failure): ...


class BodyTimeout(DeadlineExceeded): ...


@dataclass(frozen=True, slots=True)
class Answer:
    """How a kind of failure is answered.

    Attributes:
        status: the HTTP status.
        reason: the name of the kind in metrics.
        closes: whether the connection is closed: the rest of the body is not read, or the server shuts down.
    """

    status: int
    reason: str
    closes: bool = False


ANSWERS: Final[dict[type[Failure], Answer]] = {
    Unauthorized: Answer(401, "unauthorized"),
    TooLarge: Answer(413, "too_large", closes=True),
    UnknownEncoding: Answer(415, "unknown_encoding", closes=True),
    InvalidRequest: Answer(422, "invalid_request"),
    QueueFull: Answer(429, "queue_full"),
    WaitTooLong: Answer(429, "wait_too_long"),
    NotReady: Answer(503, "not_ready", closes=True),
    BatchLost: Answer(503, "batch_lost"),
    DeadlineExceeded: Answer(504, "deadline_exceeded"),
    BodyTimeout: Answer(504, "deadline_exceeded", closes=True),
}


def fault(kind: str, loc: Sequence[str | int], message: str) -> Fault:
    return {"type": kind, "loc": list(loc), "msg": message}


def response(failure: Failure, path: str) -> Response:
    """The answer to a request that failed this way; counts it where a prediction was asked for."""
    answer = ANSWERS[type(failure)]
    if path == MEASURED_PATH:
        rejected(answer.reason).inc()
    headers = {}
    if failure.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(failure.retry_after_s)))
    if isinstance(failure, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if answer.closes:
        headers["Connection"] = "close"
    return Response(to_json({"detail": failure.detail}), answer.status, headers, "application/json")


def install(app: FastAPI) -> None:
    """Answer every `Failure` by the table. Any other exception becomes a bare 500 in `api/telemetry.py`."""

    @app.exception_handler(Failure)
    async def on_failure(request: Request, failure: Failure) -> Response:
        return response(failure, request.scope["path"])
