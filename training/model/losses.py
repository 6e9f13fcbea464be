"""The losses: cross-entropy or focal loss, with class weights and label smoothing, and distillation from
teachers on top of either.

The loss is not part of the model. Export and evaluation read logits, so a checkpoint does not depend on it.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

ClassWeights = Literal["none", "inverse_frequency", "effective_number"]

EFFECTIVE_BETA = 0.999
"""Rows of a label beyond about 1 / (1 - beta) add nothing. KLUE-RE's labels have 40 to 9,534 rows."""


class FocalLoss(nn.Module):
    """Cross-entropy with a small weight for rows that are right already.

    FL = -alpha_t (1 - p_t)^gamma log p_t, of Lin et al., "Focal Loss for Dense Object Detection", 2017
    (arXiv:1708.02002). With label smoothing the
    target is the distribution q = (1 - smoothing) onehot + smoothing / classes, and each class has its own
    focal term: sum_c q_c alpha_c (1 - p_c)^gamma (-log p_c). The batch's mean is weighted as in PyTorch:
    the sum of the rows' losses divided by the sum of their labels' alpha. So gamma 0 gives
    `torch.nn.functional.cross_entropy(logits, labels, weight=alpha, label_smoothing=smoothing)`.

    Args:
        gamma: focusing parameter, at least 0; 2 is best in the paper.
        alpha: weight of each class, shape (classes,); None: 1 for every class.
        label_smoothing: share of the target that is spread over all classes, from 0 to below 1.
    """

    def __init__(self, gamma: float = 2.0, alpha: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.label_smoothing = label_smoothing
        self.register_buffer("alpha", alpha)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar, of logits of shape (rows, classes) and labels of shape (rows,).

        Computed at least in float32, because autocast gives logits in bfloat16.
        """
        log_p = widen(logits).log_softmax(dim=1)
        # expm1 keeps 1 - p exact where p is near 1. The floor keeps the slope of the power finite at 0 for a
        # gamma below 1.
        away = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        terms = -(away**self.gamma) * log_p
        weights = terms.new_ones(terms.size(1)) if self.alpha is None else self.alpha.to(terms)
        terms = terms * weights
        of_label = terms.gather(1, labels.unsqueeze(1)).squeeze(1)
        losses = (1 - self.label_smoothing) * of_label + self.label_smoothing * terms.mean(dim=1)
        return losses.sum() / weights[labels].sum()


class CrossEntropy(nn.CrossEntropyLoss):
    """PyTorch's cross-entropy, at least in float32."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().forward(widen(logits), labels)


class Distillation(nn.Module):
    """A loss on labels and on teachers: (1 - weight) labels + weight T^2 KL(teachers at T || student at T).

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531). At a
    temperature T a distribution p becomes p^(1 / T), scaled to sum to 1. The factor T^2 keeps the size of the
    gradient. The divergence is the mean over the rows of the batch.

    Args:
        labels: the loss on labels.
        weight: the teachers' share of the loss, above 0 and up to 1.
        temperature: T, above 0; above 1 it gives small probabilities more influence.
    """

    def __init__(
        self, labels: "CrossEntropy | FocalLoss", weight: float = 0.5, temperature: float = 2.0
    ) -> None:
        super().__init__()
        self.labels = labels
        self.weight = weight
        self.temperature = temperature

    def forward(self, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> Tensor:
        """The loss, a scalar; without a teacher, as in evaluation, the loss on labels alone.

        Args:
            logits, teacher: shape (rows, classes); the teacher's are probabilities.
            labels: shape (rows,).
        """
        from_labels = self.labels(logits, labels)
        if teacher is None:
            return from_labels
        taught = (teacher.to(widen(logits)).log() / self.temperature).softmax(dim=1)
        log_p = (widen(logits) / self.temperature).log_softmax(dim=1)
        divergence = nn.functional.kl_div(log_p, taught, reduction="batchmean")
        return (1 - self.weight) * from_labels + self.weight * self.temperature**2 * divergence


def r_drop(one: Tensor, other: Tensor) -> Tensor:
    """The distance of two answers to the same rows: the mean of both Kullback-Leibler divergences, a scalar.

    Liang et al., "R-Drop: Regularized Dropout for Neural Networks", 2021 (arXiv:2106.14448).

    Args:
        one, other: logits of shape (rows, classes) or (rows, exits, classes).
    """
    p, q = widen(one).log_softmax(dim=-1), widen(other).log_softmax(dim=-1)
    # KL(p || q) + KL(q || p) = sum of (p - q)(log p - log q)
    return ((p.exp() - q.exp()) * (p - q)).sum(dim=-1).mean() / 2


def widen(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; float32 and float64 stay."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def class_weights(kind: ClassWeights, label_ids: NDArray[np.int64], classes: int) -> Tensor | None:
    """Weights against skewed labels, from the labels of the training rows. Their mean over these rows is 1.

        inverse_frequency: 1 / n_c for a class of n_c rows.
        effective_number: (1 - beta) / (1 - beta^n_c) with beta 0.999; Cui et al., "Class-Balanced Loss Based
            on Effective Number of Samples", 2019 (arXiv:1901.05555).

    A class without rows gets the weight of the rarest class that has rows.

    Args:
        label_ids: shape (rows,), at least one row.

    Returns:
        float32 of shape (classes,), or None for `none`.
    """
    if kind == "none":
        return None
    rows = np.bincount(label_ids, minlength=classes).astype(np.float64)
    rows[rows == 0] = rows[rows > 0].min()
    weights = 1 / rows if kind == "inverse_frequency" else (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA**rows)
    return torch.from_numpy(weights / weights[label_ids].mean()).float()
