"""Losses: worked by hand, against PyTorch's cross-entropy, against numerical gradients, at the edges of the
numbers, and in a recipe."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from training.errors import InvalidRecipe
from training.model.losses import CrossEntropy, FocalLoss, class_weights
from training.run.recipe import Recipe
from training.train import main

# Two classes with logits 0 and ln 3: p = (1/4, 3/4).
QUARTERS = torch.tensor([[0.0, np.log(3.0)]], dtype=torch.float64)


def test_focal_loss_by_hand() -> None:
    # (1 - 3/4)^2 · -ln 3/4 = 0.0625 · 0.2876820724 and (1 - 1/4)^2 · -ln 1/4 = 0.5625 · 1.3862943611
    assert FocalLoss(2)(QUARTERS, torch.tensor([1])).item() == pytest.approx(0.0179801295)
    assert FocalLoss(2)(QUARTERS, torch.tensor([0])).item() == pytest.approx(0.7797905781)
    # Both rows with alpha (2, 1): (2 · 0.7797905781 + 1 · 0.0179801295) / (2 + 1)
    alpha = torch.tensor([2.0, 1.0])
    assert FocalLoss(2, alpha)(QUARTERS.repeat(2, 1), torch.tensor([0, 1])).item() == pytest.approx(
        0.5258537619
    )
    # Smoothing 0.2 makes the target (0.1, 0.9): 0.1 · 0.7797905781 + 0.9 · 0.0179801295
    assert FocalLoss(2, label_smoothing=0.2)(QUARTERS, torch.tensor([1])).item() == pytest.approx(
        0.0941611744
    )


def test_its_gradient_by_hand() -> None:
    # dFL/dz_j = -((1 - p)^γ - γ p (1 - p)^(γ-1) ln p) (δ_tj - p_j); for p = 3/4, γ = 2 the first factor is
    # -(0.0625 + 2 · 0.75 · 0.25 · 0.2876820724) = -0.1703807772, and (δ_tj - p_j) is (-1/4, 1/4).
    logits = QUARTERS.clone().requires_grad_()
    FocalLoss(2)(logits, torch.tensor([1])).backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.0425951943, -0.0425951943])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_0_is_cross_entropy(weighted: bool, smoothing: float) -> None:
    torch.manual_seed(1)
    logits = (torch.randn(64, 30, dtype=torch.float64) * 4).requires_grad_()
    labels = torch.randint(0, 30, (64,))
    alpha = torch.rand(30, dtype=torch.float64) + 0.1 if weighted else None
    expected = cross_entropy(logits, labels, weight=alpha, label_smoothing=smoothing)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    for loss in (FocalLoss(0, alpha, smoothing), CrossEntropy(alpha, label_smoothing=smoothing)):
        value = loss(logits, labels)
        (gradient,) = torch.autograd.grad(value, logits)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_are_the_numerical_ones(gamma: float, smoothing: float) -> None:
    torch.manual_seed(2)
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    loss = FocalLoss(gamma, torch.rand(6, dtype=torch.float64) + 0.5, smoothing)
    assert torch.autograd.gradcheck(lambda logits: loss(logits, torch.tensor([0, 5, 2, 2])), (logits,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 20.0])
def test_extreme_logits_stay_finite(gamma: float, dtype: torch.dtype) -> None:
    logits = torch.tensor(
        [[6e4, -6e4, 0], [-6e4, 6e4, 0], [0, 0, 0], [1e-4, 0, 0]], dtype=dtype, requires_grad=True
    )
    for smoothing in (0.0, 0.1):
        for labels in ([0, 0, 0, 0], [1, 1, 1, 1]):
            loss = FocalLoss(gamma, torch.tensor([30.0, 0.01, 1.0]), smoothing)(logits, torch.tensor(labels))
            (gradient,) = torch.autograd.grad(loss, logits)
            assert loss.isfinite()
            assert gradient.isfinite().all()


def test_a_row_that_is_surely_right_costs_nothing_and_moves_nothing() -> None:
    logits = torch.tensor([[100.0, 0.0]], requires_grad=True)
    loss = FocalLoss(0.5)(logits, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", [FocalLoss(2.0), CrossEntropy()])
def test_under_bfloat16_autocast_the_loss_is_float32(loss: torch.nn.Module) -> None:
    torch.manual_seed(3)
    head, states, labels = torch.nn.Linear(8, 30), torch.randn(16, 8), torch.randint(0, 30, (16,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(states)
        value = loss(logits, labels)
    assert (logits.dtype, value.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(value, loss(logits.float(), labels))


def test_class_weights_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])  # three of class 0, one of class 1, none of class 2
    assert class_weights("none", labels, 3) is None
    # 1/n = (1/3, 1, as the rarest); over the rows their mean is (3 · 1/3 + 1) / 4 = 1/2
    inverse = class_weights("inverse_frequency", labels, 3)
    assert inverse is not None
    assert inverse.tolist() == pytest.approx([2 / 3, 2, 2])
    # (1 - β) / (1 - β^3) = 1 / (1 + β + β²) = 0.3336669; mean over the rows (3 · 0.3336669 + 1) / 4 =
    # 0.5002502
    effective = class_weights("effective_number", labels, 3)
    assert effective is not None
    assert effective.tolist() == pytest.approx([0.667, 1.999, 1.999], abs=1e-5)


@pytest.mark.slow
def test_a_recipe_trains_with_focal_loss_class_weights_and_smoothing(
    recipe_file: Path, tmp_path: Path
) -> None:
    fields = {
        "loss": "focal",
        "focal_gamma": 1.5,
        "class_weights": "effective_number",
        "label_smoothing": 0.1,
        "epochs": 4,
        "output": tmp_path / "member",
    }
    assert (
        main(
            [
                str(recipe_file),
                *(part for name, value in fields.items() for part in ("--set", f"{name}={value}")),
            ]
        )
        == 0
    )
    assert json.loads((tmp_path / "member" / "metrics.json").read_text(encoding="utf-8"))["micro_f1"] > 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"focal_gamma": "2"},
        {"loss": "focal", "focal_gamma": "-1"},
        {"loss": "hinge"},
        {"class_weights": "magic"},
    ],
)
def test_a_recipe_with_a_wrong_loss_is_refused(recipe_file: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidRecipe, match=r"focal_gamma|loss|class_weights"):
        Recipe.read(recipe_file, wrong)
