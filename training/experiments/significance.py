"""Whether the difference between two models on the same rows can be chance."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from models.labels import NO_RELATION, RELATION_IDS, RELATIONS

RESAMPLES: Final = 2000
"""Bootstrap samples. The ends of an interval vary by a few hundredths of its width."""


def mcnemar(
    label_ids: NDArray[np.integer], first_ids: NDArray[np.integer], second_ids: NDArray[np.integer]
) -> float:
    """p-value of McNemar's exact test, two-sided (McNemar, 1947): do two models differ in accuracy?

    Args:
        label_ids: true labels, shape (rows,).
        first_ids, second_ids: the two models' labels, shape (rows,).
    """
    first_right, second_right = first_ids == label_ids, second_ids == label_ids
    only_first = int(np.count_nonzero(first_right & ~second_right))
    only_second = int(np.count_nonzero(second_right & ~first_right))
    differing = only_first + only_second
    return float(binomtest(only_first, differing).pvalue) if differing else 1.0


def micro_f1_difference(
    label_ids: NDArray[np.integer],
    first_ids: NDArray[np.integer],
    second_ids: NDArray[np.integer],
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the difference in micro-F1, second minus first, times 100.

    Paired bootstrap over the rows: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13;
    paired as in Koehn, 2004 (W04-3250).

    Args:
        label_ids: true labels, shape (rows,).
        first_ids, second_ids: the two models' labels, shape (rows,).
    """
    none = RELATION_IDS[NO_RELATION]
    columns = [label_ids != none]
    for predicted in (first_ids, second_ids):
        columns += [(predicted == label_ids) & (label_ids != none), predicted != none]
    counts = np.stack(columns, axis=1).astype(np.float64)
    rows = len(label_ids)
    generator = np.random.default_rng(seed)
    sums = np.stack([counts[generator.integers(rows, size=rows)].sum(axis=0) for _ in range(RESAMPLES)])
    true, first_correct, first_claimed, second_correct, second_claimed = sums.T
    differences = 200 * (
        second_correct / np.maximum(second_claimed + true, 1)
        - first_correct / np.maximum(first_claimed + true, 1)
    )
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def label_f1(label_ids: NDArray[np.integer], predicted_ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """F1 of each relation, times 100, shape (30,); NaN for a relation that no row has or gets.

    Args:
        label_ids, predicted_ids: shape (rows,).
    """
    relations = range(len(RELATIONS))
    return 100 * f1_score(label_ids, predicted_ids, labels=relations, average=None, zero_division=np.nan)
