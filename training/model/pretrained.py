"""Models on a pretrained encoder, and checkpoints that are complete: transformers fills missing weights with
random numbers and only warns."""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel


class OnEncoder(PreTrainedModel):
    """A model on a pretrained encoder, without the encoder's pooler."""

    base_model_prefix = "encoder"
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    def __init__(self, config: Any, encoder: nn.Module | None = None) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config) if encoder is None else encoder
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the encoder is pretrained, and `__init__` sets the rest."""


def require_encoder(model: PreTrainedModel, name: str, missing: Collection[str]) -> None:
    """Refuse an encoder with random weights. A pooler and a head are not part of the encoder and can be new.

    Args:
        missing: the weights that the checkpoint `name` lacks, as `from_pretrained` reports them.

    Raises:
        ValueError: a weight of the encoder is missing.
    """
    encoder = "" if model.base_model is model else f"{model.base_model_prefix}."
    require(
        name, [key for key in missing if key.startswith(encoder) and not key.startswith(f"{encoder}pooler.")]
    )


def require(name: str, missing: Collection[str]) -> None:
    """Refuse a model with missing weights; raises ValueError."""
    if missing:
        raise ValueError(f"{name} lacks {len(missing)} of its weights, the first one is {min(missing)}")


def accelerator() -> torch.device:
    """The GPU, or the CPU where there is no GPU."""
    current = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return current or torch.device("cpu")
