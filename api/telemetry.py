"""What every request carries: its id, its times in `Server-Timing`, its place in metrics and traces, and, if
it fails inside, one log entry with a traceback."""

import logging
import random
import re
import time
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.logs import REQUEST_ID
from api.metrics import (
    ENCODE_SECONDS,
    INFERENCE_SECONDS,
    MEASURED_PATH,
    QUEUE_SECONDS,
    REQUEST_SECONDS,
    responded,
)
from api.tracing import Tracing

log = logging.getLogger("kore")

_HISTOGRAMS: Final = {"encode": ENCODE_SECONDS, "queue": QUEUE_SECONDS, "inference": INFERENCE_SECONDS}
_PLAIN: Final = re.compile(r"[\x20-\x7e]{1,200}")  # can be echoed into a header and a log line unchanged
# An id need not be secret. Asking the kernel for each would give the interpreter's lock away to the lanes.
_IDS: Final = random.Random()
_KEY: Final = "kore.record"  # in the ASGI scope
READ_AT: Final = "kore.read_at"
"""In the ASGI scope: when the request's head was read, on `time.monotonic`'s clock (`api/connection.py`)."""


@dataclass(slots=True)
class RequestRecord:
    """One request's id and times, from the middleware through the route to headers, metrics and traces.

    Attributes:
        began: when its head was read, on `time.monotonic`'s clock.
        encode_s, queue_s, inference_s: seconds; None for a stage that the request did not reach.
    """

    request_id: str
    began: float
    encode_s: float | None = None
    queue_s: float | None = None
    inference_s: float | None = None

    def stages(self) -> dict[str, float]:
        """Seconds by stage, in the order in which the stages follow each other."""
        stages = {"encode": self.encode_s, "queue": self.queue_s, "inference": self.inference_s}
        return {name: seconds for name, seconds in stages.items() if seconds is not None}


def record_of(scope: Scope) -> RequestRecord:
    """The record that the middleware has put into a request's scope."""
    record: RequestRecord = scope[_KEY]
    return record


class Telemetry:
    """ASGI middleware around the application: every request inside it gets an answer.

    Args:
        tracing: None where no traces are asked for.
        access_log: whether each request gets a line in the log.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None, access_log: bool = False) -> None:
        self._app = app
        self._tracing = tracing
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope[_KEY] = RequestRecord(_request_id(scope), scope.get(READ_AT) or time.monotonic())
        REQUEST_ID.set(record.request_id)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                stages = record.stages() | {"total": time.monotonic() - record.began}
                timing = ", ".join(f"{stage};dur={1000 * seconds:.3f}" for stage, seconds in stages.items())
                message["headers"] += (
                    (b"x-request-id", record.request_id.encode()),
                    (b"server-timing", timing.encode()),
                )
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if not status:
                await JSONResponse({"detail": "internal error"}, 500)(scope, receive, send_with_headers)
        if self._access_log:
            milliseconds = 1000 * (time.monotonic() - record.began)
            log.info("%s %s %d in %.1f ms", scope["method"], scope["path"], status, milliseconds)
        if scope["path"] == MEASURED_PATH:
            self._measure(scope, record, status)

    def _measure(self, scope: Scope, record: RequestRecord, status: int) -> None:
        stages = record.stages()
        responded(status).inc()
        REQUEST_SECONDS.observe(time.monotonic() - record.began)
        for stage, seconds in stages.items():
            _HISTOGRAMS[stage].observe(seconds)
        if self._tracing is not None:
            attributes = {
                "http.request.method": scope["method"],
                "http.route": scope["path"],
                "http.response.status_code": status,
                "request.id": record.request_id,
            }
            name = f"{scope['method']} {scope['path']}"
            headers = Headers(scope=scope)
            self._tracing.record(name, headers, record.began, stages, attributes, failed=status >= 500)


def _request_id(scope: Scope) -> str:
    headers = (value for name, value in scope["headers"] if name == b"x-request-id")
    sent = next(headers, b"").decode("latin-1").strip(" \t")
    return sent if _PLAIN.fullmatch(sent) else f"{_IDS.getrandbits(128):032x}"
