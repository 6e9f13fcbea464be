"""How this machine runs this ensemble best: measured when it is loaded, not assumed.

Each way to split the cores into lanes is loaded and timed on a few shapes, all lanes busy; a cost model is
fitted to the timings, and the split that promises the most rows a second is taken. Nothing here depends on
what a core or a GPU is thought to be good at.
"""

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from engine.cores import available_cores
from engine.cost import CostModel, Timing
from engine.devices import choose_device
from engine.lanes import Lanes
from engine.planner import BatchPlanner
from engine.settings import EngineSettings
from engine.split import Split, possible_splits
from models.bundle import Bundle
from models.encoding import Encoded
from models.ensemble import EncodedExample
from models.precision import Device

log = logging.getLogger("kore")

LENGTHS: Final = (32, 96, 256)
"""Tokens a row: most rows of KLUE-RE have 35 to 160."""

TYPICAL_LENGTHS: Final = (32, 64, 96, 128)
"""What a split's rows a second are predicted for."""

LONGEST_BATCH_S: Final = 0.25
"""A batch that would hold its lane longer is not tried, and so never cut: whoever comes next waits for it."""

MOST_TOKENS: Final = 32_768
"""Tokens a batch: where a GPU is long saturated, and its memory not yet full."""

PAYS: Final = 0.98
"""Twice the rows pay if a row then costs less than this share of before."""

CLEARLY: Final = 1.05
"""Another split than the first, a lane a core, has to promise so many times its rows a second: less may be
noise, and a lane that waits for nobody but itself suffers least from whatever else runs on a machine."""

ROUNDS: Final = 6

SHORT_S: Final = 0.1
"""Only batches shorter than this are timed more than once: more rounds tell more than longer batches."""

COMPARED_TOKENS: Final = 128
COMPARISONS: Final = 5
"""Batches of up to so many tokens, and how often each, to compare a new bundle's members with those that
serve; of each the shortest time counts."""

SAME: Final = 1.25
"""A new bundle that costs less than so many times the old one is taken to cost the same: swap after swap the
noise would add up."""

Times = dict[tuple[int, int], float]
"""Rows and their length, and the seconds of such a batch."""

Seconds = Callable[[int, int], float]
"""Rows and their length to the seconds that such a batch takes a lane while all lanes run them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A split, its timings, and what follows from them.

    Attributes:
        rounds: rows a second in each round, over the shapes that all splits ran in it.
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
        """Rows a second that the split promises over `TYPICAL_LENGTHS`, every batch at its best."""
        planner = self.planner
        return self.split.lanes / statistics.mean(planner.work(length) for length in TYPICAL_LENGTHS)

    def scaled(self, ratio: float, token_budget: int | None = None) -> "Measured":
        """As it would be with members that cost so many times as much; with the token budget that is asked
        for, if one is."""
        timings = tuple(replace(timing, seconds=timing.seconds * ratio) for timing in self.timings)
        longest = max(timing.length for timing in timings)
        fitting = min(MOST_TOKENS, max(longest, round(self.token_budget / ratio)))
        return Measured(self.split, timings, CostModel.fit(timings), token_budget or fitting)


@dataclass(frozen=True, slots=True)
class TunedEnsemble:
    """An ensemble on the lanes that were fastest here.

    Attributes:
        lanes: the members, one set of sessions a lane.
        measured: the split that was chosen.
        alone: the same members on all cores at once, for an example that nothing waits beside; `None` where
            that is not faster.
        tried: every split that was measured.
        tuning_s: seconds that measuring took.
    """

    lanes: Lanes
    measured: Measured
    alone: Lanes | None
    tried: tuple[Measured, ...]
    tuning_s: float

    def reload(self, bundle: Bundle) -> "TunedEnsemble":
        """The same members with new sessions on the same lanes.

        Raises:
            BundleRefused, DeviceUnavailable: as `Lanes.load` and `Ensemble.prove`.
        """
        return replace(
            self, lanes=_again(self.lanes, bundle), alone=_again(self.alone, bundle) if self.alone else None
        )

    def succeed(self, bundle: Bundle, token_budget: int | None = None) -> "TunedEnsemble":
        """Another bundle's members on the same lanes. While requests run beside it no split can be measured,
        only how much dearer the new members are than the old ones, in turns.

        Args:
            token_budget: as `measure`.

        Raises:
            BundleRefused, DeviceUnavailable: as `Lanes.load` and `Ensemble.prove`.
        """
        began = time.monotonic()
        new = self.reload(bundle)
        window = bundle.manifest.max_length
        shapes = [(timing.rows, min(timing.length, window)) for timing in self.measured.timings]
        shapes = [shape for shape in shapes if shape[0] * shape[1] <= COMPARED_TOKENS]
        seconds = [
            [(_run_seconds(new.lanes, *shape), _run_seconds(self.lanes, *shape)) for shape in shapes]
            for _ in range(COMPARISONS)
        ]
        new_s, old_s = np.min(seconds, axis=0).sum(axis=0)
        ratio = float(new_s / old_s)
        if 1 / SAME < ratio < SAME:
            ratio = 1.0
        return replace(
            new, measured=self.measured.scaled(ratio, token_budget), tuning_s=time.monotonic() - began
        )


def load(bundle: Bundle, settings: EngineSettings, cores: int | None = None) -> TunedEnsemble:
    """Load a bundle as the settings say, on the fastest lanes of this machine.

    Args:
        cores: how many the lanes can use; by default all that this process can use.

    Raises:
        BundleRefused, DeviceUnavailable: as `tune`.
    """
    device, why = choose_device(bundle, settings.device)
    log.info("device %s: %s", device, why)
    cores = available_cores(cores)
    alone = Split(1, cores) if device == "cpu" and settings.all_cores_for_one else None
    splits = possible_splits(device, cores, settings.lanes, settings.threads)
    return tune(
        bundle, device, splits, alone, settings.tuning_s, settings.token_budget, settings.cascade_caution
    )


def tune(
    bundle: Bundle,
    device: Device,
    splits: Sequence[Split],
    alone: Split | None,
    tuning_s: float,
    token_budget: int | None = None,
    cascade_caution: float = 0.0,
) -> TunedEnsemble:
    """Load a bundle on the fastest of some splits.

    Args:
        splits: what to choose from.
        alone: the split that an example without company would have; `None` for no such way.
        tuning_s, token_budget: as `measure`.
        cascade_caution: as `Lanes.load`. Batches are timed with every member voting: how many rows stop
            early, only traffic tells.

    Raises:
        BundleRefused, DeviceUnavailable: as `Lanes.load` and `Ensemble.prove`.
    """
    began = time.monotonic()
    candidates = list(dict.fromkeys([*splits, *([alone] if alone else [])]))

    @contextmanager
    def machine(split: Split) -> Iterator[Seconds]:
        lanes = Lanes.load(bundle, device, split)
        with ThreadPoolExecutor(split.lanes) as threads:
            yield _timed(lanes, threads)

    tried = measure(machine, candidates, bundle.manifest.max_length, tuning_s, token_budget)
    measured = fastest([tried[split] for split in splits])
    one = alone if alone and alone != measured.split and _faster_alone(tried[alone], measured) else None
    return TunedEnsemble(
        _proven(bundle, device, measured.split, cascade_caution),
        measured,
        _proven(bundle, device, one, cascade_caution) if one else None,
        tuple(tried.values()),
        time.monotonic() - began,
    )


def measure(
    machine: Callable[[Split], AbstractContextManager[Seconds]],
    splits: Sequence[Split],
    window: int,
    tuning_s: float,
    token_budget: int | None = None,
) -> dict[Split, Measured]:
    """Time every split, in turns, and fit what its batches cost.

    Of several rounds the shortest time of a shape counts: what else runs on a machine only ever adds to a
    measurement. A split is loaded again for each round, so that never more than one is in memory.

    Args:
        machine: loads a split, for as long as its context lasts.
        splits: what to measure.
        window: tokens of the longest row.
        tuning_s: no round is begun that would probably end later; the first one is always finished.
        token_budget: tokens a batch may hold; by default as many as the largest batch that was worth a
            measurement.
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
                # new sessions allocate in their first run, which takes up to twice as long: the longest row
                # has it
                seconds(1, window)
                if rounds:
                    times[split] = {
                        shape: seconds(*shape)
                        for shape, first_s in rounds[0][split].items()
                        if first_s < SHORT_S
                    }
                else:
                    times[split] = _time_shapes(seconds, window, token_budget or MOST_TOKENS)
        rounds.append(times)
        round_s = time.monotonic() - began - elapsed
    return {split: _conclude(split, rounds, token_budget) for split in splits}


