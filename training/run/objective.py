"""What a search looks for: one figure out of a run's metrics."""

import importlib
from collections.abc import Callable, Mapping

from training.run.recipe import InvalidRecipe

Objective = Callable[[Mapping[str, float]], float]

NAMED: dict[str, Objective] = {
    "micro_f1": lambda metrics: metrics["micro_f1"],
    "auprc": lambda metrics: metrics["auprc"],
    "micro_f1+auprc": lambda metrics: metrics["micro_f1"] + metrics["auprc"],
}

MADE_UP = {"epoch": 1.0, "loss": 1.0, "micro_f1": 50.0, "auprc": 50.0}


def load_objective(name: str) -> Objective:
    """An objective by its name, or a function of the metrics (`MADE_UP` has their names) as
    `package.module.name` or `package.module:name`.

    The module is imported as any other is, so it may lie in the working directory.

    Raises:
        InvalidRecipe: there is no such function, or it does not make a number of made-up metrics.
    """
    if name in NAMED:
        return NAMED[name]
    module, _, attribute = name.rpartition(":" if ":" in name else ".")
    if not module:
        raise InvalidRecipe(
            f"search.objective: one of {', '.join(NAMED)} or package.module.function is required, not {name!r}"
        )
    try:
        function = getattr(importlib.import_module(module), attribute)
        float(function(MADE_UP))
    except Exception as error:  # the user's own code may raise anything
        raise InvalidRecipe(f"search.objective: {name}: {type(error).__name__}: {error}") from None
    return lambda metrics: float(function(metrics))
