"""Conditional contextual augmentation: words refilled by a masked language model that knows the row's
relation.

Wu et al., "Conditional BERT Contextual Augmentation", 2018 (arXiv:1812.06705). A model without the relation
can put in a word that fits another relation. `python -m training.contextual` makes the model.
"""

import json
import sys
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import Field, field_validator

from training.augmentation.variants import Augmentation, Vary

CLEARLY: Final = 1.0
"""Nats that a model's held-out loss has to be below that of a guess by word frequency."""


def gibberish(model: Path) -> str | None:
    """A warning if a model's held-out loss, in its metrics.json, is that of a model that writes gibberish.

    Such a model guesses words by their frequency. An encoder without a pretrained masked-LM head gives one.
    """
    try:
        metrics = json.loads((model / "metrics.json").read_bytes())
        loss, guess = metrics["loss_true_relation"], metrics["loss_word_frequency"]
    except (OSError, ValueError, KeyError, TypeError):  # a copy without its record
        return None
    if loss <= guess - CLEARLY:
        return None
    return (
        f"{model}: the model writes gibberish: its held-out loss is {loss:.2f} nats a token, that of a guess "
        f"by word frequency {guess:.2f}; train it longer, or start from an encoder with a masked-LM head"
    )


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

    min_probability: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="A new word is kept if the geometric mean of its tokens' probabilities is at least this; "
        "otherwise the old word stays. 0: every word is kept.",
    )

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
        if warning := gibberish(Path(self.model)):
            print(f"training: {warning}", file=sys.stderr)
        from training.augmentation.refill import Refiller  # PyTorch; the other methods do not load it

        return Refiller(self)
