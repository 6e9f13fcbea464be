"""The kinds of failure inside, and the one table that gives each its status outside.

ServiceError
├── Unauthorized       the bearer token is missing or wrong
├── TooLarge           body or number of examples over the limit
├── InvalidRequest     nothing to predict in what was sent; lists every fault with its place
├── QueueFull          no room for the request's examples
├── WaitTooLong        their turn would come after the deadline
├── NotReady           loading, or on the way out
├── BatchLost          the engine failed under this batch
└── DeadlineExceeded   the request's time is up
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from api.metrics import MEASURED_PATH, REJECTIONS

Fault = dict[str, Any]
"""`{"type": kind, "loc": ["body", ...], "msg": sentence}`: FastAPI's list form without echoing the input."""


class ServiceError(Exception):
    """A failure with an answer. `retry_after_s`, where it makes sense to come back, becomes the `Retry-After` header; `closes` where the
    connection is of no more use."""

    def __init__(self, detail: str | Sequence[Fault], retry_after_s: float | None = None, closes: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.closes = closes


class Unauthorized(ServiceError): ...


class TooLarge(ServiceError): ...


class InvalidRequest(ServiceError): ...


class QueueFull(ServiceError): ...


class WaitTooLong(ServiceError): ...


class NotReady(ServiceError): ...


class BatchLost(ServiceError): ...


class DeadlineExceeded(ServiceError): ...


STATUS: Final[dict[type[ServiceError], int]] = {
    Unauthorized: 401,
    TooLarge: 413,
    InvalidRequest: 422,
    QueueFull: 429,
    WaitTooLong: 429,
    NotReady: 503,
    BatchLost: 503,
    DeadlineExceeded: 504,
}

REASONS: Final[dict[type[ServiceError], str]] = {kind: re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in STATUS}
"""The kinds' names as metrics spell them: `queue_full`."""


def fault(kind: str, loc: Sequence[str | int], message: str) -> Fault:
    return {"type": kind, "loc": list(loc), "msg": message}


def response(error: ServiceError, path: str) -> JSONResponse:
    """The answer to a request that failed this way; counts it where a prediction was asked for."""
    if path == MEASURED_PATH:
        REJECTIONS.labels(REASONS[type(error)]).inc()
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if error.closes or isinstance(error, TooLarge | NotReady):
        headers["Connection"] = "close"  # the rest of the body is not read, or the server is about to leave
    return JSONResponse({"detail": error.detail}, STATUS[type(error)], headers)


def install(app: FastAPI) -> None:
    """Answer every `ServiceError` by the table. What else is raised becomes a bare 500 in `api/telemetry.py`."""

    @app.exception_handler(ServiceError)
    async def on_service_error(request: Request, error: ServiceError) -> JSONResponse:
        return response(error, request.url.path)
