"""Logits become probabilities, and the probabilities of the members become one vote."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.voting import fit_stage_weights, fit_weights, softmax, weighted_mean_probability


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 7])
def test_probabilities_sum_to_one_in_double_precision(rows: int, dtype: type[np.floating]) -> None:
    probabilities = softmax(np.random.default_rng(0).normal(scale=5, size=(rows, 30)).astype(dtype))
    assert probabilities.dtype == np.float64
    assert probabilities.shape == (rows, 30)
    assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-12
    assert probabilities.min() > 0


def test_softmax_by_hand() -> None:
    probabilities = softmax(np.log([[1.0, 3.0], [6.0, 2.0]]))
    assert probabilities.tolist() == [pytest.approx([0.25, 0.75]), pytest.approx([0.75, 0.25])]


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_only_differences_of_logits_count(shift: float) -> None:
    logits = np.random.default_rng(1).normal(size=(3, 30))
    assert softmax(logits + shift) == pytest.approx(softmax(logits), abs=1e-9)


@pytest.mark.parametrize("size", [1e3, 1e30, np.finfo(np.float32).max])
def test_extreme_logits_stay_finite(size: float) -> None:
    logits = np.zeros((2, 30), dtype=np.float32)
    logits[0, 4], logits[1, 7] = size, -size
    probabilities = softmax(logits)
    assert probabilities[0].tolist() == np.eye(30)[4].tolist()
    assert probabilities[1, 7] == 0
    assert np.delete(probabilities[1], 7) == pytest.approx(np.full(29, 1 / 29))


def test_equal_logits_are_equally_likely() -> None:
    assert softmax(np.full((1, 30), -3.5, dtype=np.float32)) == pytest.approx(np.full((1, 30), 1 / 30))


def test_a_row_is_the_same_alone_and_among_others() -> None:
    logits = np.random.default_rng(2).normal(size=(5, 30)).astype(np.float32)
    assert softmax(logits[3:4]).tolist() == softmax(logits)[3:4].tolist()


def test_the_vote_is_the_weighted_mean() -> None:
    first, second = [[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.6, 0.4]]
    votes = weighted_mean_probability(np.array([first, second]), np.array([3.0, 1.0]))
    assert votes.tolist() == [pytest.approx([0.8, 0.2]), pytest.approx([0.3, 0.7])]


def test_only_the_proportion_of_weights_counts() -> None:
    members = some_members(3)
    assert weighted_mean_probability(members, np.array([4.0, 2.0, 2.0])) == pytest.approx(
        weighted_mean_probability(members, np.array([0.2, 0.1, 0.1]))
    )


def test_one_member_alone_decides() -> None:
    members = some_members(1)
    assert weighted_mean_probability(members, np.array([0.3])) == pytest.approx(members[0], abs=1e-15)


def test_votes_sum_to_one() -> None:
    votes = weighted_mean_probability(some_members(5), np.array([0.3, 0.1, 7.0, 2.0, 1e-3]))
    assert votes.shape == (4, 30)
    assert np.abs(votes.sum(axis=1) - 1).max() < 1e-12


def test_the_vote_is_not_a_softmax_of_summed_probabilities() -> None:
    members = some_members(3)
    votes = weighted_mean_probability(members, np.ones(3))
    assert np.abs(votes - softmax(members.sum(axis=0))).max() > 0.1


def test_a_sure_member_outvotes_two_unsure_ones() -> None:
    """Probabilities are averaged, votes are not counted. Two members slightly prefer the second relation, one
    is sure of the first."""
    members = np.array([[[0.95, 0.05]], [[0.45, 0.55]], [[0.45, 0.55]]])
    assert weighted_mean_probability(members, np.ones(3)).argmax() == 0


def some_members(members: int) -> NDArray[np.float64]:
    logits = np.random.default_rng(members).normal(scale=4, size=(members, 4, 30))
    return np.stack([softmax(rows) for rows in logits])


def test_fitted_weights_are_the_likeliest_on_a_grid() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 30, 400)
    noise = generator.dirichlet(np.full(30, 0.3), (3, 400))
    truth = np.eye(30)[labels]
    members = np.stack([0.5 * truth + 0.5 * noise[0], 0.3 * truth + 0.7 * noise[1], noise[2]])

    def log_likelihood(weights: np.ndarray) -> float:
        return float(np.log(weighted_mean_probability(members, weights)[np.arange(400), labels]).sum())

    weights = fit_weights(members, labels)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert weights[0] > weights[1] > weights[2] > 0
    grid = [
        np.array([a, b, 1 - a - b])
        for a in np.linspace(0, 1, 21)
        for b in np.linspace(0, 1, 21)
        if a + b <= 1
    ]
    assert log_likelihood(weights) >= max(map(log_likelihood, grid)) - 1e-2


def test_stage_weights_make_each_stage_as_likely_as_it_can_be() -> None:
    """A weak member first, then two good ones: the joint fit ignores the second, the staged fit does not."""
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 30, 400)
    members = np.stack([softmax(noisy(generator, labels, strength)) for strength in (1.0, 3.0, 3.1)])
    weights = fit_stage_weights(members, labels)
    assert weights.sum() == pytest.approx(1)
    for stage in (2, 3):
        best = weighted_mean_probability(members[:stage], weights[:stage])
        likeliest = log_likelihood(best, labels)
        for factor in (0.8, 1.25):
            changed = weights[:stage] * np.array([1.0] * (stage - 1) + [factor])
            other = weighted_mean_probability(members[:stage], changed)
            assert log_likelihood(other, labels) <= likeliest + 1e-5


def noisy(generator: np.random.Generator, labels: np.ndarray, strength: float) -> np.ndarray:
    return generator.normal(size=(len(labels), 30)) + strength * np.eye(30)[labels]


def log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(np.log(probabilities[np.arange(len(labels)), labels]).mean())
