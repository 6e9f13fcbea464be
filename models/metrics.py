"""KLUE-RE's two metrics (Park et al., 2021, section 3.6), in numpy: they equal scikit-learn's, which serving does not install."""

import numpy as np
from numpy.typing import NDArray

from models.labels import NO_RELATION, RELATION_IDS, RELATIONS


def micro_f1(label_ids: NDArray[np.integer], predicted_ids: NDArray[np.integer]) -> float:
    """Micro-averaged F1 over the 29 relations other than `no_relation`, times 100.

    Args:
        label_ids: true labels, shape (rows,).
        predicted_ids: predicted labels, shape (rows,).
    """
    none = RELATION_IDS[NO_RELATION]
    correct = np.count_nonzero((label_ids == predicted_ids) & (label_ids != none))
    claimed = np.count_nonzero(predicted_ids != none)
    true = np.count_nonzero(label_ids != none)
    return 200.0 * correct / (claimed + true) if claimed + true else 0.0


def auprc(label_ids: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Area under the precision-recall curve, one relation against the rest, plain mean over all 30, times 100.

    The area is taken by the trapezoid rule over the curve, as KLUE does, not as average precision. A relation without a
    single true row counts 0.5, as it does with scikit-learn.

    Args:
        label_ids: true labels, shape (rows,).
        probabilities: shape (rows, 30).
    """
    areas = [_curve_area(label_ids == index, probabilities[:, index]) for index in range(len(RELATIONS))]
    return 100.0 * float(np.mean(areas))


def _curve_area(is_true: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    order = np.argsort(-scores, kind="stable")
    ends_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(is_true[order])[ends_of_ties]
    precision = np.append(hits[::-1] / (ends_of_ties[::-1] + 1), 1.0)
    recall = np.append(hits[::-1] / hits[-1] if hits[-1] else np.ones(len(hits)), 0.0)
    return float(-np.trapezoid(precision, recall))
