"""Fine-tune the language model that `training.augment --method contextual` refills words with.

    python -m training.contextual recipes/tiny/contextual.yaml

The summary compares two losses on held-out rows: with the row's own relation and with another row's relation.
If the first is not clearly lower, the model has not learned how a relation and its words go together. The
third loss is that of a guess by word frequency: a model that is not clearly below it writes gibberish.
"""

import sys
from typing import Any

from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.contextual", __doc__)
    parser.add_recipe()
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from training.run.recipe import ContextualRecipe

        recipe = ContextualRecipe.read(arguments.recipe, dict(arguments.set))
        from training.augmentation.contextual import gibberish
        from training.run.conditional import fine_tune

        summary = {"model": str(recipe.output), **fine_tune(recipe)}
        if warning := gibberish(recipe.output):
            print(f"training.contextual: {warning}", file=sys.stderr)
        return summary

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
