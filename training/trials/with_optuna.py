"""Trials chosen by Optuna's TPE sampler, one at a time."""

import math
import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from training.errors import Diverged
from training.run.recipe import Recipe
from training.trials.objective import Objective
from training.trials.run_trial import run_trial
from training.trials.space import Choice, Integer, LogUniform, SearchSpace


def run_trials(recipe: Recipe, folder: Path, objective: Objective) -> None:
    """Run the trials that are missing. The study is in study.db, so a killed search goes on.

    Args:
        recipe: with a `search` block.
        folder: of the search.
    """
    space = recipe.search
    study = optuna.create_study(
        study_name="search",
        storage=f"sqlite:///{(folder / 'study.db').absolute()}",
        load_if_exists=True,
        direction=space.direction,
        pruner=_pruner(space),
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # a killed search leaves it running
        study.tell(trial.number, state=TrialState.FAIL)
    # With the same seed a search that goes on would draw its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=space.seed + len(study.trials))
    done = len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def run(trial: optuna.Trial) -> float:
        value, pruned = math.nan, False

        def report(epoch: int, metrics: dict[str, float]) -> bool:
            nonlocal value, pruned
            value = objective(metrics)
            trial.report(value, epoch)
            pruned = trial.should_prune()  # once for each epoch: the answer changes the pruner's state
            return pruned

        output = folder / "trials" / f"run-{trial.number}"
        try:
            run_trial(recipe, _draw(space, trial), output, report)
        except Diverged as error:
            print(f"training.search: {output.name}: {error}", file=sys.stderr)
            raise optuna.TrialPruned from None
        if pruned:
            raise optuna.TrialPruned
        return value

    study.optimize(run, n_trials=max(0, space.trials - done))


def _draw(space: SearchSpace, trial: optuna.Trial) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choice):
            drawn[name] = trial.suggest_categorical(name, parameter.labels)
        elif isinstance(parameter, Integer):
            drawn[name] = trial.suggest_int(name, parameter.low, parameter.high)
        else:
            log = isinstance(parameter, LogUniform)
            drawn[name] = trial.suggest_float(name, parameter.low, parameter.high, log=log)
    return drawn


def _pruner(space: SearchSpace) -> optuna.pruners.BasePruner:
    if space.pruner == "median":
        return optuna.pruners.MedianPruner()
    if space.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.pruners.NopPruner()
