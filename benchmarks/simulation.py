"""What the way to choose batches does to throughput and latency, on machines that are not at hand: python -m benchmarks.simulation

Callers with one request each wait for their answers and ask again at once, with rows of a given length; lanes
take batches as the server's own planner chooses them, for as many seconds as the cost model says. No HTTP, no
noise: the choice alone.
"""

import argparse
import heapq
import json
import random
import sys
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.ceiling import read_planner, read_rows
from benchmarks.peers.load import percentile
from engine.cost import CostModel
from engine.planner import CROWD, BatchPlanner
from loadtest.server import DEFAULT_BUNDLE
from models.bundle import Bundle
from models.ensemble import Ensemble
from models.example import Example

CROWDS: Final = {"age": 1e9, "24 rows": 24.0, "12 rows": 12.0, "6 rows": 6.0, "3 rows": 3.0, "work": 1e-3}
"""Ways to weigh: from what has waited longest alone, over the number of waiting rows at which both count
alike, to work a second alone."""
assert CROWDS[f"{CROWD} rows"] == CROWD

Cost = Callable[[int, int], float]
Choose = Callable[[Sequence[int], int, int, Sequence[float]], range]

BETWEEN_S: Final = 0.001
"""From an answer to the same caller's next row in the queue."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Lanes, and what a batch costs one of them."""

    name: str
    lanes: int
    cost: CostModel
    token_budget: int

    def seconds(self, rows: int, length: int) -> float:
        return float(self.cost.seconds(rows, length))

    @classmethod
    def read(cls, path: Path) -> "Machine":
        """The machine on which `python -m benchmarks.ceiling` wrote its JSON."""
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
class Outcome:
    """What callers got: the latency of each answer, in seconds and ascending, and how long it all took."""

    latencies: list[float]
    seconds: float

    @property
    def rows_per_s(self) -> float:
        return len(self.latencies) / self.seconds


def simulate(
    lanes: int, cost: Cost, choose: Choose, lengths: Sequence[int], callers: int, answers: int
) -> Outcome:
    """Let callers ask until they have had so many answers.

    Args:
        lanes: batches that run at a time.
        cost: seconds that a batch of so many rows of so many tokens takes one of them.
        choose: as `BatchPlanner.choose`. Like the batcher's, a free lane serves the row that waits longest,
            in the company that this finds.
        lengths: tokens of the rows: all of them in a random order, then again in another.
    """
    draw, deck, number = random.Random(0), list[int](), count()
    events: list[tuple[float, int, list[float]]] = [(0.0, next(number), []) for _ in range(callers)]
    waiting: list[tuple[int, float, int]] = []  # length, since when, whose turn
    free, now, latencies = lanes, 0.0, list[float]()
    while len(latencies) < answers:
        now = events[0][0]
        while events and events[0][0] <= now:
            _, _, came = heapq.heappop(events)
            if came:  # a batch is done
                free += 1
                latencies += [now - since for since in came]
                for _ in came:
                    heapq.heappush(events, (now + BETWEEN_S, next(number), []))
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
    return Outcome(sorted(latencies), now)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--bundle", type=Path, default=DEFAULT_BUNDLE, help="whose tokenizer measures the rows"
    )
    parser.add_argument(
        "--rows",
        type=Path,
        help="JSONL of KLUE-RE rows; default: $KLUE_RE_DATA/validation.jsonl, else rows of our own",
    )
    parser.add_argument(
        "--machine",
        type=Path,
        action="append",
        help="JSON of benchmarks.ceiling; default: three typical machines",
    )
    parser.add_argument("--callers", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--answers", type=int, default=8000, help="so many a line")
    arguments = parser.parse_args(argv)
    ensemble = Ensemble.load(Bundle.open(arguments.bundle))
    lengths = [len(ensemble.encode(Example.from_row(row))) for row in read_rows(arguments.rows, 300)]
    print(
        "| machine | callers | what counts | rows/s | p50 ms | p99 ms |\n| --- | --- | --- | --- | --- | --- |"
    )
    for machine in [Machine.read(path) for path in arguments.machine] if arguments.machine else MACHINES:
        for callers in arguments.callers:
            for named, crowd in CROWDS.items():
                planner = BatchPlanner(machine.cost, machine.token_budget, crowd)
                outcome = simulate(
                    machine.lanes, machine.seconds, planner.choose, lengths, callers, arguments.answers
                )
                p50, p99 = (1000 * (percentile(outcome.latencies, percent) or 0.0) for percent in (50, 99))
                print(
                    f"| {machine.name} | {callers} | {named} | {outcome.rows_per_s:.1f} | {p50:.0f} | {p99:.0f} |"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
