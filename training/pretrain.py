"""Go on pretraining an encoder on the sentences of the task, before it is fine-tuned.

    python -m training.pretrain recipes/tiny/pretrain.yaml

This is task-adaptive pretraining by masked language modelling (Gururangan et al., "Don't Stop Pretraining",
2020, arXiv:2004.10964). Labels are not used. The recipe's `output` becomes an encoder's checkpoint folder,
which the `encoder` field of any recipe can name.
"""

import sys
from typing import Any

from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.pretrain", __doc__)
    parser.add_recipe()
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from training.run.recipe import PretrainingRecipe

        recipe = PretrainingRecipe.read(arguments.recipe, dict(arguments.set))
        from training.run.pretraining import pretrain

        return {"encoder": str(recipe.output), **pretrain(recipe)}

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
