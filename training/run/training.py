"""Training one member: from a recipe to a checkpoint folder with its record."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast, TrainerCallback, set_seed

from models.encoding import Encoder
from models.example import InvalidExample
from models.labels import RELATIONS
from models.markers import as_json, template_of
from models.rows import LabelledExample, check_window, fits, label_ids, read_labelled, sentence, two_labels
from models.vocabulary import check_vocabulary
from training.augmentation.variants import Variant, variants
from training.data.dataset import RelationDataset
from training.ensemble.teachers import teacher_votes
from training.errors import InvalidRecipe
from training.model.heads import HeadOptions, RelationClassifier, positions
from training.model.member import vote
from training.run.precision import attention
from training.run.predictions import Predictions
from training.run.recipe import Recipe
from training.run.record import HELD_OUT, begin, claim, finish, last_checkpoint
from training.run.tracking import require_trackers, tracked
from training.run.trainer import RelationTrainer


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a run reads before it builds its model.

    Attributes:
        new: the augmented rows.
    """

    rows: list[LabelledExample]
    new: list[Variant]
    validation: list[LabelledExample]
    tokenizer: PreTrainedTokenizerFast
    encoder: Encoder


def train(recipe: Recipe) -> dict[str, float]:
    """Train, evaluate and save one member, with its predictions for the validation and the held-out rows.

    Returns:
        Its metrics on the validation rows.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the encoder, the teachers or a tracker cannot be used, or the recipe's folder has
            another run.
        Diverged: the model's outputs are not finite.
    """
    recipe = claim(recipe)
    trainer = prepare(recipe)
    fit(trainer)
    trainer.model.save_pretrained(recipe.output)
    trainer.processing_class.save_pretrained(recipe.output)
    validation = trainer.predictions
    if rows := recipe.held_out_rows():
        logits = trainer.predict(RelationDataset(rows, trainer.eval_dataset.encoder)).predictions
        Predictions(label_ids(rows), vote(logits)).save(recipe.output / HELD_OUT)
    return finish(recipe, validation, trainer.apart, trainer.state.log_history)


def prepare(recipe: Recipe, callbacks: Sequence[TrainerCallback] = ()) -> RelationTrainer:
    """The trainer of a recipe, with rows, encoder and model. Raises the errors of `train`.

    1. Read the rows and the encoder's tokenizer, and make augmented rows (`read_data`).
    2. Get the teachers' probabilities.
    3. Build the model.
    """
    require_trackers(recipe.report_to)
    data = read_data(recipe)
    rows, new, encoder = data.rows, data.new, data.encoder
    teacher = teacher_votes(recipe, rows)
    if teacher is not None and new:
        teacher = np.concatenate([teacher, _targets_of_new(recipe, new, teacher)])
    known = {sentence(row) for row in rows}
    apart = np.array([sentence(row) not in known for row in data.validation])
    if recipe.apart and not apart.any():
        raise InvalidRecipe(f"apart: every sentence of {recipe.validation} is among the training rows")
    rows = [*rows, *(variant.row for variant in new)]
    train = RelationDataset(rows, encoder, recipe.seed, recipe.type_dropout, teacher)
    set_seed(recipe.seed)  # here, because loading the teachers draws random numbers
    try:
        model = _build_model(recipe, data.tokenizer, encoder.max_length)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    if recipe.compile and not torch.accelerator.is_available() and _has_dropout(model.encoder):
        raise InvalidRecipe(
            "compile: compiled dropout takes ten times as long on a CPU; set encoder_dropout: 0 or "
            "compile: false"
        )
    return RelationTrainer(
        recipe, model, train, RelationDataset(data.validation, encoder), data.tokenizer, callbacks, apart
    )


