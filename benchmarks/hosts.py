"""Simulated machines that serve: the server's planner on measured times, and cores that HTTP and lanes share.

`benchmarks/scale.py` measures what a `Host` needs, compares one host with the real server, and simulates
many. The way of a request through a host:

1. HTTP reads it: half of the seconds that HTTP takes for a request. HTTP is one thread, so one request at a
   time, in the order of arrival.
2. It waits. A free lane takes the batch that the server's planner chooses.
3. The lane needs a moment (`Host.turn_s`). Then the batch runs for its measured time, or for longer while
   the cores have more to do.
4. HTTP answers each of its requests: the other half of its seconds.

HTTP waits for a core when it wakes; the kernel tells for how long. The lanes share what HTTP leaves. A real
machine is not always as fast, and a hypervisor takes cores away for a while: the host lives through the same
(`Slot`).
"""

import heapq
import itertools
import math
import random
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from loadtest.figures import percentile

if TYPE_CHECKING:
    from engine.planner import BatchPlanner

DONE_S: Final = 1e-9
"""Work of fewer seconds than this is done: what rounding leaves."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine as the simulation knows it.

    Attributes:
        lanes, threads: as in `engine.split.Split`.
        cores: that lanes and HTTP share.
        lengths: tokens of each row.
        shares: seconds of each row alone with the cascade, over what the planner's cost model predicts.
        ratios: of real batches the seconds, over what the two above predict, at one speed of the machine.
            Each batch draws one of them.
        turn_s: seconds between two batches of a lane in which it neither runs nor waits for a core. It waits
            for the interpreter's lock, or is being woken.
        http_s: CPU seconds of a request outside the lanes.
        http_wait_s: seconds in which HTTP waits for a core, for a request.
    """

    planner: "BatchPlanner"
    lanes: int
    threads: int
    cores: int
    lengths: Sequence[int]
    shares: Sequence[float]
    ratios: Sequence[float] = (1.0,)
    turn_s: float = 0.0
    http_s: float = 0.0
    http_wait_s: float = 0.0

    @property
    def reading_s(self) -> float:
        """Seconds that HTTP takes to read a request, and as many to answer it."""
        return (self.http_s + self.http_wait_s) / 2

    @property
    def http_cores(self) -> float:
        """The share of a core that HTTP has on average while it is at work."""
        return self.http_s / (self.http_s + self.http_wait_s) if self.http_s else 0.0

    def predicted_s(self, batch: Sequence[int]) -> float:
        """Of a batch of rows, given by number, on a lane whose cores do nothing else."""
        longest = max(self.lengths[row] for row in batch)
        share = sum(self.shares[row] for row in batch) / len(batch)
        return float(self.planner.cost.seconds(len(batch), longest)) * share


@dataclass(frozen=True, slots=True)
class Slot:
    """A short time of a measured machine.

    Attributes:
        end_s: its end, in seconds from the start. The next slot begins there.
        stolen: how many cores the hypervisor took away. The kernel counts only cores that had work (`steal`
            in proc_stat(5)), so HTTP and the lanes lose that time.
        speed: work that was done in a second of CPU time, over the mean.
    """

    end_s: float
    stolen: float = 0.0
    speed: float = 1.0


Slots = Sequence[Slot]
"""In order. After the last one nothing is stolen, and the speed is 1."""


@dataclass(slots=True, eq=False)
class Request:
    """A request of one row, and its place among all requests. Times are simulated seconds: when it was due,
    when it joined the queue."""

    number: int
    row: int
    due: float
    queued: float = 0.0
    answered: bool = False


@dataclass(slots=True, eq=False)
class Work:
    """What a lane or HTTP does now, and the seconds of it that are left."""

    left: float
    requests: list[Request]


