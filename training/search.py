"""Search a recipe's hyper-parameters, as its `search` block says.

    python -m training.search recipes/tiny/search.yaml --backend optuna

A trial is a run of the recipe with drawn values for some fields. The folder `search/` in its output gets:

    best.yaml     a recipe for training.train: the best of the complete trials
    report.html   the objective, the winner's recipe, the trials, importance of the parameters
    trials.csv    the trials as a table
    *.svg         the objective by trial (history), by epoch (epochs) and over each field (parameters)
    trials/       the record of each trial

An interrupted search goes on when the same command is run again, with both back ends. With Optuna, `trials`
can then be larger.
"""

import sys
from typing import Any

from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.search", __doc__)
    parser.add_recipe("a recipe with a `search` block; docs/recipe.md describes its fields")
    parser.add_argument(
        "--backend",
        choices=["optuna", "ray"],
        default="optuna",
        help="the library that chooses the trials; only ray runs several at a time (default: optuna)",
    )
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from training.run.recipe import Recipe

        recipe = Recipe.read(arguments.recipe, dict(arguments.set))
        from training.trials.search import search

        return search(recipe, arguments.backend)

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
