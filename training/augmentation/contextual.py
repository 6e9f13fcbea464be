"""Conditional contextual augmentation: words refilled by a masked language model that knows the row's
relation.

Wu et al., "Conditional BERT Contextual Augmentation", 2018 (arXiv:1812.06705). Their model may put a word of
another relation where nothing tells it which one the row has; told it, what it puts fits the relation.
`python -m training.contextual` makes the model.
"""

import json
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from training.augmentation.variants import Augmentation, Vary


class Contextual(Augmentation):
    """Refill words in which neither entity occurs. A row whose words all come back as they were gives no new
    row."""

    batch: ClassVar[int] = 256  # rows that are sorted by length to be refilled together

    method: Literal["contextual"] = "contextual"
    model: str = Field(description="folder that python -m training.contextual wrote")
    alpha: float = Field(0.15, gt=0, le=1, description="words refilled, per word of the sentence")
    temperature: float = Field(1.0, gt=0, description="below 1 likelier words are preferred even more")
    top_k: int = Field(20, ge=1, description="pieces of words drawn from, the likeliest at each place")

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str) -> str:
        try:
            kinds = json.loads((Path(model) / "config.json").read_bytes()).get("architectures")
        except (OSError, ValueError, AttributeError):  # the last of a file that holds a list
            kinds = None
        if kinds != ["ConditionalMaskedLM"]:
            raise ValueError(f"{model} is no folder that python -m training.contextual wrote")
        return model

    def start(self) -> Vary:
        from training.augmentation.refill import Refiller  # PyTorch, which no other method waits for

        return Refiller(self.model, self.alpha, self.temperature, self.top_k)
