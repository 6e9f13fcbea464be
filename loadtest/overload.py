"""Twice the load that a server can bear, for a minute: python -m loadtest.overload

1. Measure the saturation: the requests/s that the server answers in a closed loop.
2. Three times, send twice the saturation in an open loop and then measure the saturation again, because a
   machine's speed drifts. Of the three shares of the saturation just before and after, the median counts.
3. Send a burst at once. Each refused request is sent again once, after its Retry-After.

Promises: every request is answered by its deadline; 0.9 of the saturation is answered rightly; refusals come
at once and have a Retry-After; `/health` answers 99 times of 100 within 100 ms; memory stays flat; 19 of 20
requests that come back after a burst are answered.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from loadtest.bodies import UnusableRows, read_rows
from loadtest.command import add_bundle, conclude, make_parser
from loadtest.connection import HttpClient, Target
from loadtest.figures import percentile, percentile_ms
from loadtest.outcomes import REFUSED, RIGHT, Outcome, by_result
from loadtest.server import ServerProcess, running
from loadtest.traffic import WARMUP_S, ask, measure_window, open_loop, probe, summarise

ROUNDS = 3
DEADLINE_S = 2.0
BURST_S = 8.0
"""Seconds of work in the burst."""
SLACK_S = 0.25
"""Seconds between the server's clock and the callers', who share the cores with it."""
SATURATION_CONNECTIONS, SATURATION_S = 16, 10.0


@dataclass(frozen=True, slots=True)
class OverloadRound:
    """A while at twice the saturation.

    Attributes:
        health: seconds that each probe of `/health` took.
        answered_rps: right answers a second; answers after the end do not count.
        goodput: these over the mean saturation just before and after.
        memory_mb: of the server, at the end.
    """

    outcomes: list[Outcome]
    health: list[float]
    answered_rps: float
    goodput: float
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Burst:
    """The outcomes of requests sent at once, and of the refused ones when they were sent again."""

    first: list[Outcome]
    second: list[Outcome]


async def trial(
    server: ServerProcess, rows: Sequence[object], seconds: float
) -> tuple[dict[str, Any], dict[str, bool]]:
    target, deadline = Target.parse(server.url), {"X-Request-Timeout": str(DEADLINE_S)}
    requests = [target.post("/relations", row, deadline) for row in rows]
    patient = [target.post("/relations", row) for row in rows]
    saturations, rounds = [await saturation(target, patient)], list[OverloadRound]()
    for number in range(ROUNDS):
        began_s = time.monotonic()
        outcomes, health = await press(target, requests, 2 * saturations[-1], seconds / ROUNDS, number)
        answered_rps = summarise(outcomes, 0, began_s, began_s + seconds / ROUNDS).rps
        memory_mb = server.memory_mb()
        saturations.append(await saturation(target, patient))
        goodput = answered_rps / statistics.mean(saturations[-2:])
        rounds.append(OverloadRound(outcomes, health, answered_rps, goodput, memory_mb))
    burst = await send_burst(target, requests, round(BURST_S * saturations[-1]))
    return judge(rounds, burst, saturations, seconds)


async def saturation(target: Target, requests: Sequence[bytes]) -> float:
    """Requests/s that a closed loop gets answered."""
    return (await measure_window(target, requests, SATURATION_CONNECTIONS, WARMUP_S, SATURATION_S)).rps


async def press(
    target: Target, requests: Sequence[bytes], rate: float, seconds: float, seed: int
) -> tuple[list[Outcome], list[float]]:
    """Requests at a rate, and the seconds that `/health` took meanwhile."""
    stop = asyncio.Event()

    async def send() -> list[Outcome]:
        try:
            async with HttpClient(target) as client:
                return await open_loop(client, requests, rate, seconds, seed)
        finally:
            stop.set()

    outcomes, health = await asyncio.gather(send(), probe(target, "/health", stop))
    return outcomes, health


async def send_burst(target: Target, requests: Sequence[bytes], count: int) -> Burst:
    """`count` requests at once; each refused one comes back after its Retry-After."""

    async def come_back(refused: Outcome) -> Outcome:
        await asyncio.sleep(float(refused.retry_after or 0))
        return await ask(client, requests[refused.row], refused.row, time.monotonic())

    async with HttpClient(target) as client:
        began_s, rows = time.monotonic(), [number % len(requests) for number in range(count)]
        first = await asyncio.gather(*(ask(client, requests[row], row, began_s) for row in rows))
        second = await asyncio.gather(*(come_back(one) for one in first if one.result == REFUSED))
    return Burst(list(first), list(second))


def judge(
    rounds: Sequence[OverloadRound], burst: Burst, saturations: Sequence[float], seconds: float
) -> tuple[dict[str, Any], dict[str, bool]]:
    """The figures and the promises of a whole trial."""
    outcomes = [outcome for one in rounds for outcome in one.outcomes]
    health = [took_s for one in rounds for took_s in one.health]
    refused = [outcome for outcome in outcomes if outcome.result == REFUSED]
    answered = [outcome for outcome in outcomes if outcome.result == RIGHT]
    goodput = statistics.median(one.goodput for one in rounds)
    slowest_s = max(outcome.answered_s - outcome.sent_s for outcome in outcomes)
    refused_s = [outcome.answered_s - outcome.sent_s for outcome in refused]
    health_p99_s = percentile(health, 99) or float("inf")
    back = by_result(burst.second)
    results = by_result([*outcomes, *burst.first, *burst.second])
    figures = {
        "seconds": seconds,
        "saturation_rps": [round(rate, 1) for rate in saturations],
        "offered_rps": round(len(outcomes) / seconds, 1),
        "answered_rps": [round(one.answered_rps, 1) for one in rounds],
        "goodput_over_saturation": round(goodput, 3),
        "goodputs": [round(one.goodput, 3) for one in rounds],
        "by_status": by_result(outcomes),
        "answered_p99_ms": percentile_ms([outcome.seconds for outcome in answered], 99),
        "slowest_s": round(slowest_s, 3),
        "sent_late_p99_ms": percentile_ms([outcome.late_s for outcome in outcomes], 99),
        "refused_p99_ms": percentile_ms(refused_s, 99),
        "health_p99_ms": round(1000 * health_p99_s, 1),
        "burst": {"first": by_result(burst.first), "after_retry_after": back},
        "memory_mb": [round(one.memory_mb) for one in rounds],
    }
    promises = {
        "no request passes its deadline unanswered": slowest_s <= DEADLINE_S + SLACK_S,
        "nothing but 200, 429 and 504": results.keys() <= {"200", "429", "504"},
        "requests were refused, each with Retry-After": bool(refused)
        and all(outcome.retry_after for outcome in refused),
        "at least 0.9 of the saturation is answered": goodput >= 0.9,
        "99 % of the refusals within 50 ms": (percentile(refused_s, 99) or float("inf")) <= 0.05,
        "a burst has refusals, and 19 of 20 that come back after their Retry-After are answered": bool(
            burst.second
        )
        and back.get(RIGHT, 0) >= 0.95 * len(burst.second),
        "99 % of /health within 100 ms": health_p99_s <= 0.1,
        "memory is flat (5 %)": rounds[-1].memory_mb <= 1.05 * rounds[0].memory_mb,
    }
    return figures, promises


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("loadtest.overload", "Send twice the load that a server can bear.", "--seconds 30")
    add_bundle(parser)
    parser.add_argument(
        "--seconds", type=float, default=60, help="seconds at twice the load (default: %(default)s)"
    )
    parser.add_argument(
        "--rows", type=Path, help="JSONL of KLUE-RE rows to send (default: shipped sentences)"
    )
    parser.add_argument("--every-member", action="store_true", help="let every member vote on every row")
    arguments = parser.parse_args(argv)
    try:
        rows = read_rows(arguments.rows)
    except UnusableRows as error:
        parser.error(str(error))
    settings = {"cascade_caution": 1.0} if arguments.every_member else {}
    with running(arguments.bundle, **settings) as server:
        figures, promises = uvloop.run(trial(server, rows, arguments.seconds))
    return conclude("overload", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
