"""Log lines on stderr, each with the id of the request it belongs to."""

import logging
import sys
from contextvars import ContextVar
from typing import Final, Literal

from pythonjsonlogger.json import JsonFormatter

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Set by `api/telemetry.py` for the length of a request."""


def configure(form: Literal["json", "text"]) -> None:
    """Send every log record of the process to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_request_id)
    if form == "json":
        fields = ["levelname", "name", "message", "request_id"]
        handler.setFormatter(
            JsonFormatter(fields, rename_fields={"levelname": "level", "name": "logger"}, timestamp=True)
        )
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = REQUEST_ID.get()
    return True
