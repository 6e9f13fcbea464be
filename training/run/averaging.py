"""Averages of the weights over the steps of a run, for evaluation and for the finished model.

ema: each step moves the average a little towards the weights.
swa: the mean of the weights over the last part of the run, here over its steps instead of its epochs
    (Izmailov et al., 2018, arXiv:1803.05407).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback

from training.run.recipe import Recipe

AVERAGE: Final = "average.safetensors"
"""The file of a checkpoint with the average."""


class WeightAverage(TrainerCallback):
    """Averages a model's weights after each step of the optimizer."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.starts = recipe.swa_start if recipe.average == "swa" else 0.0
        moving = get_ema_multi_avg_fn(recipe.ema_decay) if recipe.average == "ema" else None
        self.averaged = AveragedModel(model, multi_avg_fn=moving)

    def on_step_end(self, args, state, control, model, **_):
        if state.global_step > self.starts * state.max_steps:
            self.averaged.update_parameters(model)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model has the averaged weights within the block; its own ones if no step was averaged yet."""
        own = [parameter.detach().clone() for parameter in model.parameters()]
        self.copy_to(model)
        try:
            yield
        finally:
            _copy(own, model)

    def copy_to(self, model: nn.Module) -> None:
        """Give a model the averaged weights, if a step was averaged."""
        if self.averaged.n_averaged:
            _copy(list(self.averaged.module.parameters()), model)

    def save(self, checkpoint: Path) -> None:
        checkpoint.mkdir(parents=True, exist_ok=True)
        save_file(self.averaged.state_dict(), checkpoint / AVERAGE)

    def load(self, checkpoint: Path) -> None:
        self.averaged.load_state_dict(load_file(checkpoint / AVERAGE))


@torch.no_grad()
def _copy(weights: list[torch.Tensor], model: nn.Module) -> None:
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        parameter.copy_(weight)
