"""A client's connection: uvicorn's HTTP/1.1 protocol with four promises that it does not make itself.

1. `Upgrade: h2c` is ignored, as RFC 9110 allows. Java's HttpClient sends it with every first request.
   httptools stops at an upgrade and drops the body, so the head is parsed again without the upgrade.
2. A header section over `MAX_HEAD_BYTES` gets 431, and the connection is closed.
3. A connection whose request head is not complete after `KORE_HEADER_TIMEOUT_S` is closed. So is one that
   never sends a request.
4. A client that closes its sending side gets its answer. A client that has left without a reset looks the
   same, so its request is answered too, within its deadline.
"""

import asyncio
import time
from typing import Any, Final, cast

import httptools
from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.outbox import Outbox
from api.settings import Settings
from api.telemetry import READ_AT

MAX_HEAD_BYTES: Final = 64 * 1024

KEEP_ALIVE_S: Final = 75
"""How long a connection can idle before the server closes it, in seconds. A request that is sent at that
moment is lost, so the other side should close first: proxies and load balancers do after a minute."""

CLOSING_S: Final = 5
"""How long answers that are being sent can take once every prediction is made, in seconds."""

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
)
_DETAIL: Final = b'{"detail":"the header section can hold %d bytes"}' % MAX_HEAD_BYTES


class HeadTooLarge(Exception):
    """Raised inside the parser, which then stops."""


class Connection(HttpToolsProtocol):
    """See this file's promises."""

    header_timeout_s: float  # set by `connection_class`

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = False
        self._head_bytes = 0
        self._upgrades = False  # the present request asks for an upgrade
        self._head_clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._outbox = Outbox(transport)
        super().connection_made(cast(asyncio.Transport, self._outbox))
        self._start_head_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_clock()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Returns whether the connection stays open for sending: as long as a request is inside."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        began_in_head = self._in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, HeadTooLarge):
                self._refuse_head()
            else:
                self.send_400_response("Invalid HTTP request received.")
        else:
            if began_in_head and self._in_head:  # the parser keeps a header until its end: count what it got
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._refuse_head()
        self._start_idle_clock()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._head_clock is None:
            self._start_head_clock()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        self._stop_head_clock()
        self._in_head = False
        self._upgrades = self.parser.should_upgrade()
        if not self._upgrades:
            _date(self.scope)
            super().on_headers_complete()

    def on_response_complete(self) -> None:
        # At once: if the client has closed its sending side, the loop closes the connection.
        self._outbox.send()
        for sent_early, _ in self.pipeline:  # until now they have waited for their own client's answers
            _date(sent_early.scope)
        super().on_response_complete()

    def on_message_complete(self) -> None:
        if not self._upgrades:
            super().on_message_complete()

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Begin the present request anew, as if it had not asked for an upgrade; `rest` follows its head."""
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in map(_without_upgrade, self.headers) if value]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _refuse_head(self) -> None:
        self.transport.write(_TOO_LARGE % (len(_DETAIL), _DETAIL))
        self.transport.close()

    def _start_idle_clock(self) -> None:
        """Start uvicorn's clock of an idle connection again after a part of a body that has been answered
        before it was read. Otherwise such a connection could stay open for ever."""
        if self.cycle is None or not self.cycle.response_complete or self._in_head:
            return
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            after = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
            self.timeout_keep_alive_task = after

    def _start_head_clock(self) -> None:
        self._head_clock = self.loop.call_later(self.header_timeout_s, self.transport.close)

    def _stop_head_clock(self) -> None:
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None


def _date(scope: Any) -> None:
    scope[READ_AT] = time.monotonic()


def _without_upgrade(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A header without what asks for an upgrade; its value is empty if nothing is left."""
    name, value = header
    if name in (b"upgrade", b"http2-settings"):
        return name, b""
    if name == b"connection":
        tokens = [token.strip() for token in value.split(b",")]
        kept = [token for token in tokens if token.lower() not in (b"upgrade", b"http2-settings")]
        return name, b", ".join(kept)
    return header


def connection_class(header_timeout_s: float) -> type[Connection]:
    """The protocol for uvicorn's `http=`, which makes an object of it per connection."""
    return type("Connection", (Connection,), {"header_timeout_s": header_timeout_s})


def configure(app: FastAPI, settings: Settings) -> Config:
    """The HTTP server around an application, whose connections keep this file's promises."""
    return Config(
        app,
        loop="uvloop",
        lifespan="on",  # without it, a server whose start fails would answer 500 to everything
        http=connection_class(settings.header_timeout_s),
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSING_S,
        access_log=False,
        proxy_headers=False,  # the client's address is not used
        server_header=False,
        log_config=None,
        log_level="warning",
    )
