"""One trial: a run of the recipe with drawn values. It leaves its record, but not its weights."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from training.run.recipe import Recipe
from training.run.record import EPOCHS, METRICS, claim, finish, is_finished
from training.run.training import fit, prepare

Report = Callable[[int, dict[str, float]], bool]
"""Gets the epoch and its metrics. Returns whether the trial has to stop."""


def run_trial(recipe: Recipe, drawn: Mapping[str, Any], output: Path, report: Report) -> None:
    """Run one trial as `training.train` does, and report its metrics after each epoch.

    A finished trial is not run again; its metrics are reported from its record.

    Raises:
        Diverged: the model's outputs are not finite.
        InvalidRecipe: the folder has a finished trial with other values.
    """
    fixed = {"output": output, "search": None, "evaluate": "epoch"}
    recipe = recipe.changed({**recipe.search.fields(drawn), **fixed})
    if is_finished(output):  # a search was killed before its back end noted the trial
        claim(recipe)
        for line in (output / EPOCHS).read_text(encoding="utf-8").splitlines():
            epoch = json.loads(line)
            report(math.ceil(epoch["epoch"]), {name: epoch[name] for name in ("epoch", *METRICS)})
        return
    trainer = prepare(recipe, [_Reporter(report)])
    trainer.args.save_strategy = SaveStrategy.NO
    fit(trainer)
    finish(recipe, trainer.predictions, trainer.apart, trainer.state.log_history)


class _Reporter(TrainerCallback):
    def __init__(self, report: Report) -> None:
        self.report = report

    def on_evaluate(self, args, state, control, metrics, **_):
        values = {"epoch": state.epoch, **{name: metrics[f"eval_{name}"] for name in METRICS}}
        # By epochs, not by steps, because trials can have different batch sizes.
        control.should_training_stop |= self.report(math.ceil(state.epoch), values)
