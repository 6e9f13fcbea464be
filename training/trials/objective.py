"""The objective of a search: one number from a run's metrics."""

import importlib
from collections.abc import Callable, Mapping

from training.errors import InvalidRecipe

Objective = Callable[[Mapping[str, float]], float]

NAMED: dict[str, Objective] = {
    "micro_f1": lambda metrics: metrics["micro_f1"],
    "auprc": lambda metrics: metrics["auprc"],
    "micro_f1+auprc": lambda metrics: metrics["micro_f1"] + metrics["auprc"],
}

EXAMPLE = {"epoch": 1.0, "loss": 1.0, "micro_f1": 50.0, "auprc": 50.0}
"""Metrics to try a user's function on."""


def load_objective(name: str) -> Objective:
    """An objective by its name, or a Python function as `package.module.name` or `package.module:name`.

    The function gets a mapping with the keys of `EXAMPLE`. Its module can be in the working directory.

    Raises:
        InvalidRecipe: there is no such function, or it does not return a number for `EXAMPLE`.
    """
    if name in NAMED:
        return NAMED[name]
    module, _, attribute = name.rpartition(":" if ":" in name else ".")
    if not module:
        raise InvalidRecipe(
            f"search.objective: {', '.join(NAMED)} or package.module.function is required, not {name!r}"
        )
    try:
        function = getattr(importlib.import_module(module), attribute)
        float(function(EXAMPLE))
    except Exception as error:  # the user's code can raise anything
        raise InvalidRecipe(f"search.objective: {name}: {type(error).__name__}: {error}") from None
    return lambda metrics: float(function(metrics))
