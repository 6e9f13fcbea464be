"""The load generator of trials and benchmarks: closed loops, open loops and probes.

A closed loop has a number of callers, each of which waits for its answer. An open loop sends at a rate,
whether or not answers arrive. Locust (loadtest/locustfile.py) plays the load tests.
"""

import asyncio
import itertools
import random
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from loadtest.connection import HttpClient, Target
from loadtest.figures import percentile_ms
from loadtest.outcomes import NO_ANSWER, RIGHT, WRONG_ANSWER, Outcome, by_result, due_times

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
WARMUP_S = 2.0
"""Seconds after which the requests of a closed loop are spread evenly over the server's stages."""
STAGGER_S = 0.01
"""Seconds between one caller's first request and the next one's: of processes that share a port, the first to
wake takes all connections that wait."""
RECONNECT_S = 0.05
"""Seconds after a lost request: a dead server must not become a busy loop."""

_RELATION = re.compile(rb'"(?:relation|label)" *: *"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Measurement:
    """One window of a closed loop.

    Attributes:
        rps: answers a second with status 200 and a relation.
        p50_ms: of the latency of these answers; None without any, as are p95_ms and p99_ms.
        errors: the number of other results, by result.
        labels: the relation that each row got first, by the row's index.
        relabelled: answers that gave a row another relation than its first one.
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


async def ask(client: HttpClient, request: bytes, row: int, due_s: float) -> Outcome:
    """Post one row."""
    sent_s = time.monotonic()
    answer = await client.ask(request)
    if answer is None:
        return Outcome(NO_ANSWER, due_s, sent_s, time.monotonic(), row=row)
    found = _RELATION.search(answer.body)
    result = WRONG_ANSWER if answer.status == 200 and found is None else str(answer.status)
    return Outcome(
        result,
        due_s,
        sent_s,
        answer.answered_s,
        row=row,
        relation=found[1].decode() if found else None,
        retry_after=answer.retry_after,
    )


async def closed_loop(
    client: HttpClient,
    requests: Sequence[bytes],
    connections: int,
    stop: asyncio.Event,
    until: frozenset[str] = frozenset(),
) -> list[Outcome]:
    """Callers that send one request after another until `stop`; a caller also ends at a result of `until`."""
    outcomes: list[Outcome] = []
    deck = itertools.cycle(enumerate(requests))

    async def call(place: int) -> None:
        await asyncio.sleep(STAGGER_S * place)
        while not stop.is_set():
            row, request = next(deck)
            outcome = await ask(client, request, row, time.monotonic())
            outcomes.append(outcome)
            if outcome.result in until:
                return
            if outcome.result == NO_ANSWER:
                await asyncio.sleep(RECONNECT_S)

    await asyncio.gather(*(call(place) for place in range(connections)))
    return outcomes


async def on_schedule(due: Iterable[float], send: Callable[[int, float], Coroutine[Any, Any, T]]) -> list[T]:
    """Call `send` with a number and its time once the time has come, without waiting for earlier calls."""
    tasks = []
    for number, due_s in enumerate(due):
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        tasks.append(asyncio.create_task(send(number, due_s)))
    return await asyncio.gather(*tasks)


async def open_loop(
    client: HttpClient, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 1
) -> list[Outcome]:
    """Requests at the times of a Poisson process of `rate` a second."""
    began_s = time.monotonic()
    due = itertools.takewhile(
        lambda due_s: due_s < began_s + seconds, due_times(rate, began_s, random.Random(seed))
    )
    return await on_schedule(
        due,
        lambda number, due_s: ask(client, requests[number % len(requests)], number % len(requests), due_s),
    )


async def probe(target: Target, path: str, stop: asyncio.Event, every_s: float = 0.05) -> list[float]:
    """Seconds from when a GET was due to its answer, infinite unless it is 200; until `stop`.

    Probes do not wait for each other: otherwise a server that hangs for a while would cost one slow probe.
    """
    request = target.get(path)
    async with HttpClient(target) as client:

        async def get(_: int, due_s: float) -> float:
            answer = await client.ask(request)
            return answer.answered_s - due_s if answer and answer.status == 200 else float("inf")

        due = itertools.takewhile(lambda _: not stop.is_set(), itertools.count(time.monotonic(), every_s))
        return await on_schedule(due, get)


async def measure_window(
    target: Target, requests: Sequence[bytes], connections: int, warmup_s: float, seconds: float
) -> Measurement:
    """Keep a server busy with a closed loop, and measure it for `seconds` after `warmup_s`."""
    stop = asyncio.Event()
    async with HttpClient(target) as client:
        loop = asyncio.create_task(closed_loop(client, requests, connections, stop))
        await asyncio.sleep(warmup_s)
        cpu_s, began_s = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        cpu_s, ended_s = time.process_time() - cpu_s, time.monotonic()
        stop.set()
        return summarise(await loop, connections, began_s, ended_s, cpu_s)


def make_requests(port: int, documents: Iterable[object], path: str = "/relations") -> list[bytes]:
    """A POST of each document to a server on the loopback."""
    target = Target(LOOPBACK, port)
    return [target.post(path, document) for document in documents]


def measure(
    port: int, requests: Sequence[bytes], connections: int, warmup_s: float, seconds: float
) -> Measurement:
    """`measure_window` for a server on the loopback."""
    return uvloop.run(measure_window(Target(LOOPBACK, port), requests, connections, warmup_s, seconds))


def summarise(
    outcomes: Sequence[Outcome], connections: int, began_s: float, ended_s: float, cpu_s: float = 0.0
) -> Measurement:
    """The measurement of the answers between two times; requests that got none after `began_s` are errors."""
    counted = [
        outcome
        for outcome in outcomes
        if began_s <= outcome.answered_s and (outcome.answered_s < ended_s or outcome.result == NO_ANSWER)
    ]
    right = [outcome for outcome in counted if outcome.result == RIGHT]
    latencies_s = [outcome.seconds for outcome in right]
    labels: dict[int, str] = {}
    relabelled = sum(
        labels.setdefault(one.row, one.relation) != one.relation for one in right if one.relation
    )
    return Measurement(
        connections=connections,
        seconds=ended_s - began_s,
        answers=len(right),
        rps=len(right) / (ended_s - began_s),
        p50_ms=percentile_ms(latencies_s, 50),
        p95_ms=percentile_ms(latencies_s, 95),
        p99_ms=percentile_ms(latencies_s, 99),
        errors={result: count for result, count in by_result(counted).items() if result != RIGHT},
        labels=labels,
        relabelled=relabelled,
        generator_cpu_ms=1000 * cpu_s / len(right) if right else None,
    )
