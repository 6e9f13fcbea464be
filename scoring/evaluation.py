"""How well the scored rows agree with their labels: KLUE's two metrics, the confusion matrix, the
reliability."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from models.labels import RELATIONS
from models.metrics import Reliability, confusion_matrix, curve_area, micro_f1_of, rank_keys, reliability

COLUMNS: Final = 1 + len(RELATIONS)
"""Of a labelled row in the file: the id of its label, then its 30 probabilities."""

STORED: Final = np.dtype(np.float32)
"""The type of each column: that of the members' logits, so a wider one would add nothing."""

PIECE: Final = 8192
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

    The file is read in pieces: once for the counts, then once for each relation, whose probabilities are
    sorted in memory: 4 bytes a row.

    Args:
        labelled: the file, with `COLUMNS` values of the type `STORED` per row.
        rows: how many there are; at least 1.
    """
    confusion = np.zeros((len(RELATIONS), len(RELATIONS)), dtype=np.int64)
    binned = reliability(np.empty(0, dtype=np.int64), np.empty((0, len(RELATIONS))))
    for label_ids, probabilities in _pieces(labelled, rows):
        confusion += confusion_matrix(label_ids, probabilities.argmax(axis=1))
        binned += reliability(label_ids, probabilities)
    keys = np.empty(rows, dtype=np.uint32)
    areas = []
    for relation in range(len(RELATIONS)):
        filled = 0
        for label_ids, probabilities in _pieces(labelled, rows):
            piece = slice(filled, filled + len(label_ids))
            keys[piece] = rank_keys(probabilities[:, relation], label_ids == relation)
            filled = piece.stop
        areas.append(curve_area(keys))
    return Evaluation(rows, micro_f1_of(confusion), 100 * float(np.mean(areas)), confusion, binned)


def _pieces(labelled: IO[bytes], rows: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Label ids of shape (piece,) and probabilities of shape (piece, 30)."""
    labelled.flush()
    for start in range(0, rows, PIECE):
        count = min(PIECE, rows - start)
        labelled.seek(start * COLUMNS * STORED.itemsize)
        data = labelled.read(count * COLUMNS * STORED.itemsize)
        table = np.frombuffer(data, dtype=STORED).reshape(count, COLUMNS)
        yield table[:, 0].astype(np.int64), table[:, 1:]
