"""What each part of the engine is worth: python -m benchmarks.ablation

The same server over HTTP with parts taken away, in turns; medians over the rounds.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

from benchmarks.ceiling import read_rows
from benchmarks.peers.load import Measurement, build_request, measure
from engine.cores import available_cores
from loadtest.server import DEFAULT_BUNDLE, running
from loadtest.verdict import conclude

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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument(
        "--rows",
        type=Path,
        help="JSONL of KLUE-RE rows; default: $KLUE_RE_DATA/validation.jsonl, else rows of our own",
    )
    parser.add_argument("--count", type=int, default=300, help="rows drawn from them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of one measurement")
    parser.add_argument(
        "--only", metavar="WORDS", default="", help="measure only the parts whose name holds these words"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/ablation.json"))
    arguments = parser.parse_args(argv)
    rows = read_rows(arguments.rows, arguments.count)
    parts = {part: settings for part, settings in PARTS.items() if arguments.only in part}
    if not parts:
        parser.error(f"--only: none of the parts is called {arguments.only!r}: {'; '.join(PARTS)}")
    measured: dict[str, dict[int, list[Measurement]]] = {part: defaultdict(list) for part in parts}
    for number in range(arguments.rounds):
        for part, settings in parts.items():
            with running(
                arguments.bundle, "benchmarks.ablation_server", **{"cascade_caution": 1, **settings}
            ) as server:
                requests = [build_request(server.port, "/relations", row) for row in rows]
                for connections in CONNECTIONS:
                    measured[part][connections].append(
                        measure(server.port, requests, connections, 2, arguments.seconds)
                    )
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)

    figures = {
        part: {
            str(connections): {
                "rps": round(statistics.median(one.rps for one in found), 1),
                "p99_ms": round(statistics.median(one.p99_ms or float("inf") for one in found)),
            }
            for connections, found in levels.items()
        }
        for part, levels in measured.items()
    }
    errors = sum(
        sum(one.errors.values()) for levels in measured.values() for found in levels.values() for one in found
    )
    print(table(figures), file=sys.stderr)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(figures, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return conclude("ablation", {"requests_per_s": figures}, {"every request was answered": not errors})


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: a line a part."""
    lines = ["| what is left | requests/s at 1 / 16 / 64 connections | p99 ms at 16 |", "| --- | --- | --- |"]
    for part, levels in figures.items():
        rates = " / ".join(f"{levels[str(connections)]['rps']:.1f}" for connections in CONNECTIONS)
        lines.append(f"| {part} | {rates} | {levels['16']['p99_ms']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
