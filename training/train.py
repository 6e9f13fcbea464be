"""Train one member of an ensemble from a recipe.

    python -m training.train recipes/default/member-12.yaml --set encoder=klue/roberta-large

Interrupted, the same command goes on from the last checkpoint. The finished member lies in the recipe's
`output` folder, and beside it the
record of the run: training/run/experiment.py.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import transformers
from transformers import AutoConfig, AutoTokenizer, TrainerCallback, set_seed

from models.encoding import MARKER_STYLES, Encoder
from models.example import Example, InvalidExample
from models.labels import RELATIONS
from models.rows import InvalidRows, LabelledExample, label_ids, read_labelled
from models.voting import softmax
from training.augmentation.variants import variants
from training.data.dataset import RelationDataset
from training.data.folds import apart
from training.model.heads import RelationClassifier, positions
from training.run.experiment import HELD_OUT, Predictions, begin, claim, finish, last_checkpoint
from training.run.recipe import InvalidRecipe, Recipe, Run, add_settings
from training.run.tracking import require, tracked
from training.run.trainer import RelationTrainer
from training.teach import taught


def train(recipe: Recipe) -> dict[str, float]:
    """Train, evaluate and save one member with what it says of the validation rows and of those its fold
    holds out.

    Returns its metrics on the validation rows.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the encoder is neither a checkpoint folder nor a name on the hub, the teachers cannot
            be asked, a tracker cannot be told, or the recipe's folder holds another run.
        Diverged: the model no longer answers with numbers.
    """
    recipe = claim(recipe)
    trainer = prepare(recipe)
    fit(trainer)
    trainer.model.save_pretrained(recipe.output)
    trainer.processing_class.save_pretrained(recipe.output)
    validation = trainer.predictions
    if recipe.fold is not None:
        rows = recipe.fold.held_out(read_labelled(recipe.train))
        logits = trainer.predict(RelationDataset(rows, trainer.eval_dataset.encoder)).predictions
        Predictions(label_ids(rows), softmax(logits)).save(recipe.output / HELD_OUT)
    return finish(recipe, validation, trainer.state.log_history)


def prepare(recipe: Recipe, callbacks: Sequence[TrainerCallback] = ()) -> RelationTrainer:
    """Rows, encoder, model and trainer of a recipe; raises what `train` raises."""
    require(recipe.report_to)
    rows, validation = rows_to_train_on(recipe), read_labelled(recipe.validation)
    held_out = recipe.fold.held_out(read_labelled(recipe.train)) if recipe.fold else []
    tokens = MARKER_STYLES[recipe.markers].tokens
    try:
        tokenizer = AutoTokenizer.from_pretrained(recipe.encoder)
        window = min(recipe.max_length, positions(AutoConfig.from_pretrained(recipe.encoder)))
        tokenizer.add_tokens(list(tokens), special_tokens=True)
        encoder = Encoder(tokenizer.backend_tokenizer, recipe.markers, window, tokenizer.pad_token_id)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    require_room(recipe.train, [*rows, *held_out], encoder)
    require_room(recipe.validation, validation, encoder)
    teacher = taught(recipe, rows)
    if recipe.augmentation is not None:
        try:
            # A method may come upon a sentence that is held out, or move the entities too far apart.
            new = apart(
                (variant.row for variant in variants(rows, recipe.augmentation, recipe.seed)), held_out
            )
        except InvalidExample as error:
            raise InvalidRecipe(f"augmentation: {error}") from None
        rows += [row for row in new if fits(row.example, encoder)]
    if teacher is not None:  # nobody has asked the teachers about new rows: there the label is the teacher
        augmented = label_ids(rows[len(teacher) :])
        teacher = np.concatenate([teacher, np.eye(len(RELATIONS), dtype=np.float32)[augmented]])
    set_seed(recipe.seed)  # only now: loading teachers draws numbers too
    try:
        model = RelationClassifier.from_encoder(
            recipe.encoder,
            recipe.pooling,
            recipe.markers,
            window,
            recipe.dropout,
            recipe.layers,
            recipe.encoder_dropout,
        )
        if tokens:
            # Not as the mean of all tokens: they would begin alike, and one epoch would not tell subject from
            # object (docs/training.md).
            model.encoder.resize_token_embeddings(
                max(len(tokenizer), model.config.vocab_size), mean_resizing=False
            )
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    return RelationTrainer(
        recipe,
        model,
        RelationDataset(rows, encoder, recipe.seed, recipe.type_dropout, teacher),
        RelationDataset(validation, encoder),
        encoder,
        tokenizer,
        callbacks,
    )


def fit(trainer: RelationTrainer) -> None:
    """Train to the recipe's end, from the last checkpoint if there is one; the trainer then has
    `predictions`."""
    begin(trainer.recipe, rows=len(trainer.train_dataset))
    with tracked(trainer.recipe):
        trainer.train(resume_from_checkpoint=last_checkpoint(trainer.recipe.output))
        if trainer.predictions is None:  # it was interrupted between its last step and the evaluation
            trainer.evaluate()


def require_room(path: Path, rows: Iterable[LabelledExample], encoder: Encoder) -> None:
    """Raises InvalidRows where the two entities of a row of this file do not fit into the window together."""
    for row in rows:
        try:
            encoder.encode(row.example)
        except InvalidExample as error:
            raise InvalidRows(f"{path}, line {read_labelled(path).index(row) + 1}: {error}") from None


def fits(example: Example, encoder: Encoder) -> bool:
    """Whether the two entities fit into the window together."""
    try:
        encoder.encode(example)
    except InvalidExample:
        return False
    return True


def rows_to_train_on(recipe: Run) -> list[LabelledExample]:
    """The rows of the recipe's `train` without those its fold holds out, or as many of them as it asks for.

    Raises:
        InvalidRows: the file cannot be used.
    """
    rows = read_labelled(recipe.train)
    if recipe.fold is not None:
        rows = apart(rows, recipe.fold.held_out(rows))
    if recipe.train_rows is None:
        return rows
    return [
        rows[index]
        for index in np.random.default_rng(recipe.seed).permutation(len(rows))[: recipe.train_rows]
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.train",
        description="Train one member of an ensemble from a recipe.",
    )
    parser.add_argument(
        "recipe", type=Path, help="a YAML file; its fields are described in training/run/recipe.py"
    )
    add_settings(parser)
    arguments = parser.parse_args(argv)
    # it warns of every layer and pooler that a recipe leaves out on purpose
    transformers.logging.set_verbosity_error()
    try:
        summary = train(recipe := Recipe.read(arguments.recipe, dict(arguments.set)))
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.train: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps({"member": str(recipe.output), **summary}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
