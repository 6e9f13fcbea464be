"""Twice the load that a server can bear, for a minute: python -m loadtest.overload

In three rounds, and before and after each what the server can bear: its machine's speed drifts. Of the
rounds' shares of that, the median counts.

Promises: every request is answered by its deadline, as many are answered rightly as at saturation, those
refused are refused at once, with a Retry-After, `/health` answers 99 times of 100 within 100 ms, memory stays
flat. Then a burst: whoever is refused comes back once, after his Retry-After, and is answered, 19 times of
20.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop

from loadtest.bodies import InvalidRows, read_rows
from loadtest.sentences import Row
from loadtest.server import DEFAULT_BUNDLE, running
from loadtest.traffic import (
    Outcome,
    answered_within,
    ask,
    by_status,
    open_loop,
    percentile,
    probe,
    saturation,
)
from loadtest.verdict import conclude

ROUNDS = 3
TIMEOUT_S = 2.0
BURST_S = 8.0  # of work, sent at once
SLACK_S = 0.25  # between the server's clock and the caller's, who shares the cores with it


@dataclass(frozen=True, slots=True)
class Round:
    """A while at twice the load: what came of each request, how long `/health` took (seconds), answers a
    second (what still waited at the end is not among them), the same over what the server bears just before
    and after, and the server's memory at the end."""

    outcomes: list[Outcome]
    health: list[float]
    answered_rps: float
    goodput: float
    memory_mb: float


async def trial(
    url: str, pid: int, rows: Sequence[Row], seconds: float
) -> tuple[dict[str, Any], dict[str, bool]]:
    bearable = [await saturation(url, rows)]
    rounds: list[Round] = []
    for number in range(ROUNDS):
        began = time.monotonic()
        outcomes, health = await press(url, rows, 2 * bearable[-1], seconds / ROUNDS, seed=number)
        answered_rps = answered_within(outcomes, began, seconds / ROUNDS) / seconds * ROUNDS
        memory_mb = psutil.Process(pid).memory_info().rss / 1e6
        bearable.append(await saturation(url, rows))
        rounds.append(
            Round(outcomes, health, answered_rps, answered_rps / statistics.mean(bearable[-2:]), memory_mb)
        )
    first, second = await burst(url, rows, round(BURST_S * bearable[-1]))

    outcomes = [outcome for one in rounds for outcome in one.outcomes]
    health = [seconds for one in rounds for seconds in one.health]
    refused = [outcome for outcome in outcomes if outcome.status == 429]
    answered = [outcome for outcome in outcomes if outcome.status == 200]
    goodput = statistics.median(one.goodput for one in rounds)
    slowest_s = max(outcome.seconds - outcome.late_s for outcome in outcomes)
    refused_p99_s = percentile([outcome.seconds - outcome.late_s for outcome in refused], 99)
    back = by_status(second)
    figures = {
        "seconds": seconds,
        "saturation_rps": [round(rate, 1) for rate in bearable],
        "offered_rps": round(len(outcomes) / seconds, 1),
        "answered_rps": [round(one.answered_rps, 1) for one in rounds],
        "goodput_over_saturation": round(goodput, 3),
        "goodputs": [round(one.goodput, 3) for one in rounds],
        "by_status": by_status(outcomes),
        "answered_p99_s": round(percentile([outcome.seconds for outcome in answered], 99), 3),
        "slowest_s": round(slowest_s, 3),
        "sent_late_p99_ms": round(1000 * percentile([outcome.late_s for outcome in outcomes], 99), 1),
        "refused_p99_ms": round(1000 * refused_p99_s, 1),
        "health_p99_ms": round(1000 * percentile(health, 99), 1),
        "burst": {"first": by_status(first), "after_retry_after": back},
        "memory_mb": [round(one.memory_mb) for one in rounds],
    }
    promises = {
        "no request passes its deadline unanswered": slowest_s <= TIMEOUT_S + SLACK_S,
        "nothing but 200, 429 and 504": {outcome.status for outcome in [*outcomes, *first, *second]}
        <= {200, 429, 504},
        "requests were refused, each with Retry-After": bool(refused)
        and all(outcome.retry_after for outcome in refused),
        "as many answered as 0.9 of saturation": goodput >= 0.9,
        "99 % of the refusals within 50 ms": refused_p99_s <= 0.05,
        "some of a burst are refused, and 19 of 20 who come back after their Retry-After are answered": bool(
            second
        )
        and back.get("200", 0) >= 0.95 * len(second),
        "99 % of /health within 100 ms": percentile(health, 99) <= 0.1,
        "memory is flat (5 %)": rounds[-1].memory_mb <= 1.05 * rounds[0].memory_mb,
    }
    return figures, promises


async def press(
    url: str, rows: Sequence[Row], rate: float, seconds: float, seed: int
) -> tuple[list[Outcome], list[float]]:
    """Requests at a rate, whatever comes of them, and how long `/health` took beside them, in seconds."""
    stop = asyncio.Event()

    async def send() -> list[Outcome]:
        try:
            return await open_loop(url, rows, rate, seconds, TIMEOUT_S, seed)
        finally:
            stop.set()

    outcomes, health = await asyncio.gather(send(), probe(url, "/health", stop))
    return outcomes, health


async def burst(url: str, rows: Sequence[Row], requests: int) -> tuple[list[Outcome], list[Outcome]]:
    """So many requests at once, and those who were refused once more after their Retry-After: what came of
    both."""

    async def come_back(session: aiohttp.ClientSession, refused: Outcome) -> Outcome:
        await asyncio.sleep(float(refused.retry_after or 0))
        return await ask(session, url, rows, refused.row, time.monotonic(), TIMEOUT_S)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.monotonic()
        first = await asyncio.gather(
            *(ask(session, url, rows, index % len(rows), began, TIMEOUT_S) for index in range(requests))
        )
        second = await asyncio.gather(
            *(come_back(session, outcome) for outcome in first if outcome.status == 429)
        )
    return list(first), list(second)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.overload", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--rows", type=Path, help="JSONL of KLUE-RE rows to ask; sentences of our own by default"
    )
    parser.add_argument("--every-member", action="store_true", help="without the cascade")
    arguments = parser.parse_args(argv)
    try:
        rows = read_rows(arguments.rows)
    except InvalidRows as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    settings = {"cascade_caution": 1.0} if arguments.every_member else {}
    with running(arguments.bundle, **settings) as server:
        figures, promises = uvloop.run(trial(server.url, server.process.pid, rows, arguments.seconds))
    return conclude("overload", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
