"""What each part of the engine is worth: python -m benchmarks.ablation

The same server over HTTP with parts taken away, in turns; medians over the rounds.
"""

import math
import statistics
import sys
from typing import Final

from benchmarks.rows import add_rows, draw_rows
from engine.cores import available_cores
from loadtest.command import add_bundle, add_output, conclude, make_parser, write_json
from loadtest.server import running
from loadtest.traffic import Measurement, make_requests, measure
from models.hub import BundlePlace

CONNECTIONS: Final = (1, 16, 64)
CORES: Final = available_cores()
ONE_WIDE_LANE: Final = {"lanes": 1, "threads": CORES}
LANE_A_CORE: Final = {"lanes": CORES, "threads": 1}

PARTS: Final[dict[str, dict[str, object]]] = {
    "batches of 16 in arrival order, one lane of all cores": {"ablation": "fixed_size", **ONE_WIDE_LANE},
    "batches of 16 in arrival order, a lane a core": {"ablation": "fixed_size", **LANE_A_CORE},
    "token budget only, a lane a core": {"ablation": "within_budget", **LANE_A_CORE},
    "sorted by length only, batches of 16, a lane a core": {"ablation": "nearest_lengths", **LANE_A_CORE},
    "by cost, one lane of all cores": ONE_WIDE_LANE,
    "by cost, a lane a core, never all cores for one": {**LANE_A_CORE, "all_cores_for_one": False},
    "everything but the cascade": {},
    "everything (the default)": {"cascade_caution": 0},
}


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.ablation",
        "Measure the server over HTTP with parts of its engine taken away.",
        "--rounds 1 --only cascade",
    )
    add_bundle(parser)
    add_rows(parser, count=300)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each part (default: 3)")
    parser.add_argument("--seconds", type=float, default=8, help="seconds of one measurement (default: 8)")
    parser.add_argument("--only", metavar="WORDS", default="", help="only the parts with these words")
    add_output(parser, "ablation.json")
    arguments = parser.parse_args(argv)
    parts = [part for part in PARTS if arguments.only in part]
    if not parts:
        parser.error(f"--only: no part has {arguments.only!r} in its name; the parts: {'; '.join(PARTS)}")
    rows = draw_rows(arguments.rows, arguments.count)
    measured: dict[str, list[dict[int, Measurement]]] = {part: [] for part in parts}
    for number in range(arguments.rounds):
        for part in parts:
            measured[part].append(measure_part(part, arguments.bundle, rows, arguments.seconds))
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    figures = {
        part: {
            str(connections): {
                "rps": round(statistics.median(one[connections].rps for one in rounds), 1),
                "p99_ms": round(statistics.median(one[connections].p99_ms or math.inf for one in rounds)),
            }
            for connections in CONNECTIONS
        }
        for part, rounds in measured.items()
    }
    errors = [one.errors for rounds in measured.values() for levels in rounds for one in levels.values()]
    print(table(figures), file=sys.stderr)
    write_json(arguments.output, figures)
    return conclude("ablation", {"requests_per_s": figures}, {"every request was answered": not any(errors)})


def measure_part(
    part: str, bundle: BundlePlace | None, rows: list[dict[str, object]], seconds: float
) -> dict[int, Measurement]:
    """One server at each number of connections."""
    settings = {"cascade_caution": 1, **PARTS[part]}
    with running(bundle, "benchmarks.ablation_server", **settings) as server:
        requests = make_requests(server.port, rows)
        return {
            connections: measure(server.port, requests, connections, 2, seconds)
            for connections in CONNECTIONS
        }


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: a line for each part."""
    lines = [
        "| parts that are left | requests/s at 1 / 16 / 64 connections | p99 ms at 16 |",
        "| --- | --- | --- |",
    ]
    for part, levels in figures.items():
        rates = " / ".join(f"{levels[str(connections)]['rps']:.1f}" for connections in CONNECTIONS)
        lines.append(f"| {part} | {rates} | {levels['16']['p99_ms']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
