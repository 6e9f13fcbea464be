"""What HTTP costs, in one process and with front processes: python -m benchmarks.fronts --bundle TINY

Serve a bundle that costs nothing, so that HTTP is the limit: docs/training.md makes a tiny one in a minute.

1. In each round, start a server of one process and one with front processes.
2. At each number of connections, load one and then the other. The next round swaps the order.
3. Beside requests/s, take the CPU time of each process (schedstat of its threads), and the part of it that is
   inside ONNX Runtime (`fronts_server.py`).
4. Take medians over the rounds; of ratios, the median of the ratios within a round.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from benchmarks.fronts_server import NAME
from benchmarks.rows import draw_rows, readable
from loadtest.command import add_connections, bundle_folder, conclude, make_parser
from loadtest.server import ServerProcess, running
from loadtest.traffic import make_requests, measure

LONGEST_MS: Final = 0.15
"""CPU time of the engine's process for a request, outside ONNX Runtime, with front processes."""
WARMUP_S: Final = 2.0
ROWS: Final = 300
SERVER: Final = "benchmarks.fronts_server"


@dataclass(frozen=True, slots=True)
class Sample:
    """One server at one number of connections. CPU times are milliseconds for an answered request.

    Attributes:
        engine_ms: of the process that owns the lanes, without ONNX Runtime.
        onnx_ms: inside ONNX Runtime.
        fronts_ms: of all front processes.
    """

    rps: float
    p50_ms: float | None
    p99_ms: float | None
    engine_ms: float
    onnx_ms: float
    fronts_ms: float
    errors: int


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.fronts",
        "Measure what HTTP costs, in one process and with front processes.",
        "--bundle runs/tiny/bundle --rounds 3",
    )
    parser.add_argument(
        "--bundle", type=bundle_folder, required=True, help="folder of a bundle that costs nothing"
    )
    parser.add_argument("--fronts", type=int, default=2, help="front processes (default: %(default)s)")
    add_connections(parser, 1, 16, 64)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="of one measurement (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.fronts < 1:
        parser.error("--fronts must be at least 1: no front processes are measured anyway")
    sides, rounds = (0, arguments.fronts), []
    for number in range(arguments.rounds):
        order = sides if number % 2 == 0 else sides[::-1]
        rounds.append(measure_round(arguments.bundle, order, arguments.connections, arguments.seconds))
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    levels = {
        connections: compare([one[connections] for one in rounds], arguments.fronts)
        for connections in arguments.connections
    }
    busiest = max(levels)
    engine_ms = levels[busiest]["with_fronts"]["engine_ms"]
    promises = {
        f"with {arguments.fronts} fronts and {busiest} connections the engine spends {engine_ms} ms "
        f"for a request outside ONNX Runtime, at most {LONGEST_MS}": engine_ms <= LONGEST_MS,
        "every request was answered": not any(
            side["errors"]
            for level in levels.values()
            for side in (level["one_process"], level["with_fronts"])
        ),
    }
    return conclude("fronts", {"fronts": arguments.fronts, "connections": levels}, promises)


def measure_round(
    bundle: Path, order: Sequence[int], levels: Sequence[int], seconds: float
) -> dict[int, dict[int, Sample]]:
    """Servers with these numbers of fronts at each number of connections: `{16: {0: …, 2: …}, …}`."""
    rows = readable(bundle, draw_rows(None, ROWS))
    with ExitStack() as stack:
        servers = {
            fronts: stack.enter_context(running(bundle, SERVER, http_processes=fronts)) for fronts in order
        }
        return {
            connections: {
                fronts: take(server, rows, connections, seconds) for fronts, server in servers.items()
            }
            for connections in levels
        }


def take(server: ServerProcess, rows: Sequence[object], connections: int, seconds: float) -> Sample:
    """Load one server, after a warm-up."""
    requests = make_requests(server.port, rows)
    measure(server.port, requests, connections, 0.0, WARMUP_S)
    onnx_s, cpu_s = server.metric(f"{NAME}_total"), cpu_seconds(server)
    measured = measure(server.port, requests, connections, 0.0, seconds)
    used = {name: after - cpu_s[name] for name, after in cpu_seconds(server).items()}
    onnx_ms, per_answer = server.metric(f"{NAME}_total") - onnx_s, 1000 / max(1, measured.answers)
    return Sample(
        measured.rps,
        measured.p50_ms,
        measured.p99_ms,
        engine_ms=(used["engine"] - onnx_ms) * per_answer,
        onnx_ms=onnx_ms * per_answer,
        fronts_ms=used["fronts"] * per_answer,
        errors=sum(measured.errors.values()),
    )


def cpu_seconds(server: ServerProcess) -> dict[str, float]:
    """CPU seconds of the engine's process and of all front processes until now."""
    first = psutil.Process(server.process.pid)
    children = first.children()
    engines = [child for child in children if SERVER in child.cmdline()] or [first]
    fronts = [child for child in children if child not in engines]
    return {
        "engine": sum(map(_schedstat_s, engines)),
        "fronts": sum(map(_schedstat_s, fronts)),
    }


def _schedstat_s(process: psutil.Process) -> float:
    """The process's own file holds its main thread only."""
    threads = Path(f"/proc/{process.pid}/task")
    return sum(int((threads / one / "schedstat").read_text().split()[0]) for one in os.listdir(threads)) / 1e9


def compare(rounds: Sequence[dict[int, Sample]], fronts: int) -> dict[str, Any]:
    """Medians of both servers, and the ratio of their requests/s."""
    level: dict[str, Any] = {}
    for name, side in (("one_process", 0), ("with_fronts", fronts)):
        samples = [one[side] for one in rounds]
        level[name] = {
            figure: round(median(getattr(sample, figure) or 0.0 for sample in samples), 3)
            for figure in ("rps", "p50_ms", "p99_ms", "engine_ms", "onnx_ms", "fronts_ms")
        } | {"errors": sum(sample.errors for sample in samples)}
    ratios = [one[fronts].rps / max(one[0].rps, 1e-9) for one in rounds]
    return level | {"ratio": round(median(ratios), 3), "ratios": [round(ratio, 2) for ratio in ratios]}


if __name__ == "__main__":
    sys.exit(main())
