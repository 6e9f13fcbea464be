"""What a search can change about a recipe, and what it looks for: the recipe's `search` block."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CORNERS: Final = 4096
"""Combinations of extreme values that are checked before anything runs."""


def label(value: Any) -> Any:
    """A value for the search libraries and for tables, which take no blocks: a block becomes its JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else value


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
    """A number from `low` to `high` whose logarithm is drawn evenly, for learning rates."""

    type: Literal["log_uniform"]
    low: float = Field(gt=0)


class Uniform(_Range):
    """A number from `low` to `high`, drawn evenly."""

    type: Literal["uniform"]


class Integer(_Range):
    """A whole number from `low` to `high`, both included."""

    type: Literal["int"]
    low: int
    high: int


class Choice(_Parameter):
    """One of several values. A value can be a block, such as an `augmentation`."""

    type: Literal["choice"]
    choices: list[Any] = Field(min_length=1)

    @property
    def extremes(self) -> list[Any]:
        return self.choices

    @property
    def labels(self) -> list[str | int | float | bool | None]:
        return [label(choice) for choice in self.choices]


Parameter = Annotated[LogUniform | Uniform | Integer | Choice, Field(discriminator="type")]


class SearchSpace(BaseModel):
    """A recipe's `search` block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: dict[str, Parameter] = Field(
        min_length=1,
        description="Fields of the recipe and how their values are drawn, for example "
        "`learning_rate: {type: log_uniform, low: 1e-5, high: 1e-3}`. Types: log_uniform, uniform, int, "
        "choice.",
    )
    objective: str = Field(
        "micro_f1",
        description="What is optimised, of a trial's last evaluation: micro_f1, auprc, micro_f1+auprc, or a "
        "Python function of the metrics as package.module.function.",
    )
    direction: Literal["maximize", "minimize"] = Field(
        "maximize", description="Whether the objective is maximised or minimised."
    )
    trials: int = Field(10, ge=1, description="Number of runs in all, with those before an interruption.")
    parallel: int = Field(
        1, ge=1, description="Trials at a time; they share the cores and GPUs. Only ray runs more than one."
    )
    pruner: Literal["none", "median", "halving"] = Field(
        "none",
        description="Rule that stops a bad trial after an epoch. With fewer than 10 trials it decides from "
        "too few, and the command warns of it.",
    )
    seed: int = Field(
        42, ge=0, lt=2**31, description="Seed of the drawn values. The recipe's `seed` is that of each run."
    )

    def fields(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a recipe from the values that a library drew. Other entries of `drawn` are ignored."""
        return {name: _value(parameter, drawn[name]) for name, parameter in self.parameters.items()}

    def corners(self) -> Iterator[dict[str, Any]]:
        """Combinations of the parameters' extreme values and choices, the first `CORNERS` of them."""
        for values in islice(
            product(*(parameter.extremes for parameter in self.parameters.values())), CORNERS
        ):
            yield dict(zip(self.parameters, values, strict=True))


def _value(parameter: Parameter, drawn: Any) -> Any:
    return parameter.choices[parameter.labels.index(drawn)] if isinstance(parameter, Choice) else drawn
