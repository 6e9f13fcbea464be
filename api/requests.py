"""What a request brings: its deadline, its content type, its body, and whether its client is still there."""

import asyncio
import math
import re
import time
import zlib
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.errors import BodyTimeout, InvalidRequest, TooLarge, UnknownEncoding, fault
from api.reading import SHORT_BODY_BYTES

LONGEST_TIMEOUT_S: Final = 86_400

ROUNDS: Final = 4
"""Rounds of the event loop that a request needs after its first one: a front sends its rows to the engine,
its predictions arrive, its answer is sent, and one round passed before its head was read."""

UNWATCHED_S: Final = 0.05
"""Seconds until the server begins to watch whether a request's client is still connected."""

_JSON: Final = "application/json"
_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?|\.[0-9]+")

MOST_GZIP_MEMBERS: Final = 16
"""gzip data can consist of several members. Each costs a copy of the data after it: thousands of empty ones
would stop the event loop for minutes."""

READ_AND_DISCARDED: Final = 8
"""Oversized bodies are read and discarded up to this many times the limit. If the server closed the
connection early, the client would never see the 413."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the headers of a request to `/relations` say.

    Attributes:
        timeout_s: seconds until its deadline.
        gzipped: whether its body is compressed.
        length: `Content-Length` as it was sent; empty if it was not.
        short: whether the body will hold a few examples only, and follows at once. A client that waits for
            `100 Continue` and is refused could leave the body out, and its next request would be taken for
            it.
    """

    timeout_s: float
    gzipped: bool
    length: str
    short: bool

    @classmethod
    def of(cls, request: Request, default_s: float) -> "Head":
        """Read and check the headers.

        Args:
            default_s: the timeout without `X-Request-Timeout`.

        Raises:
            InvalidRequest: `X-Request-Timeout` is no number of seconds, or the body is not said to be JSON in
                UTF-8.
            UnknownEncoding: the body is compressed, and not by gzip.
        """
        # The first of equal names counts. Starlette's headers are searched anew for each name.
        headers = {name: value.decode("latin-1") for name, value in reversed([*request.scope["headers"]])}
        asked = headers.get(b"x-request-timeout")
        timeout_s = default_s if asked is None else _seconds(asked)
        content_type = headers.get(b"content-type", _JSON)
        if content_type != _JSON and not _is_json(content_type):
            message = "application/json in UTF-8 is required"
            raise InvalidRequest([fault("content_type", ["header", "Content-Type"], message)])
        encoding = headers.get(b"content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise UnknownEncoding(
                f"Content-Encoding {encoding!r:.40} is unknown; send gzip or no compression"
            )
        length = headers.get(b"content-length", "")
        short = length.isdecimal() and len(length) < 10 and int(length) <= SHORT_BODY_BYTES
        return cls(timeout_s, encoding != "identity", length, short and b"expect" not in headers)


def _seconds(text: str) -> float:
    text = text.strip(" \t")
    seconds = float(text) if _SECONDS.fullmatch(text) else math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        message = f"a number of seconds above 0 and up to {LONGEST_TIMEOUT_S} is required"
        raise InvalidRequest([fault("timeout", ["header", "X-Request-Timeout"], message)])
    return seconds


def _is_json(content_type: str) -> bool:
    kind, _, parameters = content_type.lower().partition(";")
    pairs = [parameter.partition("=") for parameter in parameters.split(";")]
    charset = next((value.strip(' "') for name, _, value in pairs if name.strip() == "charset"), "")
    return kind.strip() == _JSON and charset in ("", "utf-8", "utf8")


def predicted_by(began: float, now: float, deadline: float) -> float:
    """When the predictions must be there, so that the answer is sent by the deadline. All times are on
    `time.monotonic`'s clock.

    In one round the event loop reads the heads of all requests that have arrived, then begins each of them.
    If HTTP is slower than they arrive, requests wait here, before admission sees them.

    1. The time from a request's head to its beginning is about one round.
    2. Its answer needs `ROUNDS` more. They are kept free before the deadline, so admission adds them to the
       wait that it estimates.

    Args:
        began: when the request's head was read.
    """
    return deadline - ROUNDS * (now - began)


async def read_body(request: Request, head: Head, limit: int, deadline: float) -> bytes:
    """The body, decompressed and without a byte order mark. The limit holds for what is sent and for what
    comes out of it.

    Args:
        deadline: on `time.monotonic`'s clock.

    Raises:
        TooLarge: the body exceeds the limit.
        InvalidRequest: the body is not the gzip data that its header promises.
        BodyTimeout: the deadline passed before the body had arrived.
        ClientDisconnect: the client has left.
    """
    body, size, more = bytearray(), 0, True
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            while more and size <= limit * READ_AND_DISCARDED:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk, more = message.get("body", b""), message.get("more_body", False)
                size += len(chunk)
                if size <= limit:
                    body += chunk
    except TimeoutError:
        raise BodyTimeout("the deadline passed before the request's body had arrived") from None
    if size > limit:
        raise TooLarge(f"a body can hold {limit} bytes; {head.length or f'at least {size}'} were sent")
    if head.gzipped:
        body = _decompress(body, limit)
    return bytes(body.removeprefix(BOM_UTF8))


def _decompress(packed: bytearray, limit: int) -> bytearray:
    unpacked, rest = bytearray(), bytes(packed)
    try:
        for _ in range(MOST_GZIP_MEMBERS):
            stream = zlib.decompressobj(wbits=31)
            unpacked += stream.decompress(rest, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise TooLarge(f"a body can hold {limit} bytes; this one holds more once it is decompressed")
            if not stream.eof:
                raise zlib.error("the data ends too early")
            rest = stream.unused_data
            if not rest:
                return unpacked
        raise zlib.error(f"it has more than {MOST_GZIP_MEMBERS} members")
    except zlib.error as error:
        message = f"the body is not gzip data: {error}"
        raise InvalidRequest([fault("content_encoding", ["header", "Content-Encoding"], message)]) from None


class WhileConnected:
    """`with WhileConnected(request):` cancels the block if the client leaves first. The watch starts after
    `UNWATCHED_S`, when most blocks have ended: a task that watches costs more than parsing a body.

    Raises:
        ClientDisconnect: the client has left.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._inside = False
        self._client_left = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._inside = True
        self._timer = asyncio.get_running_loop().call_later(UNWATCHED_S, self._watch)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._inside = False
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._client_left and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientDisconnect from None

    def _watch(self) -> None:
        self._watcher = asyncio.ensure_future(_disconnected(self._request))
        self._watcher.add_done_callback(self._leave)

    def _leave(self, _: object) -> None:
        if self._inside:  # this can still be called in the turn in which the block ends
            self._client_left = True
            self._task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
