"""One machine measured and simulated side by side, then a fleet of them simulated: python -m benchmarks.scale

1. Start the server, and read its lanes and its cost model from `/info`: each start measures its own. Load
   bare lanes of the same split, and time each row alone on them, with the cascade on.
2. In each round, for each traffic (closed loops, then open loops at shares of the rate that the server
   reached with the most callers): time batches on bare lanes, measure the server, time the batches again.
3. Simulate the same arrivals of the same rows (`benchmarks/hosts.py`) with those times, and with the CPU time
   that HTTP, the lanes and the load generator spent on a request: beside its graphs, a server's lane chooses
   batches and tells callers, and HTTP empties its caches. HTTP also waits for cores, which the kernel counts
   (`benchmarks/clock.py`). The simulated machine is as fast as the real one was at the same times (`lived`),
   and a hypervisor takes the cores away at the same times. Nothing else is taken from the server.
4. If the simulation is within 15 % of the measured requests/s and p99 (the median of the rounds' ratios),
   simulate a fleet that shares one stream of requests, and count the machines for a number of rows a day.

Other programs must not use the cores meanwhile: the simulation does not know them. Their share is printed.
"""

import asyncio
import itertools
import math
import random
import statistics
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from benchmarks.clock import Clock, Spent, usable_cores, watch_lanes, watch_steal
from benchmarks.hosts import (
    Host,
    Request,
    Simulated,
    Slot,
    Slots,
    at_random,
    fewer_of_two,
    figures,
    simulate,
)
from benchmarks.rows import add_rows, draw_rows
from loadtest.command import add_bundle, add_output, conclude, make_parser, write_json
from loadtest.figures import percentile
from loadtest.outcomes import RIGHT, Outcome, due_times

if TYPE_CHECKING:
    from engine.cost import CostModel
    from engine.lanes import Lanes
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
LANES_S: Final = 1.5
"""How long the lanes are timed before and after each traffic."""
NEIGHBOURS: Final = 5
"""How many batches before and after one tell the speed of the machine at its time."""
PASSES: Final = 3
"""Simulations that find the speeds. A slow time makes the queue longer and so the batches larger, which costs
less for a row: without the speeds of one pass, the batches of the next would be too small."""
SIMULATIONS: Final = 5
"""Of each traffic, with other draws of `Host.ratios`; their median counts."""
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

    def simulated(self, host: Host, seconds: float, slots: Slots = (), seed: int = 0) -> Simulated:
        """This traffic on one host."""
        again_until = seconds if self.callers else 0.0
        return simulate(host, self.due(seconds), again_until=again_until, slots=[slots], seed=seed)


CALLERS: Final = (64, 16)
"""The open loops take `Host.turn_s` from the last of them, whose queue is as short as theirs."""
SHARES: Final = (0.5, 0.7, 0.85)
"""The rates of the open loops, of what the server reached with the most callers in the same round."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One traffic, measured and simulated in the same round. p99 is in seconds.

    Attributes:
        http, generator: for an answer.
        more: CPU time of the server's lanes for an answer, over that of the bare ones in the simulation.
        ratios: `Host.ratios`, with `more` in them.
        turn_s: `Host.turn_s`.
        slots: of the measurement.
        others, stolen: shares of the cores that other programs and the hypervisor took while the server was
            measured.
    """

    rps: float
    p99_s: float
    simulated_rps: float
    simulated_p99_s: float
    http: Spent
    generator: Spent
    more: float
    ratios: tuple[float, ...]
    turn_s: float
    slots: Slots
    others: float
    stolen: float


def row_shares(lanes: "Lanes", rows: Sequence["EncodedExample"], cost: "CostModel") -> list[float]:
    """`Host.shares`: the shorter of two runs of each row, with all lanes at work."""
    singles = [[row] for row in rows]
    best = map(min, lane_seconds(lanes, singles), lane_seconds(lanes, singles))
    return [seconds / float(cost.seconds(1, len(row))) for seconds, row in zip(best, rows, strict=True)]


