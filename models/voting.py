"""From logits to one answer: each member's probabilities, and their weighted mean."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of shape (rows, 30) from logits of that shape, in float64 so that each row sums to 1."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def weighted_mean_probability(members: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Soft voting: the weighted mean of the members' probabilities (not a softmax of their sum, which changes the AUPRC).

    Args:
        members: shape (members, rows, 30).
        weights: shape (members,).

    Returns:
        shape (rows, 30), each row summing to 1.
    """
    votes: NDArray[np.float64] = np.average(members, axis=0, weights=weights)
    return votes
