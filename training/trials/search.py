"""A search: trials until there are enough, then the best one as a recipe, a table, plots and a page."""

import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from training.data.files import write
from training.errors import InvalidRecipe
from training.run.precision import bf16_pays
from training.run.recipe import Recipe
from training.run.record import fingerprints
from training.run.training import prepare
from training.trials.objective import load_objective
from training.trials.report import ENOUGH, write_report
from training.trials.space import SearchSpace
from training.trials.trial import Trial, compared_with, read_trials, table_of, write_table

FEWEST: Final = 5
"""Trials that a pruner should compare a trial with before it stops it: Optuna's default for the median."""


def search(recipe: Recipe, backend: str) -> dict[str, Any]:
    """Run the missing trials; returns the summary.

    1. Check recipe, back end and data, and that the folder has no other search.
    2. Let the back end draw and run trials.
    3. Choose the best of the complete trials, and write it as a recipe.
    4. Write table, plots and page.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the recipe or the back end cannot be used, the output has another search, or no trial
            was completed.
    """
    space = recipe.search
    if space is None:
        raise InvalidRecipe("search: the recipe has no such block; docs/recipe.md describes it")
    if recipe.keep == "best":
        raise InvalidRecipe(
            "keep: a trial keeps no weights and counts with its last epoch, so `best` and `patience` have no "
            "effect; use --set keep=last --set patience=null, and search `epochs`"
        )
    objective = load_objective(space.objective)
    _check_backend(backend, space)
    prepare(recipe)  # errors in data or encoder are reported once, not in each trial
    folder = recipe.output / "search"
    recipe = _claim(folder, recipe, backend)
    doubts = _doubts(space)
    for doubt in doubts:
        print(f"training.search: {doubt}", file=sys.stderr)
    importlib.import_module(f"training.trials.with_{backend}").run_trials(recipe, folder, objective)
    trials = read_trials(folder / "trials", list(space.parameters), objective)
    # The back end's own choice can be a trial that was stopped, or that diverged after a good epoch.
    candidates = [trial for trial in trials if trial.complete and math.isfinite(trial.objectives[-1])]
    if not candidates:
        raise InvalidRecipe(f"search: no trial was completed; their records are in {folder / 'trials'}")
    best = (max if space.direction == "maximize" else min)(candidates, key=lambda trial: trial.objectives[-1])
    recipe.changed({**best.parameters, "search": None}).write(folder / "best.yaml")
    write_table(table_of(trials, space), folder / "trials.csv")
    notes = [*doubts, *_stopped_early(space, trials)]
    for note in notes[len(doubts) :]:
        print(f"training.search: {note}", file=sys.stderr)
    write_report(folder, space, trials, best, notes)
    return {
        "search": str(folder),
        "backend": backend,
        "trials": len(trials),
        "complete": sum(trial.complete for trial in trials),
        "best": {"trial": best.name, "objective": best.objectives[-1], "parameters": best.parameters},
        "recipe": str(folder / "best.yaml"),
        "report": str(folder / "report.html"),
        "warnings": notes,
    }


def _doubts(space: SearchSpace) -> list[str]:
    """What is doubtful about a search before it runs."""
    if space.pruner == "none" or space.trials >= ENOUGH:
        return []
    return [
        f"search.pruner: {space.pruner} decides from fewer than {ENOUGH} trials, so it can stop a good one; "
        f"give pruner: none, or {ENOUGH} trials or more"
    ]


def _stopped_early(space: SearchSpace, trials: Sequence[Trial]) -> list[str]:
    """Which trials a pruner stopped after a comparison with too few."""
    if space.pruner == "none":
        return []
    few = [
        trial.name
        for place, trial in enumerate(trials)
        if not trial.complete and compared_with(trials, place) < FEWEST
    ]
    if not few:
        return []
    return [
        f"search.pruner: {len(few)} trials were stopped though fewer than {FEWEST} others had come as far "
        f"({', '.join(few)}); a good one can be among them"
    ]


def _check_backend(backend: str, space: SearchSpace) -> None:
    if importlib.util.find_spec(backend) is None:
        raise InvalidRecipe(f"--backend: {backend} is not installed; run: pip install '.[search]'")
    if backend == "optuna" and space.parallel > 1:
        raise InvalidRecipe(
            "search.parallel: optuna runs one trial at a time; use --backend ray or parallel: 1"
        )


def _claim(folder: Path, recipe: Recipe, backend: str) -> Recipe:
    """Write down what is searched here. Refuse another search, because its trials could not be compared.

    Returns:
        The recipe with `bf16` decided, once for all trials.
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
        if backend == "optuna":  # an Optuna study can get more trials
            earlier["recipe"]["search"]["trials"] = note["recipe"]["search"]["trials"]
        if earlier != note:
            raise InvalidRecipe(
                f"output: {folder} has a search of another recipe, other rows or back end; remove the folder "
                "or name another output"
            )
    write(path, json.dumps(note, indent=2, ensure_ascii=False) + "\n")
    return recipe
