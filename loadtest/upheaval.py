"""At full load: new bundles, SIGTERM, and runs that fail. python -m loadtest.upheaval --bundle FOLDER

Promises: no swap and no SIGTERM loses an accepted request, and a failing run loses only its own batch.
"""

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtest.command import bundle_folder, conclude, make_parser
from loadtest.connection import HttpClient, Target
from loadtest.outcomes import NO_ANSWER, Outcome, by_result
from loadtest.sentences import make_long_rows
from loadtest.server import ServerProcess, running
from loadtest.traffic import closed_loop

CONNECTIONS = 32
SWAPS = 3
FAILING_RUNS = 3
SWAP_S, LEAVING_S = 120.0, 120.0
"""Seconds after which a swap, or a server that got SIGTERM, counts as hanging."""


@asynccontextmanager
async def full_load(
    server: ServerProcess, stop: asyncio.Event, until: frozenset[str] = frozenset()
) -> AsyncIterator["asyncio.Task[list[Outcome]]"]:
    """A closed loop that runs during the block. Callers end at `stop`, or at a result of `until`."""
    target = Target.parse(server.url)
    requests = [target.post("/relations", row) for row in make_long_rows(1000)]
    async with HttpClient(target) as client:
        yield asyncio.create_task(closed_loop(client, requests, CONNECTIONS, stop, until))


async def swap(server: ServerProcess, path: Path, bundles: list[Path]) -> list[Outcome]:
    """Every few seconds, point the served path at another bundle and send SIGUSR1."""
    stop = asyncio.Event()
    async with full_load(server, stop) as load:
        for number in range(SWAPS):
            await asyncio.sleep(2)
            await swap_once(server, path, bundles[number % len(bundles)], number + 1)
        await asyncio.sleep(1)
        stop.set()
        return await load


async def swap_once(server: ServerProcess, path: Path, bundle: Path, ended: int) -> None:
    """Swap to a bundle, and wait until the server has ended `ended` swaps since its start."""
    point_at(path, bundle)
    server.process.send_signal(signal.SIGUSR1)
    async with asyncio.timeout(SWAP_S):
        while sum((await asyncio.to_thread(swaps, server)).values()) < ended:
            await asyncio.sleep(0.1)


def point_at(path: Path, bundle: Path) -> None:
    """Replace the link at a served path."""
    replacement = path.with_name("replacement")
    replacement.symlink_to(bundle)
    replacement.rename(path)


def swaps(server: ServerProcess) -> dict[str, float]:
    """Swaps that have ended, by outcome, as `/metrics` counts them."""
    return {
        outcome: float(line.rpartition(" ")[2])
        for line in server.client.get("/metrics").text.splitlines()
        for outcome in ("swapped", "refused")
        if line.startswith(f'kore_bundle_swaps_total{{outcome="{outcome}"}}')
    }


async def leave(server: ServerProcess) -> list[Outcome]:
    """Send SIGTERM at full load. A caller ends at its first 503, as one that turns to another server."""
    async with full_load(server, asyncio.Event(), frozenset({"503", NO_ANSWER})) as load:
        await asyncio.sleep(3)
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LEAVING_S):
            return await load


async def fail(server: ServerProcess) -> list[Outcome]:
    """Let a few runs raise at full load."""
    stop = asyncio.Event()
    async with full_load(server, stop) as load:
        await asyncio.sleep(2)
        await asyncio.to_thread(server.order, f"fail {FAILING_RUNS}")
        await asyncio.sleep(4)
        stop.set()
        return await load


def trial(bundle: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    with tempfile.TemporaryDirectory() as scratch:
        path, copy = Path(scratch) / "current", Path(scratch) / "copy"
        path.symlink_to(bundle)
        shutil.copytree(bundle, copy)
        with running(path) as server:
            swapped = asyncio.run(swap(server, path, [copy, bundle]))
            took_over = swaps(server).get("swapped", 0)
    with running(bundle, drain_delay_s=1) as server:
        left = asyncio.run(leave(server))
        exit_status = server.process.wait(timeout=60)
    with running(bundle, "loadtest.faulty_server") as server:
        failed = asyncio.run(fail(server))
        lost_batches, lost_examples = map(int, server.order("count").split())
    results = {"swap": by_result(swapped), "sigterm": by_result(left), "failing_runs": by_result(failed)}
    figures = {
        "connections": CONNECTIONS,
        "swaps": int(took_over),
        "exit_status": exit_status,
        "failed": {"runs": lost_batches, "examples": lost_examples},
        "by_status": results,
    }
    promises = {
        "every new bundle takes over": took_over == SWAPS,
        "a swap fails no request": results["swap"].keys() == {"200"},
        "SIGTERM loses no request: each is answered, or refused with 503": results["sigterm"].keys()
        == {"200", "503"},
        "the process leaves with 0": exit_status == 0,
        "a failing run loses its own batch only": lost_batches == FAILING_RUNS
        and results["failing_runs"].keys() == {"200", "503"}
        and results["failing_runs"]["503"] == lost_examples,
    }
    return figures, promises


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "loadtest.upheaval",
        "Swap bundles, send SIGTERM and let runs fail, all at full load.",
        "--bundle bundles/default",
    )
    parser.add_argument("--bundle", type=bundle_folder, required=True, help="folder of the bundle to serve")
    return conclude("upheaval", *trial(parser.parse_args(argv).bundle))


if __name__ == "__main__":
    sys.exit(main())
