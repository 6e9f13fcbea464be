"""Many new bundles, and bundles that never load: python -m loadtest.swaps --bundle FOLDER

Promises: memory does not grow with the number of swaps; a swap that hangs is told, is refused in time, and
changes nothing for requests; SIGTERM ends the process in time, also while a bundle loads; many reload signals
at once cause two reloads.
"""

import asyncio
import hashlib
import itertools
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadtest.command import bundle_folder, conclude, make_parser
from loadtest.outcomes import Outcome, by_result
from loadtest.server import ServerProcess, running, starting
from loadtest.upheaval import full_load, point_at, swap_once, swaps

MARKS = (1, 10, 50, 100)
"""Memory is told after these swaps."""
SWAP_LIMIT_S = 3.0
ENDING_S = 25.0
"""Seconds that the process can take to end after SIGTERM: the grace of a second, 15 after its last answer
(docs/operations.md), and what a busy machine adds."""
SIGNALS = 20
WAIT_S = 60.0


def make_endless(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle whose sums are right and whose graphs never give an answer: a `Loop` without end."""
    import onnx  # slow to import
    from onnx import TensorProto, helper

    shutil.copytree(bundle, folder)
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["goes_on_next"]),
            helper.make_node("Neg", ["value"], ["value_next"]),
        ],
        "body",
        [
            scalar("turn", TensorProto.INT64, []),
            scalar("goes_on", TensorProto.BOOL, []),
            scalar("value", TensorProto.FLOAT, None),
        ],
        [scalar("goes_on_next", TensorProto.BOOL, []), scalar("value_next", TensorProto.FLOAT, None)],
    )
    for path in folder.rglob("*.onnx"):
        graph = onnx.load(path, load_external_data=False).graph
        nodes = [
            helper.make_node("Cast", [graph.input[0].name], ["start"], to=TensorProto.FLOAT),
            helper.make_node("Loop", ["", "true", "start"], ["end"], body=body),
            *[helper.make_node("Identity", ["end"], [output.name]) for output in graph.output],
        ]
        true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
        outputs = [scalar(output.name, TensorProto.FLOAT, None) for output in graph.output]
        endless = helper.make_graph(nodes, "endless", graph.input, outputs, [true])
        onnx.save(helper.make_model(endless, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    names = sorted(line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether a condition becomes true within `WAIT_S`."""
    deadline = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def seconds_to_end(server: ServerProcess) -> float:
    """Send SIGTERM; the seconds until the process has ended, at most `WAIT_S`."""
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    with suppress(Exception):
        server.process.wait(timeout=WAIT_S)
    return round(time.monotonic() - began, 1)


async def swap_often(
    server: ServerProcess, path: Path, bundles: list[Path], count: int
) -> tuple[dict[int, int], list[float], list[Outcome]]:
    """Swap to each of the bundles in turn, under load; returns the memory in MB by the number of swaps, the
    seconds of each swap, and the requests' outcomes."""
    stop, memory, took_s = asyncio.Event(), {}, list[float]()
    async with full_load(server, stop) as load:
        await asyncio.sleep(2)
        for number, bundle in zip(range(1, count + 1), itertools.cycle(bundles), strict=False):
            began = time.monotonic()
            await swap_once(server, path, bundle, number)
            took_s.append(time.monotonic() - began)
            if number in {*MARKS, count}:
                await asyncio.sleep(1)  # the old bundle's last requests
                memory[number] = round(server.memory_mb())
        stop.set()
        return memory, took_s, await load


async def hang(server: ServerProcess, path: Path, endless: Path) -> tuple[dict[str, Any], list[Outcome]]:
    """Under load, swap to a bundle that never loads, and wait for its refusal."""
    stop = asyncio.Event()
    async with full_load(server, stop) as load:
        await asyncio.sleep(1)
        point_at(path, endless)
        server.process.send_signal(signal.SIGUSR1)
        began = time.monotonic()

        def told() -> bool:
            return bool(server.client.get("/info").json()["swapping"])

        def refused() -> bool:
            return swaps(server).get("refused") == 1

        swapping = await asyncio.to_thread(wait_until, told)
        ended = await asyncio.to_thread(wait_until, refused)
        found = {"told": swapping, "refused": ended, "seconds": round(time.monotonic() - began, 1)}
        stop.set()
        return found, await load


def signal_often(server: ServerProcess, path: Path, bundle: Path, stalled: Path) -> dict[str, float]:
    """While a reload waits for a disk, send many signals within a second and mend the disk; returns the swaps
    by outcome. The reload that waited is refused, since what it reads is no bundle."""
    point_at(path, stalled)
    for _ in range(SIGNALS):
        server.process.send_signal(signal.SIGUSR1)
        time.sleep(1 / SIGNALS)
    point_at(path, bundle)
    # A writer can open the pipe only while a reader waits: so the reload is known to have begun.
    with (stalled / "SHA256SUMS").open("w") as disk:
        disk.write("mended\n")
    wait_until(lambda: bool(swaps(server).get("swapped")))
    wait_until(lambda: not server.client.get("/info").json()["swapping"])
    return swaps(server)


def trial(bundle: Path, count: int) -> tuple[dict[str, Any], dict[str, bool]]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path, stalled = folder / "current", folder / "stalled"
        copy, endless = folder / "copy", make_endless(bundle, folder / "endless")
        shutil.copytree(bundle, copy)
        stalled.mkdir()
        os.mkfifo(stalled / "SHA256SUMS")
        path.symlink_to(bundle)
        with running(path, tuning_s=0) as server:
            at_start = round(server.memory_mb())
            memory, took_s, swapped = asyncio.run(swap_often(server, path, [copy, bundle], count))
        point_at(path, bundle)
        with running(path, tuning_s=0) as server:
            signalled = signal_often(server, path, copy, stalled)
        point_at(path, bundle)
        with running(path, tuning_s=0, swap_limit_s=SWAP_LIMIT_S, drain_grace_s=1) as server:
            hung, asked = asyncio.run(hang(server, path, endless))
            left_swap_s = seconds_to_end(server)
        with starting(endless, tuning_s=0, drain_grace_s=1) as server:
            server.logged("device ")  # the load has begun
            time.sleep(2)
            left_start_s = seconds_to_end(server)
    figures = {
        "swaps": count,
        "swap_s": {"median": round(statistics.median(took_s), 2), "slowest": round(max(took_s), 2)},
        "memory_mb": {"start": at_start, **{str(number): mb for number, mb in memory.items()}},
        "by_status": {"swaps": by_result(swapped), "hanging_swap": by_result(asked)},
        "hanging_swap": hung,
        "reloads_of_many_signals": signalled,
        "sigterm_s": {"hanging_swap": left_swap_s, "hanging_start": left_start_s},
    }
    promises = {
        "a swap fails no request": by_result(swapped).keys() == {"200"},
        "memory after the last swap within 15 % of that after the first": memory[count] <= 1.15 * memory[1],
        "/info tells that a swap runs": hung["told"],
        f"a swap that hangs is refused after {SWAP_LIMIT_S:g} s": hung["refused"]
        and SWAP_LIMIT_S <= hung["seconds"] <= SWAP_LIMIT_S + 5,
        "a swap that hangs fails no request": by_result(asked).keys() == {"200"},
        f"SIGTERM ends the process within {ENDING_S:g} s while a swap hangs": left_swap_s <= ENDING_S,
        f"SIGTERM ends the process within {ENDING_S:g} s while the start hangs": left_start_s <= ENDING_S,
        f"{SIGNALS} reload signals in a second are one running and one waiting": signalled
        == {"refused": 1, "swapped": 1},
    }
    return figures, promises


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "loadtest.swaps",
        "Swap bundles many times under load, and serve bundles that never load.",
        "--bundle bundles/default",
    )
    parser.add_argument("--bundle", type=bundle_folder, required=True, help="folder of the bundle to serve")
    parser.add_argument("--swaps", type=int, default=100, help="number of swaps (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.swaps < 1:
        parser.error("--swaps: at least 1 is required")
    return conclude("swaps", *trial(arguments.bundle, arguments.swaps))


if __name__ == "__main__":
    sys.exit(main())
