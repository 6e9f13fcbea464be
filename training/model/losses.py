"""What training minimises: cross-entropy or focal loss, with class weights and label smoothing, or either
beside a teacher's answers.

The loss stands here and not in the model: export and evaluation read logits, and a checkpoint is the same
thing whatever it was trained with.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

ClassWeights = Literal["none", "inverse_frequency", "effective_number"]

# rows of a label beyond about 1 / (1 - beta) add nothing: KLUE-RE's labels have 40 to 9,534
EFFECTIVE_BETA = 0.999


class FocalLoss(nn.Module):
    """Cross-entropy in which rows that are right already count little: FL = -alpha_t (1 - p_t)^gamma log p_t.

    Lin et al., "Focal Loss for Dense Object Detection", 2017 (arXiv:1708.02002). With label smoothing the
    target is the distribution q = (1 - smoothing) onehot + smoothing / classes, and each class has its own
    focal term: sum_c q_c alpha_c (1 - p_c)^gamma (-log p_c). The batch's mean is weighted as PyTorch's is:
    the sum of the rows' losses over the sum of their labels' alpha. So gamma 0 is
    `torch.nn.functional.cross_entropy(logits, labels, weight=alpha, label_smoothing=smoothing)`, for every
    alpha and smoothing.

    Args:
        gamma: focusing parameter, at least 0; the paper's best is 2.
        alpha: weight of each class, shape (classes,), or None for 1 everywhere.
        label_smoothing: share of the target that is spread over all classes, from 0 to below 1.

    Raises:
        ValueError: gamma or label_smoothing is out of range.
    """

    def __init__(self, gamma: float = 2.0, alpha: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"gamma: a number from 0 on is required, not {gamma}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing: a number from 0 to below 1 is required, not {label_smoothing}"
            )
        self.gamma = gamma
        self.label_smoothing = label_smoothing
        self.register_buffer("alpha", alpha)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar, of logits of shape (rows, classes) and labels of shape (rows,).

        Computed in float32 at least: logits arrive in bfloat16 under autocast.
        """
        log_p = widen(logits).log_softmax(dim=1)
        # expm1 keeps 1 - p exact where p is nearly 1, and the floor keeps the power's slope finite at 0 for a
        # gamma below 1.
        away = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        terms = -(away**self.gamma) * log_p
        weights = terms.new_ones(terms.size(1)) if self.alpha is None else self.alpha.to(terms)
        terms = terms * weights
        of_label = terms.gather(1, labels.unsqueeze(1)).squeeze(1)
        losses = (1 - self.label_smoothing) * of_label + self.label_smoothing * terms.mean(dim=1)
        return losses.sum() / weights[labels].sum()


class CrossEntropy(nn.CrossEntropyLoss):
    """PyTorch's own, in float32 at least."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().forward(widen(logits), labels)


class Distillation(nn.Module):
    """A loss on labels beside what teachers say: (1 - weight) labels + weight T^2 KL(teachers at T || student
    at T).

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531). At a
    temperature T a distribution p is p^(1 / T), scaled to sum to 1; the factor T^2 keeps the size of the
    gradient. The divergence is the mean over the batch's rows.

    Args:
        labels: the loss on labels.
        weight: the teachers' share, above 0 and up to 1.
        temperature: T, above 0; above 1 the small probabilities count for more.
    """

    def __init__(
        self, labels: "CrossEntropy | FocalLoss", weight: float = 0.5, temperature: float = 2.0
    ) -> None:
        super().__init__()
        self.labels = labels
        self.weight = weight
        self.temperature = temperature

    def forward(self, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> Tensor:
        """The loss, a scalar; without a teacher, as in evaluation, that on labels alone.

        Args:
            logits, teacher: shape (rows, classes), the teacher's as probabilities.
            labels: shape (rows,).
        """
        from_labels = self.labels(logits, labels)
        if teacher is None:
            return from_labels
        taught = (teacher.to(widen(logits)).log() / self.temperature).softmax(dim=1)
        log_p = (widen(logits) / self.temperature).log_softmax(dim=1)
        divergence = nn.functional.kl_div(log_p, taught, reduction="batchmean")
        return (1 - self.weight) * from_labels + self.weight * self.temperature**2 * divergence


def widen(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; float32 and float64 as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def class_weights(kind: ClassWeights, label_ids: NDArray[np.int64], classes: int) -> Tensor | None:
    """Weights against skewed labels, from the labels of the training rows; their mean over those rows is 1.

        inverse_frequency: 1 / n_c for a class of n_c rows.
        effective_number: (1 - beta) / (1 - beta^n_c) with beta 0.999; Cui et al., "Class-Balanced Loss Based
            on Effective Number of Samples", 2019 (arXiv:1901.05555).

    A class without rows weighs as much as the rarest one that has some.

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
