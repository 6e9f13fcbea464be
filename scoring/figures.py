"""How well the scored rows agree with their labels: KLUE's two metrics, and what a report shows beside
them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import RELATIONS
from models.metrics import confusion_matrix, curve_area, micro_f1_of

BINS: Final = 10
"""Of equal width, from score 0 to 1."""

COLUMNS: Final = 1 + len(RELATIONS)
"""Of a labelled row, as float64: its label's id, then its 30 probabilities."""
PIECE: Final = 4096
"""Rows of it that are in memory at a time: a megabyte."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Over all labelled rows.

    Attributes:
        micro_f1, auprc: times 100, as `models.metrics` has them.
        confusion: shape (30, 30): rows by true and by predicted relation.
        bin_rows, bin_scores, bin_right: shape (10,): rows whose score (the probability of the predicted
            relation) falls into a bin, the sum of their scores, and how many of them are right.
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
        """Mean distance between score and accuracy, bin by bin (Guo et al., 2017, arXiv:1706.04599), 0 to
        1."""
        return float(np.abs(self.bin_scores - self.bin_right).sum() / self.rows)


def measure(labelled: IO[bytes], rows: int) -> Figures:
    """Figures over labelled rows that lie in a file, which is read in pieces, once and then twice for each
    relation: so that a file of any size takes only as much memory as the commonest relation has rows.

    Args:
        labelled: the file, of `COLUMNS` float64 a row.
        rows: how many there are; at least 1.
    """
    confusion = np.zeros((len(RELATIONS), len(RELATIONS)), dtype=np.int64)
    bin_rows, bin_right, bin_scores = (
        np.zeros(BINS, dtype=np.int64),
        np.zeros(BINS, dtype=np.int64),
        np.zeros(BINS),
    )
    for label_ids, probabilities in _pieces(labelled, rows):
        predicted, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
        confusion += confusion_matrix(label_ids, predicted)
        bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
        bin_rows += np.bincount(bins, minlength=BINS)
        bin_scores += np.bincount(bins, scores, BINS)
        bin_right += np.bincount(bins, label_ids == predicted, BINS).astype(np.int64)
    areas = []
    for index in range(len(RELATIONS)):
        true = [
            probabilities[label_ids == index, index] for label_ids, probabilities in _pieces(labelled, rows)
        ]
        others = (
            probabilities[label_ids != index, index] for label_ids, probabilities in _pieces(labelled, rows)
        )
        areas.append(curve_area(np.concatenate(true), others))
    return Figures(
        rows, micro_f1_of(confusion), 100 * float(np.mean(areas)), confusion, bin_rows, bin_scores, bin_right
    )


def _pieces(labelled: IO[bytes], rows: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Label ids of shape (piece,) and probabilities of shape (piece, 30)."""
    labelled.flush()
    for start in range(0, rows, PIECE):
        count = min(PIECE, rows - start)
        labelled.seek(start * COLUMNS * 8)
        table = np.frombuffer(labelled.read(count * COLUMNS * 8)).reshape(count, COLUMNS)
        yield table[:, 0].astype(np.int64), table[:, 1:]
