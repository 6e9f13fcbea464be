"""Requests at a server, and what came of each: closed loops (a number of callers, each waiting for its answer) and open ones (arrivals
at a rate, whatever the answers do; latency counts from the scheduled time, so that a slow server cannot hide by slowing its callers)."""

import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from loadtest.sentences import Row

NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: its status (0: the connection broke without an answer), seconds since it was due, and of these the seconds by
    which it was sent late; the answer's `Retry-After` and relation."""

    status: int
    seconds: float
    late_s: float = 0.0
    retry_after: str | None = None
    relation: str | None = None
    row: int = 0


async def ask(session: aiohttp.ClientSession, url: str, rows: Sequence[Row], index: int, began: float, timeout_s: float | None) -> Outcome:
    """Post one row; never raises."""
    headers = {} if timeout_s is None else {"X-Request-Timeout": str(timeout_s)}
    late_s = time.monotonic() - began
    try:
        async with session.post(f"{url}/relations", json=rows[index], headers=headers) as answer:
            document = await answer.json()
            seconds = time.monotonic() - began
            return Outcome(answer.status, seconds, late_s, answer.headers.get("Retry-After"), document.get("relation"), index)
    except (aiohttp.ClientError, OSError, ValueError):
        return Outcome(NO_ANSWER, time.monotonic() - began, row=index)


async def closed_loop(
    url: str,
    rows: Sequence[Row],
    connections: int,
    stop: asyncio.Event,
    until_status: frozenset[int] = frozenset(),
    headers: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Callers that ask one row after another until `stop`, or until one of them is answered with a status of `until_status`."""
    outcomes: list[Outcome] = []

    async def caller(number: int) -> None:
        index = number
        while not stop.is_set():
            outcome = await ask(session, url, rows, index % len(rows), time.monotonic(), None)
            outcomes.append(outcome)
            if outcome.status in until_status:
                return
            index += connections

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        await asyncio.gather(*(caller(number) for number in range(connections)))
    return outcomes


async def open_loop(url: str, rows: Sequence[Row], rate: float, seconds: float, timeout_s: float, seed: int = 1) -> list[Outcome]:
    """Arrivals of a Poisson process at `rate` a second; every request has a deadline of `timeout_s`."""
    generator = random.Random(seed)
    began = time.monotonic()
    tasks: list[asyncio.Task[Outcome]] = []
    scheduled = began
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        while (scheduled := scheduled + generator.expovariate(rate)) < began + seconds:
            await asyncio.sleep(max(0.0, scheduled - time.monotonic()))
            tasks.append(asyncio.create_task(ask(session, url, rows, len(tasks) % len(rows), scheduled, timeout_s)))
        return await asyncio.gather(*tasks)


async def for_seconds(stop: asyncio.Event, seconds: float) -> None:
    """Set `stop` after some seconds."""
    await asyncio.sleep(seconds)
    stop.set()


async def saturation(
    url: str, rows: Sequence[Row], connections: int = 16, seconds: float = 10.0, headers: Mapping[str, str] | None = None
) -> float:
    """Requests answered a second by a closed loop."""
    stop = asyncio.Event()
    outcomes, _ = await asyncio.gather(closed_loop(url, rows, connections, stop, headers=headers), for_seconds(stop, seconds))
    return sum(outcome.status == 200 for outcome in outcomes) / seconds


async def probe(url: str, path: str, stop: asyncio.Event, every_s: float = 0.05) -> list[float]:
    """Seconds that a path took to answer 200, asked again and again; a probe that failed counts as infinite."""
    seconds: list[float] = []
    async with aiohttp.ClientSession() as session:
        while not stop.is_set():
            began = time.monotonic()
            try:
                async with session.get(url + path) as answer:
                    await answer.read()
                    seconds.append(time.monotonic() - began if answer.status == 200 else float("inf"))
            except (aiohttp.ClientError, OSError):
                seconds.append(float("inf"))
            await asyncio.sleep(every_s)
    return seconds


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, round(percent * 10) - 1)]


def by_status(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many requests ended with each status."""
    counts: dict[str, int] = {}
    for outcome in outcomes:
        name = str(outcome.status or "no answer")
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
