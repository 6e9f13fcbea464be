"""Train the members of an ensemble over folds and seeds, and fit their weights in the vote.

    python -m training.members recipes/tiny/train.yaml --folds 2
    python -m training.members recipes/default/member-12.yaml --seeds 1,2,3

OUTPUT is a folder of its own: the first recipe's output with -ensemble after its name, or --output. Each
member is a run of training.train with its own fold and seed, in a folder such as OUTPUT/NAME/fold-1-seed-2,
where NAME is the last part of its recipe's output. When an interrupted command is run again, it skips the
finished members and goes on with the unfinished one. Without --folds and --seeds each recipe is one member.

With --folds each training row is held out from one member for each seed. The recipes' weights in the vote are
fitted on these out-of-fold predictions; members of one recipe get equal weights. Without --folds the members'
weights are fitted on the validation rows, and `cross_fitted` estimates the vote on new rows: weights fitted
on one half of the rows, measured on the other half.

    ensemble.json          the members with their weights; metrics of the vote and of each member
    report.html            the members, and the vote relation by relation
    validation.npz         of the validation rows: `probabilities`, float32 (members, rows, 30); `label_ids`
    NAME/out_of_fold.npz   of each recipe: `probabilities`, float32 (rows, 30), the mean over seeds;
                           `label_ids`, `row` in the file and `fold`, int64 (rows,)
"""

import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from models.command import whole_number
from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.members", __doc__)
    parser.add_argument(
        "recipes",
        nargs="+",
        type=Path,
        metavar="RECIPE",
        help="one or more recipes, YAML files; docs/recipe.md describes their fields",
    )
    parser.add_argument(
        "--folds",
        type=whole_number(2),
        metavar="K",
        help="split the training sentences into K parts; each part is held out from one member for each seed",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default=[],
        metavar="S,S,…",
        help="train a member for each of these seeds (default: the recipe's seed)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder of the ensemble (default: the first recipe's output with -ensemble after its name)",
    )
    parser.add_settings()
    parser.add_dry_run()
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from training.run.recipe import Recipe

        recipes = [Recipe.read(path, dict(arguments.set)) for path in arguments.recipes]
        first = recipes[0].output
        output = arguments.output or first.with_name(f"{first.name}-ensemble")
        from training.ensemble.members import export_command, make_ensemble, placed, plans

        recipes = placed(recipes, output)
        if arguments.dry_run:
            return plans(recipes, arguments.folds, arguments.seeds)

        ensemble = make_ensemble(recipes, arguments.folds, arguments.seeds, output)
        if ensemble["weights_fitted_on"] == "validation":
            print(
                "training.members: the weights were fitted on the validation rows that they are measured on; "
                "expect the metrics in cross_fitted on new rows",
                file=sys.stderr,
            )
        print(export_command(ensemble, Path("bundles", output.name), recipes[0].validation), file=sys.stderr)
        count = len(ensemble.pop("members"))
        return {"ensemble": str(output / "ensemble.json"), "members": count, **ensemble}

    return parser.run(work)


def _seeds(text: str) -> list[int]:
    seeds = list(dict.fromkeys(int(part) for part in text.split(",") if part.isdecimal()))
    if len(seeds) < len(text.split(",")):
        raise ArgumentTypeError(f"different whole numbers are required, such as 1,2,3, not {text!r}")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