def read_data(recipe: Recipe) -> TrainingData:
    """The rows of a recipe with its augmented ones. Each fits into the window. Raises as `train` does."""
    rows, held_out = recipe.training_rows(), recipe.held_out_rows()
    validation = read_labelled(recipe.validation)
    try:
        tokenizer, encoder = _load_tokenizer(recipe)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    check_window(recipe.train, [*rows, *held_out], encoder.encode)
    check_window(recipe.validation, validation, encoder.encode)
    try:
        warning = check_vocabulary(tokenizer.backend_tokenizer, encoder, [row.example for row in rows])
    except ValueError as error:
        raise InvalidRecipe(f"encoder {recipe.encoder}: {error}") from None
    if warning:
        print(f"training: encoder {recipe.encoder}: {warning}", file=sys.stderr)
    new = _augmented(recipe, rows, held_out, encoder)
    return TrainingData(rows, new, validation, tokenizer, encoder)


def fit(trainer: RelationTrainer) -> None:
    """Train to the end, from the last checkpoint if there is one. The trainer then has `predictions`."""
    rows = trainer.train_dataset.rows
    if conflicts := int(two_labels(rows).sum()):
        print(
            f"training: {conflicts:,} training rows have the sentence and the entities of another row with "
            "another label; `drop_two_labels: true` leaves them out",
            file=sys.stderr,
        )
    shared = int((~trainer.apart).sum())
    begin(trainer.recipe, len(rows), two_labels=conflicts, validation_rows_in_train=shared)
    with tracked(trainer.recipe):
        trainer.train(resume_from_checkpoint=last_checkpoint(trainer.recipe.output))
        trainer.keep()


def _load_tokenizer(recipe: Recipe) -> tuple[PreTrainedTokenizerFast, Encoder]:
    # the config first: without one, transformers guesses the tokenizer
    config = AutoConfig.from_pretrained(recipe.encoder)
    window = min(recipe.max_length, positions(config))
    tokenizer = AutoTokenizer.from_pretrained(recipe.encoder)
    tokenizer.add_tokens(list(template_of(recipe.markers).vocabulary), special_tokens=True)
    return tokenizer, Encoder(tokenizer.backend_tokenizer, recipe.markers, window, tokenizer.pad_token_id)


def head_options(recipe: Recipe, window: int) -> HeadOptions:
    """How a recipe builds its member's model."""
    return HeadOptions(
        head=recipe.head,
        markers=as_json(recipe.markers),
        window=window,
        dropout=recipe.dropout,
        layers=recipe.layers,
        encoder_dropout=recipe.encoder_dropout,
        exits=recipe.exits or (),
        attention=attention(recipe.bf16),
    )


def _build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, window: int) -> RelationClassifier:
    model = RelationClassifier.from_encoder(recipe.encoder, head_options(recipe, window))
    if template_of(recipe.markers).vocabulary:
        # New tokens start at random. As the mean of all tokens they would start equal, and one epoch would
        # not separate subject from object (docs/log.md).
        size = max(len(tokenizer), model.config.vocab_size)
        model.encoder.resize_token_embeddings(size, mean_resizing=False)
    return model


def _augmented(
    recipe: Recipe, rows: Sequence[LabelledExample], held_out: Sequence[LabelledExample], encoder: Encoder
) -> list[Variant]:
    """New rows whose sentence is not held out and whose entities fit into the window together."""
    if recipe.augmentation is None:
        return []
    left_out = {sentence(row) for row in held_out}
    try:
        new = list(variants(rows, recipe.augmentation, recipe.seed))
    except InvalidExample as error:
        raise InvalidRecipe(f"augmentation: {error}") from None
    return [
        each for each in new if sentence(each.row) not in left_out and fits(each.row.example, encoder.encode)
    ]


def _targets_of_new(
    recipe: Recipe, new: Sequence[Variant], teacher: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The probabilities that a student learns from new rows, shape (new rows, 30).

    If the augmentation changes no word, they are the teachers' for the row that a new row was made from.
    Otherwise they are its label, because the teachers have not seen it.
    """
    if recipe.augmentation is not None and recipe.augmentation.keeps_words:
        return teacher[[variant.source for variant in new]]
    return np.eye(len(RELATIONS), dtype=np.float32)[label_ids([variant.row for variant in new])]


def _has_dropout(model: nn.Module) -> bool:
    return any(module.p > 0 for module in model.modules() if isinstance(module, nn.Dropout))
