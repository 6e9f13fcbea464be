"""Twice the load that a server can bear, for a minute: python -m loadtest.overload

Promises: every request is answered by its deadline, as many are answered rightly as at saturation, those refused are refused at once,
with a Retry-After, `/health` answers 99 times of 100 within 100 ms, memory stays flat. Then a burst: whoever is refused comes back once,
after his Retry-After, and is answered, 19 times of 20.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from loadtest.sentences import Row, make_long_rows
from loadtest.server import DEFAULT_BUNDLE, running
from loadtest.traffic import Outcome, ask, by_status, open_loop, percentile, probe, saturation
from loadtest.verdict import conclude

TIMEOUT_S = 2.0
BURST_S = 8.0  # of work, sent at once
SLACK_S = 0.25  # between the server's clock and the caller's, who shares the cores with it


async def trial(url: str, pid: int, seconds: float) -> tuple[dict[str, Any], dict[str, bool]]:
    rows = make_long_rows(1000)
    bearable = await saturation(url, rows)
    process, memory = psutil.Process(pid), []
    stop = asyncio.Event()

    async def watch_memory() -> None:
        while not stop.is_set():
            memory.append(process.memory_info().rss / 1e6)
            await asyncio.sleep(1)

    async def press() -> list[Outcome]:
        try:
            return await open_loop(url, rows, 2 * bearable, seconds, TIMEOUT_S)
        finally:
            stop.set()

    outcomes, health, _ = await asyncio.gather(press(), probe(url, "/health", stop), watch_memory())
    first, second = await burst(url, rows, round(BURST_S * bearable))
    sent = [*outcomes, *first, *second]
    refused = [outcome for outcome in outcomes if outcome.status == 429]
    answered = [outcome for outcome in outcomes if outcome.status == 200]
    settled = memory[len(memory) // 6]
    figures = {
        "seconds": seconds,
        "saturation_rps": round(bearable, 1),
        "offered_rps": round(len(outcomes) / seconds, 1),
        "answered_rps": round(len(answered) / seconds, 1),
        "goodput_over_saturation": round(len(answered) / seconds / bearable, 2),
        "by_status": by_status(outcomes),
        "answered_p99_s": round(percentile([outcome.seconds for outcome in answered], 99), 3),
        "slowest_s": round(max(outcome.seconds - outcome.late_s for outcome in outcomes), 3),
        "sent_late_p99_ms": round(1000 * percentile([outcome.late_s for outcome in outcomes], 99), 1),
        "refused_p99_ms": round(1000 * percentile([outcome.seconds for outcome in refused], 99), 1),
        "health_p99_ms": round(1000 * percentile(health, 99), 1),
        "burst": {"first": by_status(first), "after_retry_after": by_status(second)},
        "memory_mb": {"after_a_sixth": round(settled), "end": round(memory[-1])},
    }
    promises = {
        "no request passes its deadline unanswered": max(o.seconds - o.late_s for o in outcomes) <= TIMEOUT_S + SLACK_S,
        "nothing but 200, 429 and 504": {outcome.status for outcome in sent} <= {200, 429, 504},
        "requests were refused, each with Retry-After": bool(refused) and all(outcome.retry_after for outcome in refused),
        "as many answered as 0.9 of saturation": len(answered) / seconds >= 0.9 * bearable,
        "99 % of the refusals within 50 ms": percentile([outcome.seconds - outcome.late_s for outcome in refused], 99) <= 0.05,
        "some of a burst are refused, and 19 of 20 who come back after their Retry-After are answered": bool(second)
        and sum(outcome.status == 200 for outcome in second) >= 0.95 * len(second),
        "99 % of /health within 100 ms": percentile(health, 99) <= 0.1,
        "memory is flat (5 %)": memory[-1] <= 1.05 * settled,
    }
    return figures, promises


async def burst(url: str, rows: Sequence[Row], requests: int) -> tuple[list[Outcome], list[Outcome]]:
    """So many requests at once, and those who were refused once more after their Retry-After: what came of both."""

    async def come_back(session: aiohttp.ClientSession, refused: Outcome) -> Outcome:
        await asyncio.sleep(float(refused.retry_after or 0))
        return await ask(session, url, rows, refused.row, time.monotonic(), TIMEOUT_S)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.monotonic()
        first = await asyncio.gather(*(ask(session, url, rows, index % len(rows), began, TIMEOUT_S) for index in range(requests)))
        second = await asyncio.gather(*(come_back(session, outcome) for outcome in first if outcome.status == 429))
    return list(first), list(second)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.overload", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args(argv)
    with running(arguments.bundle) as server:
        figures, promises = asyncio.run(trial(server.url, server.process.pid, arguments.seconds))
    return conclude("overload", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
