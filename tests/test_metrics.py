"""The two metrics of KLUE-RE are the numbers that scikit-learn gives."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import auc, f1_score, precision_recall_curve

import models.metrics
from models.labels import RELATIONS
from models.metrics import auprc, micro_f1

Ids = NDArray[np.int64]
Probabilities = NDArray[np.floating]


def reference_micro_f1(labels: Ids, predicted: Ids) -> float:
    return 100.0 * float(
        f1_score(labels, predicted, labels=list(range(1, 30)), average="micro", zero_division=0.0)
    )


def reference_auprc(labels: Ids, probabilities: Probabilities) -> float:
    areas = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No positive class found in y_true", category=UserWarning)
        for relation in range(len(RELATIONS)):
            precision, recall, _ = precision_recall_curve(labels == relation, probabilities[:, relation])
            areas.append(auc(recall, precision))
    return 100.0 * float(np.mean(areas))


def random_rows(seed: int, rows: int, used: int = 30) -> tuple[Ids, Probabilities]:
    """Random labels among the first `used` relations, and probabilities that lean towards them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, used, rows)
    scores = random.gumbel(size=(rows, 30)) + 2.0 * np.eye(30)[labels]
    probabilities: Probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return labels, probabilities


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [1, 2, 30, 400])
def test_micro_f1_is_scikit_learns(seed: int, rows: int) -> None:
    labels, probabilities = random_rows(seed, rows)
    predicted = probabilities.argmax(axis=1)
    assert micro_f1(labels, predicted) == pytest.approx(reference_micro_f1(labels, predicted), abs=1e-9)


@pytest.mark.parametrize("used", [1, 2, 12])
def test_micro_f1_is_scikit_learns_with_relations_that_no_row_has(used: int) -> None:
    labels, probabilities = random_rows(11, 200, used)
    predicted = probabilities.argmax(axis=1)
    assert micro_f1(labels, predicted) == pytest.approx(reference_micro_f1(labels, predicted), abs=1e-9)


@pytest.mark.parametrize(
    ("labels", "predicted", "expected"),
    [
        pytest.param([1, 2, 3, 0], [1, 2, 3, 0], 100.0, id="all right"),
        pytest.param([1, 2, 3], [2, 3, 1], 0.0, id="all wrong"),
        pytest.param([1, 2, 0], [0, 0, 0], 0.0, id="no relation predicted at all"),
        pytest.param([0, 0], [0, 0], 0.0, id="no relation true or predicted"),
        pytest.param([0, 0], [1, 0], 0.0, id="no relation true"),
        # Of 4 true relations 2 are found, with 3 claimed: precision 2/3, recall 2/4.
        pytest.param([1, 1, 5, 7, 0, 0], [1, 1, 0, 0, 9, 0], 100 * 4 / 7, id="by hand"),
    ],
)
def test_micro_f1_leaves_no_relation_out(labels: list[int], predicted: list[int], expected: float) -> None:
    assert micro_f1(np.array(labels), np.array(predicted)) == pytest.approx(expected)
    assert reference_micro_f1(np.array(labels), np.array(predicted)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [1, 2, 30, 400])
def test_auprc_is_scikit_learns(seed: int, rows: int) -> None:
    labels, probabilities = random_rows(seed, rows)
    assert auprc(labels, probabilities) == pytest.approx(reference_auprc(labels, probabilities), abs=1e-9)


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_auprc_is_scikit_learns_with_ties(decimals: int) -> None:
    labels, probabilities = random_rows(21, 400)
    tied = probabilities.round(decimals)
    assert auprc(labels, tied) == pytest.approx(reference_auprc(labels, tied), abs=1e-9)


@pytest.mark.parametrize("piece", [1, 3, 399, 400])
@pytest.mark.parametrize("decimals", [0, 1, 2, 9])
def test_auprc_does_not_depend_on_the_pieces_of_the_ranking(
    piece: int, decimals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows with equal scores are one point of the curve, also where a piece ends among them."""
    labels, probabilities = random_rows(26, 400, 12)
    tied = probabilities.round(decimals)
    monkeypatch.setattr(models.metrics, "PIECE", piece)
    assert auprc(labels, tied) == pytest.approx(reference_auprc(labels, tied), abs=1e-9)


def test_auprc_is_scikit_learns_with_one_score_for_everything() -> None:
    labels, probabilities = random_rows(22, 60)
    flat = np.full_like(probabilities, 1 / 30)
    assert auprc(labels, flat) == pytest.approx(reference_auprc(labels, flat), abs=1e-9)


@pytest.mark.parametrize("used", [1, 2, 12])
def test_auprc_is_scikit_learns_with_relations_that_no_row_has(used: int) -> None:
    labels, probabilities = random_rows(23, 200, used)
    assert auprc(labels, probabilities) == pytest.approx(reference_auprc(labels, probabilities), abs=1e-9)


def test_auprc_is_scikit_learns_on_single_precision() -> None:
    labels, probabilities = random_rows(24, 400)
    single = probabilities.astype(np.float32)
    assert auprc(labels, single) == pytest.approx(reference_auprc(labels, single), abs=1e-9)


def test_auprc_does_not_depend_on_the_order_of_the_rows() -> None:
    labels, probabilities = random_rows(25, 200)
    tied, order = probabilities.round(1), np.random.default_rng(0).permutation(200)
    assert auprc(labels[order], tied[order]) == pytest.approx(auprc(labels, tied), abs=1e-9)


def test_auprc_by_hand() -> None:
    """Two relations have rows, the other 28 count a half each.

    Relation 1 ranks its rows first and third of three: the curve runs through (recall 0, precision 1), (1/2,
    1), (1/2, 1/2) and (1, 2/3), so its area is 1/2 + 7/24. Relation 2 has its only row first: area 1.
    """
    probabilities = np.zeros((3, 30))
    probabilities[:, 1] = [0.9, 0.1, 0.5]
    probabilities[:, 2] = [0.1, 0.2, 0.5]
    expected = 100 * (1 / 2 + 7 / 24 + 1 + 28 * 0.5) / 30
    assert auprc(np.array([1, 1, 2]), probabilities) == pytest.approx(expected)
    assert reference_auprc(np.array([1, 1, 2]), probabilities) == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1])
def test_auprc_refuses_what_is_no_probability(wrong: float) -> None:
    probabilities = np.eye(30)
    probabilities[3, 4] = wrong
    with pytest.raises(ValueError, match="finite"):
        auprc(np.arange(30), probabilities)


def test_a_perfect_ranking_scores_a_hundred() -> None:
    labels = np.arange(30)
    assert auprc(labels, np.eye(30)) == pytest.approx(100)
