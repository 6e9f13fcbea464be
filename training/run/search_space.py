"""What `python -m training.search` may change about a recipe and what it looks for: the recipe's `search` block."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CORNERS: Final = 4096
"""Combinations of extreme values that are checked before anything runs."""


class _Parameter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Range(_Parameter):
    low: float
    high: float

    @property
    def extremes(self) -> list[Any]:
        return [self.low, self.high]

    @model_validator(mode="after")
    def _check_order(self) -> "_Range":
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is above high ({self.high:g})")
        return self


class LogUniform(_Range):
    """A number whose logarithm is drawn evenly: for learning rates."""

    type: Literal["log_uniform"]
    low: float = Field(gt=0)


class Uniform(_Range):
    type: Literal["uniform"]


class Integer(_Range):
    """A whole number, `high` included."""

    type: Literal["int"]
    low: int
    high: int


class Choice(_Parameter):
    """One of several values, which may be blocks, as an `augmentation` is."""

    type: Literal["choice"]
    choices: list[Any] = Field(min_length=1)

    @property
    def extremes(self) -> list[Any]:
        return self.choices

    @property
    def labels(self) -> list[str | int | float | bool | None]:
        """The choices as the back ends take them: a block is its JSON."""
        return [json.dumps(choice) if isinstance(choice, dict | list) else choice for choice in self.choices]


Parameter = Annotated[LogUniform | Uniform | Integer | Choice, Field(discriminator="type")]


class SearchSpace(BaseModel):
    """A recipe's `search` block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: dict[str, Parameter] = Field(
        min_length=1, description="what is drawn for which field of the recipe"
    )
    objective: str = Field(
        "micro_f1",
        description="micro_f1, auprc, micro_f1+auprc, or a dotted path to a function of the metrics",
    )
    direction: Literal["maximize", "minimize"] = "maximize"
    trials: int = Field(10, ge=1, description="runs in all, those before an interruption included")
    parallel: int = Field(
        1, ge=1, description="trials at a time, each with its share of the cores and GPUs; Ray Tune only"
    )
    pruner: Literal["none", "median", "halving"] = Field(
        "none", description="what stops a poor trial after an epoch"
    )
    seed: int = Field(42, ge=0, lt=2**31, description="of what is drawn; a run's own seed is the recipe's")

    def fields(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a recipe from what a back end drew, which may hold entries of its own beside them."""
        return {name: _value(parameter, drawn[name]) for name, parameter in self.parameters.items()}

    def corners(self) -> Iterator[dict[str, Any]]:
        """Combinations of the parameters' extreme values and choices, the first `CORNERS` of them."""
        for values in islice(
            product(*(parameter.extremes for parameter in self.parameters.values())), CORNERS
        ):
            yield dict(zip(self.parameters, values, strict=True))


def _value(parameter: Parameter, drawn: Any) -> Any:
    return parameter.choices[parameter.labels.index(drawn)] if isinstance(parameter, Choice) else drawn
