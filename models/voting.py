"""From logits to one answer: each member's probabilities, and their weighted mean; and weights for it that
were fitted."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.floating], allowed: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Probabilities of shape (rows, 30) from logits of that shape, in float64 so that each row sums to 1.

    Args:
        allowed: shape (rows, 30), at least one relation a row: the others get probability 0, and these share
            what is left.
    """
    if allowed is not None:
        logits = np.where(allowed, logits, -np.inf)
    # In one array, by the ufuncs themselves: between two batches the way through NumPy's methods costs more
    # than the arithmetic.
    probabilities = logits.astype(np.float64)
    probabilities -= np.maximum.reduce(probabilities, axis=1, keepdims=True)
    np.exp(probabilities, out=probabilities)
    probabilities /= np.add.reduce(probabilities, axis=1, keepdims=True)
    return probabilities


def weighted_mean_probability(
    members: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Soft voting: the weighted mean of the members' probabilities (not a softmax of their sum, which changes
    the AUPRC).

    Args:
        members: shape (members, rows, 30).
        weights: shape (members,).

    Returns:
        shape (rows, 30), each row summing to 1.
    """
    votes: NDArray[np.float64] = np.average(members, axis=0, weights=weights)
    return votes


def fit_weights(members: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The weights of the vote under which rows that no member was trained on are likeliest; they sum to 1.

    The vote is a mixture with fixed components, whose log-likelihood is concave in the weights: expectation
    maximisation (Dempster, Laird and Rubin, 1977) comes to its one maximum. A member that adds nothing comes
    out near 0.

    Args:
        members: probabilities of shape (members, rows, 30).
        labels: shape (rows,).
    """
    # of the true label, shape (members, rows)
    said = np.maximum(members[:, np.arange(len(labels)), labels], 1e-12)
    weights = np.full(len(members), 1 / len(members))
    for _ in range(1000):
        responsibilities = weights[:, None] * said
        updated = (responsibilities / responsibilities.sum(axis=0)).mean(axis=1)
        if np.abs(updated - weights).max() < 1e-6:
            break
        weights = updated
    fitted: NDArray[np.float64] = np.maximum(weights, 1e-6)
    return fitted
