"""The trackers of a recipe's `report_to`: TensorBoard writes into the run's folder, Weights & Biases as its
own variables say.

The Trainer tells them of losses and metrics as it goes. `WANDB_MODE=offline` keeps a run on this machine.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from training.run.recipe import InvalidRecipe, Recipe


def require(report_to: Sequence[str]) -> None:
    """Raises InvalidRecipe if a tracker is not installed."""
    for name in report_to:
        if importlib.util.find_spec(name) is None:
            raise InvalidRecipe(f"report_to: {name} is not installed: pip install '.[track]'")


@contextmanager
def tracked(recipe: Recipe) -> Iterator[None]:
    """A Weights & Biases run of its own around one training run, if the recipe wants one: the Trainer would
    go on with the last one.

    Raises:
        InvalidRecipe: Weights & Biases refuses the run, for want of a key for example.
    """
    if "wandb" not in recipe.report_to:
        yield
        return
    import wandb

    try:
        # In a sweep the agent has begun a run, and ends it.
        run = (
            nullcontext()
            if wandb.run
            else wandb.init(
                project=os.environ.get("WANDB_PROJECT", "kore-serve"),
                name=recipe.output.name,
                dir=recipe.output,
                config=recipe.model_dump(mode="json"),
            )
        )
    except wandb.errors.Error as error:
        raise InvalidRecipe(f"report_to: wandb: {error}") from None
    with run:
        yield
