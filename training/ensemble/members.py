"""The members of an ensemble, over folds and seeds of one or more recipes, and their weights in the vote."""

import itertools
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics import klue_metrics
from models.rows import LabelledExample, label_ids, read_labelled, sentence_halves
from models.voting import cross_fitted, fit_weights, weighted_mean_probability
from training.data.files import whole, write
from training.data.folds import Fold, parts
from training.errors import InvalidRecipe
from training.run.plan import plan
from training.run.predictions import Predictions
from training.run.recipe import Recipe
from training.run.record import CHECKPOINTS, HELD_OUT, PREDICTIONS, claim, is_finished
from training.run.report import write_vote_report
from training.run.training import train


@dataclass(frozen=True, slots=True, eq=False)
class FinishedMember:
    """A finished member and its probabilities, each of shape (rows, 30).

    Attributes:
        validation: for the validation rows.
        held_out: for the rows that its fold holds out; None without a fold.
    """

    recipe: Recipe
    validation: NDArray[np.float64]
    held_out: NDArray[np.float64] | None


def placed(recipes: Sequence[Recipe], output: Path) -> list[Recipe]:
    """The recipes with their folders in the ensemble's folder, under the names that they had.

    Raises:
        InvalidRecipe: two folders have the same name.
    """
    if len({recipe.output.name for recipe in recipes}) < len(recipes):
        raise InvalidRecipe("output: every recipe of an ensemble needs a folder of another name")
    return [recipe.changed({"output": output / recipe.output.name}) for recipe in recipes]


def members(recipe: Recipe, folds: int | None, seeds: Sequence[int]) -> list[Recipe]:
    """The recipes of the members: one for each seed and each fold; without both, the recipe itself.

    Raises:
        InvalidRecipe: a seed is out of range.
    """
    made = []
    for seed, number in itertools.product(seeds or [None], range(1, folds + 1) if folds else [None]):
        changes: dict[str, Any] = {}
        names = []
        if number is not None:
            changes["fold"] = Fold(of=folds, number=number)
            names.append(f"fold-{number}")
        if seed is not None:
            changes["seed"] = seed
            names.append(f"seed-{seed}")
        made.append(recipe.changed({**changes, "output": recipe.output / "-".join(names)}))
    return made


def make_ensemble(
    recipes: Sequence[Recipe], folds: int | None, seeds: Sequence[int], output: Path
) -> dict[str, Any]:
    """Train all members, fit their weights and write the files into `output`.

    Args:
        folds: number of parts of the training rows, or None.
        seeds: a member for each; empty: the recipes' own seeds.

    Returns:
        The content of ensemble.json.

    Raises:
        InvalidRecipe: the recipes cannot vote together, or a recipe cannot be run.
        InvalidRows: a data file cannot be used.
    """
    for field in ("train", "validation"):
        if len({getattr(recipe, field) for recipe in recipes}) > 1:
            raise InvalidRecipe(f"{field}: the recipes of an ensemble need the same rows")
    planned = [members(recipe, folds, seeds) for recipe in recipes]
    groups = [[_finish(member) for member in group] for group in planned]
    everyone = [member for group in groups for member in group]
    rows = read_labelled(recipes[0].validation)
    voters = np.stack([member.validation for member in everyone])
    if folds:
        train_rows = read_labelled(recipes[0].train)
        fold_of = parts(train_rows, folds)
        held_out = np.stack(
            [
                out_of_fold(
                    fold_of, [each.recipe.fold.number for each in group], [each.held_out for each in group]
                )
                for group in groups
            ]
        )
        for recipe, probabilities in zip(recipes, held_out, strict=True):
            _write_out_of_fold(recipe.output, fold_of, train_rows, probabilities)
        of_recipe = fit_weights(held_out, label_ids(train_rows))
        weights = np.repeat(of_recipe, len(groups[0])) / len(groups[0])
        ensemble = {
            "weights_fitted_on": "out_of_fold",
            "out_of_fold": vote_metrics(train_rows, held_out, of_recipe),
            "validation": vote_metrics(rows, voters, weights),
        }
    else:
        weights = fit_weights(voters, label_ids(rows))
        crossed = cross_fitted(voters, label_ids(rows), sentence_halves(rows))
        expected = klue_metrics(label_ids(rows), crossed)
        ensemble = {
            "weights_fitted_on": "validation",
            "validation": vote_metrics(rows, voters, weights) | {"cross_fitted": expected},
        }
    ensemble["members"] = [
        {"folder": str(member.recipe.output), "weight": float(weight)}
        for member, weight in zip(everyone, weights, strict=True)
    ]
    write_vote_report(
        output, ensemble, Predictions(label_ids(rows), weighted_mean_probability(voters, weights))
    )
    with whole(output / "validation.npz") as file:
        np.savez(file, probabilities=voters.astype(np.float32), label_ids=label_ids(rows))
    write(output / "ensemble.json", json.dumps(ensemble, indent=2) + "\n")
    return ensemble


