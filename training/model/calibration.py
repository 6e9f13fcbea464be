"""Calibration: one temperature for all logits, and a shift for rows with other label shares.

Both are linear in the logits, so the head's weights can contain them. Nothing else of a checkpoint changes,
and export and serving do not need to know about them.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from models.labels import NO_RELATION, RELATION_IDS, RELATIONS
from models.metrics import klue_metrics, reliability
from models.voting import softmax

PriorShift = Literal["none", "em", "labels"]

NONE: Final = RELATION_IDS[NO_RELATION]
BINS: Final = 15  # as Guo et al. (2017)
COLDEST, HOTTEST = 0.05, 20.0
"""Limits of the temperature. A model that is right, or wrong, about every row would get 0 or infinity."""
STRENGTH: Final = 0.5
"""Part of the prior shift that is applied. On KLUE-RE's validation rows micro-F1 is flat from 0.25 to 0.75
and falls towards 1 (docs/log.md)."""


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


@dataclass(frozen=True, slots=True, eq=False)
class ShiftOptions:
    """How to estimate and apply the shift of the share of `no_relation`.

    Attributes:
        method: how the share among the target rows is estimated; `none`: no shift.
        train_share: the share among the rows that the model was trained on.
        target: logits of the rows that `em` estimates the share on, shape (target rows, 30). By default the
            rows that the calibration is fitted on.
        strength: part of the shift that is applied, above 0 and up to 1.
    """

    method: PriorShift = "none"
    train_share: float = 0.5
    target: NDArray[np.floating] | None = None
    strength: float = STRENGTH


@dataclass(frozen=True, slots=True)
class ProbabilityQuality:
    """The quality of probabilities on labelled rows.

    Attributes:
        negative_log_likelihood: mean over rows, in nats.
        expected_calibration_error: 0 to 1.
        micro_f1, auprc: KLUE's metrics, times 100.
    """

    negative_log_likelihood: float
    expected_calibration_error: float
    micro_f1: float
    auprc: float

    @classmethod
    def of(cls, logits: NDArray[np.floating], labels: NDArray[np.int64]) -> "ProbabilityQuality":
        """From logits of shape (rows, 30) and labels of shape (rows,)."""
        probabilities = softmax(logits)
        return cls(
            negative_log_likelihood(probabilities, labels),
            reliability(labels, probabilities, BINS).calibration_error,
            **klue_metrics(labels, probabilities),
        )


def fit(logits: NDArray[np.floating], labels: NDArray[np.int64], options: ShiftOptions) -> Calibration:
    """Fit a calibration on labelled rows.

    1. Fit the temperature.
    2. Estimate the share of `no_relation` among the target rows.
    3. Shift the logit of `no_relation` by a part of log odds(target) - log odds(training).

    Args:
        logits: shape (rows, 30).
        labels: shape (rows,).
    """
    temperature = fit_temperature(logits, labels)
    shift = np.zeros(len(RELATIONS))
    if options.method != "none":
        priors = np.array([options.train_share, 1 - options.train_share])
        if options.method == "labels":
            share = smoothed_share(np.count_nonzero(labels == NONE), len(labels))
        else:
            target = logits if options.target is None else options.target
            none = softmax(target / temperature)[:, NONE]
            estimated = reestimate_priors(np.stack([none, 1 - none], axis=1), priors)[0]
            share = smoothed_share(len(none) * estimated, len(none))
        towards, away = np.log(np.array([share, 1 - share]) / priors)  # by Bayes' rule
        shift[NONE] = options.strength * (towards - away)
    return Calibration(temperature, shift)


def cross_fit(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    halves: NDArray[np.bool_],
    options: ShiftOptions,
) -> NDArray[np.float64]:
    """Calibrate each half of the rows with a fit on the other half; shape (rows, 30).

    Args:
        halves: the half of each row, shape (rows,).
    """
    crossed = np.empty(logits.shape)
    for fitted_on in (halves, ~halves):
        crossed[~fitted_on] = fit(logits[fitted_on], labels[fitted_on], options)(logits[~fitted_on])
    return crossed


def smoothed_share(count: float, rows: int) -> float:
    """`count` of `rows` as a share that is never 0 or 1 (Laplace's rule of succession)."""
    return float((count + 1) / (rows + 2))


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature with the highest likelihood of the labels.

    Guo et al., "On Calibration of Modern Neural Networks", 2017 (arXiv:1706.04599). The negative
    log-likelihood is convex in 1 / T.

    Args:
        logits: of rows that the model was not trained on, shape (rows, classes).
        labels: shape (rows,).
    """
    logits = logits.astype(np.float64)
    of_labels = logits[np.arange(len(labels)), labels]

    def loss(inverse: float) -> float:
        return float((logsumexp(logits * inverse, axis=1) - of_labels * inverse).mean())

    return float(1 / minimize_scalar(loss, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded").x)


def reestimate_priors(
    probabilities: NDArray[np.float64], priors: NDArray[np.float64], steps: int = 1000
) -> NDArray[np.float64]:
    """The class shares among unlabelled rows, by expectation maximisation.

    Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities",
    2002. It assumes calibrated probabilities and label shift: only the class shares differ between the rows.

    Args:
        probabilities: a model's, shape (rows, classes).
        priors: class shares among the rows that it was trained on, shape (classes,), all above 0.

    Returns:
        Shape (classes,); they sum to 1.
    """
    estimated = priors
    for _ in range(steps):
        weighted = probabilities * (estimated / priors)
        before, estimated = estimated, (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(estimated - before).max() < 1e-7:
            break
    return estimated


def negative_log_likelihood(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean over rows, in nats. Probabilities have shape (rows, classes), labels shape (rows,)."""
    of_labels = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_labels, np.finfo(np.float64).tiny)).mean())
