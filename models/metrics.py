"""KLUE-RE's two metrics (Park et al., 2021, section 3.6), equal to scikit-learn's, which serving lacks."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.labels import NO_RELATION, RELATION_IDS, RELATIONS

PIECE: Final = 65_536
"""Ranked rows that are looked at together: beyond the keys, `curve_area` needs a few megabytes."""


def micro_f1(label_ids: NDArray[np.integer], predicted_ids: NDArray[np.integer]) -> float:
    """Micro-averaged F1 over the 29 relations other than `no_relation`, times 100.

    Args:
        label_ids: true labels, shape (rows,).
        predicted_ids: predicted labels, shape (rows,).
    """
    return micro_f1_of(confusion_matrix(label_ids, predicted_ids))


def confusion_matrix(label_ids: NDArray[np.integer], predicted_ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """Counts of rows by true label (first axis) and predicted label, shape (30, 30)."""
    relations = len(RELATIONS)
    pairs = np.asarray(label_ids, dtype=np.int64) * relations + predicted_ids
    return np.bincount(pairs, minlength=relations**2).reshape(relations, relations)


def micro_f1_of(confusion: NDArray[np.int64]) -> float:
    """As `micro_f1`, from a confusion matrix of shape (30, 30)."""
    related = np.arange(len(RELATIONS)) != RELATION_IDS[NO_RELATION]
    correct = confusion.diagonal()[related].sum()
    claimed, true = confusion[:, related].sum(), confusion[related].sum()
    return float(200.0 * correct / (claimed + true)) if claimed + true else 0.0


def auprc(label_ids: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Area under the precision-recall curve of each relation against the rest, mean over all 30, times 100.

    The area follows the trapezoid rule, as KLUE's does; it is not the average precision. A relation without a
    true row counts 0.5, as with scikit-learn.

    Args:
        label_ids: true labels, shape (rows,).
        probabilities: shape (rows, 30).

    Raises:
        ValueError: a probability is not finite, or is negative.
    """
    if not (np.isfinite(probabilities) & (probabilities >= 0)).all():
        raise ValueError("probabilities: finite numbers of at least 0 are required")
    areas = [
        curve_area(rank_keys(probabilities[:, index], label_ids == index)) for index in range(len(RELATIONS))
    ]
    return 100.0 * float(np.mean(areas))


def klue_metrics(label_ids: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
    """Both metrics, times 100, of labels of shape (rows,) and probabilities of shape (rows, 30)."""
    return {
        "micro_f1": micro_f1(label_ids, probabilities.argmax(axis=1)),
        "auprc": auprc(label_ids, probabilities),
    }


def rank_keys(scores: NDArray[np.floating], is_true: NDArray[np.bool_]) -> NDArray[np.unsignedinteger]:
    """Integers that sort as the scores do, of the same size. The last bit says whether a row is true.

    The bits of numbers of at least 0, read as an integer, sort as the numbers do, and their sign bit is free.

    Args:
        scores: float32 or float64 of shape (rows,), at least 0.
        is_true: shape (rows,).
    """
    bits = np.ascontiguousarray(scores).view(f"u{scores.itemsize}")
    return np.asarray(bits << 1 | is_true, dtype=bits.dtype)


def curve_area(keys: NDArray[np.unsignedinteger]) -> float:
    """Area under one relation's precision-recall curve, 0 to 1.

    The curve has a point after each group of rows with equal scores.

    Args:
        keys: of all rows, from `rank_keys`, shape (rows,). They are sorted in place, so that ten million rows
            need no second array.
    """
    keys.sort()
    area, true, precision = 0.0, 0, 1.0  # up to the last point
    rows, true_rows = 0, 0  # up to the last piece
    for stop in range(len(keys), 0, -PIECE):
        start = max(0, stop - PIECE)
        piece = keys[start:stop][::-1]  # the highest score first
        after = keys[start - 1] if start else piece[-1] ^ 2  # another score than the last row's
        ends = np.flatnonzero(piece >> 1 != np.append(piece[1:], after) >> 1)
        found = true_rows + np.cumsum(piece & 1, dtype=np.int64)
        points_true = np.concatenate([[true], found[ends]])
        points_precision = np.concatenate([[precision], found[ends] / (rows + ends + 1)])
        area += float(np.diff(points_true) @ (points_precision[1:] + points_precision[:-1]))
        true, precision = points_true[-1], points_precision[-1]
        rows, true_rows = rows + len(piece), int(found[-1])
    return area / (2 * true_rows) if true_rows else 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How well scores agree with accuracy, in bins of equal width from score 0 to 1. The score of a row is
    the probability of its predicted class.

    Attributes:
        rows, scores, right: for each bin the number of its rows, the sum of their scores, and how many of
            them are predicted right; shape (bins,) each.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    right: NDArray[np.int64]

    def __add__(self, other: "Reliability") -> "Reliability":
        """Over the rows of both."""
        return Reliability(self.rows + other.rows, self.scores + other.scores, self.right + other.right)

    @property
    def calibration_error(self) -> float:
        """Mean distance between score and accuracy over the bins, weighted by their rows, 0 to 1: the
        expected calibration error (Guo et al., 2017, arXiv:1706.04599)."""
        return float(np.abs(self.scores - self.right).sum() / self.rows.sum())


def reliability(
    label_ids: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = 10
) -> Reliability:
    """Rows by score.

    Args:
        label_ids: true labels, shape (rows,).
        probabilities: shape (rows, classes).
    """
    scores, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label_ids
    places = np.minimum((scores * bins).astype(np.int64), bins - 1)  # a score of 1 belongs to the last bin
    return Reliability(
        np.bincount(places, minlength=bins),
        np.bincount(places, scores, bins).astype(np.float64),
        np.bincount(places, right, bins).astype(np.int64),
    )
