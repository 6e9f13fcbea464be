"""Batches to time, their operations, and the clock."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.figures import percentile
from models.encoding import EncodedBatch


@dataclass(frozen=True, slots=True)
class BatchWork:
    """One batch.

    Attributes:
        name: rows and their length.
        lengths: tokens a row.
    """

    name: str
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Without padding."""
        return sum(self.lengths)

    def batch(self, vocabulary: int) -> EncodedBatch:
        """Random ids, padded to the longest row."""
        rows, longest = len(self.lengths), max(self.lengths)
        mask = (np.arange(longest) < np.array(self.lengths)[:, None]).astype(np.int64)
        ids = np.random.default_rng(0).integers(5, vocabulary, (rows, longest))
        return EncodedBatch(
            np.where(mask == 1, ids, 1),
            mask,
            np.tile(np.array([1, 4]), (rows, 1)),
            np.zeros_like(mask),
            np.tile(np.array([[2, 3], [5, 6]]), (rows, 1, 1)),
            np.ones((rows, 2), dtype=np.int64),
        )

    def operations(self, layers: int, hidden: int, intermediate: int) -> float:
        """Operations of an encoder's matrix products for these tokens: two for each multiplication, none for
        padding."""
        dense = self.tokens * (4 * hidden * hidden + 2 * hidden * intermediate)
        attention = sum(2 * length * length * hidden for length in self.lengths)
        return 2.0 * layers * (dense + attention)


@dataclass(frozen=True, slots=True)
class Timed:
    """The time of one batch, from token ids to answers, both in the host's memory.

    Attributes:
        tflops: 10¹² operations a second, without padding; `None` if the model's shape is not known.
    """

    p50_ms: float
    p99_ms: float
    rows_per_s: float
    tokens_per_s: float
    tflops: float | None

    @classmethod
    def measure(
        cls, run: Callable[[], Any], work: BatchWork, operations: float | None, seconds: float
    ) -> "Timed":
        """Warm up, then run for `seconds`, and ten times at least."""
        for _ in range(3):
            run()
        times: list[float] = []
        while len(times) < 10 or sum(times) < seconds:
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        p50, p99 = (percentile(times, percent) or 0.0 for percent in (50, 99))
        tflops = None if operations is None else operations / p50 / 1e12
        return cls(1000 * p50, 1000 * p99, len(work.lengths) / p50, work.tokens / p50, tflops)


def equal(rows: int, length: int) -> BatchWork:
    return BatchWork(f"{rows} × {length}", (length,) * rows)


def mixed(rows: int, lengths: Sequence[int]) -> BatchWork:
    """Rows of all lengths, as they arrive: much of a padded batch is padding."""
    chosen = np.random.default_rng(rows).choice(np.array(lengths), rows)
    return BatchWork(f"{rows} × mixed", tuple(int(length) for length in chosen))
