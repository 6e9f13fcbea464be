"""Train one member of an ensemble from a recipe.

    python -m training.train recipes/default/member-12.yaml --set encoder=klue/roberta-large

Interrupted, the same command goes on from the last checkpoint. The finished member lies in the recipe's `output` folder.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import transformers
from transformers import AutoConfig, AutoTokenizer, set_seed
from transformers.trainer import TRAINER_STATE_NAME

from models.encoding import Encoder
from models.rows import InvalidRows, LabelledExample, read_labelled
from training.augmentation.variants import variants
from training.dataset import RelationDataset
from training.heads import RelationClassifier
from training.recipe import InvalidRecipe, Recipe, Run
from training.trainer import RelationTrainer


def train(recipe: Recipe) -> dict[str, float]:
    """Train, evaluate and save one member; returns its metrics on the validation rows.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the encoder is neither a checkpoint folder nor a name on the hub.
    """
    set_seed(recipe.seed)
    rows = rows_to_train_on(recipe)
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
    trainer = RelationTrainer(
        recipe,
        model,
        RelationDataset(rows, encoder, recipe.seed, recipe.type_dropout),
        RelationDataset(validation, encoder),
        encoder,
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(trainer.args.output_dir)))
    metrics = trainer.evaluate(metric_key_prefix="validation")
    trainer.model.save_pretrained(recipe.output)
    tokenizer.save_pretrained(recipe.output)
    summary = {"micro_f1": metrics["validation_micro_f1"], "auprc": metrics["validation_auprc"]}
    (recipe.output / "metrics.json").write_text(json.dumps(summary | {"rows": len(validation)}, indent=2) + "\n")
    return summary


def rows_to_train_on(recipe: Run) -> list[LabelledExample]:
    """The rows of the recipe's `train`, or as many of them as it asks for.

    Raises:
        InvalidRows: the file cannot be used.
    """
    rows = read_labelled(recipe.train)
    if recipe.train_rows is None:
        return rows
    return [rows[index] for index in np.random.default_rng(recipe.seed).permutation(len(rows))[: recipe.train_rows]]


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
