"""One machine measured and simulated side by side, then a fleet of them simulated: python -m benchmarks.scale

1. Time each row alone on bare lanes, with the cascade on.
2. Start the server. In each round, for each traffic (closed loops, then open loops at shares of the simulated
   rate of the last closed loop): time batches on bare lanes, measure the server, time the batches again.
3. Simulate the same arrivals of the same rows (`benchmarks/hosts.py`) with those times, and with the CPU time
   that HTTP, the lanes and the load generator spent on a request: beside its graphs, a server's lane chooses
   batches and tells callers, and HTTP empties its caches. Where this machine is a virtual one, the hypervisor
   takes the cores away at the same times. Nothing else is taken from the server.
4. If the simulation is within 15 % of the measured requests/s and p99 (the median of the rounds' ratios),
   simulate a fleet that shares one stream of requests, and count the machines for a number of rows a day.

Other programs must not use the cores meanwhile: the simulation does not know them. Their share is printed.
"""

import asyncio
import itertools
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from benchmarks.hosts import Host, Simulated, Stolen, at_random, fewer_of_two, figures, simulate
from benchmarks.rows import add_rows, draw_rows
from loadtest.command import add_bundle, add_output, conclude, make_parser, write_json
from loadtest.figures import percentile
from loadtest.outcomes import RIGHT, Outcome, due_times

if TYPE_CHECKING:
    from engine.tuning import TunedEnsemble
    from loadtest.server import ServerProcess
    from models.encoding import EncodedExample

WITHIN: Final = 0.15
"""How far the simulation can be from the measured machine."""
IDLE: Final = 0.03
"""Share of the cores that other programs can use: above it, a broken promise says nothing."""
DAY_S: Final = 86_400
SEED: Final = 1
"""Of the arrivals, in the load generator and in the simulation."""
STAGGER_S: Final = 0.01
"""Between the first requests of two callers, in the load generator and in the simulation."""
WARMUP_S: Final = 2.0
STEAL_S: Final = 0.02
"""Between two looks at what the hypervisor has taken."""
LANES_S: Final = 1.5
"""How long the lanes are timed before and after each traffic."""
FLEET_S: Final = 30.0
"""Simulated seconds of a fleet; a hundred machines take some minutes."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """A closed loop of a number of callers, or an open loop at a rate in requests/s."""

    callers: int = 0
    rate: float = 0.0

    def due(self, seconds: float) -> list[float]:
        """When the requests that do not follow an answer are sent, in seconds from the start."""
        if self.callers:
            return [STAGGER_S * place for place in range(self.callers)]
        times = due_times(self.rate, 0.0, random.Random(SEED))
        return list(itertools.takewhile(lambda at: at < seconds, times))

    def simulated(self, host: Host, seconds: float, stolen: Stolen = ()) -> Simulated:
        """This traffic on one host."""
        again_until = seconds if self.callers else 0.0
        return simulate(host, self.due(seconds), again_until=again_until, stolen=stolen)


CALLERS: Final = (16, 64)
SHARES: Final = (0.5, 0.7, 0.85)
"""Of the rate with the most callers, the rates of the open loops."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One traffic, measured and simulated in the same round. p99 is in seconds.

    Attributes:
        more: CPU time of the server's lanes for an answer, over that of the bare ones in the simulation.
        ratios: `Host.ratios`, with `more` in them.
        others, stolen: shares of the cores that other programs and the hypervisor took while the server was
            measured.
    """

    rps: float
    p99_s: float
    simulated_rps: float
    simulated_p99_s: float
    http_s: float
    generator_s: float
    more: float
    ratios: tuple[float, ...]
    others: float
    stolen: float


def row_shares(tuned: "TunedEnsemble", rows: Sequence["EncodedExample"]) -> list[float]:
    """`Host.shares`: the shorter of two runs of each row, with all lanes at work."""
    singles = [[row] for row in rows]
    best = map(min, lane_seconds(tuned, singles), lane_seconds(tuned, singles))
    cost = tuned.measured.planner.cost
    return [seconds / float(cost.seconds(1, len(row))) for seconds, row in zip(best, rows, strict=True)]


def lane_ratios(
    tuned: "TunedEnsemble", rows: Sequence["EncodedExample"], host: Host, batches: Sequence[list[int]]
) -> list[float]:
    """`Host.ratios`, from as many of a simulation's batches as take the lanes `LANES_S`."""
    drawn, predicted_s = [], list[float]()
    for batch in random.Random(0).sample(batches, len(batches)):
        drawn.append(batch)
        predicted_s.append(host.predicted_s(batch))
        if sum(predicted_s) > LANES_S * host.lanes:
            break
    measured_s = lane_seconds(tuned, [[rows[row] for row in batch] for batch in drawn])
    return [measured / predicted for measured, predicted in zip(measured_s, predicted_s, strict=True)]


