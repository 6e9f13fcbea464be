"""How well the scored rows agree with their labels: KLUE's two metrics, the confusion matrix, the
reliability."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import RELATIONS
from models.metrics import Reliability, confusion_matrix, curve_area, micro_f1_of, reliability

COLUMNS: Final = 1 + len(RELATIONS)
"""Of a labelled row in the file, as float64: the id of its label, then its 30 probabilities."""

PIECE: Final = 4096
"""Rows that are in memory at a time: one megabyte."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Over all labelled rows.

    Attributes:
        micro_f1, auprc: times 100, as `models.metrics` defines them.
        confusion: shape (30, 30): rows by true and by predicted relation.
    """

    rows: int
    micro_f1: float
    auprc: float
    confusion: NDArray[np.int64]
    reliability: Reliability

    @property
    def accuracy(self) -> float:
        """Share of rows with the right relation, 0 to 1."""
        return float(np.trace(self.confusion) / self.rows)


def evaluate(labelled: IO[bytes], rows: int) -> Evaluation:
    """Evaluate labelled rows from a file of any size.

    The file is read in pieces: once for the counts, then twice for each relation. The memory needed is that
    of the probabilities of the most frequent relation.

    Args:
        labelled: the file, with `COLUMNS` float64 values per row.
        rows: how many there are; at least 1.
    """
    confusion = np.zeros((len(RELATIONS), len(RELATIONS)), dtype=np.int64)
    binned = reliability(np.empty(0, dtype=np.int64), np.empty((0, len(RELATIONS))))
    for label_ids, probabilities in _pieces(labelled, rows):
        confusion += confusion_matrix(label_ids, probabilities.argmax(axis=1))
        binned += reliability(label_ids, probabilities)
    areas = [_area(labelled, rows, relation) for relation in range(len(RELATIONS))]
    return Evaluation(rows, micro_f1_of(confusion), 100 * float(np.mean(areas)), confusion, binned)


def _area(labelled: IO[bytes], rows: int, relation: int) -> float:
    """Area under the precision-recall curve of one relation."""
    true = [p[label_ids == relation, relation] for label_ids, p in _pieces(labelled, rows)]
    others = (p[label_ids != relation, relation] for label_ids, p in _pieces(labelled, rows))
    return curve_area(np.concatenate(true), others)


def _pieces(labelled: IO[bytes], rows: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Label ids of shape (piece,) and probabilities of shape (piece, 30)."""
    labelled.flush()
    for start in range(0, rows, PIECE):
        count = min(PIECE, rows - start)
        labelled.seek(start * COLUMNS * 8)
        table = np.frombuffer(labelled.read(count * COLUMNS * 8)).reshape(count, COLUMNS)
        yield table[:, 0].astype(np.int64), table[:, 1:]