def lane_ratios(
    lanes: "Lanes", rows: Sequence["EncodedExample"], host: Host, batches: Sequence[list[Request]]
) -> list[float]:
    """`Host.ratios`, from as many of a simulation's batches as take the lanes `LANES_S`. A ratio over the
    mean of its neighbours is what differs between batches while the machine has one speed."""
    drawn, predicted_s = list[list[int]](), list[float]()
    for batch in random.Random(0).sample(batches, len(batches)):
        drawn.append([request.row for request in batch])
        predicted_s.append(host.predicted_s(drawn[-1]))
        if sum(predicted_s) > LANES_S * host.lanes:
            break
    measured_s = lane_seconds(lanes, [[rows[row] for row in batch] for batch in drawn])
    ratios = [measured / predicted for measured, predicted in zip(measured_s, predicted_s, strict=True)]
    near = [ratios[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1] for place in range(len(ratios))]
    mean = statistics.mean(ratios)
    return [mean * ratio / statistics.mean(those) for ratio, those in zip(ratios, near, strict=True)]


def lane_seconds(lanes: "Lanes", batches: Sequence[Sequence["EncodedExample"]]) -> list[float]:
    """Seconds of each batch on bare lanes, all of which are at work."""

    def run(batch: Sequence["EncodedExample"], lane: int) -> float:
        began = time.perf_counter()
        lanes.ensemble.run(batch, lane)
        return time.perf_counter() - began

    with ThreadPoolExecutor(lanes.split.lanes) as threads:
        return list(threads.map(run, batches, itertools.count()))


@dataclass(frozen=True, slots=True)
class Measured:
    """One traffic on the real server. Times are seconds from its start.

    Attributes:
        answers: by the place of its request among all, the time of each right answer and its latency.
        http, lanes, generator: of the event loop, of the server's other threads and of this process, for an
            answer.
        turn_s: for a batch, the seconds in which a lane neither ran nor waited for a core. Without rows to
            run it does nothing else, so only a closed loop tells `Host.turn_s`.
        others: share of the cores that other programs of this machine used.
        stolen: the end of each `STEAL_S`, and how many cores the hypervisor took in it.
        lanes_s: the end of each `clock.SPEED_S`, and the CPU seconds of the lanes in it.
    """

    answers: dict[int, tuple[float, float]]
    http: Spent
    lanes: Spent
    generator: Spent
    turn_s: float
    others: float
    stolen: list[tuple[float, float]]
    lanes_s: list[tuple[float, float]]


def measure(
    server: "ServerProcess", host: Host, requests: list[bytes], traffic: Traffic, seconds: float
) -> Measured:
    """Send the traffic to the server for `seconds`, and note what it cost."""
    import uvloop

    from loadtest.connection import HttpClient, Target
    from loadtest.traffic import LOOPBACK, closed_loop, open_loop

    stolen, lanes_s = list[tuple[float, float]](), list[tuple[float, float]]()

    async def play() -> list[Outcome]:
        watches = [
            asyncio.create_task(watch_steal(began, stolen)),
            asyncio.create_task(watch_lanes(server.process.pid, began, lanes_s)),
        ]
        try:
            async with HttpClient(Target(LOOPBACK, server.port)) as client:
                if not traffic.callers:
                    return await open_loop(client, requests, traffic.rate, seconds, SEED)
                stop = asyncio.Event()
                asyncio.get_running_loop().call_later(seconds, stop.set)
                return await closed_loop(client, requests, traffic.callers, stop)
        finally:
            for watch in watches:
                watch.cancel()

    clock, began = Clock(server), time.monotonic()
    outcomes = sorted(uvloop.run(play()), key=lambda outcome: outcome.due_s)
    elapsed, spent = time.monotonic() - began, clock.read()
    answers = {
        place: (outcome.answered_s - began, outcome.seconds)
        for place, outcome in enumerate(outcomes)
        if outcome.result == RIGHT
    }
    between_s = host.lanes * elapsed - spent.lanes.total_s / host.threads
    return Measured(
        answers,
        *(each.for_each(len(answers)) for each in (spent.http, spent.lanes, spent.generator)),
        turn_s=max(0.0, between_s / max(1, spent.batches)),
        others=spent.others_s / elapsed / len(usable_cores()),
        stolen=stolen,
        lanes_s=lanes_s,
    )