def lane_seconds(tuned: "TunedEnsemble", batches: Sequence[Sequence["EncodedExample"]]) -> list[float]:
    """Seconds of each batch on bare lanes, all of which are at work."""

    def run(batch: Sequence["EncodedExample"], lane: int) -> float:
        began = time.perf_counter()
        tuned.lanes.ensemble.run(batch, lane)
        return time.perf_counter() - began

    with ThreadPoolExecutor(tuned.lanes.split.lanes) as threads:
        return list(threads.map(run, batches, itertools.count()))


@dataclass(frozen=True, slots=True)
class Measured:
    """One traffic on the real server. Times are seconds from its start.

    Attributes:
        answers: the time of each answer and its latency.
        http_s, lanes_s, generator_s: CPU seconds of the event loop, of the server's other threads and of this
            process for an answer.
        others: share of the cores that other programs of this machine used.
        stolen: what the hypervisor took.
    """

    answers: list[tuple[float, float]]
    http_s: float
    lanes_s: float
    generator_s: float
    others: float
    stolen: Stolen


class Clock:
    """CPU seconds of this process's cores since its start: of the server's event loop, of its other threads,
    of this process, of other programs. Linux only."""

    def __init__(self, server: "ServerProcess") -> None:
        import psutil

        self._server, self._here = psutil.Process(server.process.pid), psutil.Process()
        self._began = self._now()

    def seconds(self) -> tuple[float, ...]:
        return tuple(now - then for now, then in zip(self._now(), self._began, strict=True))

    def _now(self) -> tuple[float, float, float, float]:
        pid = self._server.pid
        with open(f"/proc/{pid}/task/{pid}/schedstat") as file:
            loop = int(file.read().split()[0]) / 1e9
        here, server = (sum(process.cpu_times()[:2]) for process in (self._here, self._server))
        busy = sum(sum(core) - core.idle - core.iowait - core.steal - core.guest for core in _cores())
        return loop, server - loop, here, busy - here - server


def _cores() -> list[Any]:
    """The CPU times of the cores that this process can use."""
    import psutil

    times = psutil.cpu_times(percpu=True)
    return [times[core] for core in os.sched_getaffinity(0)]


async def watch_steal(began: float, stolen: list[tuple[float, float]]) -> None:
    """Append to `stolen` until cancelled; `began` is on `time.monotonic`'s clock."""
    then, before = began, sum(core.steal for core in _cores())
    while True:
        await asyncio.sleep(STEAL_S)
        now, taken = time.monotonic(), sum(core.steal for core in _cores())
        stolen.append((now - began, (taken - before) / (now - then)))
        then, before = now, taken


def measure(server: "ServerProcess", requests: list[bytes], traffic: Traffic, seconds: float) -> Measured:
    """Send the traffic to the server for `seconds`, and note what it cost."""
    import uvloop

    from loadtest.connection import HttpClient, Target
    from loadtest.traffic import LOOPBACK, closed_loop, open_loop

    stolen: list[tuple[float, float]] = []

    async def play() -> list[Outcome]:
        watch = asyncio.create_task(watch_steal(began, stolen))
        try:
            async with HttpClient(Target(LOOPBACK, server.port)) as client:
                if not traffic.callers:
                    return await open_loop(client, requests, traffic.rate, seconds, SEED)
                stop = asyncio.Event()
                asyncio.get_running_loop().call_later(seconds, stop.set)
                return await closed_loop(client, requests, traffic.callers, stop)
        finally:
            watch.cancel()

    clock, began = Clock(server), time.monotonic()
    outcomes = uvloop.run(play())
    elapsed = time.monotonic() - began
    loop_s, lanes_s, generator_s, others_s = clock.seconds()
    right = [outcome for outcome in outcomes if outcome.result == RIGHT]
    answers = [(outcome.answered_s - began, outcome.seconds) for outcome in right]
    count, others = len(right), others_s / elapsed / len(_cores())
    return Measured(answers, loop_s / count, lanes_s / count, generator_s / count, others, stolen)


