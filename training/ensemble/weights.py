"""The members' weights in the vote, fitted on rows that no member was trained on, and the vote's metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics import klue_metrics
from models.rows import LabelledExample, label_ids
from models.voting import weighted_mean_probability


def out_of_fold(
    fold_of: NDArray[np.int64], folds: Sequence[int], held_out: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Each row's probabilities from the members that it was held out from: their mean, shape (rows, 30).

    Args:
        fold_of: the part of each row, shape (rows,).
        folds: the part that each member's fold holds out.
        held_out: each member's probabilities for that part, shape (rows of the part, 30).
    """
    votes = np.zeros((len(fold_of), held_out[0].shape[1]))
    for fold, probabilities in zip(folds, held_out, strict=True):
        votes[fold_of == fold] += probabilities / folds.count(fold)
    return votes


def vote_metrics(
    rows: Sequence[LabelledExample], voters: NDArray[np.float64], weights: NDArray[np.float64]
) -> dict[str, Any]:
    """Micro-F1 and AUPRC of a weighted vote, of a vote with equal weights, and of each voter.

    Args:
        voters: probabilities of shape (voters, rows, 30).
        weights: shape (voters,).
    """
    labels = label_ids(rows)
    return {
        "rows": len(rows),
        "vote": klue_metrics(labels, weighted_mean_probability(voters, weights)),
        "equal_weights": klue_metrics(labels, voters.mean(axis=0)),
        "each": [klue_metrics(labels, probabilities) for probabilities in voters],
    }
