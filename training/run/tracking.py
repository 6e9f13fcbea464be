"""The trackers of a recipe's `report_to`. The Trainer sends them losses and metrics during the run.

TensorBoard writes into the run's folder. The environment variables of Weights & Biases configure it; with
`WANDB_MODE=offline` the run stays on this machine.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from training.errors import InvalidRecipe
from training.run.recipe import Recipe


def require_trackers(report_to: Sequence[str]) -> None:
    """Raises InvalidRecipe if a tracker is not installed."""
    for name in report_to:
        if importlib.util.find_spec(name) is None:
            raise InvalidRecipe(f"report_to: {name} is not installed; run: pip install '.[track]'")


@contextmanager
def tracked(recipe: Recipe) -> Iterator[None]:
    """Open a Weights & Biases run for one training run, if the recipe names this tracker.

    Without it the Trainer would write to the previous run.

    Raises:
        InvalidRecipe: Weights & Biases refuses the run, for example because the API key is missing.
    """
    if "wandb" not in recipe.report_to:
        yield
        return
    import wandb

    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "kore-serve"),
            name=recipe.output.name,
            dir=recipe.output,
            config=recipe.model_dump(mode="json"),
        )
    except wandb.errors.Error as error:
        raise InvalidRecipe(f"report_to: wandb: {error}") from None
    with run:
        yield
