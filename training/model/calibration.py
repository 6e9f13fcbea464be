"""Probabilities that mean what they say: one temperature for all logits, and one shift for rows whose priors
differ from training's.

Both are linear in the logits, so a head can take them in: nothing else of a checkpoint changes, and export
and serving need not know.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.voting import softmax

BINS: Final = 15
COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures that can come out: a model that is right, or wrong, about every row would ask for 0 or
infinity."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """logits / temperature + shift.

    Attributes:
        shift: shape (classes,), added to the logits.
    """

    temperature: float
    shift: NDArray[np.float64]

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated logits of the same shape, (rows, classes)."""
        return logits / self.temperature + self.shift


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature under which the labels are likeliest.

    Guo et al., "On Calibration of Modern Neural Networks", 2017 (arXiv:1706.04599).
    The negative log-likelihood is convex in 1 / T; its slope, the mean over rows of E_p[logit] - logit of the
    label, is bisected to 0.

    Args:
        logits: of rows that the model was not trained on, shape (rows, classes).
        labels: shape (rows,).
    """
    logits = logits.astype(np.float64)
    of_labels = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((softmax(logits * inverse) * logits).sum(axis=1) - of_labels).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2 / (low + high)


def reestimate_priors(
    probabilities: NDArray[np.float64], priors: NDArray[np.float64], steps: int = 1000
) -> NDArray[np.float64]:
    """The classes' priors among unlabelled rows, by expectation maximisation: Saerens, Latinne and
    Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", 2002.

    Assumes calibrated probabilities, and that rows of one class look the same wherever they come from (label
    shift).

    Args:
        probabilities: a model's, shape (rows, classes).
        priors: of the rows that it was trained on, shape (classes,), all above 0.

    Returns:
        shape (classes,), summing to 1.
    """
    estimated = priors
    for _ in range(steps):
        weighted = probabilities * (estimated / priors)
        before, estimated = estimated, (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(estimated - before).max() < 1e-7:
            break
    return estimated


def prior_shift(target: NDArray[np.float64], priors: NDArray[np.float64]) -> NDArray[np.float64]:
    """What moves logits from the training rows' priors to those of the target, by Bayes' rule: log(target /
    priors), shape (classes,)."""
    return np.log(target / priors)


def negative_log_likelihood(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean over rows, in nats, of probabilities of shape (rows, classes) and labels of shape (rows,)."""
    of_labels = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_labels, np.finfo(np.float64).tiny)).mean())


def expected_calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """How far confidence and accuracy lie apart, 0 to 1: the mean over 15 bins of equal width, weighted by
    their rows (Guo et al., 2017).

    Args:
        probabilities: shape (rows, classes); the highest of a row is its confidence.
        labels: shape (rows,).
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
