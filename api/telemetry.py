"""What every request carries: its id, its time in `Server-Timing`, its place in metrics and traces, and, if
it fails inside, one log entry with a traceback."""

import logging
import re
import secrets
import time
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
# what may be echoed into a header and a log line as it came
_PLAIN: Final = re.compile(r"[\x20-\x7e]{1,200}")


class Telemetry:
    """ASGI middleware, outermost: nothing inside it fails without an answer."""

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        request_id = _request_id(scope)
        REQUEST_ID.set(request_id)
        timings: dict[str, float] = {}
        scope.setdefault("state", {}).update(began=began, timings=timings)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                stages = {**timings, "total": time.monotonic() - began}
                timing = ", ".join(f"{stage};dur={1000 * seconds:.3f}" for stage, seconds in stages.items())
                message["headers"] += (
                    (b"x-request-id", request_id.encode()),
                    (b"server-timing", timing.encode()),
                )
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if not status:
                await JSONResponse({"detail": "internal error"}, 500)(scope, receive, send_with_headers)
        if scope["path"] == MEASURED_PATH:
            self._measure(scope, began, timings, status, request_id)

    def _measure(
        self, scope: Scope, began: float, timings: dict[str, float], status: int, request_id: str
    ) -> None:
        responded(status).inc()
        REQUEST_SECONDS.observe(time.monotonic() - began)
        for stage, seconds in timings.items():
            _HISTOGRAMS[stage].observe(seconds)
        if self._tracing is not None:
            attributes = {
                "http.request.method": scope["method"],
                "http.route": scope["path"],
                "http.response.status_code": status,
            }
            name = f"{scope['method']} {scope['path']}"
            self._tracing.record(
                name,
                Headers(scope=scope),
                began,
                timings,
                attributes | {"request.id": request_id},
                failed=status >= 500,
            )


def _request_id(scope: Scope) -> str:
    sent = next(
        (value.decode("latin-1").strip(" \t") for name, value in scope["headers"] if name == b"x-request-id"),
        "",
    )
    return sent if _PLAIN.fullmatch(sent) else secrets.token_hex(16)
