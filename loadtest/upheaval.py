"""At full load: SIGTERM, new bundles, and an engine that fails. python -m loadtest.upheaval

Promises: not one accepted request is lost to a swap or to SIGTERM, and a failing run costs its own batches
only.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtest.sentences import make_long_rows
from loadtest.server import DEFAULT_BUNDLE, Server, running
from loadtest.traffic import NO_ANSWER, Outcome, by_status, closed_loop
from loadtest.verdict import conclude

CONNECTIONS = 32
SWAPS = 3
SWAP_S, LEAVING_S = 120.0, 120.0
"""Seconds after which a swap, or a server that was told to leave, is taken to hang."""


async def swaps(server: Server, path: Path, bundles: list[Path]) -> list[Outcome]:
    """Every few seconds another bundle takes over."""
    stop = asyncio.Event()
    load = asyncio.create_task(closed_loop(server.url, make_long_rows(1000), CONNECTIONS, stop))
    for number in range(SWAPS):
        await asyncio.sleep(2)
        replacement = path.with_name(f"next-{number}")
        replacement.symlink_to(bundles[number % len(bundles)])
        replacement.rename(path)
        ended = _ended_swaps(server)
        server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(SWAP_S):
            while _ended_swaps(server) == ended:
                await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    stop.set()
    return await load


def _ended_swaps(server: Server) -> int:
    return sum("swapped: " in line or "the new bundle was refused" in line for line in server.log)


async def leave(server: Server) -> list[Outcome]:
    """Told to leave at full load; callers go elsewhere at their first 503."""
    stop = asyncio.Event()
    load = asyncio.create_task(
        closed_loop(server.url, make_long_rows(1000), CONNECTIONS, stop, frozenset({503, NO_ANSWER}))
    )
    await asyncio.sleep(3)
    server.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(LEAVING_S):
        return await load


async def fail(server: Server, runs: int) -> list[Outcome]:
    """A few runs raise in the middle of full load."""
    stop = asyncio.Event()
    load = asyncio.create_task(closed_loop(server.url, make_long_rows(1000), CONNECTIONS, stop))
    await asyncio.sleep(2)
    await asyncio.to_thread(server.order, f"fail {runs}")
    await asyncio.sleep(4)
    stop.set()
    return await load


def trial(bundle: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    with tempfile.TemporaryDirectory() as scratch:
        path, copy = Path(scratch) / "current", Path(scratch) / "copy"
        path.symlink_to(bundle.resolve())
        shutil.copytree(bundle, copy)
        with running(path) as server:
            swapped = asyncio.run(swaps(server, path, [copy, bundle.resolve()]))
            took_over = sum("swapped: " in line for line in server.log)
    with running(bundle, drain_delay_s=1) as server:
        left = asyncio.run(leave(server))
        exit_status = server.process.wait(timeout=60)
    failing_runs = 3
    with running(bundle, "loadtest.faulty_server") as server:
        failed = asyncio.run(fail(server, failing_runs))
        lost_rows = sum(
            int(line.split("a batch of ")[1].split()[0]) for line in server.log if "was lost" in line
        )
        lost_batches = sum("was lost" in line for line in server.log)
    figures = {
        "connections": CONNECTIONS,
        "swap": {"swaps": took_over, "by_status": by_status(swapped)},
        "sigterm": {"exit_status": exit_status, "by_status": by_status(left)},
        "failing_runs": {"runs": lost_batches, "examples_in_them": lost_rows, "by_status": by_status(failed)},
    }
    statuses = {
        name: {outcome.status for outcome in outcomes}
        for name, outcomes in (("swap", swapped), ("left", left), ("failed", failed))
    }
    promises = {
        "every new bundle takes over": took_over == SWAPS,
        "a swap fails no request": statuses["swap"] == {200},
        "SIGTERM loses no request: each is answered, or refused with 503": statuses["left"] == {200, 503},
        "the process leaves with 0": exit_status == 0,
        "a failing run costs its own batch only": lost_batches == failing_runs
        and sum(outcome.status == 503 for outcome in failed) == lost_rows
        and statuses["failed"] == {200, 503},
    }
    return figures, promises


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.upheaval", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    return conclude("upheaval", *trial(parser.parse_args(argv).bundle))


if __name__ == "__main__":
    sys.exit(main())
