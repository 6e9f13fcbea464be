"""Adversarial training: weights are moved so that the loss grows, and the loss there is learned too.

fgm: the token embeddings move by `size` in the direction of their gradient (Miyato et al., 2017,
    arXiv:1605.07725).
awp: each matrix moves by `size` times its own norm in the direction of its gradient (Wu et al., 2020,
    arXiv:2004.05884).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

SIZES: Final = {"fgm": 1.0, "awp": 0.01}
"""How far weights move if the recipe does not say it."""


@contextmanager
def perturbed(model: nn.Module, method: str, size: float) -> Iterator[None]:
    """A model whose weights are moved within the block. Its gradients have to be there already."""
    if method == "fgm":
        moved = [model.base_model.get_input_embeddings().weight]
    else:
        moved = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    own = []
    with torch.no_grad():
        for parameter in moved:
            norm = torch.zeros(()) if parameter.grad is None else parameter.grad.norm()
            if norm > 0 and torch.isfinite(norm):
                own.append((parameter, parameter.detach().clone()))
                scale = parameter.norm() if method == "awp" else 1.0
                parameter.add_(parameter.grad * (size * scale / norm))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, weights in own:
                parameter.copy_(weights)
