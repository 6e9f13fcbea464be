"""Search a recipe's hyper-parameters, as its `search` block says.

    python -m training.search recipes/tiny/search.yaml --backend optuna

A trial is a run of the recipe with some fields drawn anew. The recipe's output folder gets `search/`, with the trials as a table and as
pictures, each trial's own record under `trials/`, and `best.yaml`, which `python -m training.train` takes as it is. Interrupted, the same
command goes on; with Optuna, also when `trials` has grown since. The last line of stdout is one JSON object. Exit status: 0, or 2 when the
recipe or the back end cannot be used.
"""

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
import yaml
from transformers.trainer_utils import HPSearchBackend

from models.rows import InvalidRows
from training.objective import Objective, load_objective
from training.plots import draw_trials
from training.recipe import InvalidRecipe, Recipe
from training.search_backends import check, options
from training.train import prepare
from training.trials import SearchTrainer


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
        InvalidRecipe: the recipe cannot be run or searched, its output holds another search, or the back end cannot be used.
    """
    if recipe.search is None:
        raise InvalidRecipe("search: this recipe has no such block")
    objective = load_objective(recipe.search.objective)
    check(backend, recipe.search)
    prepare(recipe)  # whatever is wrong with data or encoder is said here, once
    folder = recipe.output / "search"
    _claim(folder, recipe, backend)
    with options(backend, recipe, folder) as backend_options:
        trainer = SearchTrainer(recipe, folder / "trials")
        best = trainer.hyperparameter_search(
            compute_objective=objective, direction=recipe.search.direction, backend=backend, **backend_options
        )
    trials = read_trials(folder / "trials", list(recipe.search.parameters), objective)
    fields = recipe.search.fields(best.hyperparameters)
    recipe.changed({**fields, "search": None}).write(folder / "best.yaml")
    write_table(trials, folder / "trials.csv")
    draw_trials([(trial.objectives, trial.parameters) for trial in trials], recipe.search.direction == "maximize", folder / "trials.svg")
    print_table(trials, f"run-{best.run_id}")
    return {
        "search": str(folder),
        "backend": backend,
        "trials": len(trials),
        "complete": sum(trial.complete for trial in trials),
        "best": {"trial": f"run-{best.run_id}", "objective": best.objective, "parameters": fields},
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
            parameters = [json.dumps(value) if isinstance(value, dict | list) else value for value in trial.parameters.values()]
            writer.writerow([trial.name, trial.complete, trial.objectives[-1], *trial.epochs[-1].values(), *parameters])


def print_table(trials: Sequence[Trial], best: str) -> None:
    """The same on stderr; a star marks the best, `stopped` one that did not run to its end."""
    for trial in trials:
        drawn = "  ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.parameters.items()
        )
        mark, end = "*" if trial.name == best else " ", "" if trial.complete else "  stopped"
        print(f"{mark} {trial.name:<16} {trial.objectives[-1]:8.2f}  after {len(trial.epochs)}  {drawn}{end}", file=sys.stderr)


def _claim(folder: Path, recipe: Recipe, backend: str) -> None:
    """Note what is searched here, and refuse to go on with anything else: its trials could not be compared."""
    note = {"backend": backend, "recipe": recipe.model_dump(mode="json")}
    path = folder / "search.json"
    if path.is_file():
        earlier = json.loads(path.read_bytes())
        if backend == "optuna":
            earlier["recipe"]["search"]["trials"] = note["recipe"]["search"]["trials"]
        if earlier != note:
            raise InvalidRecipe(f"output: {folder} holds a search of another recipe or back end; remove it or name another output")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(note, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.search",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="a YAML file with a `search` block, described in training/search_space.py")
    parser.add_argument("--backend", choices=[name.value for name in HPSearchBackend], default="optuna", help="default optuna")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field of the recipe; may be repeated")
    arguments = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()
    overrides = dict(override.partition("=")[::2] for override in arguments.set)
    try:
        summary = search(Recipe.read(arguments.recipe, overrides), arguments.backend)
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.search: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
