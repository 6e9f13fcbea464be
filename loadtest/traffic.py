"""Requests at a server, and what came of each: closed loops (a number of callers, each waiting for its
answer) and open ones (arrivals at a rate, whatever the answers do; latency counts from the scheduled time, so
that a slow server cannot hide by slowing its callers)."""

import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from loadtest.sentences import Row

NO_ANSWER = 0
WARM_S = 2.0
"""Seconds after which the requests of a closed loop are at random places of their way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: its status (0: the connection broke without an answer), seconds since it was due, and of
    these the seconds by which it was sent late; the answer's `Retry-After` and relation; when it ended, on
    the monotonic clock."""

    status: int
    seconds: float
    late_s: float = 0.0
    retry_after: str | None = None
    relation: str | None = None
    row: int = 0
    ended: float = 0.0


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    rows: Sequence[Row],
    index: int,
    began: float,
    timeout_s: float | None,
) -> Outcome:
    """Post one row; never raises."""
    headers = {} if timeout_s is None else {"X-Request-Timeout": str(timeout_s)}
    late_s = time.monotonic() - began
    try:
        async with session.post(f"{url}/relations", json=rows[index], headers=headers) as answer:
            document = await answer.json()
            ended = time.monotonic()
            return Outcome(
                answer.status,
                ended - began,
                late_s,
                answer.headers.get("Retry-After"),
                document.get("relation"),
                index,
                ended,
            )
    except (aiohttp.ClientError, OSError, ValueError):
        ended = time.monotonic()
        return Outcome(NO_ANSWER, ended - began, row=index, ended=ended)


async def closed_loop(
    url: str,
    rows: Sequence[Row],
    connections: int,
    stop: asyncio.Event,
    until_status: frozenset[int] = frozenset(),
    headers: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Callers that ask one row after another until `stop`, or until one of them is answered with a status of
    `until_status`."""
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


async def open_loop(
    url: str, rows: Sequence[Row], rate: float, seconds: float, timeout_s: float, seed: int = 1
) -> list[Outcome]:
    """Arrivals of a Poisson process at `rate` a second; every request has a deadline of `timeout_s`."""
    generator = random.Random(seed)
    began = time.monotonic()
    tasks: list[asyncio.Task[Outcome]] = []
    scheduled = began
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        while (scheduled := scheduled + generator.expovariate(rate)) < began + seconds:
            await asyncio.sleep(max(0.0, scheduled - time.monotonic()))
            tasks.append(
                asyncio.create_task(ask(session, url, rows, len(tasks) % len(rows), scheduled, timeout_s))
            )
        return await asyncio.gather(*tasks)


async def for_seconds(stop: asyncio.Event, seconds: float) -> None:
    """Set `stop` after some seconds."""
    await asyncio.sleep(seconds)
    stop.set()


async def saturation(
    url: str,
    rows: Sequence[Row],
    connections: int = 16,
    seconds: float = 10.0,
    headers: Mapping[str, str] | None = None,
) -> float:
    """Requests answered a second by a closed loop, once it flows: those answered before and after these
    seconds are not among them."""
    stop = asyncio.Event()
    began = time.monotonic() + WARM_S
    outcomes, _ = await asyncio.gather(
        closed_loop(url, rows, connections, stop, headers=headers), for_seconds(stop, WARM_S + seconds)
    )
    return answered_within(outcomes, began, seconds) / seconds


def answered_within(outcomes: Sequence[Outcome], began: float, seconds: float) -> int:
    """How many were answered with 200 in these seconds."""
    return sum(outcome.status == 200 and began <= outcome.ended < began + seconds for outcome in outcomes)


async def probe(url: str, path: str, stop: asyncio.Event, every_s: float = 0.05) -> list[float]:
    """Seconds that a path took to answer 200, asked every so many seconds whether or not it has answered:
    else a server that stands still for a while would be one slow probe. Counted from when a probe was due;
    one that failed counts as infinite."""

    async def ask_once(due: float) -> float:
        try:
            async with session.get(url + path) as answer:
                await answer.read()
                return time.monotonic() - due if answer.status == 200 else float("inf")
        except (aiohttp.ClientError, OSError):
            return float("inf")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        probes: list[asyncio.Task[float]] = []
        due = time.monotonic()
        while not stop.is_set():
            probes.append(asyncio.create_task(ask_once(due)))
            due += every_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return await asyncio.gather(*probes)


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
