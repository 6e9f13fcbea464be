"""The members' weights in the vote, fitted on rows that none of them was trained on, and what the vote is
then worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics import auprc, micro_f1
from models.rows import LabelledExample, label_ids
from models.voting import fit_weights, weighted_mean_probability
from training.data.folds import parts


def out_of_fold(
    fold_of: NDArray[np.int64], folds: Sequence[int], held_out: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Every row's probabilities by the members that it was held out from, their mean where they are several:
    shape (rows, 30).

    Args:
        fold_of: the part that each row belongs to, shape (rows,).
        folds: the part that each member's fold holds out.
        held_out: each member's probabilities of that part, shape (rows of the part, 30).
    """
    votes = np.zeros((len(fold_of), held_out[0].shape[1]))
    for fold, probabilities in zip(folds, held_out, strict=True):
        votes[fold_of == fold] += probabilities / folds.count(fold)
    return votes


def cross_fitted(probabilities: NDArray[np.float64], rows: Sequence[LabelledExample]) -> NDArray[np.float64]:
    """The vote of members of shape (members, rows, 30) on each half of the rows with weights fitted on the
    other; shape (rows, 30)."""
    labels, half_of = label_ids(rows), parts(rows, 2)
    votes = np.empty(probabilities.shape[1:])
    for half in (1, 2):
        here, there = half_of == half, half_of != half
        votes[here] = weighted_mean_probability(
            probabilities[:, here], fit_weights(probabilities[:, there], labels[there])
        )
    return votes


def worth(
    rows: Sequence[LabelledExample], voters: NDArray[np.float64], weights: NDArray[np.float64]
) -> dict[str, Any]:
    """Micro-F1 and AUPRC of a weighted vote, of one with equal weights and of each voter.

    Args:
        voters: probabilities of shape (voters, rows, 30).
        weights: shape (voters,).
    """
    labels = label_ids(rows)
    return {
        "rows": len(rows),
        "vote": figures(labels, weighted_mean_probability(voters, weights)),
        "equal_weights": figures(labels, voters.mean(axis=0)),
        "each": [figures(labels, probabilities) for probabilities in voters],
    }


def figures(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Micro-F1 and AUPRC of probabilities of shape (rows, 30)."""
    return {"micro_f1": micro_f1(labels, probabilities.argmax(axis=1)), "auprc": auprc(labels, probabilities)}
