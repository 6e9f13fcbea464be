"""Predicts the seconds of a batch from its rows and their padded length, from a few timings on this machine.

The time of a batch has four parts:

1. Starting a run.
2. Each row and each token.
3. Attention: each token, times the length that it attends to.
4. Above some size each further token costs more. On a CPU the batch then outgrows the caches; a GPU is full.

Which part dominates differs between machines. A GPU is fastest with dozens of rows, a CPU with a handful.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZES: Final = tuple(2**exponent for exponent in range(8, 15))
"""Numbers of tokens above which each further token can cost more."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds of a batch of equally long rows on a lane, while all lanes run such batches."""

    rows: int
    length: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CostModel:
    """The prices of a batch, in seconds of a lane. No price is negative: more work never costs less.

    Attributes:
        run: of a run.
        row: of each row.
        token: of each token, padding included.
        token_length: of each token, times the length that it attends to.
        above: pairs of a number of tokens and the extra price of each token above it.
    """

    run: float
    row: float
    token: float
    token_length: float
    above: tuple[tuple[int, float], ...] = ()

    @classmethod
    def fit(cls, timings: Sequence[Timing]) -> "CostModel":
        """The prices with the least squared relative error, none negative.

        1. Solve least squares for each subset of the prices. The other prices are 0.
        2. Drop solutions with a negative price.
        3. Take the one with the smallest error.
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
        """Seconds of `rows` rows padded to `length` tokens. Arrays are broadcast."""
        prices = (self.run, self.row, self.token, self.token_length, *(price for _, price in self.above))
        counts = _counts(np.asarray(rows), np.asarray(length), [size for size, _ in self.above])
        seconds: NDArray[np.float64] = np.zeros_like(counts[2], dtype=np.float64)
        for price, count in zip(prices, counts, strict=True):
            if price:
                seconds += price * count
        return seconds

    def error(self, timings: Sequence[Timing]) -> float:
        """Mean relative error of the predicted seconds of these timings."""
        return float(
            np.mean(
                [abs(self.seconds(timing.rows, timing.length) / timing.seconds - 1) for timing in timings]
            )
        )


def _counts(
    rows: NDArray[np.int64], length: NDArray[np.int64], sizes: Sequence[int]
) -> list[NDArray[np.int64]]:
    """How often a batch pays each price, as arrays that broadcast against each other."""
    tokens = rows * length
    return [np.array(1), rows, tokens, tokens * length, *(np.maximum(0, tokens - size) for size in sizes)]
