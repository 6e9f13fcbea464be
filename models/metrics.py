"""KLUE-RE's two metrics (Park et al., 2021, section 3.6), equal to scikit-learn's, which serving lacks."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.labels import NO_RELATION, RELATION_IDS, RELATIONS


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
        ValueError: a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities: finite numbers are required")
    areas = []
    for index in range(len(RELATIONS)):
        is_true, scores = label_ids == index, probabilities[:, index]
        areas.append(curve_area(scores[is_true], [scores[~is_true]]))
    return 100.0 * float(np.mean(areas))


def klue_metrics(label_ids: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
    """Both metrics, times 100, of labels of shape (rows,) and probabilities of shape (rows, 30)."""
    return {
        "micro_f1": micro_f1(label_ids, probabilities.argmax(axis=1)),
        "auprc": auprc(label_ids, probabilities),
    }


def curve_area(true_scores: NDArray[np.floating], other_scores: Iterable[NDArray[np.floating]]) -> float:
    """Area under one relation's precision-recall curve, 0 to 1.

    Recall grows only at the scores of the true rows. So the other rows need no sorting: they are counted
    between these scores, one piece after the other.

    Args:
        true_scores: the relation's probability in each row that has it, shape (true rows,).
        other_scores: its probability in all other rows, in pieces of any shape (rows,).
    """
    levels, hits = np.unique(true_scores, return_counts=True)
    if not len(levels):
        return 0.5
    # how many other rows are above, or reach, exactly that many levels
    above, reaching = np.zeros((2, len(levels) + 1), dtype=np.int64)
    for scores in other_scores:
        above += np.bincount(np.searchsorted(levels, scores, side="left"), minlength=len(above))
        reaching += np.bincount(np.searchsorted(levels, scores, side="right"), minlength=len(reaching))
    found, false_before, false = (np.cumsum(counts[::-1])[::-1] for counts in (hits, above[1:], reaching[1:]))
    found_before = found - hits
    precision = found / (found + false)
    claimed_before = found_before + false_before
    precision_before = np.divide(
        found_before, claimed_before, out=np.ones(len(levels)), where=claimed_before > 0
    )
    return float((hits * (precision + precision_before)).sum() / (2 * len(true_scores)))


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
