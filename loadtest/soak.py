"""Ten minutes of steady load: python -m loadtest.soak

Promise: resident memory at the end within 5 % of that after the first tenth, and every request answered.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import psutil

from loadtest.sentences import make_long_rows
from loadtest.server import DEFAULT_BUNDLE, running
from loadtest.traffic import by_status, closed_loop, for_seconds, percentile
from loadtest.verdict import conclude

CONNECTIONS = 8


async def trial(url: str, pid: int, seconds: float) -> tuple[dict[str, Any], dict[str, bool]]:
    stop, process = asyncio.Event(), psutil.Process(pid)
    loop = asyncio.create_task(closed_loop(url, make_long_rows(5000), CONNECTIONS, stop))
    await asyncio.sleep(seconds / 10)
    first = process.memory_info().rss / 1e6
    await for_seconds(stop, seconds * 9 / 10)
    last = process.memory_info().rss / 1e6
    outcomes = await loop
    figures = {
        "seconds": seconds,
        "rps": round(len(outcomes) / seconds, 1),
        "by_status": by_status(outcomes),
        "p99_ms": round(1000 * percentile([outcome.seconds for outcome in outcomes], 99), 1),
        "memory_mb": {"after_a_tenth": round(first), "end": round(last)},
    }
    promises = {
        "every request is answered": all(o.status == 200 for o in outcomes),
        "memory within 5 %": last <= 1.05 * first,
    }
    return figures, promises


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.soak", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args(argv)
    with running(arguments.bundle) as server:
        figures, promises = asyncio.run(trial(server.url, server.process.pid, arguments.seconds))
    return conclude("soak", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
