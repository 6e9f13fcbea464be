"""A bundle's members on the lanes of a split.

The server's queue and scoring give batches to single lanes. Export and benchmarks have all rows at hand:
they call `predict`, which uses all lanes at once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.cores import available_cores
from engine.devices import gpus, lacking_for_cuda
from engine.planner import cut_sorted
from engine.split import Split
from models.bundle import Bundle
from models.bundle_encoder import BundleEncoder
from models.classifier import CPU, CUDA
from models.encoding import EncodedExample
from models.ensemble import PROVIDERS, DeviceUnavailable, Ensemble
from models.example import Example, Prediction
from models.precision import Device

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Lanes:
    """An ensemble with as many copies as its lanes need. A lane is a number below `split.lanes`."""

    ensemble: Ensemble
    split: Split

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        device: Device = "cpu",
        split: Split | None = None,
        cascade_caution: float = 0.0,
        provider: str | None = None,
        encoder: BundleEncoder | None = None,
    ) -> "Lanes":
        """Load every member. The default split is one lane of one thread for each core, or one lane on a GPU.

        Args:
            cascade_caution, provider, encoder: as `Ensemble.load`.

        Raises:
            DeviceUnavailable: the bundle has no graphs for the device, or the device refused them.
        """
        provider = provider or PROVIDERS[device]
        split = split or Split(available_cores() if provider == CPU else 1, threads=1)
        if provider == CUDA and device in bundle.devices() and (lacking := lacking_for_cuda()):
            raise DeviceUnavailable(f"CUDA is required, but {lacking}")
        copies = split.copies if provider == CPU else max(1, min(split.lanes, len(gpus())))
        loaded = Ensemble.load(bundle, device, copies, split.threads, cascade_caution, provider, encoder)
        return cls(loaded, split)

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Predictions in the order of the examples.

        Raises:
            InvalidExample: an example's entities do not fit into the models' window.
        """
        return self._on_all_lanes(examples, self.ensemble.run)

    def member_probabilities(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Each member's own probabilities, type restriction applied: shape (members, rows, 30).

        Raises:
            InvalidExample: an example's entities do not fit into the models' window.
        """

        def run(rows: Sequence[EncodedExample], lane: int) -> list[NDArray[np.float64]]:
            return list(self.ensemble.member_probabilities(rows, lane).swapaxes(0, 1))

        return np.stack(self._on_all_lanes(examples, run), axis=1)

    def _on_all_lanes(
        self, examples: Sequence[Example], run: Callable[[Sequence[EncodedExample], int], Sequence[Result]]
    ) -> list[Result]:
        rows = [self.ensemble.encode(example) for example in examples]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        batches = [
            [order[place] for place in cut] for cut in cut_sorted([len(rows[index]) for index in order])
        ]
        results: dict[int, Result] = {}
        with ThreadPoolExecutor(self.split.lanes) as threads:
            answers = threads.map(
                lambda batch, lane: run([rows[index] for index in batch], lane), batches, count()
            )
            for batch, answer in zip(batches, answers, strict=True):
                results.update(zip(batch, answer, strict=True))
        return [results[index] for index in range(len(rows))]
