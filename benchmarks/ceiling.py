"""How much of the machine the server gets out: python -m benchmarks.ceiling

The ceiling is what bare ONNX Runtime sessions do with the same rows, already tokenised, all members voting:
in arrival order and sorted by length, in batches of 1 to 16, on every split of the cores; no HTTP, no queue,
no waiting. Below it, what the tuned lanes do with the same rows cut by cost, and the server over HTTP with
its load generator on the same cores. The ceiling over sixteens in arrival order is the most by which any
server of these sessions can be ahead of one that batches so.

Everything is measured in turns, since the machine's speed drifts, by a tenth within seconds; what counts is
the median over the turns, of a ratio the median over the ratios within a turn. The server is compared with
the ceiling just before and just after it.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.peers.load import build_request, measure
from engine.cores import available_cores
from engine.cost import CostModel
from engine.lanes import Lanes
from engine.planner import BatchPlanner
from engine.split import Split, possible_splits
from loadtest.sentences import Row, make_long_rows
from loadtest.server import DEFAULT_BUNDLE, running
from loadtest.verdict import conclude
from models.bundle import Bundle
from models.ensemble import EncodedExample
from models.example import Example

SIZES: Final = (1, 2, 4, 8, 16)
EVERY_MEMBER: Final = 1.0
"""`KORE_CASCADE_CAUTION` at which no row stops early: the cascade is no part of this comparison."""
PROMISED: Final = {16: 0.90, 64: 0.93}
"""Connections, and the share of the ceiling that the server reaches with them."""
FINALISTS: Final = 3
"""Ways to batch that are measured again, in turns with the chosen one: which of them is best is within the
noise of a scan."""
USUAL_SIZE: Final = 16
"""What a server of fixed batches takes, in arrival order on one lane of all cores: the ceiling over that is
the most by which anything that runs these sessions can be ahead of it."""
WARMUP_S: Final = 3.0
"""Until as many requests wait as there are connections, at random places of their way."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run rows through bare sessions. By cost: as the tuned lanes would."""

    split: Split
    order: Literal["arrival", "sorted", "by cost"]
    size: int = 0

    def __str__(self) -> str:
        batches = f"{self.order}, batches of {self.size}" if self.size else self.order
        return f"{self.split.lanes} × {self.split.threads}, {batches}"