def measure_pair(
    tuned: "TunedEnsemble",
    rows: Sequence["EncodedExample"],
    host: Host,
    server: "ServerProcess",
    requests: list[bytes],
    traffic: Traffic,
    seconds: float,
) -> Pair:
    """Measure one traffic between two timings of the lanes, and simulate it with their mean."""
    until = WARMUP_S + seconds
    batches = traffic.simulated(host, until).batches
    before = lane_ratios(tuned, rows, host, batches)
    real = measure(server, requests, traffic, until)
    ratios = tuple(before + lane_ratios(tuned, rows, host, batches))
    same = replace(host, ratios=ratios, http_s=real.http_s + real.generator_s)
    bare = traffic.simulated(same, until, real.stolen)
    more = real.lanes_s / host.threads * len(bare.answers) / bare.lanes_s
    ratios = tuple(more * ratio for ratio in ratios)
    found = traffic.simulated(replace(same, ratios=ratios), until, real.stolen)
    simulated = figures(found.answers, WARMUP_S, seconds)
    measured = figures(real.answers, WARMUP_S, seconds)
    stolen = sum(cores for _, cores in real.stolen) / max(1, len(real.stolen)) / host.cores
    return Pair(*measured, *simulated, real.http_s, real.generator_s, more, ratios, real.others, stolen)


def measure_rounds(
    tuned: "TunedEnsemble",
    rows: Sequence["EncodedExample"],
    host: Host,
    server: "ServerProcess",
    requests: list[bytes],
    rounds: int,
    seconds: float,
) -> dict[str, list[Pair]]:
    """A pair for each round, by the name of the traffic. The open loops take their rate from the latest
    timing of the lanes: the machine's speed moves."""
    found: dict[str, list[Pair]] = {}
    for _ in range(rounds):
        for callers, share in [*((callers, 0.0) for callers in CALLERS), *((0, share) for share in SHARES)]:
            traffic = Traffic(callers=callers) if callers else Traffic(rate=share * saturation(host, seconds))
            name = f"{callers} callers" if callers else f"{share:.0%} of saturation"
            pair = measure_pair(tuned, rows, host, server, requests, traffic, seconds)
            host = replace(host, ratios=pair.ratios, http_s=pair.http_s + pair.generator_s)
            found.setdefault(name, []).append(pair)
            print(
                f"{name}: measured {pair.rps:.1f} requests/s, p99 {1000 * pair.p99_s:.0f} ms; simulated"
                f" {pair.simulated_rps:.1f}, {1000 * pair.simulated_p99_s:.0f}; other programs"
                f" {pair.others:.1%}, stolen {pair.stolen:.1%}",
                file=sys.stderr,
            )
    return found


def saturation(host: Host, seconds: float) -> float:
    """The simulated requests/s of a host with the most callers."""
    traffic = Traffic(callers=CALLERS[-1])
    return figures(traffic.simulated(host, WARMUP_S + seconds).answers, WARMUP_S, seconds)[0]


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.scale", "Measure one machine, simulate it, then simulate a fleet.", "--machines 100"
    )
    add_bundle(parser)
    add_rows(parser, count=300)
    add_output(parser, "scale.json")
    parser.add_argument("--rounds", type=int, default=5, help="of all traffics (default: 5)")
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement (default: 15)")
    parser.add_argument("--machines", type=int, default=100, help="of the fleet (default: 100)")
    parser.add_argument("--rows-per-day", type=float, default=1e9, help="to plan for (default: 1e9)")
    parser.add_argument(
        "--load", type=float, default=0.7, help="of a machine's rate in the plan (default: 0.7)"
    )
    arguments = parser.parse_args(argv)
    from engine.cores import available_cores
    from engine.settings import DEFAULT_BUNDLE, EngineSettings
    from engine.tuning import load
    from loadtest.server import running
    from loadtest.traffic import make_requests
    from models.bundle import Bundle
    from models.example import Example
    from models.memory import few_heaps

    few_heaps(available_cores())
    bundle = arguments.bundle or DEFAULT_BUNDLE
    rows = draw_rows(arguments.rows, arguments.count)
    tuned = load(Bundle.open(bundle), EngineSettings(all_cores_for_one=False))
    encoded = [tuned.lanes.ensemble.encode(Example.from_row(row)) for row in rows]
    split, lengths = tuned.lanes.split, [len(row) for row in encoded]
    shares = row_shares(tuned, encoded)
    host = Host(
        tuned.measured.planner, split.lanes, split.threads, available_cores(), lengths, shares, (1.0,), 0.0
    )
    # the same lanes as those that were timed; a lone request on all cores is not simulated
    settings = {"lanes": split.lanes, "threads": split.threads, "all_cores_for_one": False}
    with running(bundle, max_queue=10_000, **settings) as server:
        requests = make_requests(server.port, rows)
        pairs = measure_rounds(tuned, encoded, host, server, requests, arguments.rounds, arguments.seconds)
    promises = compare(pairs)
    found: dict[str, Any] = {
        "tokens_per_row": round(statistics.mean(lengths), 1),
        "lanes": split.lanes,
        "http_ms": round(1000 * _median(pairs, "http_s"), 3),
        "generator_ms": round(1000 * _median(pairs, "generator_s"), 3),
        "lanes_over_bare": round(_median(pairs, "more"), 3),
        "others": round(max(pair.others for each in pairs.values() for pair in each), 3),
        "rounds": {
            name: [
                {
                    key: round(statistics.mean(value) if key == "ratios" else value, 4)
                    for key, value in asdict(pair).items()
                }
                for pair in each
            ]
            for name, each in pairs.items()
        },
    }
    if all(promises.values()):
        # no load generator runs on the fleet's machines
        ratios = [ratio for each in pairs.values() for pair in each for ratio in pair.ratios]
        host = replace(host, ratios=ratios, http_s=_median(pairs, "http_s"))
        found["fleet"] = plan(host, arguments.machines, arguments.load, arguments.rows_per_day)
    else:
        print("the fleet is not simulated: the simulation does not fit the machine", file=sys.stderr)
    if found["others"] > IDLE:
        print(
            f"other programs used up to {found['others']:.0%} of the cores: run it on an idle machine",
            file=sys.stderr,
        )
    write_json(arguments.output, {**found, "promises": promises})
    del found["rounds"]
    return conclude("scale", found, promises)


