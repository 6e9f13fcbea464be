"""Trials chosen by Optuna's TPE sampler, one at a time."""

import math
import sys
from pathlib import Path

import optuna
from optuna.trial import TrialState
from tqdm import tqdm

from training.errors import Diverged
from training.run.recipe import Recipe
from training.trials.objective import Objective
from training.trials.run_trial import run_trial
from training.trials.space import SearchSpace
from training.trials.study import distributions


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

    for _ in tqdm(range(done, space.trials), unit="trial"):
        trial = study.ask(distributions(space))
        value = _run(recipe, trial, folder / "trials" / f"run-{trial.number}", objective)
        study.tell(trial, value, TrialState.PRUNED if value is None else None)


def _run(recipe: Recipe, trial: optuna.Trial, output: Path, objective: Objective) -> float | None:
    """The objective of a trial's last evaluation; None if the trial was stopped or diverged."""
    value, pruned = math.nan, False

    def report(epoch: int, metrics: dict[str, float]) -> bool:
        nonlocal value, pruned
        value = objective(metrics)
        trial.report(value, epoch)
        pruned = trial.should_prune()  # once for each epoch: the answer changes the pruner's state
        return pruned

    try:
        run_trial(recipe, trial.params, output, report)
    except Diverged as error:
        print(f"training.search: {output.name}: {error}", file=sys.stderr)
        return None
    return None if pruned else value


def _pruner(space: SearchSpace) -> optuna.pruners.BasePruner:
    if space.pruner == "median":
        return optuna.pruners.MedianPruner()
    if space.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.pruners.NopPruner()
