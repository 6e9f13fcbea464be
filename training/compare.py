"""Compare runs: python -m training.compare RUN RUN [RUN ...]

What differs in recipe, data, versions and code; the metrics side by side; and against the first run, where
the validation rows are the
same: an interval for the difference in micro-F1, McNemar's test, and the relations whose F1 moved most. The
last line of stdout is one JSON object. Exit status: 0, or 2 when a folder holds no finished run.
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from models.labels import RELATIONS
from training.run.experiment import Predictions
from training.run.significance import label_f1, mcnemar, micro_f1_difference

MOVERS: Final = 5
"""Relations that are named."""

UNCOMPARED: Final = {"recipe.output", "recipe.search", "run.began", "run.seed"}


class InvalidRun(ValueError):
    """A folder that holds no finished run; the message names it and the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A folder that `training.train` wrote.

    Attributes:
        facts: recipe and circumstances, flat: `recipe.epochs`, `run.versions.torch`.
    """

    folder: Path
    facts: Mapping[str, Any]
    predictions: Predictions

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Raises InvalidRun."""
        name = ""
        try:
            recipe = yaml.safe_load((folder / (name := "recipe.yaml")).read_text(encoding="utf-8"))
            run = json.loads((folder / (name := "run.json")).read_bytes())
            predictions = Predictions.load(folder / (name := "predictions.npz"))
        except (OSError, ValueError, KeyError, yaml.YAMLError, zipfile.BadZipFile) as error:
            reason = (
                "no finished run" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
            )
            raise InvalidRun(f"{folder / name}: {reason}") from None
        return cls(folder, _flat({"recipe": recipe, "run": run}), predictions)


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """Differences between runs; where rows are compared, each run against the first."""
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


def _against(first: Run, second: Run) -> dict[str, Any] | None:
    """None where the two were not asked the same rows."""
    label_ids = first.predictions.label_ids
    digest = "run.data.validation.sha256"
    if first.facts.get(digest) != second.facts.get(digest) or not np.array_equal(
        label_ids, second.predictions.label_ids
    ):
        return None
    answers = first.predictions.predicted_ids, second.predictions.predicted_ids
    f1 = [label_f1(label_ids, answer) for answer in answers]
    moved = f1[1] - f1[0]
    movers = [
        index
        for index in np.argsort(-np.abs(moved), kind="stable")[:MOVERS]
        if moved[index] and not np.isnan(moved[index])
    ]
    return {
        "same_label": float(np.mean(answers[0] == answers[1])),
        "micro_f1_interval": micro_f1_difference(label_ids, *answers),
        "mcnemar_p": mcnemar(label_ids, *answers),
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


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """The comparison as text on stdout."""
    for number, folder in enumerate(comparison["runs"], start=1):
        print(f"run {number}: {folder}")
    print(
        "\ndifferences" if comparison["differences"] else "\nno differences in recipe, data, versions or code"
    )
    for name, values in comparison["differences"].items():
        print(f"  {name}: {' | '.join('-' if value is None else str(value) for value in values)}")
    print("\nmetrics")
    for name, values in comparison["metrics"].items():
        print(
            f"  {name:<9}",
            *(f"{value:8.2f}" for value in values),
            *(f"({value - values[0]:+.2f})" for value in values[1:]),
        )
    for number, against in enumerate(comparison["against_first"], start=2):
        print(f"\nrun {number} against run 1")
        if against is None:
            print("  their validation rows are not the same")
            continue
        low, high = against["micro_f1_interval"]
        print(f"  {100 * against['same_label']:.2f} % of the rows have the same label")
        print(f"  difference in micro-F1, 95 % interval: {low:+.2f} to {high:+.2f}")
        print(f"  McNemar's test on right and wrong: p = {against['mcnemar_p']:.3g}")
        for relation, (before, after) in against["movers"].items():
            print(f"  {relation:<36} F1 {before:6.2f} -> {after:6.2f}  ({after - before:+.2f})")


def main(argv: list[str] | None = None) -> int:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.compare",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "first",
        type=Path,
        metavar="RUN",
        help="output folder of training.train, or a trial's of training.search",
    )
    parser.add_argument("others", type=Path, nargs="+", metavar="RUN")
    arguments = parser.parse_args(argv)
    try:
        comparison = compare([Run.read(folder) for folder in [arguments.first, *arguments.others]])
    except InvalidRun as error:
        print(f"training.compare: {error}", file=sys.stderr)
        return 2
    print_comparison(comparison)
    print(json.dumps(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