def _median(pairs: dict[str, list[Pair]], field: str) -> float:
    return statistics.median(getattr(pair, field) for each in pairs.values() for pair in each)


def compare(pairs: dict[str, list[Pair]]) -> dict[str, bool]:
    """Print the medians of the rounds side by side; returns by sentence whether each is near enough."""
    columns = (
        "traffic",
        "requests/s",
        "simulated",
        "ratio",
        "p99, ms",
        "simulated",
        "ratio",
        "other programs",
        "stolen",
    )
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
    promises = {}
    for name, each in pairs.items():
        rps, p99_s = (statistics.median(getattr(pair, field) for pair in each) for field in ("rps", "p99_s"))
        same_rps, same_p99_s = (
            statistics.median(getattr(pair, f"simulated_{field}") for pair in each)
            for field in ("rps", "p99_s")
        )
        rates = statistics.median(pair.simulated_rps / pair.rps for pair in each)
        p99s = statistics.median(pair.simulated_p99_s / pair.p99_s for pair in each)
        others, stolen = (
            statistics.median(getattr(pair, field) for pair in each) for field in ("others", "stolen")
        )
        print(
            f"| {name} | {rps:.1f} | {same_rps:.1f} | {rates:.2f} | {1000 * p99_s:.0f} |"
            f" {1000 * same_p99_s:.0f} | {p99s:.2f} | {others:.1%} | {stolen:.1%} |"
        )
        near = abs(rates - 1) <= WITHIN and abs(p99s - 1) <= WITHIN
        promises[f"{name}: simulated requests/s and p99 within {WITHIN:.0%}"] = near
    return promises


def plan(host: Host, machines: int, share: float, rows_per_day: float) -> dict[str, Any]:
    """Simulate a fleet at a share of its rate, with each of two balancers; print and return its p50 and p99,
    and the number of machines for a number of rows a day."""
    rate = saturation(host, FLEET_S)
    found: dict[str, Any] = {
        "rows_per_s": round(rate, 1),
        "machines_for_rows_per_day": math.ceil(rows_per_day / DAY_S / (rate * share)),
    }
    print(f"\n| {machines} machines at {share:.0%} of their rate | p50, ms | p99, ms |\n| --- | --- | --- |")
    due = Traffic(rate=rate * share * machines).due(FLEET_S)
    for name, balance in {"drawn at random": at_random(), "fewer of two": fewer_of_two()}.items():
        latencies = latencies_of(simulate(host, due, machines, balance).answers)
        p50, p99 = (1000 * (percentile(latencies, percent) or 0.0) for percent in (50, 99))
        found[name] = {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}
        print(f"| {name} | {p50:.0f} | {p99:.0f} |")
    return found


def latencies_of(answers: Iterable[tuple[float, float]]) -> list[float]:
    return [latency for _, latency in answers]


if __name__ == "__main__":
    sys.exit(main())