def plans(recipes: Sequence[Recipe], folds: int | None, seeds: Sequence[int]) -> dict[str, Any]:
    """What each member's run will take on this machine, and all of them one after the other."""
    each = {
        str(member.output): plan(member) for recipe in recipes for member in members(recipe, folds, seeds)
    }
    total = {name: sum(run[name] for run in each.values()) for name in ("steps", "tokens", "minutes")}
    memory = max(run["memory_gb"] for run in each.values())
    return {"members": each, **total, "memory_gb": memory}


def export_command(ensemble: dict[str, Any], bundle: Path, data: Path) -> str:
    """The command that exports the members of an ensemble with their weights."""
    folders = [member["folder"] for member in ensemble["members"]]
    weights = ",".join(f"{member['weight']:.6g}" for member in ensemble["members"])
    options = ["--weights", weights, "--output", str(bundle), "--data", str(data)]
    return shlex.join(["python", "-m", "export", *folders, *options])


def _finish(recipe: Recipe) -> FinishedMember:
    """Train a member or go on with it, unless it is finished. Raises the errors of `train`."""
    print(f"training.members: {recipe.output}", file=sys.stderr)
    recipe = claim(recipe)
    if not is_finished(recipe.output):
        train(recipe)
    shutil.rmtree(recipe.output / CHECKPOINTS, ignore_errors=True)

    def probabilities(name: str) -> NDArray[np.float64]:
        return Predictions.load(recipe.output / name).probabilities.astype(np.float64)

    held_out = None if recipe.fold is None else probabilities(HELD_OUT)
    return FinishedMember(recipe, probabilities(PREDICTIONS), held_out)


def out_of_fold(
    fold_of: NDArray[np.int64], folds: Sequence[int], held_out: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Each row's probabilities from the members that it was held out from: their mean, shape (rows, 30).

    Args:
        fold_of: the part of each row, shape (rows,).
        folds: the part that each member's fold holds out.
        held_out: each member's probabilities for that part, shape (rows of the part, 30).
    """
    votes = np.zeros((len(fold_of), held_out[0].shape[1]))
    for fold, probabilities in zip(folds, held_out, strict=True):
        votes[fold_of == fold] += probabilities / folds.count(fold)
    return votes


def vote_metrics(
    rows: Sequence[LabelledExample], voters: NDArray[np.float64], weights: NDArray[np.float64]
) -> dict[str, Any]:
    """Micro-F1 and AUPRC of a weighted vote, of a vote with equal weights, and of each voter.

    Args:
        voters: probabilities of shape (voters, rows, 30).
        weights: shape (voters,).
    """
    labels = label_ids(rows)
    return {
        "rows": len(rows),
        "vote": klue_metrics(labels, weighted_mean_probability(voters, weights)),
        "equal_weights": klue_metrics(labels, voters.mean(axis=0)),
        "each": [klue_metrics(labels, probabilities) for probabilities in voters],
    }


def _write_out_of_fold(
    output: Path,
    fold_of: NDArray[np.int64],
    rows: Sequence[LabelledExample],
    probabilities: NDArray[np.float64],
) -> None:
    with whole(output / "out_of_fold.npz") as file:
        np.savez(
            file,
            probabilities=probabilities.astype(np.float32),
            label_ids=label_ids(rows),
            row=np.arange(len(rows)),
            fold=fold_of,
        )
