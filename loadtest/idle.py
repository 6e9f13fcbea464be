"""Idle connections: what probes and good requests notice of clients that send nothing."""

import asyncio
import resource
from contextlib import suppress
from typing import Any

from loadtest.connection import HttpClient, Target
from loadtest.figures import percentile_ms
from loadtest.outcomes import RIGHT
from loadtest.sentences import make_long_rows
from loadtest.traffic import closed_loop, probe

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

    async def stay_idle() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(target.host, target.port)
                try:
                    await reader.read()
                finally:
                    writer.close()

    idle = [asyncio.create_task(stay_idle()) for _ in range(connections)]
    requests = [target.post("/relations", row) for row in make_long_rows(100)]
    await asyncio.sleep(SETTLE_S)
    async with HttpClient(target) as client:
        good = asyncio.create_task(closed_loop(client, requests, 1, stop))
        health = asyncio.create_task(probe(target, "/health", stop))
        await asyncio.sleep(seconds)
        stop.set()
        outcomes, took_s = await good, await health
    for task in idle:
        task.cancel()
    await asyncio.gather(*idle, return_exceptions=True)
    latencies_s = [one.seconds for one in outcomes]
    right = bool(outcomes) and all(one.result == RIGHT for one in outcomes)
    return {
        "p99 of /health": percentile_ms(took_s, 99),
        "p99 of requests": percentile_ms(latencies_s, 99),
    }, right