def measure_pair(
    lanes: "Lanes",
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
    before = lane_ratios(lanes, rows, host, batches)
    real = measure(server, host, requests, traffic, until)
    ratios = tuple(before + lane_ratios(lanes, rows, host, batches))
    turn_s = real.turn_s if traffic.callers else host.turn_s
    same = replace(host, ratios=ratios, turn_s=turn_s, **http_times(real.http, real.generator))
    more, slots = 1.0, list[Slot]()
    for _ in range(PASSES):
        tried = traffic.simulated(same, until, slots)
        more *= real.lanes.cpu_s / host.threads * len(tried.answers) / tried.lanes_s
        same = replace(same, ratios=tuple(more * ratio for ratio in ratios))
        slots = lived(real, same, tried.batches)
    found = [traffic.simulated(same, until, slots, seed).answers for seed in range(SIMULATIONS)]
    each = [figures(answers, WARMUP_S, seconds) for answers in found]
    simulated = [statistics.median(values) for values in zip(*each, strict=True)]
    measured = figures(real.answers.values(), WARMUP_S, seconds)
    stolen = sum(cores for _, cores in real.stolen) / max(1, len(real.stolen)) / host.cores
    return Pair(
        *measured,
        *simulated,
        real.http,
        real.generator,
        more,
        same.ratios,
        turn_s,
        slots,
        real.others,
        stolen,
    )


def lived(real: Measured, host: Host, batches: Iterable[Sequence[Request]]) -> list[Slot]:
    """What the machine lived through while it was measured.

    1. Each request has a part of the predicted seconds of its simulated batch: its work. The lanes did it
       half of the batch's seconds before the real answer.
    2. The speed of an interval is the work that was done in it, over the CPU seconds of the lanes, over the
       same of the whole measurement. A queue does not change it: a lane that waits uses no CPU time.
    3. The speeds and what the hypervisor took become slots as short as the shorter of the two.

    Args:
        batches: of a simulation of the same traffic.
    """
    ends = [end_s for end_s, _ in real.lanes_s]
    work_s = [0.0] * (len(ends) + 1)  # the last one is after the last look
    for batch in batches:
        alone_s = [host.predicted_s([request.row]) for request in batch]
        batch_s = host.predicted_s([request.row for request in batch])
        for request, own_s in zip(batch, alone_s, strict=True):
            if request.number in real.answers:
                at = real.answers[request.number][0] - batch_s / 2
                work_s[bisect_left(ends, at)] += batch_s * own_s / sum(alone_s)
    mean = sum(work_s[:-1]) / sum(cpu_s for _, cpu_s in real.lanes_s)
    speeds = [
        done_s / cpu_s / mean if done_s and cpu_s else 1.0
        for done_s, (_, cpu_s) in zip(work_s, real.lanes_s, strict=False)
    ]
    places = (min(bisect_left(ends, end_s), len(speeds) - 1) for end_s, _ in real.stolen)
    return [Slot(end_s, cores, speeds[at]) for (end_s, cores), at in zip(real.stolen, places, strict=True)]


def http_times(*spent: Spent) -> dict[str, float]:
    """`Host.http_s` and `Host.http_wait_s` of the threads that callers wait for."""
    return {"http_s": sum(one.cpu_s for one in spent), "http_wait_s": sum(one.wait_s for one in spent)}


def measure_rounds(
    lanes: "Lanes",
    rows: Sequence["EncodedExample"],
    host: Host,
    server: "ServerProcess",
    requests: list[bytes],
    rounds: int,
    seconds: float,
) -> dict[str, list[Pair]]:
    """A pair for each round, by the name of the traffic. Each round has open loops at other rates: the
    machine's speed moves."""
    found: dict[str, list[Pair]] = {}
    for _ in range(rounds):
        saturation = 0.0
        for callers, share in [*((callers, 0.0) for callers in CALLERS), *((0, share) for share in SHARES)]:
            traffic = Traffic(callers=callers) if callers else Traffic(rate=share * saturation)
            name = f"{callers} callers" if callers else f"{share:.0%} of saturation"
            pair = measure_pair(lanes, rows, host, server, requests, traffic, seconds)
            times = http_times(pair.http, pair.generator)
            host = replace(host, ratios=pair.ratios, turn_s=pair.turn_s, **times)
            found.setdefault(name, []).append(pair)
            if callers == max(CALLERS):
                saturation = pair.rps
            print(
                f"{name}: measured {pair.rps:.1f} requests/s, p99 {1000 * pair.p99_s:.0f} ms; simulated"
                f" {pair.simulated_rps:.1f}, {1000 * pair.simulated_p99_s:.0f}; other programs"
                f" {pair.others:.1%}, stolen {pair.stolen:.1%}",
                file=sys.stderr,
            )
    return found


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
    from engine.cost import CostModel
    from engine.lanes import Lanes
    from engine.planner import BatchPlanner
    from engine.settings import DEFAULT_BUNDLE
    from engine.split import Split
    from loadtest.server import running
    from loadtest.traffic import make_requests
    from models.bundle import Bundle
    from models.example import Example
    from models.memory import few_heaps

    few_heaps(available_cores())
    bundle = arguments.bundle or DEFAULT_BUNDLE
    rows = draw_rows(arguments.rows, arguments.count)
    # a lone request on all cores is not simulated
    with running(bundle, max_queue=10_000, all_cores_for_one=False) as server:
        tuning = server.client.get("/info").raise_for_status().json()["tuning"]
        split = Split(tuning["lanes"], tuning["threads_per_lane"])
        planner = BatchPlanner(CostModel(**tuning["cost_seconds"]), tuning["token_budget"])
        lanes = Lanes.load(Bundle.open(bundle), split=split)
        encoded = [lanes.ensemble.encode(Example.from_row(row)) for row in rows]
        lengths = [len(row) for row in encoded]
        shares = row_shares(lanes, encoded, planner.cost)
        host = Host(planner, split.lanes, split.threads, available_cores(), lengths, shares)
        requests = make_requests(server.port, rows)
        pairs = measure_rounds(lanes, encoded, host, server, requests, arguments.rounds, arguments.seconds)
    promises, every = compare(pairs), [pair for each in pairs.values() for pair in each]
    found: dict[str, Any] = {
        "tokens_per_row": round(statistics.mean(lengths), 1),
        "lanes": split.lanes,
        "http_ms": _median_ms(pair.http.cpu_s for pair in every),
        "http_waits_ms": _median_ms(pair.http.wait_s for pair in every),
        "generator_ms": _median_ms(pair.generator.cpu_s for pair in every),
        "generator_waits_ms": _median_ms(pair.generator.wait_s for pair in every),
        "turn_ms": _median_ms(pair.turn_s for pair in every),
        "lanes_over_bare": round(statistics.median(pair.more for pair in every), 3),
        "others": round(max(pair.others for pair in every), 3),
        "rounds": {
            name: [
                asdict(replace(pair, slots=())) | {"ratios": statistics.mean(pair.ratios)} for pair in each
            ]
            for name, each in pairs.items()
        },
    }
    if all(promises.values()):
        # no load generator runs on the fleet's machines
        host = replace(
            host,
            ratios=[ratio for pair in every for ratio in pair.ratios],
            turn_s=statistics.median(pair.turn_s for pair in every),
            http_s=statistics.median(pair.http.cpu_s for pair in every),
            http_wait_s=statistics.median(pair.http.wait_s for pair in every),
        )
        lives = [steady(pair.slots, FLEET_S) for pair in every]
        found["fleet"] = plan(host, lives, arguments.machines, arguments.load, arguments.rows_per_day)
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


def _median_ms(seconds: Iterable[float]) -> float:
    return round(1000 * statistics.median(seconds), 3)


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


def steady(slots: Slots, seconds: float) -> list[Slot]:
    """The speeds of a measurement, again and again for `seconds`, and nothing stolen."""
    length_s = slots[-1].end_s
    return [
        Slot(slot.end_s + turn * length_s, speed=slot.speed)
        for turn in range(math.ceil(seconds / length_s))
        for slot in slots
    ]


def plan(
    host: Host, lives: Sequence[Slots], machines: int, share: float, rows_per_day: float
) -> dict[str, Any]:
    """Simulate a fleet at a share of its rate, with each of two balancers; print and return its p50 and p99,
    and the number of machines for a number of rows a day.

    Args:
        lives: what the machines live through, in turn.
    """
    alone = Traffic(callers=max(CALLERS)).simulated(host, WARMUP_S + FLEET_S)
    rate, _ = figures(alone.answers, WARMUP_S, FLEET_S)
    found: dict[str, Any] = {
        "rows_per_s": round(rate, 1),
        "machines_for_rows_per_day": math.ceil(rows_per_day / DAY_S / (rate * share)),
    }
    print(f"\n| {machines} machines at {share:.0%} of their rate | p50, ms | p99, ms |\n| --- | --- | --- |")
    due = Traffic(rate=rate * share * machines).due(FLEET_S)
    for name, balance in {"drawn at random": at_random(), "fewer of two": fewer_of_two()}.items():
        latencies = latencies_of(simulate(host, due, machines, balance, slots=lives).answers)
        p50, p99 = (1000 * (percentile(latencies, percent) or 0.0) for percent in (50, 99))
        found[name] = {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}
        print(f"| {name} | {p50:.0f} | {p99:.0f} |")
    return found


def latencies_of(answers: Iterable[tuple[float, float]]) -> list[float]:
    return [latency for _, latency in answers]


if __name__ == "__main__":
    sys.exit(main())
