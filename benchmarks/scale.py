"""One machine measured and simulated side by side, then a fleet of them simulated: python -m benchmarks.scale

1. Time each row alone, and batches that the planner cuts out of 16 rows, on bare lanes with the cascade on.
2. Start the server. Measure closed loops, and open loops at shares of the rate of the last one. Count the
   event loop's CPU time for each request.
3. Simulate the same arrivals of the same rows (`simulate`): the server's planner on the times of step 1, with
   the CPU time of step 2 added. Nothing else is taken from the server.
4. If the simulation is within 15 % of the measured requests/s and p99, simulate a fleet that shares one
   stream of requests, and count the machines for a number of rows a day.
"""

import heapq
import itertools
import math
import random
import sys
import time
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from benchmarks.rows import add_rows, draw_rows
from loadtest.command import add_bundle, add_output, conclude, make_parser, write_json
from loadtest.figures import percentile
from loadtest.outcomes import RIGHT, due_times

if TYPE_CHECKING:
    from engine.planner import BatchPlanner
    from engine.tuning import TunedEnsemble
    from loadtest.server import ServerProcess
    from models.encoding import EncodedExample

WITHIN: Final = 0.15
"""How far the simulation can be from the measured machine."""
CALLERS: Final = (16, 64)
SHARES: Final = (0.5, 0.7, 0.85)
"""Of the closed loop's rate with the most callers, the rates of the open loops."""
WINDOW: Final = 16
"""Rows that the timed batches are cut out of: as many as wait when 16 callers keep two lanes busy."""
DAY_S: Final = 86_400
SEED: Final = 1
"""Of the arrivals, in the load generator and in the simulation."""
BETWEEN_S: Final = 0.001
"""From an answer to the same caller's next request in the queue."""
FLEET_S: Final = 30.0
"""Simulated seconds of a fleet; a hundred machines take some minutes."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine as the simulation knows it.

    Attributes:
        lengths: tokens of each row.
        shares: seconds of each row alone with the cascade, over what the planner's cost model predicts.
        factor: seconds of real batches, over what the two above predict.
        http_s: CPU seconds of a request outside the lanes. On a busy machine the lanes wait for them.
    """

    planner: "BatchPlanner"
    lanes: int
    lengths: Sequence[int]
    shares: Sequence[float]
    factor: float
    http_s: float

    def seconds(self, batch: Sequence[int]) -> float:
        """Of a batch of rows, given as their numbers."""
        longest = max(self.lengths[row] for row in batch)
        share = sum(self.shares[row] for row in batch) / len(batch)
        cost = float(self.planner.cost.seconds(len(batch), longest))
        return cost * share * self.factor + len(batch) * self.http_s


@dataclass(slots=True)
class Queue:
    """A host's waiting rows, sorted by length, as (length, since when, number, row), and its free lanes."""

    free: int
    waiting: list[tuple[int, float, int, int]] = field(default_factory=list)
    inside: int = 0

    def take(self, host: Host, now: float) -> list[tuple[int, float, int, int]]:
        """The batch that the server's planner chooses around the row that has waited longest."""
        anchor = min(range(len(self.waiting)), key=lambda place: self.waiting[place][2])
        lengths, waited = [one[0] for one in self.waiting], [now - one[1] for one in self.waiting]
        cut = host.planner.choose(lengths, anchor, self.free, waited)
        batch = self.waiting[cut.start : cut.stop]
        del self.waiting[cut.start : cut.stop]
        self.free -= 1
        return batch


Balance = Callable[[Sequence[Queue]], Queue]


def at_random(seed: int = 0) -> Balance:
    """A balancer that draws each request's host."""
    return random.Random(seed).choice


def fewer_of_two(seed: int = 0) -> Balance:
    """A balancer that draws two hosts and takes the one with fewer requests inside (Mitzenmacher, 2001)."""
    drawn = random.Random(seed)
    return lambda hosts: min(drawn.choice(hosts), drawn.choice(hosts), key=lambda host: host.inside)


def simulate(
    host: Host,
    due: Iterable[float],
    hosts: int = 1,
    balance: Balance = lambda queues: queues[0],
    again: bool = False,
) -> list[tuple[float, float]]:
    """Send one-row requests to equal hosts; the rows in order, again and again.

    1. Take the next event: a request, or the end of a batch.
    2. A request joins the queue of the host that the balancer names.
    3. A batch that ends frees its lane and answers its rows.
    4. Free lanes of that host take batches.

    Args:
        due: ascending times of the requests, in seconds.
        again: whether each caller sends the next request after its answer, until the last time of `due`.

    Returns:
        For each answer its time and its latency, in seconds.
    """
    numbers, queues = itertools.count(), [Queue(host.lanes) for _ in range(hosts)]
    events: list[tuple[float, int, Queue | None, list[float]]] = [(at, next(numbers), None, []) for at in due]
    end = events.pop()[0] if again else float("inf")
    heapq.heapify(events)
    rows, answers = itertools.cycle(range(len(host.lengths))), list[tuple[float, float]]()
    while events:
        now, number, queue, since = heapq.heappop(events)
        if queue is None:
            queue = balance(queues)
            queue.inside += 1
            row = next(rows)
            insort(queue.waiting, (host.lengths[row], now, number, row))
        else:
            queue.free += 1
            queue.inside -= len(since)
            answers += [(now, now - began) for began in since]
            if again and now < end:
                for _ in since:
                    heapq.heappush(events, (now + BETWEEN_S, next(numbers), None, []))
        while queue.free and queue.waiting:
            batch = queue.take(host, now)
            done = now + host.seconds([one[3] for one in batch])
            heapq.heappush(events, (done, next(numbers), queue, [one[1] for one in batch]))
    return answers


