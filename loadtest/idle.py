"""Idle connections: what probes and good requests notice of clients that send nothing."""

import asyncio
import multiprocessing
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from loadtest.connection import HttpClient, Target
from loadtest.figures import percentile_ms
from loadtest.outcomes import RIGHT
from loadtest.sentences import make_long_rows
from loadtest.traffic import RECONNECT_S, closed_loop, probe

SLOWER, SLACK_MS = 1.5, 25.0
"""How much p99 can grow: a factor for noise, and the milliseconds in which connections are accepted."""

SETTLE_S = 2.0
"""Seconds for opening the connections, before the measurement."""


def allow_open_files() -> None:
    """Lift this process's limit of open files. A server that is started later inherits it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def idle_trial(
    target: Target, connections: int, seconds: float
) -> tuple[dict[str, Any], dict[str, bool]]:
    """Measure probes and good requests for `seconds` without and then with idle connections.

    The server closes a connection that sends nothing. It is opened again at once.
    """
    without, _ = await _measure(target, 0, seconds)
    found, all_right = await _measure(target, connections, seconds)
    promises = {f"{connections} idle connections: every good request is answered rightly": all_right}
    for name, p99_ms in found.items():
        limit = SLOWER * (without[name] or 0.0) + SLACK_MS
        promises[f"{connections} idle connections: {name} {p99_ms} ms, at most {limit:.1f}"] = (
            p99_ms is not None and p99_ms <= limit
        )
    return {"idle_connections": connections, "without_idle": without, "with_idle": found}, promises


async def _measure(target: Target, connections: int, seconds: float) -> tuple[dict[str, float | None], bool]:
    stop = asyncio.Event()
    requests = [target.post("/relations", row) for row in make_long_rows(100)]
    with _idle_connections(target, connections):
        await asyncio.sleep(SETTLE_S)
        async with HttpClient(target) as client:
            good = asyncio.create_task(closed_loop(client, requests, 1, stop))
            health = asyncio.create_task(probe(target, "/health", stop))
            await asyncio.sleep(seconds)
            stop.set()
            outcomes, took_s = await good, await health
    latencies_s = [one.seconds for one in outcomes]
    right = bool(outcomes) and all(one.result == RIGHT for one in outcomes)
    return {
        "p99 of /health": percentile_ms(took_s, 99),
        "p99 of requests": percentile_ms(latencies_s, 99),
    }, right


@contextmanager
def _idle_connections(target: Target, count: int) -> Iterator[None]:
    """In a process of their own: they are opened again all at the same time, and the process that measures
    would be late for its probes then."""
    holder = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(target.host, target.port, count), daemon=True
    )
    holder.start()
    try:
        yield
    finally:
        holder.kill()
        holder.join()


def _hold(host: str, port: int, count: int) -> None:
    async def hold() -> None:
        await asyncio.gather(*(_stay_idle(host, port) for _ in range(count)))

    uvloop.run(hold())


async def _stay_idle(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    while True:
        idle = _Idle(loop.create_future())
        try:
            await loop.create_connection(lambda idle=idle: idle, host, port)
            await idle.ended
        except OSError:
            await asyncio.sleep(RECONNECT_S)


class _Idle(asyncio.Protocol):
    """A connection that sends nothing."""

    def __init__(self, ended: "asyncio.Future[None]") -> None:
        self.ended = ended

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)
