"""Train one member of an ensemble from a recipe.

    python -m training.train recipes/tiny/train.yaml
    python -m training.train recipes/large/member.yaml --set batch_size=16

An interrupted run goes on from its last checkpoint when the same command is run again. The finished member
and the record of the run are in the recipe's `output` folder.
"""

import sys
from typing import Any

from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.train", __doc__)
    parser.add_recipe()
    parser.add_dry_run()
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from training.run.recipe import Recipe

        recipe = Recipe.read(arguments.recipe, dict(arguments.set))
        if arguments.dry_run:
            from training.run.plan import plan

            return {"dry_run": str(recipe.output), **plan(recipe)}
        from training.run.training import train

        return {"member": str(recipe.output), **train(recipe)}

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
