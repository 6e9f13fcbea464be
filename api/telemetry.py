"""What every request carries: its id, its time in `Server-Timing`, and, if it fails inside, one log entry with a traceback."""

import logging
import re
import time
import uuid
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("kore")

REQUEST_ID: Final = "X-Request-ID"
_PLAIN: Final = re.compile(r"[\x20-\x7e]{1,200}")  # what may be echoed into a header and a log line as it came


class Telemetry:
    """ASGI middleware, outermost: nothing inside it fails without an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        request_id = _request_id(scope)
        timings: dict[str, float] = {}
        scope.setdefault("state", {}).update(began=began, request_id=request_id, timings=timings)
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                stages = {**timings, "total": time.monotonic() - began}
                headers["Server-Timing"] = ", ".join(f"{stage};dur={1000 * seconds:.3f}" for stage, seconds in stages.items())
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            if not started:
                await JSONResponse({"detail": "internal error"}, 500)(scope, receive, send_with_headers)


def _request_id(scope: Scope) -> str:
    sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()), "")
    return sent if _PLAIN.fullmatch(sent) else uuid.uuid4().hex