def closed_loop(host: Host, callers: int, warmup_s: float, seconds: float) -> tuple[float, float]:
    """Requests/s, and p99 in seconds, of a number of callers in the measured window."""
    due = [*(0.01 * place for place in range(callers)), warmup_s + seconds]
    answers = simulate(host, due, again=True)
    found = [latency for at, latency in answers if warmup_s <= at < warmup_s + seconds]
    return len(found) / seconds, percentile(found, 99) or 0.0


def open_loop_times(rate: float, seconds: float) -> list[float]:
    """When the load generator's open loop sends its requests, from 0."""
    return list(itertools.takewhile(lambda at: at < seconds, due_times(rate, 0.0, random.Random(SEED))))


def time_lanes(tuned: "TunedEnsemble", rows: Sequence["EncodedExample"]) -> tuple[list[float], float]:
    """`Host.shares` and `Host.factor` of the rows, with all lanes at work."""
    lanes, planner = tuned.lanes.split.lanes, tuned.measured.planner
    ensemble = tuned.lanes.ensemble

    def seconds(batches: Sequence[Sequence["EncodedExample"]]) -> list[float]:
        def run(batch: Sequence["EncodedExample"], lane: int) -> float:
            began = time.perf_counter()
            ensemble.run(batch, lane)
            return time.perf_counter() - began

        with ThreadPoolExecutor(lanes) as threads:
            return list(threads.map(run, batches, itertools.count()))

    singles = [[row] for row in rows]
    best = list(map(min, seconds(singles), seconds(singles)))
    shares = [alone / float(planner.cost.seconds(1, len(row))) for alone, row in zip(best, rows, strict=True)]
    batches: list[list[int]] = []
    for start in range(0, len(rows), WINDOW):
        window = sorted(range(start, min(start + WINDOW, len(rows))), key=lambda row: len(rows[row]))
        batches += [window[cut.start : cut.stop] for cut in planner.cut([len(rows[row]) for row in window])]
    random.Random(0).shuffle(batches)
    plain = Host(planner, lanes, [len(row) for row in rows], shares, 1.0, 0.0)
    real = sum(seconds([[rows[row] for row in batch] for batch in batches]))
    return shares, real / sum(map(plain.seconds, batches))


def main_thread_s(server: "ServerProcess") -> float:
    """CPU seconds of the server's event loop until now; Linux only."""
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def measure_server(
    server: "ServerProcess", rows: list[dict[str, object]], warmup_s: float, seconds: float
) -> tuple[dict[str, tuple[float, float]], float]:
    """Requests/s and p99 in seconds by the name of the traffic, and the CPU seconds of a request outside the
    lanes: event loop and load generator."""
    import uvloop

    from loadtest.connection import HttpClient, Target
    from loadtest.traffic import LOOPBACK, make_requests, measure, open_loop

    requests = make_requests(server.port, rows)
    found: dict[str, tuple[float, float]] = {}
    http_s = 0.0
    for callers in CALLERS:
        cpu_s, began = main_thread_s(server), time.monotonic()
        closed = measure(server.port, requests, callers, warmup_s, seconds)
        used = (main_thread_s(server) - cpu_s) / (time.monotonic() - began)
        http_s = used / closed.rps + (closed.generator_cpu_ms or 0.0) / 1000
        found[f"{callers} callers"] = closed.rps, (closed.p99_ms or 0.0) / 1000

    async def at_rate(rate: float) -> list[float]:
        async with HttpClient(Target(LOOPBACK, server.port)) as client:
            outcomes = await open_loop(client, requests, rate, seconds, SEED)
        return [outcome.seconds for outcome in outcomes if outcome.result == RIGHT]

    for share in SHARES:
        rate = share * found[f"{CALLERS[-1]} callers"][0]
        latencies = uvloop.run(at_rate(rate))
        found[f"{rate:.1f} requests/s"] = len(latencies) / seconds, percentile(latencies, 99) or 0.0
    return found, http_s


