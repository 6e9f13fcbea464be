"""What trials leave: their metrics, read from their folders, and the table of a search."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.run.record import EPOCHS, RECIPE, RUN
from training.trials.objective import Objective
from training.trials.space import SearchSpace, label


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial with at least one evaluation.

    Attributes:
        name: of its folder.
        began: time in UTC, as ISO 8601.
        parameters: the values that were drawn for it.
        epochs: the metrics of each evaluation.
        objectives: the objective of each evaluation.
        complete: whether it ran to its last epoch.
    """

    name: str
    began: str
    parameters: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]
    objectives: Sequence[float]
    complete: bool


def read_trials(folder: Path, names: Sequence[str], objective: Objective) -> list[Trial]:
    """The trials in a folder with at least one evaluation, in the order in which they began.

    Args:
        names: of the searched fields.
    """
    trials = []
    for epochs_file in folder.glob(f"run-*/{EPOCHS}"):
        run = epochs_file.parent
        fields = yaml.safe_load((run / RECIPE).read_text(encoding="utf-8"))
        epochs = [json.loads(line) for line in epochs_file.read_text(encoding="utf-8").splitlines()]
        trials.append(
            Trial(
                name=run.name,
                began=json.loads((run / RUN).read_bytes())["began"],
                parameters={name: fields.get(name) for name in names},
                epochs=epochs,
                objectives=[objective(epoch) for epoch in epochs],
                complete=epochs[-1]["epoch"] >= fields["epochs"] - 1e-6,
            )
        )
    return sorted(trials, key=lambda trial: trial.began)


def table_of(trials: Sequence[Trial], space: SearchSpace) -> list[dict[str, Any]]:
    """A line for each trial: objective and metrics of its last evaluation, and its parameters.

    All lines have the same names. A metric's name begins with `validation_`, because a parameter can have the
    same name: `loss`. `compared_with` tells for a trial that was stopped how many trials had begun before it
    and were evaluated after the same epoch: those that the pruner could compare it with.
    """
    kind = f"{space.direction} {space.objective}"
    lines = []
    for place, trial in enumerate(trials):
        last = trial.epochs[-1]
        metrics = {
            name if name in ("epoch", "step") else f"validation_{name}": value for name, value in last.items()
        }
        lines.append(
            {
                "trial": trial.name,
                "complete": trial.complete,
                "compared_with": None if trial.complete else compared_with(trials, place),
                "objective": trial.objectives[-1],
                "objective_is": kind,
                **metrics,
                **{name: label(value) for name, value in trial.parameters.items()},
            }
        )
    names = dict.fromkeys(name for line in lines for name in line)
    return [{name: line.get(name) for name in names} for line in lines]


def compared_with(trials: Sequence[Trial], place: int) -> int:
    """How many trials before this one have an evaluation after the epoch of its last one."""
    epoch = math.ceil(trials[place].epochs[-1]["epoch"])
    return sum(
        any(math.ceil(evaluation["epoch"]) == epoch for evaluation in other.epochs)
        for other in trials[:place]
    )


def write_table(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the lines of `table_of` as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
