"""How well the scored rows agree with their labels: KLUE's two metrics, and what a report shows beside them."""

from dataclasses import dataclass
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import RELATIONS
from models.metrics import auprc, micro_f1

BINS: Final = 10
"""Of equal width, from score 0 to 1."""

COLUMNS: Final = 1 + len(RELATIONS)
"""Of a labelled row, as float64: its label's id, then its 30 probabilities."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Over all labelled rows.

    Attributes:
        micro_f1, auprc: times 100, as `models.metrics` has them.
        confusion: shape (30, 30): rows by true and by predicted relation.
        bin_rows, bin_scores, bin_right: shape (10,): rows whose score (the probability of the predicted relation) falls into a bin, the
            sum of their scores, and how many of them are right.
    """

    rows: int
    micro_f1: float
    auprc: float
    confusion: NDArray[np.int64]
    bin_rows: NDArray[np.int64]
    bin_scores: NDArray[np.float64]
    bin_right: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of rows with the right relation, 0 to 1."""
        return float(np.trace(self.confusion) / self.rows)

    @property
    def calibration_error(self) -> float:
        """Mean distance between score and accuracy, bin by bin (Guo et al., 2017, arXiv:1706.04599), 0 to 1."""
        return float(np.abs(self.bin_scores - self.bin_right).sum() / self.rows)


def measure(labelled: IO[bytes], rows: int) -> Figures:
    """Figures over labelled rows that lie in a file: mapped, not read, so that only a column at a time need be in memory.

    Args:
        labelled: the file, of `COLUMNS` float64 a row.
        rows: how many there are; at least 1.
    """
    labelled.flush()
    table = np.memmap(labelled, dtype=np.float64, mode="r", shape=(rows, COLUMNS))
    label_ids, probabilities = table[:, 0].astype(np.int64), table[:, 1:]
    predicted, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    confusion = np.zeros((len(RELATIONS), len(RELATIONS)), dtype=np.int64)
    np.add.at(confusion, (label_ids, predicted), 1)
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    return Figures(
        rows,
        micro_f1(label_ids, predicted),
        auprc(label_ids, probabilities),
        confusion,
        np.bincount(bins, minlength=BINS),
        np.bincount(bins, scores, BINS).astype(np.float64),
        np.bincount(bins, label_ids == predicted, BINS).astype(np.int64),
    )
