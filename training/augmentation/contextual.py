"""Conditional contextual augmentation: words refilled by a masked language model that knows the row's
relation.

Wu et al., "Conditional BERT Contextual Augmentation", 2018 (arXiv:1812.06705). A model without the relation
can put in a word that fits another relation. `python -m training.contextual` makes the model.
"""

import json
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from training.augmentation.variants import Augmentation, Vary


class Contextual(Augmentation):
    """Refill words in which neither entity occurs. A row whose words all stay the same gives no new row."""

    batch: ClassVar[int] = 256  # rows that are sorted by length and refilled together

    method: Literal["contextual"] = "contextual"
    model: str = Field(description="Folder that `python -m training.contextual` wrote.")
    alpha: float = Field(0.15, gt=0, le=1, description="Share of the sentence's words that are refilled.")
    temperature: float = Field(
        1.0, gt=0, description="Divides the logits; below 1, likely words are drawn even more often."
    )
    top_k: int = Field(20, ge=1, description="Each token is drawn from this many of the likeliest tokens.")

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str) -> str:
        try:
            kinds = json.loads((Path(model) / "config.json").read_bytes()).get("architectures")
        except (OSError, ValueError, AttributeError):  # AttributeError: the file holds a list
            kinds = None
        if kinds != ["ConditionalMaskedLM"]:
            raise ValueError(f"{model} is not a folder that python -m training.contextual wrote")
        return model

    def start(self) -> Vary:
        from training.augmentation.refill import Refiller  # PyTorch; the other methods do not load it

        return Refiller(self)