def simulate_same(
    host: Host, measured: dict[str, tuple[float, float]], warmup_s: float, seconds: float
) -> dict[str, tuple[float, float]]:
    """The figures of `measure_server`, simulated."""
    found = {}
    for name in measured:
        number, unit = name.split()
        if unit == "callers":
            found[name] = closed_loop(host, int(number), warmup_s, seconds)
        else:
            answers = simulate(host, open_loop_times(float(number), seconds))
            found[name] = (
                len(answers) / seconds,
                percentile([latency for _, latency in answers], 99) or 0.0,
            )
    return found


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.scale", "Measure one machine, simulate it, then simulate a fleet.", "--machines 100"
    )
    add_bundle(parser)
    add_rows(parser, count=300)
    add_output(parser, "scale.json")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement (default: 20)")
    parser.add_argument("--machines", type=int, default=100, help="of the fleet (default: 100)")
    parser.add_argument("--rows-per-day", type=float, default=1e9, help="to plan for (default: 1e9)")
    parser.add_argument(
        "--load", type=float, default=0.7, help="of a machine's rate in the plan (default: 0.7)"
    )
    arguments = parser.parse_args(argv)
    from engine.settings import DEFAULT_BUNDLE, EngineSettings
    from engine.tuning import load
    from loadtest.server import running
    from loadtest.traffic import WARMUP_S
    from models.bundle import Bundle
    from models.example import Example

    bundle = arguments.bundle or DEFAULT_BUNDLE
    rows = draw_rows(arguments.rows, arguments.count)
    tuned = load(Bundle.open(bundle), EngineSettings(all_cores_for_one=False))
    encoded = [tuned.lanes.ensemble.encode(Example.from_row(row)) for row in rows]
    split = tuned.lanes.split
    shares, before = time_lanes(tuned, encoded)
    # the same lanes as those that were timed; a lone request on all cores is not simulated
    settings = {"lanes": split.lanes, "threads": split.threads, "all_cores_for_one": False}
    with running(bundle, max_queue=10_000, **settings) as server:
        measured, http_s = measure_server(server, rows, WARMUP_S, arguments.seconds)
    _, after = time_lanes(tuned, encoded)
    lengths = [len(row) for row in encoded]
    host = Host(tuned.measured.planner, split.lanes, lengths, shares, (before + after) / 2, http_s)
    same = simulate_same(host, measured, WARMUP_S, arguments.seconds)
    promises = compare(measured, same)
    rate = same[f"{CALLERS[-1]} callers"][0]
    figures: dict[str, Any] = {
        "tokens_per_row": round(sum(lengths) / len(lengths), 1),
        "lanes": split.lanes,
        "http_ms": round(1000 * http_s, 3),
        "measured": {name: [round(rps, 1), round(p99, 4)] for name, (rps, p99) in measured.items()},
        "simulated": {name: [round(rps, 1), round(p99, 4)] for name, (rps, p99) in same.items()},
    }
    if all(promises.values()):
        figures["fleet"] = plan(host, rate, arguments.machines, arguments.load, arguments.rows_per_day)
    else:
        print("the fleet is not simulated: the simulation does not fit the machine", file=sys.stderr)
    write_json(arguments.output, {**figures, "promises": promises})
    return conclude("scale", figures, promises)


def compare(
    measured: dict[str, tuple[float, float]], same: dict[str, tuple[float, float]]
) -> dict[str, bool]:
    """Print both side by side; returns by sentence whether each pair is near enough."""
    print(
        "| traffic | measured requests/s | simulated | measured p99, ms | simulated |\n" + "| --- " * 5 + "|"
    )
    promises = {}
    for name, (rps, p99) in measured.items():
        rps2, p99_2 = same[name]
        print(f"| {name} | {rps:.1f} | {rps2:.1f} | {1000 * p99:.0f} | {1000 * p99_2:.0f} |")
        near = abs(rps2 / rps - 1) <= WITHIN and abs(p99_2 / p99 - 1) <= WITHIN
        promises[f"{name}: simulated requests/s and p99 within {WITHIN:.0%}"] = near
    return promises


def plan(host: Host, rate: float, machines: int, share: float, rows_per_day: float) -> dict[str, Any]:
    """Simulate a fleet at a share of its rate, with each of two balancers; print and return its p50 and p99,
    and the number of machines for a number of rows a day."""
    found: dict[str, Any] = {"machines_for_rows_per_day": math.ceil(rows_per_day / DAY_S / (rate * share))}
    print(f"\n| {machines} machines at {share:.0%} of their rate | p50, ms | p99, ms |\n| --- | --- | --- |")
    due = open_loop_times(rate * share * machines, FLEET_S)
    for name, balance in {"drawn at random": at_random(), "fewer of two": fewer_of_two()}.items():
        latencies = [latency for _, latency in simulate(host, due, machines, balance)]
        p50, p99 = (1000 * (percentile(latencies, percent) or 0.0) for percent in (50, 99))
        found[name] = {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}
        print(f"| {name} | {p50:.0f} | {p99:.0f} |")
    return found


if __name__ == "__main__":
    sys.exit(main())