class Bench:
    """The rows, and the ensemble on every split.

    Args:
        tuning: what the server chose, as `GET /info` shows it.
    """

    def __init__(self, bundle: Path, rows: Sequence[Row], tuning: dict[str, Any]) -> None:
        opened = Bundle.open(bundle)
        splits = possible_splits("cpu", available_cores())
        self.planner = read_planner(tuning)
        self.ensembles = {split: Lanes.load(opened, "cpu", split, EVERY_MEMBER).ensemble for split in splits}
        self.rows = [self.ensembles[splits[0]].encode(Example.from_row(row)) for row in rows]
        self.ways = [
            Way(split, order, size) for split in splits for order in ("arrival", "sorted") for size in SIZES
        ]  # type: ignore[arg-type]
        self.usual = Way(Split(1, available_cores()), "arrival", USUAL_SIZE)
        self.ours = Way(Split(tuning["lanes"], tuning["threads_per_lane"]), "by cost")

    def rows_per_s(self, way: Way) -> float:
        """All rows once through the sessions of a split."""
        batches = self._batches(way)
        ensemble = self.ensembles[way.split]
        with ThreadPoolExecutor(way.split.lanes) as lanes:
            began = time.perf_counter()
            list(lanes.map(ensemble.run, batches, count()))
            return len(self.rows) / (time.perf_counter() - began)

    def _batches(self, way: Way) -> list[list[EncodedExample]]:
        if way.order == "arrival":
            return [list(self.rows[start : start + way.size]) for start in range(0, len(self.rows), way.size)]
        ordered = sorted(self.rows, key=len)
        cuts = (
            [range(start, min(start + way.size, len(ordered))) for start in range(0, len(ordered), way.size)]
            if way.order == "sorted"
            else self.planner.cut([len(row) for row in ordered])
        )
        batches = [ordered[cut.start : cut.stop] for cut in cuts]
        random.Random(0).shuffle(batches)  # so that long batches do not all run at the same time
        return batches


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ceiling", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument(
        "--rows",
        type=Path,
        help="JSONL of KLUE-RE rows; default: $KLUE_RE_DATA/validation.jsonl, else rows of our own",
    )
    parser.add_argument("--count", type=int, default=300, help="rows drawn from them")
    parser.add_argument("--rounds", type=int, default=3, help="of the scan over all ways to batch")
    parser.add_argument(
        "--turns",
        type=int,
        default=9,
        help="of the best ways, then of the server: many, since the machine drifts",
    )
    parser.add_argument("--seconds", type=float, default=6, help="of one measurement over HTTP")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/ceiling.json"))
    arguments = parser.parse_args(argv)
    rows = read_rows(arguments.rows, arguments.count)
    final: dict[str, list[float]] = defaultdict(list)
    shares: dict[int, list[float]] = defaultdict(list)
    with running(arguments.bundle, max_queue=10_000, cascade_caution=EVERY_MEMBER) as server:
        tuning = server.client.get("/info").json()["tuning"]
        bench = Bench(arguments.bundle, rows, tuning)
        ways = [*bench.ways, bench.ours]
        rates: dict[str, list[float]] = defaultdict(list)
        for number in range(arguments.rounds):
            for way in random.Random(number).sample(ways, len(ways)):
                rates[str(way)].append(bench.rows_per_s(way))
            print(f"scan {number + 1} of {arguments.rounds}", file=sys.stderr)
        scan = {str(way): statistics.median(rates[str(way)]) for way in ways}

        finalists = sorted(bench.ways, key=lambda way: -scan[str(way)])[:FINALISTS]
        for number in range(arguments.turns):
            for way in dict.fromkeys((*finalists, bench.ours, bench.usual)):
                final[str(way)].append(bench.rows_per_s(way))
            print(f"turn {number + 1} of {arguments.turns}: bare sessions", file=sys.stderr)
        best_fixed = max(finalists, key=lambda way: statistics.median(final[str(way)]))
        chosen = paired(final[str(bench.ours)], final[str(best_fixed)])
        ceiling = max(best_fixed, bench.ours, key=lambda way: statistics.median(final[str(way)]))

        over_usual = paired(final[str(ceiling)], final[str(bench.usual)])
        requests = [build_request(server.port, "/relations", row) for row in rows]
        before = bench.rows_per_s(ceiling)
        for number in range(arguments.turns):
            for connections in PROMISED:
                answered = measure(
                    server.port, requests, connections, warmup=WARMUP_S, seconds=arguments.seconds
                )
                assert not answered.errors, answered.errors
                after = bench.rows_per_s(ceiling)
                final[f"HTTP, {connections} connections"].append(answered.rps)
                shares[connections].append(answered.rps / statistics.mean((before, after)))
                final[f"{ceiling}, beside the server"].append(before := after)
            print(f"turn {number + 1} of {arguments.turns}: server", file=sys.stderr)
    medians = {name: statistics.median(found) for name, found in final.items()}
    share = {connections: statistics.median(found) for connections, found in shares.items()}

    figures: dict[str, Any] = {
        "rows": len(rows),
        "ceiling": {"way": str(ceiling), "rows_per_s": round(medians[f"{ceiling}, beside the server"], 1)},
        "share_of_ceiling": {str(connections): round(found, 3) for connections, found in share.items()},
        "shares": {
            str(connections): [round(one, 3) for one in found] for connections, found in shares.items()
        },
        "chosen_lanes_and_batches_over_best_fixed": round(chosen, 3),
        "ceiling_over_sixteens_in_arrival_order": round(over_usual, 3),
        "final": {name: [round(rate, 1) for rate in found] for name, found in final.items()},
    }
    promises = {
        f"at least {least:.2f} of the ceiling at {c} connections": share[c] >= least
        for c, least in PROMISED.items()
    }
    promises["the chosen lanes and batches are within 5 % of the best fixed ones"] = chosen >= 0.95
    print(table(scan, medians), file=sys.stderr)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    document = {
        **figures,
        "promises": promises,
        "tuning": tuning,
        "scan": {way: round(rate, 1) for way, rate in scan.items()},
    }
    arguments.output.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return conclude("ceiling", figures, promises)


def read_planner(tuning: dict[str, Any]) -> BatchPlanner:
    """The server's choice of batches, from what `GET /info` shows."""
    prices = {**tuning["cost_seconds"]}
    above = tuple((int(size), float(price)) for size, price in prices.pop("above"))
    return BatchPlanner(CostModel(**prices, above=above), tuning["token_budget"])


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios within the turns."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def read_rows(path: Path | None, rows: int) -> list[Row]:
    """So many rows, drawn with a fixed seed from a file; from our own sentences where there is none."""
    if path is None and (folder := os.environ.get("KLUE_RE_DATA")):
        path = Path(folder) / "validation.jsonl"
    if path is None:
        return make_long_rows(rows)
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return random.Random(0).sample(found, min(rows, len(found)))


def table(scan: dict[str, float], final: dict[str, float]) -> str:
    """Markdown: every way of the scan, then those measured in turns with the server."""
    lines = ["| lanes × threads, batches | rows/s |", "| --- | --- |"]
    lines += [f"| {way} | {rate:.1f} |" for way, rate in scan.items()]
    lines += ["", "| in turns with the server | rows/s |", "| --- | --- |"]
    return "\n".join(lines + [f"| {name} | {rate:.1f} |" for name, rate in final.items()])


if __name__ == "__main__":
    sys.exit(main())
