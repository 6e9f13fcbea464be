"""Search a recipe's hyper-parameters, as its `search` block says.

    python -m training.search recipes/tiny/search.yaml --backend optuna

A trial is a run of the recipe with some fields drawn anew. The recipe's output folder gets `search/`, with
the trials as a table and as pictures, each trial's own record under `trials/`, and `best.yaml`, which `python
-m training.train` takes as it is: the best of the trials that ran to their end. Interrupted, the same command
goes on; with Optuna, also when `trials` has grown since. A sweep of Weights & Biases starts anew, and what
its earlier ones tried here stays in the table. The last line of stdout is one JSON object. Exit status: 0, or
2 when the recipe or the back end cannot be used, or no trial ran to its end.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import transformers
import yaml
from transformers.trainer_utils import HPSearchBackend

from models.rows import InvalidRows
from training.data.files import write
from training.run.experiment import fingerprints
from training.run.objective import Objective, load_objective
from training.run.plots import draw_trials
from training.run.precision import bf16_pays
from training.run.recipe import InvalidRecipe, Recipe, add_settings
from training.run.search_backends import check, options
from training.run.trials import SearchTrainer
from training.train import prepare

NO_TRIAL: Final = (
    "Record does not exist",
    "No trials are completed",
    "'NoneType' object has no attribute 'trial_id'",
    "'objective'",
)
"""What is raised where no trial has a figure: twice by Optuna, by its storage; then by the Trainer that asks
Ray Tune for the best one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial left.

    Attributes:
        name: of its folder.
        began: time in UTC, as ISO 8601.
        parameters: what was drawn for it.
        epochs: metrics after each epoch, at least one.
        objectives: of the same.
        complete: whether it ran to its last epoch.
    """

    name: str
    began: str
    parameters: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]
    objectives: Sequence[float]
    complete: bool


def search(recipe: Recipe, backend: str) -> dict[str, Any]:
    """Run the trials that are still to be run; returns the summary.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the recipe cannot be run or searched, its output holds another search, the back end
            cannot be used, or no trial ran to its end.
    """
    if recipe.search is None:
        raise InvalidRecipe("search: this recipe has no such block")
    objective = load_objective(recipe.search.objective)
    check(backend, recipe.search)
    prepare(recipe)  # whatever is wrong with data or encoder is said here, once
    folder = recipe.output / "search"
    recipe = _claim(folder, recipe, backend)
    with options(backend, recipe, folder) as backend_options:
        trainer = SearchTrainer(recipe, folder / "trials")
        try:
            trainer.hyperparameter_search(
                compute_objective=objective,
                direction=recipe.search.direction,
                backend=backend,
                **backend_options,
            )
        except (ValueError, AttributeError, KeyError) as error:
            if not str(error).startswith(NO_TRIAL):
                raise
    trials = read_trials(folder / "trials", list(recipe.search.parameters), objective)
    # Not the back end's choice: each has its own, and counts trials that it stopped, or that diverged after a
    # good epoch.
    candidates = [trial for trial in trials if trial.complete and math.isfinite(trial.objectives[-1])]
    if not candidates:
        raise InvalidRecipe(
            f"search: no trial ran to its end; what is left of them lies in {folder / 'trials'}"
        )
    best = (max if recipe.search.direction == "maximize" else min)(
        candidates, key=lambda trial: trial.objectives[-1]
    )
    recipe.changed({**best.parameters, "search": None}).write(folder / "best.yaml")
    write_table(trials, folder / "trials.csv")
    courses = [(trial.objectives, trial.parameters, trial.complete) for trial in trials]
    draw_trials(courses, recipe.search.direction == "maximize", trials.index(best), folder / "trials.svg")
    print_table(trials, best.name)
    return {
        "search": str(folder),
        "backend": backend,
        "trials": len(trials),
        "complete": sum(trial.complete for trial in trials),
        "best": {"trial": best.name, "objective": best.objectives[-1], "parameters": best.parameters},
        "recipe": str(folder / "best.yaml"),
    }


def read_trials(folder: Path, names: Sequence[str], objective: Objective) -> list[Trial]:
    """The trials that were evaluated at least once, in the order in which they began.

    Args:
        names: of the parameters.
    """
    trials = []
    for epochs_file in folder.glob("run-*/epochs.jsonl"):
        run = epochs_file.parent
        fields = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
        epochs = [json.loads(line) for line in epochs_file.read_text(encoding="utf-8").splitlines()]
        trials.append(
            Trial(
                run.name,
                json.loads((run / "run.json").read_bytes())["began"],
                {name: fields.get(name) for name in names},
                epochs,
                [objective(epoch) for epoch in epochs],
                epochs[-1]["epoch"] >= fields["epochs"] - 1e-6,
            )
        )
    return sorted(trials, key=lambda trial: trial.began)


def write_table(trials: Sequence[Trial], path: Path) -> None:
    """A CSV file with a line a trial: objective and metrics are those of its last epoch."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "complete", "objective", *trials[0].epochs[-1], *trials[0].parameters])
        for trial in trials:
            parameters = [
                json.dumps(value) if isinstance(value, dict | list) else value
                for value in trial.parameters.values()
            ]
            writer.writerow(
                [trial.name, trial.complete, trial.objectives[-1], *trial.epochs[-1].values(), *parameters]
            )


def print_table(trials: Sequence[Trial], best: str) -> None:
    """The same on stderr; a star marks the best, `stopped` one that did not run to its end."""
    for trial in trials:
        drawn = "  ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in trial.parameters.items()
        )
        mark, end = "*" if trial.name == best else " ", "" if trial.complete else "  stopped"
        print(
            f"{mark} {trial.name:<16} {trial.objectives[-1]:8.2f}  after {len(trial.epochs)}  {drawn}{end}",
            file=sys.stderr,
        )


def _claim(folder: Path, recipe: Recipe, backend: str) -> Recipe:
    """Note what is searched here, and refuse to go on with anything else: its trials could not be compared.

    Returns the recipe with `bf16` decided, once for all trials.
    """
    path = folder / "search.json"
    earlier = json.loads(path.read_bytes()) if path.is_file() else None
    if recipe.bf16 is None:
        recipe = recipe.model_copy(update={"bf16": earlier["recipe"]["bf16"] if earlier else bf16_pays()})
    note = {
        "backend": backend,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        **fingerprints(recipe),
    }
    if earlier is not None:
        if backend == "optuna":
            earlier["recipe"]["search"]["trials"] = note["recipe"]["search"]["trials"]
        if earlier != note:
            raise InvalidRecipe(
                f"output: {folder} holds a search of another recipe, other rows or back end; remove it or name another output"
            )
    write(path, json.dumps(note, indent=2, ensure_ascii=False) + "\n")
    return recipe


def main(argv: list[str] | None = None) -> int:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.search",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "recipe",
        type=Path,
        help="a YAML file with a `search` block, described in training/run/search_space.py",
    )
    parser.add_argument(
        "--backend", choices=[name.value for name in HPSearchBackend], default="optuna", help="default optuna"
    )
    add_settings(parser)
    arguments = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()
    try:
        summary = search(Recipe.read(arguments.recipe, dict(arguments.set)), arguments.backend)
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.search: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
