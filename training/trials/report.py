"""The page of a search: its objective, the winner's recipe, the trials, and the importance of parameters."""

import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from models.report_page import code, page, paragraph, picture, section, table
from training.data.files import write
from training.trials.space import Choice, Integer, LogUniform, SearchSpace
from training.trials.trial import Trial, table_of

ENOUGH: Final = 10
"""Complete trials from which the importance of parameters is estimated. Fewer say nothing."""


def write_report(
    folder: Path, space: SearchSpace, trials: Sequence[Trial], best: Trial, notes: Sequence[str]
) -> None:
    """Write report.html into a search's folder, which has best.yaml and trials.svg.

    Args:
        notes: warnings about the search, shown first.
    """
    lines = table_of(trials, space)
    cells = [[_cell(value) for value in line.values()] for line in lines]
    parts = [
        paragraph(
            f"{explained(space)} The best complete trial is {best.name}, with {best.objectives[-1]:.6g}. "
            f"{sum(trial.complete for trial in trials)} of {len(trials)} trials are complete."
        ),
        *(f'<p class="broken">Warning: {escape(note)}</p>' for note in notes),
        section("The winner's recipe", code((folder / "best.yaml").read_text(encoding="utf-8"))),
        section("Importance of the parameters", *_importance(space, trials)),
        section("Trials", table(list(lines[0]), cells, trials.index(best))),
        section("Plots", picture((folder / "trials.svg").read_text(encoding="utf-8"))),
    ]
    write(folder / "report.html", page(f"Search {folder.parent.name}", *parts))


def explained(space: SearchSpace) -> str:
    """What the objective is, in sentences."""
    better = "higher" if space.direction == "maximize" else "lower"
    return (
        f"The objective is {space.objective} of a trial's last evaluation on the validation rows; {better} "
        "is better. It chose the winner, so expect less on other rows."
    )


def importance(space: SearchSpace, trials: Sequence[Trial]) -> Mapping[str, float]:
    """What share of the objective's good values each parameter explains; the shares sum to 1.

    PED-ANOVA (Watanabe et al., "PED-ANOVA", 2023, arXiv:2304.10255): how far the values of the best tenth of
    the trials are from those of all. Only complete trials count.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choice):
            distributions[name] = optuna.distributions.CategoricalDistribution(parameter.labels)
        elif isinstance(parameter, Integer):
            distributions[name] = optuna.distributions.IntDistribution(parameter.low, parameter.high)
        else:
            log = isinstance(parameter, LogUniform)
            distributions[name] = optuna.distributions.FloatDistribution(
                parameter.low, parameter.high, log=log
            )
    study = optuna.create_study(direction=space.direction)
    for trial in trials:
        if trial.complete:
            drawn = space.labels(trial.parameters)
            study.add_trial(
                create_trial(params=drawn, distributions=distributions, value=trial.objectives[-1])
            )
    with warnings.catch_warnings():  # PED-ANOVA is marked as experimental, or warns of a constant parameter
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def _importance(space: SearchSpace, trials: Sequence[Trial]) -> list[str]:
    complete = sum(trial.complete for trial in trials)
    if complete < ENOUGH:
        return [paragraph(f"It is estimated from {ENOUGH} complete trials on; there are {complete}.")]
    shares = importance(space, trials)
    return [
        paragraph(
            "How much the best tenth of the trials differs from all trials in this parameter, as a share of "
            f"all parameters (PED-ANOVA, from {complete} complete trials). With few trials it is rough."
        ),
        table(["parameter", "share"], [[name, f"{share:.2f}"] for name, share in shares.items()]),
    ]


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
