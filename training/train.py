"""Train one member of an ensemble from a recipe.

    python -m training.train recipes/default/member-12.yaml --set encoder=klue/roberta-large

Interrupted, the same command goes on from the last checkpoint. The finished member lies in the recipe's `output` folder, and beside it the
record of the run: training/experiment.py.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import transformers
from transformers import AutoConfig, AutoTokenizer, TrainerCallback, set_seed
from transformers.trainer import TRAINER_STATE_NAME

from models.encoding import Encoder
from models.rows import InvalidRows, read_labelled
from training.augmentation.variants import variants
from training.dataset import RelationDataset
from training.experiment import begin, finish
from training.heads import RelationClassifier
from training.recipe import InvalidRecipe, Recipe
from training.tracking import require, tracked
from training.trainer import RelationTrainer


def train(recipe: Recipe) -> dict[str, float]:
    """Train, evaluate and save one member; returns its metrics on the validation rows.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the encoder is neither a checkpoint folder nor a name on the hub, or a tracker cannot be told.
    """
    trainer = prepare(recipe)
    fit(trainer)
    trainer.model.save_pretrained(recipe.output)
    trainer.processing_class.save_pretrained(recipe.output)
    return finish(recipe, trainer.predictions, trainer.state.log_history)


def prepare(recipe: Recipe, callbacks: Sequence[TrainerCallback] = ()) -> RelationTrainer:
    """Rows, encoder, model and trainer of a recipe; raises what `train` raises."""
    require(recipe.report_to)
    set_seed(recipe.seed)
    rows = read_labelled(recipe.train)
    if recipe.train_rows is not None:
        chosen = np.random.default_rng(recipe.seed).permutation(len(rows))[: recipe.train_rows]
        rows = [rows[index] for index in chosen]
    if recipe.augmentation is not None:
        rows += [variant.row for variant in variants(rows, recipe.augmentation, recipe.seed)]
    validation = read_labelled(recipe.validation)
    try:
        tokenizer = AutoTokenizer.from_pretrained(recipe.encoder)
        window = min(recipe.max_length, AutoConfig.from_pretrained(recipe.encoder).max_position_embeddings)
        model = RelationClassifier.from_encoder(recipe.encoder, recipe.pooling, recipe.markers, window, recipe.dropout, recipe.layers)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    encoder = Encoder(tokenizer.backend_tokenizer, recipe.markers, window, tokenizer.pad_token_id)
    return RelationTrainer(
        recipe,
        model,
        RelationDataset(rows, encoder, recipe.seed, recipe.type_dropout),
        RelationDataset(validation, encoder),
        encoder,
        tokenizer,
        callbacks,
    )


def fit(trainer: RelationTrainer) -> None:
    """Train to the recipe's end, from the last checkpoint if there is one; the trainer then has `predictions`."""
    begin(trainer.recipe, rows=len(trainer.train_dataset))
    with tracked(trainer.recipe):
        trainer.train(resume_from_checkpoint=last_checkpoint(Path(trainer.args.output_dir)))
        if trainer.predictions is None:  # it was interrupted between its last step and the evaluation
            trainer.evaluate()


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: the Trainer writes its state last, and a kill may come before."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        try:
            json.loads((checkpoint / TRAINER_STATE_NAME).read_bytes())
        except (OSError, ValueError):
            continue
        return str(checkpoint)
    return None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, prog="python -m training.train", description="Train one member of an ensemble from a recipe."
    )
    parser.add_argument("recipe", type=Path, help="a YAML file; its fields are described in training/recipe.py")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field of the recipe; may be repeated")
    arguments = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()  # it warns of every layer and pooler that a recipe leaves out on purpose
    overrides = dict(override.partition("=")[::2] for override in arguments.set)
    try:
        summary = train(recipe := Recipe.read(arguments.recipe, overrides))
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.train: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps({"member": str(recipe.output), **summary}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
