"""How well confidence and accuracy agree: the expected calibration error."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 15
"""Of equal width, from confidence 0 to 1 (Guo et al., 2017)."""


class Reliability:
    """Rows counted by their confidence. They can be added in pieces.

    Attributes:
        rows: number of rows in each bin, int64 of shape (bins,).
        confidence: sum of the rows' confidence in each bin, float64 of shape (bins,).
        right: number of rows with the right label in each bin, int64 of shape (bins,).
    """

    def __init__(self, bins: int = BINS) -> None:
        self.rows = np.zeros(bins, dtype=np.int64)
        self.confidence = np.zeros(bins)
        self.right = np.zeros(bins, dtype=np.int64)

    def add(self, label_ids: NDArray[np.integer], probabilities: NDArray[np.floating]) -> None:
        """Count more rows: true labels of shape (rows,), and probabilities of shape (rows, classes).

        A row's confidence is its highest probability.
        """
        bins = len(self.rows)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label_ids
        bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
        self.rows += np.bincount(bin_of, minlength=bins)
        self.confidence += np.bincount(bin_of, confidence, bins)
        self.right += np.bincount(bin_of, right, bins).astype(np.int64)

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1: the mean distance between confidence and accuracy over the
        bins, weighted by their rows (Guo et al., "On Calibration of Modern Neural Networks", 2017,
        arXiv:1706.04599). At least one row is required."""
        return float(np.abs(self.confidence - self.right).sum() / self.rows.sum())
