"""The real batcher on a device whose batches take as long as a published GPU says, on a clock that only moves
when everybody waits. So a simulated second costs as long as the batcher's own work in it."""

import asyncio
import heapq
import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Final
from unittest.mock import patch

import numpy as np

from benchmarks.simulation import BETWEEN_S, Cost, SimulationResult, in_batches_of, simulate
from engine.cost import CostModel
from engine.measuring import Seconds, measure
from engine.planner import BatchPlanner
from engine.queue import DynamicBatcher, QueueOptions
from engine.split import Split
from models.encoding import Encoded
from models.ensemble import EncodedExample
from models.example import Prediction
from models.labels import RELATIONS

A100: Final = CostModel(run=1.25e-3, row=0.0, token=2.9e-6, token_length=1.2e-9)
"""BERT-large in fp16 on an A100 with 40 GB: a launch, then linear in tokens. Fitted to the average latencies
that NVIDIA publishes with TensorRT (demo/BERT/README.md, commit 007c347), batches of 1 to 128 rows."""
PUBLISHED_MS: Final = {
    (1, 128): 1.64,
    (2, 128): 2.05,
    (4, 128): 2.97,
    (8, 128): 4.51,
    (12, 128): 5.26,
    (16, 128): 7.75,
    (24, 128): 10.10,
    (32, 128): 13.85,
    (64, 128): 26.20,
    (128, 128): 51.61,
    (1, 384): 3.12,
    (2, 384): 4.15,
    (4, 384): 5.96,
    (8, 384): 11.53,
    (12, 384): 16.22,
    (16, 384): 21.92,
    (24, 384): 32.43,
    (32, 384): 43.01,
    (64, 384): 83.63,
    (128, 384): 163.70,
}
"""(rows, tokens per row) to milliseconds; the figures behind `A100`."""
SMALL: Final = 1 / 30
"""The weights that a row of the default bundle passes, over those of BERT-large (docs/scale.md)."""


def bert_large(rows: int, length: int) -> float:
    """Seconds of a batch, as published."""
    return float(A100.seconds(rows, length))


def small_members(rows: int, length: int) -> float:
    """Seconds of a batch of members that are too small to fill the device: the launch alone, until the tokens
    take longer. Not published: the launch of `A100`, and its other prices times `SMALL`."""
    return max(A100.run, SMALL * (bert_large(rows, length) - A100.run))


DEVICES: Final[dict[str, Cost]] = {"BERT-large on an A100": bert_large, "small members": small_members}
ONE_LANE: Final = Split(1, 1)
SIZES: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
WINDOW: Final = 256
ANSWERS: Final = 4000
FAR_S: Final = 1e6
PREDICTION: Final = Prediction(np.full(len(RELATIONS), 1 / len(RELATIONS)), members=1)


def compare(seconds: Cost, callers: int, answers: int = ANSWERS) -> tuple[float, float, int]:
    """Rows per second of the real batcher, of the best batches, and their size.

    The best: the same callers on the same device, served in batches of one fixed size that hold the rows of
    the nearest lengths; the size is chosen by trying each of `SIZES`. A caller sends its next row a random
    time after its answer, 1 ms on average.
    """
    planner = tuned(seconds)
    lengths = typical_lengths()
    ours = serve(planner, seconds, lengths, callers, answers).rows_per_s
    tried = {}
    for size in SIZES:
        choose = in_batches_of(size, planner.token_budget)
        tried[size] = simulate(1, seconds, choose, lengths, callers, answers, _between()).rows_per_s
    size = max(tried, key=lambda each: tried[each])
    return ours, tried[size], size


def tuned(seconds: Cost) -> BatchPlanner:
    """The planner that the engine fits to this device when a bundle loads."""

    @contextmanager
    def machine(split: Split) -> Iterator[Seconds]:
        yield seconds

    return measure(machine, [ONE_LANE], WINDOW, tuning_s=7)[ONE_LANE].planner


def typical_lengths() -> list[int]:
    """Tokens of rows as in KLUE-RE, whose median is 63."""
    drawn = np.random.default_rng(0).lognormal(4.15, 0.4, 3000)
    return [int(length) for length in np.clip(drawn, 25, WINDOW - 6)]


