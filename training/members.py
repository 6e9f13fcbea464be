"""Train the members of an ensemble, over folds of the training rows and over seeds, and fit their weights in
the vote.

    python -m training.members recipes/default/member-6.yaml recipes/default/member-12.yaml --folds 5
    python -m training.members recipes/default/member-12.yaml --seeds 1,2,3

Each member is what `training.train` makes of the recipe with a fold and a seed, in a folder of its own in the
recipe's `output`: fold-1, seed-2, fold-1-seed-2. Interrupted, the same command skips the members that are
finished and goes on from the last checkpoint of the one that is not. A finished member's checkpoints are
removed.

With folds every training row is held out from one member a seed. OUTPUT/out_of_fold.npz of each recipe keeps
what that member says of it: `probabilities`, float32 of shape (rows, 30), the mean over seeds; `label_ids`,
`row` in the file and `fold`, int64 of shape (rows,). On those rows the recipes' weights are fitted; members
of one recipe weigh the same. Without folds the members' weights are fitted on the
validation rows, and `cross_fitted` tells what to expect of new rows: weights fitted on one half of them,
tried on the other.

OUTPUT/ensemble.json holds the members with their weights, and the figures of the vote beside those of each
member. OUTPUT/validation.npz
holds what the members say of the validation rows, in the same order: `probabilities`, float32 of shape
(members, rows, 30), and `label_ids`. stderr ends with the command that exports the ensemble; the last line of
stdout is one JSON object. Exit status: 0, or 2 when a recipe or a file cannot be used.
"""

import argparse
import itertools
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray

from models.rows import InvalidRows, LabelledExample, label_ids, read_labelled
from models.voting import fit_weights
from training.data.files import whole, write
from training.data.folds import Fold, parts
from training.run.experiment import CHECKPOINTS, FINISHED, HELD_OUT, PREDICTIONS, Predictions, claim
from training.run.recipe import SEEDS, InvalidRecipe, Recipe, add_settings
from training.run.weights import cross_fitted, figures, out_of_fold, worth
from training.train import train


