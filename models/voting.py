"""From logits to the vote: probabilities, their weighted mean, and how its weights are fitted."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Fit = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]
"""Gives the weights of the vote, from members' probabilities of shape (members, rows, 30) and labels."""


def softmax(logits: NDArray[np.floating], allowed: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Probabilities of shape (rows, 30) from logits of that shape, in float64 so that each row sums to 1.

    Args:
        allowed: shape (rows, 30), at least one relation in each row; the other relations get probability 0.
    """
    if allowed is not None:
        logits = np.where(allowed, logits, -np.inf)
    # One array, and ufuncs instead of NumPy's methods: for a small batch the methods cost more time than the
    # arithmetic.
    probabilities = logits.astype(np.float64)
    probabilities -= np.maximum.reduce(probabilities, axis=1, keepdims=True)
    np.exp(probabilities, out=probabilities)
    probabilities /= np.add.reduce(probabilities, axis=1, keepdims=True)
    return probabilities


def weighted_mean_probability(
    members: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Soft voting: the weighted mean of the members' probabilities.

    Args:
        members: shape (members, rows, 30).
        weights: shape (members,).

    Returns:
        shape (rows, 30); each row sums to 1.
    """
    votes: NDArray[np.float64] = np.average(members, axis=0, weights=weights)
    return votes


def fit_weights(members: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The weights of the vote that make the true labels likeliest; they sum to 1.

    The vote is a mixture with fixed components. Its log-likelihood is concave in the weights, so expectation
    maximisation (Dempster, Laird and Rubin, 1977) finds the one maximum. A member that adds nothing gets a
    weight near 0.

    Args:
        members: probabilities of shape (members, rows, 30), for rows that no member was trained on.
        labels: shape (rows,).
    """
    # each member's probability of the true label, shape (members, rows)
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


def fit_stage_weights(members: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The weights of the vote for a cascade, in which each stage's vote can be the answer; they sum to 1.

    1. The vote begins as the first member's.
    2. Mix the next member into the vote so far, with the share that makes the true labels likeliest.
    3. Repeat from 2 until every member votes.

    `fit_weights` would make the last vote likeliest, and can give a good early member no weight, if a later
    one is better.

    Args:
        members: as `fit_weights`, in the order in which they vote.
        labels: shape (rows,).
    """
    vote, weights = members[0], np.ones(1)
    for member in members[1:]:
        shares = fit_weights(np.stack([vote, member]), labels)
        before, now = shares / shares.sum()
        vote = before * vote + now * member
        weights = np.append(before * weights, now)
    return weights


def cross_fitted(
    members: NDArray[np.float64],
    labels: NDArray[np.int64],
    halves: NDArray[np.bool_],
    fit: Fit = fit_weights,
) -> NDArray[np.float64]:
    """The vote on each half of the rows with weights fitted on the other half; shape (rows, 30).

    Args:
        members: probabilities of shape (members, rows, 30).
        labels: shape (rows,).
        halves: the half of each row, shape (rows,); both halves have rows.
        fit: gives the weights, as `fit_weights` or `fit_stage_weights`.
    """
    votes = np.empty(members.shape[1:])
    for fitted_on in (halves, ~halves):
        weights = fit(members[:, fitted_on], labels[fitted_on])
        votes[~fitted_on] = weighted_mean_probability(members[:, ~fitted_on], weights)
    return votes
