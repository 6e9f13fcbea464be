"""What a batch costs: seconds from its number of rows and their padded length, fitted to a few timings on
this very machine.

A transformer's work grows with the tokens and, in its attention, with the length that each of them attends
to; starting a run costs something; and from some size on a token costs more, on a CPU because the batch
outgrows the caches, on a GPU because until then the machine was not full. Which of these rules differs
between machines: on a GPU batches of dozens pay, on a CPU a handful of rows is best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZES: Final = tuple(2**exponent for exponent in range(8, 15))
"""Tokens from which on each further token may cost more."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A batch of equally long rows, and the seconds that it took a lane while all lanes ran such batches."""

    rows: int
    length: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of a lane for a batch. No price is negative: more work never costs less.

    Attributes:
        run: for a run, whatever its size.
        row: for each row.
        token: for each token, padding included.
        token_length: for each token, times the length that it attends to.
        above: a number of tokens, and what each token above it costs more; for several numbers.
    """

    run: float
    row: float
    token: float
    token_length: float
    above: tuple[tuple[int, float], ...] = ()

    @classmethod
    def fit(cls, timings: Sequence[Timing]) -> "CostModel":
        """The prices with the least squared relative error, none negative.

        There are so few of them that every subset is solved and the best without a negative price taken.
        """
        seconds = np.array([timing.seconds for timing in timings])
        sizes = tuple(size for size in SIZES if size < max(timing.rows * timing.length for timing in timings))
        rows, lengths = (
            np.array([getattr(timing, name) for timing in timings]) for name in ("rows", "length")
        )
        counts = np.stack(np.broadcast_arrays(*_counts(rows, lengths, sizes)), axis=-1) / seconds[:, None]
        best, least = np.zeros(counts.shape[1]), np.inf
        for number in range(1, len(best) + 1):
            for subset in map(list, combinations(range(len(best)), number)):
                prices = np.linalg.lstsq(counts[:, subset], np.ones(len(seconds)))[0]
                error = float(np.square(counts[:, subset] @ prices - 1).sum())
                if error < least and (prices >= 0).all():
                    best, least = np.zeros(len(best)), error
                    best[subset] = prices
        run, row, token, token_length, *above = map(float, best)
        return cls(
            run,
            row,
            token,
            token_length,
            tuple((size, price) for size, price in zip(sizes, above, strict=True) if price),
        )

    def seconds(self, rows: ArrayLike, length: ArrayLike) -> NDArray[np.float64]:
        """Seconds for `rows` padded to `length` tokens; arrays are broadcast."""
        prices = (self.run, self.row, self.token, self.token_length, *(price for _, price in self.above))
        counts = _counts(np.asarray(rows), np.asarray(length), [size for size, _ in self.above])
        seconds: NDArray[np.float64] = np.zeros_like(counts[2], dtype=np.float64)
        for price, count in zip(prices, counts, strict=True):
            if price:
                seconds += price * count
        return seconds

    def error(self, timings: Sequence[Timing]) -> float:
        """Mean relative error over timings."""
        return float(
            np.mean(
                [abs(self.seconds(timing.rows, timing.length) / timing.seconds - 1) for timing in timings]
            )
        )


def _counts(
    rows: NDArray[np.int64], length: NDArray[np.int64], sizes: Sequence[int]
) -> list[NDArray[np.int64]]:
    """How often a batch pays each price: arrays that broadcast against each other."""
    tokens = rows * length
    return [np.array(1), rows, tokens, tokens * length, *(np.maximum(0, tokens - size) for size in sizes)]
