"""Throughput and latency of the batch planner on other machines: python -m benchmarks.simulation

Callers with one request each wait for their answer and send the next row at once. Lanes take batches that the
server's planner chooses, for as many seconds as the cost model says. There is no HTTP and no noise: only the
choice of batches counts.
"""

import heapq
import json
import random
import sys
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from math import ceil
from pathlib import Path
from typing import Final

from benchmarks.rows import add_rows, draw_rows
from engine.cost import CostModel
from engine.planner import CROWD, BatchPlanner
from loadtest.command import add_bundle, make_parser
from loadtest.figures import percentile

CROWDS: Final = {"age": 1e9, "24 rows": 24.0, "12 rows": 12.0, "6 rows": 6.0, "3 rows": 3.0, "work": 1e-3}
"""Ways to weigh age against work a second: only age, then the number of waiting rows at which both count the
same, then only work."""
assert CROWDS[f"{CROWD} rows"] == CROWD

Cost = Callable[[int, int], float]
Choose = Callable[[Sequence[int], int, int, Sequence[float]], range]

BETWEEN_S: Final = 0.001
"""Seconds from an answer to the same caller's next row in the queue."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Lanes, and the cost of a batch."""

    name: str
    lanes: int
    cost: CostModel
    token_budget: int

    def seconds(self, rows: int, length: int) -> float:
        return float(self.cost.seconds(rows, length))

    @classmethod
    def read(cls, path: Path) -> "Machine":
        """The machine on which `python -m benchmarks.ceiling` wrote its JSON."""
        from benchmarks.bare_sessions import read_planner

        tuning = json.loads(path.read_bytes())["tuning"]
        planner = read_planner(tuning)
        return cls(path.stem, tuning["lanes"], planner.cost, planner.token_budget)


MACHINES: Final = (
    Machine(
        "two cores with VNNI",
        2,
        CostModel(run=3.4e-3, row=0.0, token=2e-4, token_length=1e-7, above=((512, 1e-5),)),
        2048,
    ),
    Machine("two cores with AVX2", 2, CostModel(run=4.4e-3, row=0.0, token=5.4e-4, token_length=1e-6), 256),
    Machine(
        "a GPU's shape",
        1,
        CostModel(run=4e-3, row=0.0, token=2e-6, token_length=1e-9, above=((4096, 4e-6),)),
        16_384,
    ),
)


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """The latency of each answer, in seconds and ascending, and the simulated seconds."""

    latencies: list[float]
    seconds: float

    @property
    def rows_per_s(self) -> float:
        return len(self.latencies) / self.seconds


def in_batches_of(size: int, token_budget: int) -> Choose:
    """Batches of at most `size` rows, the nearest in length to the row whose turn it is."""

    def choose(lengths: Sequence[int], anchor: int, free_lanes: int, waited: Sequence[float]) -> range:
        rows = min(size, ceil(len(lengths) / free_lanes), max(1, token_budget // lengths[anchor]))
        start = max(0, min(anchor - rows // 2, len(lengths) - rows))
        return range(start, start + rows)

    return choose


def simulate(
    lanes: int,
    cost: Cost,
    choose: Choose,
    lengths: Sequence[int],
    callers: int,
    answers: int,
    between_s: Iterator[float] | None = None,
) -> SimulationResult:
    """Let callers send rows until they have had `answers` answers.

    Args:
        lanes: batches that run at a time.
        cost: seconds of a batch, from its number of rows and its longest row's tokens.
        choose: as `BatchPlanner.choose`. A free lane serves the row that waits longest, in the batch that
            `choose` forms around it.
        lengths: tokens of the rows, sent in one random order after the other.
        between_s: seconds from an answer to the same caller's next row; `BETWEEN_S` by default.
    """
    draw, deck, number = random.Random(0), list[int](), count()
    between_s = between_s or repeat(BETWEEN_S)
    events: list[tuple[float, int, list[float]]] = [(0.0, next(number), []) for _ in range(callers)]
    waiting: list[tuple[int, float, int]] = []  # length, since when, number
    free, now, latencies = lanes, 0.0, list[float]()
    while len(latencies) < answers:
        now = events[0][0]
        while events and events[0][0] <= now:
            _, _, done_rows = heapq.heappop(events)
            if done_rows:  # a batch is done
                free += 1
                latencies += [now - since for since in done_rows]
                for _ in done_rows:
                    heapq.heappush(events, (now + next(between_s), next(number), []))
            else:
                deck = deck or draw.sample(lengths, len(lengths))
                insort(waiting, (deck.pop(), now, next(number)))
        while free and waiting:
            anchor = min(range(len(waiting)), key=lambda place: waiting[place][2])
            cut = choose(
                [length for length, _, _ in waiting], anchor, free, [now - since for _, since, _ in waiting]
            )
            batch = waiting[cut.start : cut.stop]
            del waiting[cut.start : cut.stop]
            free -= 1
            done = now + cost(len(batch), batch[-1][0])
            heapq.heappush(events, (done, next(number), [since for _, since, _ in batch]))
    return SimulationResult(sorted(latencies), now)


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.simulation",
        "Simulate the batch planner's throughput and latency.",
        "--machine benchmarks/results/ceiling.json --callers 16",
    )
    add_bundle(parser)
    add_rows(parser, count=300)
    parser.add_argument(
        "--machine",
        type=Path,
        action="append",
        metavar="JSON",
        help="results of benchmarks.ceiling (default: three typical machines)",
    )
    parser.add_argument(
        "--callers", type=int, nargs="+", default=[16, 64], help="callers at a time (default: 16 64)"
    )
    parser.add_argument("--answers", type=int, default=8000, help="answers for each line (default: 8000)")
    arguments = parser.parse_args(argv)
    from engine.settings import DEFAULT_BUNDLE
    from models.bundle import Bundle
    from models.ensemble import Ensemble
    from models.example import Example

    ensemble = Ensemble.load(Bundle.open(arguments.bundle or DEFAULT_BUNDLE))
    rows = draw_rows(arguments.rows, arguments.count)
    lengths = [len(ensemble.encode(Example.from_row(row))) for row in rows]
    print("| machine | callers | weighing | rows/s | p50 ms | p99 ms |\n" + "| --- " * 6 + "|")
    for machine in map(Machine.read, arguments.machine) if arguments.machine else MACHINES:
        for callers in arguments.callers:
            for weighing, crowd in CROWDS.items():
                choose = BatchPlanner(machine.cost, machine.token_budget, crowd).choose
                result = simulate(machine.lanes, machine.seconds, choose, lengths, callers, arguments.answers)
                p50, p99 = (1000 * (percentile(result.latencies, percent) or 0) for percent in (50, 99))
                cells = f"{machine.name} | {callers} | {weighing} | {result.rows_per_s:.1f}"
                print(f"| {cells} | {p50:.0f} | {p99:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
