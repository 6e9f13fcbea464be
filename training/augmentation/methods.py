"""The methods of augmentation by name."""

from typing import Annotated

from pydantic import Field

from training.augmentation.aeda import Aeda
from training.augmentation.contextual import Contextual
from training.augmentation.eda import Eda
from training.augmentation.entities import EntityMask, EntitySwap
from training.augmentation.variants import Augmentation

METHODS: dict[str, type[Augmentation]] = {
    "eda": Eda,
    "aeda": Aeda,
    "contextual": Contextual,
    "entity_mask": EntityMask,
    "entity_swap": EntitySwap,
}

AnyMethod = Annotated[Eda | Aeda | Contextual | EntityMask | EntitySwap, Field(discriminator="method")]
"""The type of a recipe's `augmentation` block: its `method` decides which options it has."""
