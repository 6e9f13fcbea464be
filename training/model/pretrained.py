"""Checkpoints, whole or not at all: what a checkpoint lacks, transformers fills with random numbers and no
more than a warning."""

from collections.abc import Collection

from transformers import PreTrainedModel


def require_encoder(model: PreTrainedModel, name: str, missing: Collection[str]) -> None:
    """Refuse an encoder that is partly random. A pooler and a head are not the encoder's, and may be new.

    Args:
        missing: the weights that the checkpoint `name` lacks, as `from_pretrained` reports them.

    Raises:
        ValueError: some of them are the encoder's.
    """
    encoder = "" if model.base_model is model else f"{model.base_model_prefix}."
    require(
        name, [key for key in missing if key.startswith(encoder) and not key.startswith(f"{encoder}pooler.")]
    )


def require(name: str, missing: Collection[str]) -> None:
    """Refuse a model that lacks a weight; raises ValueError."""
    if missing:
        raise ValueError(f"{name} lacks {len(missing)} of its weights, the first of them {min(missing)}")
