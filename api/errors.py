"""The kinds of failure inside, and the one table that gives each its status outside.

ServiceError
├── Unauthorized       the bearer token is missing or wrong
├── TooLarge           body or number of examples over the limit
├── InvalidRequest     nothing to predict in what was sent; lists every fault with its place
├── Overloaded         the queue is full, or the wait would pass the deadline
├── NotReady           loading, or on the way out
├── BatchLost          the engine failed under this batch
└── DeadlineExceeded   the request's time is up
"""

import logging
import math
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

log = logging.getLogger("kore")

Fault = dict[str, Any]
"""`{"type": kind, "loc": ["body", ...], "msg": sentence}`: FastAPI's list form without echoing the input."""


class ServiceError(Exception):
    """A failure with an answer. `retry_after_s`, where it makes sense to come back, becomes the `Retry-After` header."""

    def __init__(self, detail: str | Sequence[Fault], retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class Unauthorized(ServiceError): ...


class TooLarge(ServiceError): ...


class InvalidRequest(ServiceError): ...


class Overloaded(ServiceError): ...


class NotReady(ServiceError): ...


class BatchLost(ServiceError): ...


class DeadlineExceeded(ServiceError): ...


STATUS: Final[dict[type[ServiceError], int]] = {
    Unauthorized: 401,
    TooLarge: 413,
    InvalidRequest: 422,
    Overloaded: 429,
    NotReady: 503,
    BatchLost: 503,
    DeadlineExceeded: 504,
}


def fault(kind: str, loc: Sequence[str | int], message: str) -> Fault:
    return {"type": kind, "loc": list(loc), "msg": message}


def response(error: ServiceError) -> JSONResponse:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"detail": error.detail}, STATUS[type(error)], headers)


def install(app: FastAPI) -> None:
    """Answer every `ServiceError` by the table, and anything else with a 500 that tells nothing but the request's id."""

    @app.exception_handler(ServiceError)
    async def on_service_error(request: Request, error: ServiceError) -> JSONResponse:
        return response(error)
