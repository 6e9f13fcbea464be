"""Log lines on stderr, each with the id of the request it belongs to."""

import logging
import os
import select
import sys
import time
from contextvars import ContextVar
from typing import Final, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

MALFORMED: Final = "Invalid HTTP request received."
"""What uvicorn logs for each request that is not HTTP."""
REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Set by `api/telemetry.py` for the length of a request."""


def configure(form: Literal["json", "text"]) -> None:
    """Send every log record of the process to stderr in one form."""
    handler = NeverWaiting(sys.stderr)
    handler.addFilter(_add_request_id)
    if form == "json":
        fields = ["levelname", "name", "message", "request_id"]
        handler.setFormatter(
            JsonFormatter(fields, rename_fields={"levelname": "level", "name": "logger"}, timestamp=True)
        )
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").addFilter(Seldom(MALFORMED, every_s=10))


class NeverWaiting(logging.StreamHandler[TextIO]):
    """A handler that drops what its stream does not take at once, and later tells how many records that were.

    A full pipe whose reader has stopped would otherwise stop the event loop, and with it the server.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + self.terminator
            if self._dropped:
                text = (
                    f"\n{self._dropped} log records were dropped: the reader of this stream is slow\n{text}"
                )
            if self._write(text.encode("utf-8", errors="backslashreplace")):
                self._dropped = 0
            else:
                self._dropped += 1
        except Exception:
            self.handleError(record)

    def _write(self, text: bytes) -> bool:
        """Whether all of it was taken. A pipe that is ready takes `PIPE_BUF` bytes without waiting."""
        descriptor = self.stream.fileno()
        ready = select.poll()
        ready.register(descriptor, select.POLLOUT)
        while text:
            if not ready.poll(0):
                return False
            text = text[os.write(descriptor, text[: select.PIPE_BUF]) :]
        return True


class Seldom:
    """A filter that lets one message pass at most once in some seconds, with the number of those left out.

    A client that sends nonsense could otherwise fill the disk.
    """

    def __init__(self, message: str, every_s: float) -> None:
        self._message = message
        self._every_s = every_s
        self._next = 0.0
        self._left_out = 0

    def __call__(self, record: logging.LogRecord) -> bool:
        if record.msg != self._message:
            return True
        now = time.monotonic()  # the record's own time is of a clock that can be set back
        if now < self._next:
            self._left_out += 1
            return False
        if self._left_out:
            record.msg = f"{self._message} ({self._left_out} more since the last such line)"
        self._next, self._left_out = now + self._every_s, 0
        return True


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = REQUEST_ID.get()
    return True
