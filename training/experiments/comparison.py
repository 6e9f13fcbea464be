"""Comparison of finished runs: `python -m training.compare`."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from models.labels import RELATIONS
from training.errors import UnfinishedRun
from training.experiments.significance import label_f1, mcnemar, micro_f1_difference
from training.run.predictions import Predictions
from training.run.record import PREDICTIONS, RECIPE, RUN

MOVERS: Final = 5
"""Number of relations that are named."""

UNCOMPARED: Final = frozenset({"recipe.output", "recipe.search", "run.began", "run.seed"})


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRun:
    """A folder that `training.train` has finished.

    Attributes:
        facts: recipe and record with flat names, such as `recipe.epochs` and `run.packages.torch`.
    """

    folder: Path
    facts: Mapping[str, Any]
    predictions: Predictions

    @classmethod
    def read(cls, folder: Path) -> "FinishedRun":
        """Raises UnfinishedRun if a file is missing or of another kind."""
        name = ""
        try:
            recipe = yaml.safe_load((folder / (name := RECIPE)).read_text(encoding="utf-8"))
            run = json.loads((folder / (name := RUN)).read_bytes())
            predictions = Predictions.load(folder / (name := PREDICTIONS))
        except (OSError, ValueError, KeyError, yaml.YAMLError, zipfile.BadZipFile) as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "missing: this is not the folder of a finished run" if missing else str(error)
            raise UnfinishedRun(f"{folder / name}: {reason}") from None
        return cls(folder, _flat({"recipe": recipe, "run": run}), predictions)


def compare(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """The differences between runs, their metrics, and each run against the first one."""
    names = sorted({name for run in runs for name in run.facts} - UNCOMPARED)
    facts = {name: [run.facts.get(name) for run in runs] for name in names}
    metrics = [run.predictions.metrics for run in runs]
    return {
        "runs": [str(run.folder) for run in runs],
        "differences": {
            name: values for name, values in facts.items() if any(value != values[0] for value in values)
        },
        "metrics": {name: [values[name] for values in metrics] for name in metrics[0]},
        "against_first": [_against(runs[0], run) for run in runs[1:]],
    }


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Print the comparison on stdout."""
    for number, folder in enumerate(comparison["runs"], start=1):
        print(f"run {number}: {folder}")
    print(
        "\ndifferences" if comparison["differences"] else "\nno differences in recipe, data, versions or code"
    )
    for name, values in comparison["differences"].items():
        print(f"  {name}: {' | '.join('-' if value is None else str(value) for value in values)}")
    print("\nmetrics")
    for name, values in comparison["metrics"].items():
        changes = [f"({value - values[0]:+.2f})" for value in values[1:]]
        print(f"  {name:<9}", *(f"{value:8.2f}" for value in values), *changes)
    for number, against in enumerate(comparison["against_first"], start=2):
        print(f"\nrun {number} against run 1")
        if against is None:
            print("  not compared: the validation rows are different")
            continue
        low, high = against["micro_f1_interval"]
        print(f"  same label: {100 * against['same_label']:.2f} % of the rows")
        print(f"  difference in micro-F1, 95 % interval: {low:+.2f} to {high:+.2f}")
        print(f"  McNemar's test of accuracy: p = {against['mcnemar_p']:.3g}")
        for relation, (before, after) in against["movers"].items():
            print(f"  {relation:<36} F1 {before:6.2f} -> {after:6.2f}  ({after - before:+.2f})")


def _against(first: FinishedRun, second: FinishedRun) -> dict[str, Any] | None:
    """None if the two runs have different validation rows."""
    label_ids = first.predictions.label_ids
    digest = "run.data.validation.sha256"
    if first.facts.get(digest) != second.facts.get(digest) or not np.array_equal(
        label_ids, second.predictions.label_ids
    ):
        return None
    predicted = first.predictions.predicted_ids, second.predictions.predicted_ids
    f1 = [label_f1(label_ids, ids) for ids in predicted]
    moved = f1[1] - f1[0]
    movers = [
        index
        for index in np.argsort(-np.abs(moved), kind="stable")[:MOVERS]
        if moved[index] and not np.isnan(moved[index])
    ]
    return {
        "same_label": float(np.mean(predicted[0] == predicted[1])),
        "micro_f1_interval": micro_f1_difference(label_ids, *predicted),
        "mcnemar_p": mcnemar(label_ids, *predicted),
        "movers": {RELATIONS[index]: [float(values[index]) for values in f1] for index in movers},
    }


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for part, nested in value.items()
        for key, leaf in _flat(nested, f"{name}.{part}" if name else str(part)).items()
    }
