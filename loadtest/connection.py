"""Keep-alive HTTP/1.1 connections that cost the server's cores little: a load generator shares them.

Requests are bytes, built before the clock runs. httptools parses the answers.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

IDLE_S = 2.0
"""Seconds after which an idle connection is not used again: uvicorn closes it after 5 s, and a request that
is sent at that moment gets no answer."""
ANSWER_TIMEOUT_S = 60.0
"""Twice the server's own deadline: a request without an answer by then counts as lost."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server: its address, and headers that every request carries."""

    host: str
    port: int
    path: str = ""
    secure: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, url: str, headers: Mapping[str, str] | None = None) -> "Target":
        """The server at an http or https URL."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        return cls(parts.hostname or "", port, parts.path.rstrip("/"), secure, tuple((headers or {}).items()))

    def get(self, path: str) -> bytes:
        """A GET request, ready to be sent."""
        return self._head("GET", path, {}) + b"\r\n"

    def post(self, path: str, document: object, headers: Mapping[str, str] | None = None) -> bytes:
        """A POST request of a JSON document, ready to be sent."""
        body = json.dumps(document, ensure_ascii=False).encode()
        entity = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return self._head("POST", path, entity | dict(headers or {})) + b"\r\n" + body

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {self.path}{path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *headers.items())]
        return "".join(f"{line}\r\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `answered_s` is when its last byte arrived, on the monotonic clock."""

    status: int
    retry_after: str | None
    body: bytes
    answered_s: float


class Connection(asyncio.Protocol):
    """One connection; it carries one request at a time. The `on_…` methods are httptools' callbacks."""

    def __init__(self) -> None:
        self.usable = True
        self.used_s = 0.0
        """When the last request was sent, or answered."""
        self._answer: asyncio.Future[Answer | None] | None = None
        self._parser = HttpResponseParser(self)
        self._retry_after: str | None = None
        self._body: list[bytes] = []

    async def ask(self, request: bytes) -> Answer | None:
        """Send a request; returns its answer, or None if the connection breaks before it is whole."""
        self.used_s = time.monotonic()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close the connection at once."""
        self.usable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        self._finish(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        self.usable = self._parser.should_keep_alive()
        self.used_s = time.monotonic()
        answer = Answer(self._parser.get_status_code(), self._retry_after, b"".join(self._body), self.used_s)
        self._retry_after, self._body = None, []
        self._finish(answer)

    def _finish(self, answer: Answer | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)


class HttpClient:
    """As many connections to one server as there are requests at a time. Closes them when its block ends."""

    def __init__(self, target: Target, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.target = target
        self._timeout_s = answer_timeout_s
        self._tls = ssl.create_default_context() if target.secure else None
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()

    async def __aenter__(self) -> "HttpClient":
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.cancel()
        for connection in (*self._idle, *self._busy):
            connection.close()

    async def ask(self, request: bytes) -> Answer | None:
        """Send a request; None if there was no connection, it broke, or the answer took too long."""
        try:
            connection = self._take_idle() or await self._connect()
        except OSError:
            return None
        self._busy.add(connection)
        answer = await connection.ask(request)
        self._busy.discard(connection)
        if answer is not None and connection.usable:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    async def _watch(self) -> None:
        """Close connections whose answer takes too long: cheaper than a timer for each request."""
        while True:
            await asyncio.sleep(min(1.0, self._timeout_s))
            for connection in list(self._busy):
                if time.monotonic() - connection.used_s > self._timeout_s:
                    connection.close()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and time.monotonic() - connection.used_s < IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        loop, target = asyncio.get_running_loop(), self.target
        async with asyncio.timeout(self._timeout_s):  # its TimeoutError is an OSError
            _, connection = await loop.create_connection(Connection, target.host, target.port, ssl=self._tls)
        return connection