def members(recipe: Recipe, folds: int | None, seeds: list[int]) -> list[Recipe]:
    """The recipes of the members that come out of one: for each seed and each fold; none of either leaves it
    as the recipe has it."""
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
        made.append(recipe.model_copy(update=changes | {"output": recipe.output / "-".join(names)}))
    return made


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A finished member: its recipe, and its probabilities of the validation rows and of those its fold holds
    out, (rows, 30) each."""

    recipe: Recipe
    validation: NDArray[np.float64]
    held_out: NDArray[np.float64] | None


def finish(recipe: Recipe) -> Member:
    """Train a member, or go on with it, unless it is finished.

    Raises:
        InvalidRecipe, InvalidRows: as `train`.
    """
    print(f"training.members: {recipe.output}", file=sys.stderr)
    recipe = claim(recipe)
    if not (recipe.output / FINISHED).exists():
        train(recipe)
    shutil.rmtree(recipe.output / CHECKPOINTS, ignore_errors=True)
    validation = Predictions.load(recipe.output / PREDICTIONS).probabilities.astype(np.float64)
    if recipe.fold is None:
        return Member(recipe, validation, None)
    return Member(
        recipe, validation, Predictions.load(recipe.output / HELD_OUT).probabilities.astype(np.float64)
    )


def make_ensemble(recipes: list[Recipe], folds: int | None, seeds: list[int], output: Path) -> dict[str, Any]:
    """Train all members, fit their weights and write everything into `output`; returns what ensemble.json
    holds.

    Args:
        folds: parts that the training rows are split into, or None.
        seeds: a member for each; empty for the recipes' own.

    Raises:
        InvalidRecipe: the recipes cannot be voted together, or as `finish`.
        InvalidRows: a data file cannot be used.
    """
    for field in ("train", "validation"):
        if len({getattr(recipe, field) for recipe in recipes}) > 1:
            raise InvalidRecipe(f"{field}: the recipes of an ensemble have the same rows")
    if len({recipe.output for recipe in recipes}) < len(recipes):
        raise InvalidRecipe("output: every recipe has a folder of its own")
    groups = [[finish(member) for member in members(recipe, folds, seeds)] for recipe in recipes]
    everyone = [member for group in groups for member in group]
    rows = read_labelled(recipes[0].validation)
    voters = np.stack([member.validation for member in everyone])
    if folds:
        train_rows = read_labelled(recipes[0].train)
        held_out = np.stack(
            [
                _keep_out_of_fold(group, train_rows, recipe.output)
                for recipe, group in zip(recipes, groups, strict=True)
            ]
        )
        of_recipe = fit_weights(held_out, label_ids(train_rows))
        weights = np.repeat(of_recipe, len(groups[0])) / len(groups[0])
        ensemble = {"weights_fitted_on": "out_of_fold", "out_of_fold": worth(train_rows, held_out, of_recipe)}
        ensemble["validation"] = worth(rows, voters, weights)
    else:
        weights = fit_weights(voters, label_ids(rows))
        expected = figures(label_ids(rows), cross_fitted(voters, rows))
        ensemble = {
            "weights_fitted_on": "validation",
            "validation": worth(rows, voters, weights) | {"cross_fitted": expected},
        }
    ensemble["members"] = [
        {"folder": str(member.recipe.output), "weight": float(weight)}
        for member, weight in zip(everyone, weights, strict=True)
    ]
    with whole(output / "validation.npz") as file:
        np.savez(file, probabilities=voters.astype(np.float32), label_ids=label_ids(rows))
    write(output / "ensemble.json", json.dumps(ensemble, indent=2) + "\n")
    return ensemble


def _keep_out_of_fold(group: list[Member], rows: list[LabelledExample], output: Path) -> NDArray[np.float64]:
    """Write the out-of-fold predictions of one recipe's members into `output`; returns their probabilities,
    shape (rows, 30)."""
    folds = [member.recipe.fold for member in group]
    fold_of = parts(rows, folds[0].of)
    probabilities = out_of_fold(
        fold_of, [fold.number for fold in folds], [member.held_out for member in group]
    )
    with whole(output / "out_of_fold.npz") as file:
        np.savez(
            file,
            probabilities=probabilities.astype(np.float32),
            label_ids=label_ids(rows),
            row=np.arange(len(rows)),
            fold=fold_of,
        )
    return probabilities


def export_command(ensemble: dict[str, Any], bundle: Path, data: Path) -> str:
    """The command that exports the members of an ensemble with their weights."""
    folders = [member["folder"] for member in ensemble["members"]]
    weights = ",".join(f"{member['weight']:.6g}" for member in ensemble["members"])
    return shlex.join(
        [
            "python",
            "-m",
            "export",
            *folders,
            "--weights",
            weights,
            "--output",
            str(bundle),
            "--data",
            str(data),
        ]
    )


def _folds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"a number from 2 on is required, not {text!r}")
    return int(text)


def _seeds(text: str) -> list[int]:
    seeds = list(dict.fromkeys(int(part) for part in text.split(",") if part.isdecimal()))
    if len(seeds) < len(text.split(",")) or max(seeds) >= SEEDS:
        raise argparse.ArgumentTypeError(
            f"different numbers from 0 to {SEEDS - 1} are required, not {text!r}"
        )
    return seeds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.members",
        description="Train the members of an ensemble, over folds and seeds, and fit their weights.",
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        type=Path,
        metavar="RECIPE",
        help="a YAML file; its fields are described in training/run/recipe.py",
    )
    parser.add_argument(
        "--folds",
        type=_folds,
        metavar="K",
        help="parts of the training sentences, each held out from one member a seed",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default=[],
        metavar="S,S,…",
        help="a member for each (default: the recipe's own)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="receives ensemble.json (default: the first recipe's output)",
    )
    add_settings(parser)
    arguments = parser.parse_args(argv)
    if not arguments.folds and not arguments.seeds:
        parser.error("--folds, --seeds or both are required")
    transformers.logging.set_verbosity_error()  # as in training/train.py
    try:
        recipes = [Recipe.read(path, dict(arguments.set)) for path in arguments.recipes]
        output = arguments.output or recipes[0].output
        ensemble = make_ensemble(recipes, arguments.folds, arguments.seeds, output)
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.members: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if ensemble["weights_fitted_on"] == "validation":
        print(
            "training.members: weights fitted on the rows they are measured on; cross_fitted is what to expect",
            file=sys.stderr,
        )
    print(export_command(ensemble, Path("bundles", output.name), recipes[0].validation), file=sys.stderr)
    count = len(ensemble.pop("members"))
    print(json.dumps({"ensemble": str(output / "ensemble.json"), "members": count, **ensemble}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
