"""A closed loop of requests that costs the server's cores as little as Python allows.

It speaks HTTP/1.1 by hand over keep-alive connections, sends requests that were built beforehand, and reads
of an answer only the status, the length and the relation. What it costs all the same is in every measurement
(`generator_cpu_ms`).
"""

import asyncio
import itertools
import json
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvloop

HOST = "127.0.0.1"

STAGGER_S = 0.01
"""Between one connection and the next: of processes that share a port, the first to wake takes all that wait,
and the others idle."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"\ncontent-length: *(\d+)")
_RELATION = re.compile(rb'"relation" *: *"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it came over the wire; the `last` one of its connection if the server says so."""

    status: int
    body: bytes
    last: bool = False


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one window of traffic gave.

    Attributes:
        rps: answers with status 200 and a relation in the body, a second.
        p50_ms: of the latency of these answers; as p95_ms and p99_ms `None` if there were none.
        errors: how often what else happened, by its kind.
        labels: the relation that each row got, by the row's index.
        relabelled: answers that gave a row another relation than an earlier one.
        generator_cpu_ms: CPU time that this process spent for each answer.
    """

    connections: int
    seconds: float
    answers: int
    rps: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]
    labels: dict[int, str]
    relabelled: int
    generator_cpu_ms: float | None


def build_request(port: int, path: str, document: object) -> bytes:
    """A POST of a JSON document, ready to be sent."""
    body = json.dumps(document, ensure_ascii=False).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_response(data: bytes) -> Response | None:
    """The response that these bytes hold, `None` while it is incomplete.

    Raises:
        ValueError: they are not HTTP.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, body = data[:end].lower(), data[end + 4 :]
    status = _STATUS.match(data)
    if status is None:
        raise ValueError("not HTTP")
    last = b"\nconnection: close" in head
    if b"\ntransfer-encoding: chunked" in head:
        content = _join_chunks(body)
        return None if content is None else Response(int(status[1]), content, last)
    length = _LENGTH.search(head)
    if length is not None and len(body) < int(length[1]):
        return None
    return Response(int(status[1]), body, last)


def percentile(ascending: Sequence[float], percent: float) -> float | None:
    """The smallest value that is not below `percent` of all (nearest rank)."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)] if ascending else None


def measure(
    port: int, requests: Sequence[bytes], connections: int, warmup: float, seconds: float
) -> Measurement:
    """Keep a server busy and measure it once it is warm.

    Args:
        port: on the loopback.
        requests: one for each row, sent in turn and from the start again.
        connections: each sends its next request once it has its answer.
        warmup: seconds of the same traffic before the counting starts.
        seconds: how long answers are counted.
    """

    async def run() -> Measurement:
        traffic = Traffic(port, requests)
        async with traffic.flowing(connections):
            await asyncio.sleep(warmup)
            traffic.start_counting()
            await asyncio.sleep(seconds)
            traffic.stop_counting()
        return traffic.measurement()

    return uvloop.run(run())


class Traffic:
    """Connections that share one deck of requests, and the count of what they get."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self.port = port
        self.over = False
        self._deck = itertools.cycle(enumerate(requests))
        self._counting = False
        self._connections = 0
        self._latencies: list[float] = []
        self._errors: Counter[str] = Counter()
        self._labels: dict[int, str] = {}
        self._relabelled = 0
        self._clocks = self._cpu_and_wall()
        self._spent = (0.0, 0.0)

    @asynccontextmanager
    async def flowing(self, connections: int, grace: float = 20) -> AsyncIterator[None]:
        """Requests flow inside the block; after it, those under way get `grace` seconds for their answer."""
        self._connections = connections
        tasks = [asyncio.create_task(self._stay_connected(STAGGER_S * place)) for place in range(connections)]
        try:
            yield
        finally:
            self.over = True
            _, unanswered = await asyncio.wait(tasks, timeout=grace)
            self._errors["unanswered"] += len(unanswered)
            for task in unanswered:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def start_counting(self) -> None:
        """End of the warm-up: what comes from now on counts."""
        self._counting = True
        self._clocks = self._cpu_and_wall()

    def stop_counting(self) -> None:
        """End of the window; requests go on until the block of `flowing` is left."""
        self._counting = False
        now = self._cpu_and_wall()
        self._spent = (now[0] - self._clocks[0], now[1] - self._clocks[1])

    def next_request(self) -> tuple[int, bytes]:
        """The index of a row and its request."""
        return next(self._deck)

    def answered(self, row: int, response: Response, seconds: float) -> None:
        """Count an answer, as an error if it is not 200 or names no relation."""
        if not self._counting:
            return
        if response.status != 200:
            self._errors[str(response.status)] += 1
            return
        relation = _RELATION.search(response.body)
        if relation is None:
            self._errors["200 without a relation"] += 1
            return
        self._latencies.append(seconds)
        label = relation[1].decode()
        self._relabelled += self._labels.setdefault(row, label) != label

    def failed(self, kind: str) -> None:
        """Count a request that got no answer."""
        if self._counting:
            self._errors[kind] += 1

    def measurement(self) -> Measurement:
        """The count of the window."""
        cpu, wall = self._spent
        answers = len(self._latencies)
        ascending = sorted(1000 * seconds for seconds in self._latencies)
        return Measurement(
            connections=self._connections,
            seconds=wall,
            answers=answers,
            rps=answers / wall if wall else 0.0,
            p50_ms=percentile(ascending, 50),
            p95_ms=percentile(ascending, 95),
            p99_ms=percentile(ascending, 99),
            errors={kind: count for kind, count in sorted(self._errors.items()) if count},
            labels=self._labels,
            relabelled=self._relabelled,
            generator_cpu_ms=1000 * cpu / answers if answers else None,
        )

    async def _stay_connected(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(delay)
        while not self.over:
            try:
                transport, connection = await loop.create_connection(
                    lambda: _Connection(self), HOST, self.port
                )
            except OSError:
                self.failed("no connection")
                await asyncio.sleep(0.05)  # a dead server must not become a busy loop
                continue
            try:
                await connection.closed
            finally:
                transport.abort()

    @staticmethod
    def _cpu_and_wall() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()


class _Connection(asyncio.Protocol):
    """One keep-alive connection: a request, its answer, the next request."""

    def __init__(self, traffic: Traffic) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self._traffic = traffic
        self._transport: Any = None
        self._row: int | None = None  # of the request under way
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        try:
            response = read_response(self._received)
        except ValueError:
            self._transport.abort()  # counted as a broken connection
            return
        if response is None or self._row is None:
            return
        row, self._row, self._received = self._row, None, b""
        self._traffic.answered(row, response, time.perf_counter() - self._sent_at)
        if response.last or self._traffic.over:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._row is not None:
            self._traffic.failed("broken connection")
        if not self.closed.done():
            self.closed.set_result(None)

    def _send(self) -> None:
        self._row, request = self._traffic.next_request()
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def _join_chunks(body: bytes) -> bytes | None:
    """The content of a chunked body, `None` while its last chunk is missing."""
    parts: list[bytes] = []
    place = 0
    while True:
        line_end = body.find(b"\r\n", place)
        if line_end < 0:
            return None
        size = int(body[place:line_end].partition(b";")[0], 16)
        start, place = line_end + 2, line_end + 2 + size + 2
        if len(body) < place:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(body[start : start + size])
