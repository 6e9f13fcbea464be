"""The bundle on the lanes that are fastest on this machine: measured when it loads, not assumed."""

import logging
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from engine.cores import available_cores
from engine.devices import choose_device
from engine.lanes import Lanes
from engine.measuring import TYPICAL_LENGTHS, Measured, Seconds, fastest, measure
from engine.settings import EngineSettings
from engine.split import Split, possible_splits
from models.bundle import Bundle
from models.bundle_encoder import BundleEncoder
from models.encoding import Encoded, EncodedExample
from models.ensemble import Ensemble
from models.precision import Device

log = logging.getLogger("kore")

COMPARED_TOKENS: Final = 128
COMPARISONS: Final = 5
"""A new bundle's members are compared with the served ones on batches of up to `COMPARED_TOKENS`, each timed
`COMPARISONS` times; the shortest time counts."""

SAME: Final = 1.25
"""A new bundle that costs less than this many times the old one is taken to cost the same: otherwise the
noise would add up, swap after swap."""


@dataclass(frozen=True, slots=True)
class TunedEnsemble:
    """An ensemble on the lanes that were fastest here.

    Attributes:
        lanes: the members on the chosen split.
        measured: the chosen split with its timings.
        alone: the members a second time, on all cores at once, for a lone request; None if that is not
            faster.
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
        served, one = self.lanes.ensemble, self.alone.split if self.alone else None
        lanes, alone = _proven(
            bundle,
            BundleEncoder.of(bundle, served.encoder),
            served.device,
            self.lanes.split,
            one,
            served.cascade_caution,
            fill_window=not _equal_graphs(bundle, served),
        )
        return replace(self, lanes=lanes, alone=alone)

    def succeed(self, bundle: Bundle, token_budget: int | None = None) -> "TunedEnsemble":
        """Another bundle's members on the same lanes. While requests run, no split can be measured; only the
        cost of the new members against the old ones is, in turns. Equal graphs keep the measured costs.

        Args:
            token_budget: as `measure`.

        Raises:
            BundleRefused, DeviceUnavailable: as `Lanes.load` and `Ensemble.prove`.
        """
        began = time.monotonic()
        new = self.reload(bundle)
        if _equal_graphs(bundle, self.lanes.ensemble):
            return new
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
        alone: the split for a lone request; None for none.
        tuning_s, token_budget: as `measure`.
        cascade_caution: as `Lanes.load`. Batches are timed with every member voting, since only traffic tells
            how many rows stop early.

    Raises:
        BundleRefused, DeviceUnavailable: as `Lanes.load` and `Ensemble.prove`.
    """
    began = time.monotonic()
    encoder = BundleEncoder(bundle)
    candidates = list(dict.fromkeys([*splits, *([alone] if alone else [])]))

    @contextmanager
    def machine(split: Split) -> Iterator[Seconds]:
        lanes = Lanes.load(bundle, device, split, encoder=encoder)
        with ThreadPoolExecutor(split.lanes) as threads:
            yield _timed(lanes, threads)

    tried = measure(machine, candidates, bundle.manifest.max_length, tuning_s, token_budget)
    measured = fastest([tried[split] for split in splits])
    one = alone if alone and alone != measured.split and _faster_alone(tried[alone], measured) else None
    lanes, lone = _proven(bundle, encoder, device, measured.split, one, cascade_caution)
    return TunedEnsemble(lanes, measured, lone, tuple(tried.values()), time.monotonic() - began)


def _faster_alone(alone: Measured, lane: Measured) -> bool:
    return sum(alone.cost.seconds(1, TYPICAL_LENGTHS)) < sum(lane.cost.seconds(1, TYPICAL_LENGTHS))


def _proven(
    bundle: Bundle,
    encoder: BundleEncoder,
    device: Device,
    split: Split,
    alone: Split | None,
    cascade_caution: float,
    fill_window: bool = True,
) -> tuple[Lanes, Lanes | None]:
    """The members on a split, and a second time on `alone`, if it is given."""
    lanes = Lanes.load(bundle, device, split, cascade_caution, encoder=encoder)
    lanes.ensemble.prove(fill_window)
    if alone is None:
        return lanes, None
    lone = Lanes.load(bundle, device, alone, cascade_caution, encoder=encoder)
    lone.ensemble.prove(fill_window=False, in_batch=False)
    return lanes, lone


def _equal_graphs(bundle: Bundle, served: Ensemble) -> bool:
    """Whether a bundle costs what the served one costs, and has the window that this one has filled."""
    old, device = served.bundle, served.device
    same_window = bundle.manifest.max_length == old.manifest.max_length
    return same_window and bundle.graph_sums(device) == old.graph_sums(device)


def _timed(on: Lanes, threads: ThreadPoolExecutor) -> Seconds:
    """The real clock: every lane runs the batch, and the mean of their times counts."""

    def seconds(rows: int, length: int) -> float:
        lanes = range(on.split.lanes)
        if on.ensemble.device == "cuda":  # the first batch of a shape also loads its kernels
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
