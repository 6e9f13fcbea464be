"""AEDA: punctuation at random places.

Karimi et al., "AEDA: An Easier Data Augmentation Technique for Text Classification", 2021 (arXiv:2108.13230).
No word is removed or moved, so no label becomes false.
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from models.example import Example
from training.augmentation.variants import Augmentation
from training.augmentation.words import insert, join, split

PUNCTUATION = (".", ";", "?", ":", "!", ",")


class Aeda(Augmentation):
    """Put one of . ; ? : ! , before 1 to n/3 of a sentence's n words."""

    keeps_words: ClassVar[bool] = True

    method: Literal["aeda"] = "aeda"
    ratio: float = Field(
        1 / 3, gt=0, le=1, description="Largest share of the words that get a punctuation mark before them."
    )

    def vary(self, example: Example, generator: np.random.Generator) -> Example | None:
        words, space = split(example)
        most = max(1, int(self.ratio * len(words) + 1e-9))  # a third of 3 words is 1, not 0.999…
        count = int(generator.integers(1, most + 1))
        changed = words
        for place in sorted(generator.choice(len(words), count, replace=False), reverse=True):
            changed = insert(changed, int(place), PUNCTUATION[generator.integers(len(PUNCTUATION))])
        return join(changed, space, example)
