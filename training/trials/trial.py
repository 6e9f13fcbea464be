"""What trials leave: their metrics, read from their folders, and the table of a search."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.run.record import EPOCHS, RECIPE, RUN
from training.trials.objective import Objective


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


def write_table(trials: Sequence[Trial], path: Path) -> None:
    """Write a CSV file with one line for each trial: objective and metrics of its last evaluation."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "complete", "objective", *trials[0].epochs[-1], *trials[0].parameters])
        for trial in trials:
            values = trial.parameters.values()
            parameters = [json.dumps(value) if isinstance(value, dict | list) else value for value in values]
            metrics = trial.epochs[-1].values()
            writer.writerow([trial.name, trial.complete, trial.objectives[-1], *metrics, *parameters])
