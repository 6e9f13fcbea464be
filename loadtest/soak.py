"""Ten minutes of steady load: python -m loadtest.soak

Promises: every request is answered, and the server's memory at the end is within 5 % of its memory after the
first tenth.
"""

import asyncio
import sys
from typing import Any

from loadtest.command import add_bundle, conclude, make_parser
from loadtest.connection import HttpClient, Target
from loadtest.figures import percentile_ms
from loadtest.outcomes import RIGHT, by_result
from loadtest.sentences import make_long_rows
from loadtest.server import ServerProcess, running
from loadtest.traffic import closed_loop

CONNECTIONS = 8


async def trial(server: ServerProcess, seconds: float) -> tuple[dict[str, Any], dict[str, bool]]:
    stop, target = asyncio.Event(), Target.parse(server.url)
    requests = [target.post("/relations", row) for row in make_long_rows(5000)]
    async with HttpClient(target) as client:
        loop = asyncio.create_task(closed_loop(client, requests, CONNECTIONS, stop))
        await asyncio.sleep(seconds / 10)
        first_mb = server.memory_mb()
        await asyncio.sleep(seconds * 9 / 10)
        last_mb = server.memory_mb()
        stop.set()
        outcomes = await loop
    figures = {
        "seconds": seconds,
        "rps": round(len(outcomes) / seconds, 1),
        "by_status": by_result(outcomes),
        "p99_ms": percentile_ms([outcome.seconds for outcome in outcomes], 99),
        "memory_mb": {"after_a_tenth": round(first_mb), "end": round(last_mb)},
    }
    promises = {
        "every request is answered": by_result(outcomes).keys() == {RIGHT},
        "memory within 5 %": last_mb <= 1.05 * first_mb,
    }
    return figures, promises


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("loadtest.soak", "Hold a steady load and watch the server's memory.", "--seconds 60")
    add_bundle(parser)
    parser.add_argument(
        "--seconds", type=float, default=600, help="length of the trial (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    with running(arguments.bundle) as server:
        figures, promises = asyncio.run(trial(server, arguments.seconds))
    return conclude("soak", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