@dataclass(slots=True, eq=False)
class Server:
    """One host's present state.

    Attributes:
        waiting: requests in the queue, sorted by length, as (length, number, request).
        lanes: the running batches.
        http: what HTTP has to do; it does the first.
        inside: requests without an answer.
        now: the time of this state.
        changes: how often the state has changed; an event of an earlier state is void.
        drawn: chooses a ratio for each batch.
        slots: what the machine lives through.
        slot: the place of the present time in `slots`.
    """

    host: Host
    waiting: list[tuple[int, int, Request]] = field(default_factory=list)
    lanes: list[Work] = field(default_factory=list)
    http: deque[Work] = field(default_factory=deque)
    inside: int = 0
    now: float = 0.0
    changes: int = 0
    drawn: random.Random = field(default_factory=lambda: random.Random(0))
    slots: Slots = ()
    slot: int = 0

    def _paces(self) -> tuple[float, float]:
        """The work that HTTP and each busy lane do in a second, in seconds."""
        threads, cores = len(self.lanes) * self.host.threads, self.host.cores
        free = cores - self.host.http_cores * bool(self.http)
        running = min(cores, threads + bool(self.http))
        slot = self.slots[self.slot] if self.slot < len(self.slots) else Slot(math.inf)
        pace = max(0.0, 1 - slot.stolen / running) * slot.speed if running else 0.0
        return pace, min(1.0, free / threads) * pace if threads else 0.0

    def next_change(self) -> float:
        """When HTTP's present work, a batch or a slot ends, if nothing arrives before; infinite
        if nothing runs."""
        http_pace, lane_pace = self._paces()
        if not self.http and not self.lanes:
            return math.inf
        ends = [self.slots[self.slot].end_s] if self.slot < len(self.slots) else []
        ends += [self.now + work.left / lane_pace for work in self.lanes if lane_pace]
        ends += [self.now + work.left / http_pace for work in itertools.islice(self.http, 1) if http_pace]
        return min(ends, default=math.inf)

    def advance(self, now: float) -> None:
        """Do the work between the present time and `now`. Nothing changes before `now`."""
        http_pace, lane_pace = self._paces()
        for work in self.lanes:
            work.left -= (now - self.now) * lane_pace
        if self.http:
            self.http[0].left -= (now - self.now) * http_pace
        self.now = now
        while self.slot < len(self.slots) and self.slots[self.slot].end_s <= now:
            self.slot += 1

    def finish(self) -> list[Request]:
        """Take out the work that has ended, and begin what follows it; returns the answered requests."""
        answered: list[Request] = []
        while self.http and self.http[0].left < DONE_S:
            (request,) = self.http.popleft().requests
            if request.answered:
                answered.append(request)
            else:
                request.queued = self.now
                insort(self.waiting, (self.host.lengths[request.row], request.number, request))
        for work in [work for work in self.lanes if work.left < DONE_S]:
            self.lanes.remove(work)
            for request in work.requests:
                request.answered = True
                self.http.append(Work(self.host.reading_s, [request]))
        self.inside -= len(answered)
        return answered

    def take(self) -> tuple[list[Request], float]:
        """Give a free lane the batch that the planner chooses around the request that has waited longest;
        returns its requests and its seconds, without `Host.turn_s`."""
        anchor = min(range(len(self.waiting)), key=lambda place: self.waiting[place][1])
        lengths = [length for length, _, _ in self.waiting]
        waited = [self.now - request.queued for _, _, request in self.waiting]
        cut = self.host.planner.choose(lengths, anchor, self.host.lanes - len(self.lanes), waited)
        batch = [request for _, _, request in self.waiting[cut.start : cut.stop]]
        del self.waiting[cut.start : cut.stop]
        predicted_s = self.host.predicted_s([request.row for request in batch])
        seconds = predicted_s * self.drawn.choice(self.host.ratios)
        self.lanes.append(Work(seconds + self.host.turn_s, batch))
        return batch, seconds


Balance = Callable[[Sequence[Server]], Server]


def at_random(seed: int = 0) -> Balance:
    """A balancer that draws each request's host."""
    return random.Random(seed).choice


def fewer_of_two(seed: int = 0) -> Balance:
    """A balancer that draws two hosts and takes the one with fewer requests inside (Mitzenmacher, 2001)."""
    drawn = random.Random(seed)
    return lambda servers: min(drawn.choice(servers), drawn.choice(servers), key=lambda server: server.inside)


@dataclass(slots=True)
class Simulated:
    """What happened.

    Attributes:
        answers: the time of each and its latency, in seconds.
        batches: the requests of each.
        lanes_s: seconds of all batches, on cores that do nothing else, at speed 1.
    """

    answers: list[tuple[float, float]] = field(default_factory=list)
    batches: list[list[Request]] = field(default_factory=list)
    lanes_s: float = 0.0


def simulate(
    host: Host,
    due: Iterable[float],
    hosts: int = 1,
    balance: Balance = lambda servers: servers[0],
    again_until: float = 0.0,
    slots: Sequence[Slots] = ((),),
    seed: int = 0,
) -> Simulated:
    """Send one-row requests to equal hosts; the rows in order, again and again.

    1. Take the next event: a request is due, or something ends on a host.
    2. A request goes to the host that the balancer names.
    3. What ended on that host is taken out, and what follows it begins.
    4. Free lanes of that host take batches.

    Args:
        due: ascending times of the requests, in seconds.
        again_until: until this time, each caller sends the next request when it gets its answer.
        slots: of the hosts in turn.
        seed: of the ratios that the batches draw.
    """
    numbers, places, found = itertools.count(), itertools.count(), Simulated()
    servers = [
        Server(host, drawn=random.Random(seed + place), slots=slots[place % len(slots)])
        for place in range(hosts)
    ]
    rows = itertools.cycle(range(len(host.lengths)))
    events: list[tuple[float, int, Server | None, int]] = [(at, next(numbers), None, 0) for at in due]
    heapq.heapify(events)
    while events:
        now, _, server, change = heapq.heappop(events)
        if server is not None and change != server.changes:
            continue
        if server is None:
            server = balance(servers)
            server.advance(now)
            server.inside += 1
            server.http.append(Work(host.reading_s, [Request(next(places), next(rows), now)]))
        else:
            server.advance(now)
        for request in server.finish():
            found.answers.append((now, now - request.due))
            if now < again_until:
                heapq.heappush(events, (now, next(numbers), None, 0))
        while server.waiting and len(server.lanes) < host.lanes:
            batch, seconds = server.take()
            found.batches.append(batch)
            found.lanes_s += seconds
        server.changes += 1
        if (end := server.next_change()) < math.inf:
            heapq.heappush(events, (end, next(numbers), server, server.changes))
    return found


def figures(answers: Iterable[tuple[float, float]], warmup_s: float, seconds: float) -> tuple[float, float]:
    """Answers a second, and the p99 of their latency in seconds, from `warmup_s` on for `seconds`.

    Args:
        answers: the time and the latency of each, in seconds from the first request.
    """
    latencies = [latency for at, latency in answers if warmup_s <= at < warmup_s + seconds]
    return len(latencies) / seconds, percentile(latencies, 99) or 0.0
