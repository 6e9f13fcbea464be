"""The methods of augmentation by name, and their options as flags of `python -m training.augment`."""

from typing import Annotated, Any

from pydantic import Field, ValidationError

from training.augmentation.aeda import Aeda
from training.augmentation.contextual import Contextual
from training.augmentation.eda import Eda
from training.augmentation.entities import EntityMask, EntitySwap
from training.augmentation.variants import Augmentation
from training.errors import InvalidArguments

METHODS: dict[str, type[Augmentation]] = {
    "eda": Eda,
    "aeda": Aeda,
    "contextual": Contextual,
    "entity_mask": EntityMask,
    "entity_swap": EntitySwap,
}

AnyMethod = Annotated[Eda | Aeda | Contextual | EntityMask | EntitySwap, Field(discriminator="method")]
"""The type of a recipe's `augmentation` block: its `method` decides which options it has."""


def flag_help() -> dict[str, str]:
    """Each option of each method as a flag, with its help text."""
    flags = {}
    for method, model in METHODS.items():
        for name, field in model.model_fields.items():
            if name == "method":
                continue
            text = str(field.description)
            if name not in Augmentation.model_fields:
                text = f"{method}: {text}"
                if not field.is_required() and field.default is not None:
                    default = f"{field.default:.2g}" if isinstance(field.default, float) else field.default
                    text += f" (default: {default})"
            flags[_flag(name)] = text
    return flags


def read_options(method: str, texts: dict[str, str]) -> Augmentation:
    """A method with its options, which are given as texts.

    Raises:
        InvalidArguments: the method has no such option, or the value is out of range.
    """
    try:
        return METHODS[method](**texts)
    except ValidationError as error:
        faults = (f"{_flag(str(fault['loc'][0]))}: {_message(fault, method)}" for fault in error.errors())
        raise InvalidArguments("; ".join(faults)) from None


def _message(fault: Any, method: str) -> str:
    return f"not an option of {method}" if fault["type"] == "extra_forbidden" else fault["msg"]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