def _between() -> Iterator[float]:
    draw = random.Random(1)
    return (draw.expovariate(1 / BETWEEN_S) for _ in itertools.count())


def serve(
    planner: BatchPlanner, seconds: Cost, lengths: Sequence[int], callers: int, answers: int
) -> SimulationResult:
    """What `simulate` computes, by the real batcher in its own threads."""
    clock = Clock(callers)
    with patch("engine.queue.time", SimpleNamespace(monotonic=lambda: clock.now)):
        return asyncio.run(_serve(clock, planner, seconds, lengths, callers, answers))


async def _serve(
    clock: "Clock", planner: BatchPlanner, seconds: Cost, lengths: Sequence[int], callers: int, answers: int
) -> SimulationResult:
    draw, between, deck, latencies = random.Random(0), _between(), list[int](), list[float]()
    ended_s = 0.0
    loop = asyncio.get_running_loop()

    def run(rows: Sequence[EncodedExample], lane: int) -> list[Prediction]:
        """A batch on the device: returns when the clock has reached its end."""
        done = threading.Event()
        loop.call_soon_threadsafe(clock.start, seconds(len(rows), max(map(len, rows))), len(rows), done)
        done.wait()
        return [PREDICTION] * len(rows)

    async def call() -> None:
        nonlocal ended_s
        while len(latencies) < answers:
            # Also before the first row: of rows that come at one time, it is chance how many the lane sees.
            await clock.sleep(next(between))
            if not deck:
                deck.extend(draw.sample(lengths, len(lengths)))
            row, began = _row(deck.pop()), clock.now
            clock.asked()
            await batcher.submit([row], FAR_S)
            clock.answered()
            if len(latencies) < answers:  # the last rows find emptier batches
                latencies.append(clock.now - began)
                ended_s = clock.now
        clock.left()

    batcher = DynamicBatcher(run, planner, QueueOptions(lanes=1, max_queue=callers))
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())
        await clock.run(batcher)
    batcher.close()
    return SimulationResult(sorted(latencies), ended_s)


class Clock:
    """Moves to the next event once every caller waits, and the lane has taken all that it can.

    Attributes:
        now: simulated seconds.
    """

    def __init__(self, callers: int) -> None:
        self.now = 0.0
        self._awake = callers  # neither ask nor sleep
        self._asking = 0
        self._running = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    async def run(self, batcher: DynamicBatcher) -> None:
        """Go on until every caller has left."""
        while self._events or not self._settled(batcher):
            if self._settled(batcher):
                self.now, _, happen = heapq.heappop(self._events)
                happen()
            else:
                self._changed.clear()
                await self._changed.wait()

    def _settled(self, batcher: DynamicBatcher) -> bool:
        """Not while a row is between queue, device and caller, or a free lane has a waiting row to take."""
        rows_in_place = self._asking == self._running + batcher.waiting
        return not self._awake and rows_in_place and bool(self._running or not batcher.waiting)

    def asked(self) -> None:
        """A caller asks for one row. It must submit the row before it waits for anything else."""
        self._awake -= 1
        self._asking += 1
        self._changed.set()

    def answered(self) -> None:
        """A caller has its answer."""
        self._asking -= 1
        self._awake += 1

    async def sleep(self, seconds: float) -> None:
        """A caller does nothing for a while."""
        woken = asyncio.get_running_loop().create_future()

        def wake() -> None:
            self._awake += 1
            woken.set_result(None)

        self._at(seconds, wake)
        self.left()
        await woken

    def left(self) -> None:
        """A caller will not ask again."""
        self._awake -= 1
        self._changed.set()

    def start(self, seconds: float, rows: int, done: threading.Event) -> None:
        """The device starts a batch, and sets `done` at its end."""

        def finish() -> None:
            self._running -= rows
            done.set()

        self._running += rows
        self._at(seconds, finish)
        self._changed.set()

    def _at(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happen))


@cache
def _row(length: int) -> EncodedExample:
    return EncodedExample((Encoded(np.ones(length, dtype=np.int64), np.array([1, 2])),))
