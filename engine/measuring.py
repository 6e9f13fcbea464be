"""Times the ways to split a machine into lanes, and chooses one.

1. Load each split in turn and time batches of a few shapes on it, with every lane busy. A split is loaded
   again in each round, so that never more than one is in memory.
2. Repeat that in rounds, within a limit of time. Of each shape the shortest time counts: other programs on
   the machine only ever add to a measurement.
3. Fit a cost model to each split's timings (`engine/cost.py`).
4. Take the split that promises the most rows per second (`fastest`).

The functions know no models: `machine` loads a split, and tests pass machines that are formulas.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

from engine.cost import CostModel, Timing
from engine.planner import BatchPlanner
from engine.split import Split

LENGTHS: Final = (32, 96, 256)
"""Tokens per row in the timed batches: most rows of KLUE-RE have 35 to 160."""

TYPICAL_LENGTHS: Final = (32, 64, 96, 128)
"""Tokens per row for which a split's rows per second are predicted."""

LONGEST_BATCH_S: Final = 0.25
"""A batch that would hold its lane longer is not timed, and so never chosen: others wait for it."""

MOST_TOKENS: Final = 32_768
"""The largest timed batch in tokens: a GPU is saturated long before that, and its memory is not full yet."""

PAYS: Final = 0.98
"""Twice the rows are worth timing if a row then costs less than this share of its cost before."""

CLEARLY: Final = 1.05
"""Another split must promise this many times the rows per second of the first one, which has one lane per
core: less can be noise, and a lane of one thread suffers least from other programs."""

ROUNDS: Final = 6

SHORT_S: Final = 0.1
"""Only batches shorter than this are timed in later rounds: more rounds tell more than longer batches."""

Times = dict[tuple[int, int], float]
"""(rows, length) to the seconds of such a batch."""

Seconds = Callable[[int, int], float]
"""Seconds that a batch of (rows, length) takes a lane while every lane runs one."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A split, its timings, and the cost model that was fitted to them.

    Attributes:
        rounds: rows per second in each round, over the shapes that all splits ran in it.
    """

    split: Split
    timings: tuple[Timing, ...]
    cost: CostModel
    token_budget: int
    rounds: tuple[float, ...] = ()

    @property
    def planner(self) -> BatchPlanner:
        return BatchPlanner(self.cost, self.token_budget)

    @property
    def rows_per_s(self) -> float:
        """Rows per second that the split promises over `TYPICAL_LENGTHS`, every batch at its best."""
        planner = self.planner
        return self.split.lanes / statistics.mean(planner.work(length) for length in TYPICAL_LENGTHS)

    def scaled(self, ratio: float, token_budget: int | None = None) -> "Measured":
        """The same split with members that cost `ratio` times as much.

        Args:
            token_budget: by default the present one, divided by the ratio.
        """
        timings = tuple(replace(timing, seconds=timing.seconds * ratio) for timing in self.timings)
        longest = max(timing.length for timing in timings)
        fitting = min(MOST_TOKENS, max(longest, round(self.token_budget / ratio)))
        return Measured(self.split, timings, CostModel.fit(timings), token_budget or fitting)


def measure(
    machine: Callable[[Split], AbstractContextManager[Seconds]],
    splits: Sequence[Split],
    window: int,
    tuning_s: float,
    token_budget: int | None = None,
) -> dict[Split, Measured]:
    """Time every split and fit a cost model to it: this file's steps 1 to 3.

    Args:
        machine: loads a split for as long as its context lasts.
        splits: what to measure.
        window: tokens of the longest row.
        tuning_s: a round that would probably end later is not begun; the first one always finishes.
        token_budget: tokens that a batch can hold; by default those of the largest batch worth timing.
    """
    began = time.monotonic()
    rounds: list[dict[Split, Times]] = []
    round_s = 0.0
    while len(rounds) < ROUNDS:
        elapsed = time.monotonic() - began
        if rounds and elapsed + round_s > tuning_s:
            break
        times: dict[Split, Times] = {}
        for split in splits:
            with machine(split) as seconds:
                seconds(1, window)  # new sessions allocate memory in their first run, which takes longer
                if rounds:
                    times[split] = {
                        shape: seconds(*shape)
                        for shape, first_s in rounds[0][split].items()
                        if first_s < SHORT_S
                    }
                else:
                    times[split] = _time_shapes(seconds, window, token_budget or MOST_TOKENS)
                del seconds  # it holds the split's sessions, and the next split is loaded before it would go
        rounds.append(times)
        round_s = time.monotonic() - began - elapsed
    return {split: _conclude(split, rounds, token_budget) for split in splits}


def _time_shapes(seconds: Seconds, window: int, most_tokens: int) -> Times:
    """For each length, double the rows as long as a row gets cheaper and the batch stays short enough."""
    times: Times = {}
    for length in sorted({min(length, window) for length in LENGTHS}):
        rows, row_s, useless = 1, math.inf, 0
        while rows == 1 or (
            useless < 2 and rows * length <= most_tokens and 2 * times[rows // 2, length] <= LONGEST_BATCH_S
        ):
            times[rows, length] = seconds(rows, length)
            useless = 0 if times[rows, length] / rows < PAYS * row_s else useless + 1
            row_s = min(row_s, times[rows, length] / rows)
            rows *= 2
    return times


def _conclude(split: Split, rounds: Sequence[dict[Split, Times]], token_budget: int | None) -> Measured:
    shortest = {
        shape: min(times[split][shape] for times in rounds if shape in times[split])
        for shape in rounds[0][split]
    }
    timings = tuple(Timing(rows, length, time_s) for (rows, length), time_s in sorted(shortest.items()))
    shared = [set.intersection(*map(set, times.values())) for times in rounds]
    rates = tuple(
        split.lanes * sum(rows for rows, _ in shapes) / sum(times[split][shape] for shape in shapes)
        for times, shapes in zip(rounds, shared, strict=True)
        if shapes
    )
    budget = token_budget or max(timing.rows * timing.length for timing in timings)
    return Measured(split, timings, CostModel.fit(timings), budget, rates)


def fastest(tried: Sequence[Measured]) -> Measured:
    """The split that promises the most rows per second: the first one, unless another is clearly better and
    was better in every round. A shared machine slows down for seconds at a time, and a split that was timed
    meanwhile looks slow."""
    first = tried[0]
    better = [
        other
        for other in tried[1:]
        if other.rows_per_s > CLEARLY * first.rows_per_s
        and all(one > by for one, by in zip(other.rounds, first.rounds, strict=True))
    ]
    return max(better, key=lambda measured: measured.rows_per_s, default=first)
