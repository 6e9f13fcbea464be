"""The server's share of what the machine can do: python -m benchmarks.ceiling

The ceiling is the rows/s of bare ONNX Runtime sessions that run the same rows, already tokenised, with all
members voting and without HTTP or a queue.

1. Scan every fixed way to batch: split of the cores, arrival order or sorted by length, 1 to 16 rows; and the
   batches that the server's planner cuts by cost.
2. Measure the best ones again in turns. The fastest is the ceiling; over batches of 16 in arrival order it is
   the most that any server with these sessions can gain on one that batches so.
3. Measure the server over HTTP, with its load generator on the same cores, between two measurements of the
   ceiling.

Medians over the turns count, of ratios the median of the ratios within a turn: a machine's speed drifts by a
tenth within seconds.
"""

import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from benchmarks.rows import add_rows, draw_rows
from loadtest.command import add_bundle, add_output, conclude, make_parser, write_json

if TYPE_CHECKING:
    from benchmarks.bare_sessions import SessionBench, Way

PROMISED: Final = {16: 0.90, 64: 0.93}
"""Connections -> the share of the ceiling that the server reaches."""
LEAST_CHOSEN: Final = 0.95
"""Share of the best fixed batches that the chosen lanes and batches reach."""
FINALISTS: Final = 3
"""Ways to batch that are measured again: the best one is within the noise of a scan."""
WARMUP_S: Final = 3.0
"""Seconds until the requests are spread evenly over the server's stages."""


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.ceiling", "Compare the server with bare ONNX Runtime sessions.", "--rounds 1 --turns 9"
    )
    add_bundle(parser)
    add_rows(parser, count=300)
    parser.add_argument("--rounds", type=int, default=3, help="scans of all ways to batch (default: 3)")
    parser.add_argument("--turns", type=int, default=9, help="measurements of the best ways (default: 9)")
    parser.add_argument(
        "--seconds", type=float, default=6, help="seconds of one measurement over HTTP (default: 6)"
    )
    add_output(parser, "ceiling.json")
    arguments = parser.parse_args(argv)
    from benchmarks.bare_sessions import EVERY_MEMBER, SessionBench
    from engine.cores import available_cores
    from engine.settings import DEFAULT_BUNDLE
    from loadtest.server import running
    from models.memory import few_heaps

    few_heaps(available_cores())
    bundle = arguments.bundle or DEFAULT_BUNDLE
    rows = draw_rows(arguments.rows, arguments.count)
    with running(bundle, max_queue=10_000, cascade_caution=EVERY_MEMBER) as server:
        tuning = server.client.get("/info").json()["tuning"]
        bench = SessionBench(bundle, rows, tuning)
        scan = scan_ways(bench, arguments.rounds)
        finalists = sorted(bench.fixed, key=lambda way: -scan[way])[:FINALISTS]
        bare = measure_in_turns(bench, [*finalists, bench.ours, bench.usual], arguments.turns)
        best_fixed = max(finalists, key=lambda way: statistics.median(bare[way]))
        ceiling = max(best_fixed, bench.ours, key=lambda way: statistics.median(bare[way]))
        served = measure_server(bench, ceiling, server.port, rows, arguments.turns, arguments.seconds)
    chosen = median_ratio(bare[bench.ours], bare[best_fixed])
    over_usual = median_ratio(bare[ceiling], bare[bench.usual])
    shares = {number: [rate / top for rate, top in pairs] for number, pairs in served.items()}
    share = {number: statistics.median(ratios) for number, ratios in shares.items()}
    figures: dict[str, Any] = {
        "rows": len(rows),
        "ceiling": {
            "way": str(ceiling),
            "rows_per_s": round(statistics.median(top for pairs in served.values() for _, top in pairs), 1),
        },
        "share_of_ceiling": {str(number): round(ratio, 3) for number, ratio in share.items()},
        "shares": {str(number): [round(ratio, 3) for ratio in ratios] for number, ratios in shares.items()},
        "chosen_lanes_and_batches_over_best_fixed": round(chosen, 3),
        "ceiling_over_sixteens_in_arrival_order": round(over_usual, 3),
        "bare_rows_per_s": {str(way): [round(rate, 1) for rate in rates] for way, rates in bare.items()},
        "requests_per_s": {
            str(number): [round(rate, 1) for rate, _ in pairs] for number, pairs in served.items()
        },
    }
    promises = {
        f"at least {least:.2f} of the ceiling at {number} connections": share[number] >= least
        for number, least in PROMISED.items()
    }
    promises["the chosen lanes and batches are within 5 % of the best fixed ones"] = chosen >= LEAST_CHOSEN
    print(table(scan, bare, served), file=sys.stderr)
    ways = {str(way): round(rate, 1) for way, rate in scan.items()}
    write_json(arguments.output, {**figures, "promises": promises, "tuning": tuning, "scan": ways})
    return conclude("ceiling", figures, promises)


def scan_ways(bench: "SessionBench", rounds: int) -> "dict[Way, float]":
    """The median rows/s of every way, each round in another random order."""
    ways = [*bench.fixed, bench.ours]
    rates: dict[Way, list[float]] = defaultdict(list)
    for number in range(rounds):
        for way in random.Random(number).sample(ways, len(ways)):
            rates[way].append(bench.rows_per_s(way))
        print(f"scan {number + 1} of {rounds}", file=sys.stderr)
    return {way: statistics.median(rates[way]) for way in ways}


def measure_in_turns(bench: "SessionBench", ways: "Sequence[Way]", turns: int) -> "dict[Way, list[float]]":
    """The rows/s of each way in each turn."""
    rates: dict[Way, list[float]] = {way: [] for way in ways}
    for number in range(turns):
        for way, found in rates.items():
            found.append(bench.rows_per_s(way))
        print(f"turn {number + 1} of {turns}: bare sessions", file=sys.stderr)
    return rates


def measure_server(
    bench: "SessionBench",
    ceiling: "Way",
    port: int,
    rows: list[dict[str, object]],
    turns: int,
    seconds: float,
) -> dict[int, list[tuple[float, float]]]:
    """By connections: the server's requests/s in each turn, and the mean ceiling just before and after."""
    from loadtest.traffic import make_requests, measure

    requests = make_requests(port, rows)
    served: dict[int, list[tuple[float, float]]] = defaultdict(list)
    before = bench.rows_per_s(ceiling)
    for number in range(turns):
        for connections in PROMISED:
            answered = measure(port, requests, connections, WARMUP_S, seconds)
            assert not answered.errors, answered.errors
            after = bench.rows_per_s(ceiling)
            served[connections].append((answered.rps, (before + after) / 2))
            before = after
        print(f"turn {number + 1} of {turns}: server", file=sys.stderr)
    return served


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios within the turns."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def table(
    scan: "dict[Way, float]",
    bare: "dict[Way, list[float]]",
    served: dict[int, list[tuple[float, float]]],
) -> str:
    """Markdown: every way of the scan, then those of the turns, then the server."""
    lines = ["| lanes × threads, batches | rows/s |", "| --- | --- |"]
    lines += [f"| {way} | {rate:.1f} |" for way, rate in scan.items()]
    lines += ["", "| in turns | rows/s |", "| --- | --- |"]
    lines += [f"| {way} | {statistics.median(rates):.1f} |" for way, rates in bare.items()]
    for connections, pairs in served.items():
        rate = statistics.median(rate for rate, _ in pairs)
        lines.append(f"| HTTP, {connections} connections | {rate:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
