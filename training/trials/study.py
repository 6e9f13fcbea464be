"""A search as an Optuna study, whichever back end chose its trials: its plots and the importance of its
parameters."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial
from optuna.visualization.matplotlib import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_slice,
)

from training.run.plots import save
from training.trials.space import Choice, Integer, LogUniform, SearchSpace, label
from training.trials.trial import Trial

PLOTS = {"history": plot_optimization_history, "epochs": plot_intermediate_values, "parameters": plot_slice}


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """How Optuna draws each parameter."""
    drawn: dict[str, BaseDistribution] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choice):
            drawn[name] = CategoricalDistribution(parameter.labels)
        elif isinstance(parameter, Integer):
            drawn[name] = IntDistribution(parameter.low, parameter.high)
        else:
            log = isinstance(parameter, LogUniform)
            drawn[name] = FloatDistribution(parameter.low, parameter.high, log=log)
    return drawn


def study_of(space: SearchSpace, trials: Sequence[Trial]) -> optuna.Study:
    """The trials as a study in memory. Those that were stopped or did not end in a number are pruned ones."""
    study, kinds = optuna.create_study(direction=space.direction), distributions(space)
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choice):  # as the recipe read the values: YAML takes 1e-4 for a text
            seen = dict.fromkeys(label(trial.parameters[name]) for trial in trials)
            kinds[name] = CategoricalDistribution(list(seen))
    for trial in trials:
        ended = trial.complete and math.isfinite(trial.objectives[-1])
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if ended else TrialState.PRUNED,
                value=trial.objectives[-1] if ended else None,
                params={name: label(value) for name, value in trial.parameters.items()},
                distributions=kinds,
                intermediate_values=dict(enumerate(trial.objectives, start=1)),
            )
        )
    return study


def importance(study: optuna.Study) -> Mapping[str, float]:
    """What share of the objective's good values each parameter explains; the shares sum to 1.

    PED-ANOVA (Watanabe et al., "PED-ANOVA", 2023, arXiv:2304.10255): how far the values of the best tenth of
    the trials are from those of all. Only complete trials count.
    """
    with warnings.catch_warnings():  # PED-ANOVA is marked as experimental, or warns of a constant parameter
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def draw(study: optuna.Study, folder: Path) -> list[Path]:
    """Plot the objective by trial with the best so far, by epoch, and over each parameter; returns the SVG
    files."""
    paths = []
    for name, plot in PLOTS.items():
        with warnings.catch_warnings():  # they are marked as experimental
            warnings.simplefilter("ignore")
            figure = np.ravel(plot(study))[0].figure
        paths.append(folder / f"{name}.svg")
        save(figure, paths[-1])
        plt.close(figure)
    return paths