def _time_shapes(seconds: Seconds, window: int, most_tokens: int) -> Times:
    """For some lengths, rows doubling for as long as that pays and a batch stays short enough to be of
    use."""
    times: Times = {}
    for length in sorted({min(length, window) for length in LENGTHS}):
        rows, row_s, in_vain = 1, math.inf, 0
        while rows == 1 or (
            in_vain < 2 and rows * length <= most_tokens and 2 * times[rows // 2, length] <= LONGEST_BATCH_S
        ):
            times[rows, length] = seconds(rows, length)
            in_vain = 0 if times[rows, length] / rows < PAYS * row_s else in_vain + 1
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
    """The split that promises the most rows a second; the first one unless another is clearly better, and was
    in every round: machines that are shared slow down for seconds at a time, and what was measured meanwhile
    looks slow."""
    first = tried[0]
    better = [
        other
        for other in tried[1:]
        if other.rows_per_s > CLEARLY * first.rows_per_s
        and all(one > by for one, by in zip(other.rounds, first.rounds, strict=True))
    ]
    return max(better, key=lambda measured: measured.rows_per_s, default=first)


def _faster_alone(alone: Measured, lane: Measured) -> bool:
    return sum(alone.cost.seconds(1, TYPICAL_LENGTHS)) < sum(lane.cost.seconds(1, TYPICAL_LENGTHS))


def _again(old: Lanes, bundle: Bundle) -> Lanes:
    return _proven(bundle, old.ensemble.device, old.split, old.ensemble.cascade_caution)


def _proven(bundle: Bundle, device: Device, split: Split, cascade_caution: float) -> Lanes:
    lanes = Lanes.load(bundle, device, split, cascade_caution)
    lanes.ensemble.prove()
    return lanes


def _timed(on: Lanes, threads: ThreadPoolExecutor) -> Seconds:
    """The real clock: every lane runs the batch, and the mean of their times counts."""

    def seconds(rows: int, length: int) -> float:
        lanes = range(on.split.lanes)
        # the first batch of a shape loads its kernels, which takes longer than the batch
        if on.ensemble.device == "cuda":
            list(threads.map(lambda lane: _run_seconds(on, rows, length, lane), lanes))
        return statistics.mean(threads.map(lambda lane: _run_seconds(on, rows, length, lane), lanes))

    return seconds


def _run_seconds(lanes: Lanes, rows: int, length: int, lane: int = 0) -> float:
    ensemble = lanes.ensemble
    row = EncodedExample(
        (Encoded(np.ones(length, dtype=np.int64), np.array([1, length - 2])),) * ensemble.encodings
    )
    began = time.perf_counter()
    ensemble.run([row] * rows, lane, every_member=True)
    return time.perf_counter() - began
