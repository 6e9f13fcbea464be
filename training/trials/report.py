"""The page of a search: its objective, the winner's recipe, the trials, and the importance of parameters."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import optuna

from models.report_page import code, page, paragraph, picture, section, table
from training.data.files import write
from training.trials.space import SearchSpace
from training.trials.study import draw, importance, study_of
from training.trials.trial import Trial, table_of

ENOUGH: Final = 10
"""Complete trials from which the importance of parameters is estimated. Fewer say nothing."""


def write_report(
    folder: Path, space: SearchSpace, trials: Sequence[Trial], best: Trial, notes: Sequence[str]
) -> None:
    """Write report.html and the plots into a search's folder, which has best.yaml.

    Args:
        notes: warnings about the search, shown first.
    """
    lines, study = table_of(trials, space), study_of(space, trials)
    cells = [[_cell(value) for value in line.values()] for line in lines]
    parts = [
        paragraph(
            f"{explained(space)} The best complete trial is {best.name}, with {best.objectives[-1]:.6g}. "
            f"{sum(trial.complete for trial in trials)} of {len(trials)} trials are complete."
        ),
        *(f'<p class="broken">Warning: {escape(note)}</p>' for note in notes),
        section("The winner's recipe", code((folder / "best.yaml").read_text(encoding="utf-8"))),
        section("Importance of the parameters", *_importance(study)),
        section("Trials", table(list(lines[0]), cells, trials.index(best))),
        section("Plots", *(picture(plot.read_text(encoding="utf-8")) for plot in draw(study, folder))),
    ]
    write(folder / "report.html", page(f"Search {folder.parent.name}", *parts))


def explained(space: SearchSpace) -> str:
    """What the objective is, in sentences."""
    better = "higher" if space.direction == "maximize" else "lower"
    return (
        f"The objective is {space.objective} of a trial's last evaluation on the validation rows; {better} "
        "is better. It chose the winner, so expect less on other rows."
    )


def _importance(study: optuna.Study) -> list[str]:
    complete = len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))
    if complete < ENOUGH:
        return [paragraph(f"It is estimated from {ENOUGH} complete trials on; there are {complete}.")]
    shares = importance(study)
    return [
        paragraph(
            "How much the best tenth of the trials differs from all trials in this parameter, as a share of "
            f"all parameters (PED-ANOVA, from {complete} complete trials). With few trials it is rough."
        ),
        table(["parameter", "share"], [[name, f"{share:.2f}"] for name, share in shares.items()]),
    ]


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
