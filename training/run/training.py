"""Training one member: from a recipe to a checkpoint folder with its record."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast, TrainerCallback, set_seed

from models.encoding import Encoder
from models.example import Example, InvalidExample
from models.labels import RELATIONS
from models.markers import MARKER_STYLES
from models.rows import InvalidRows, LabelledExample, label_ids, read_labelled
from models.voting import softmax
from training.augmentation.variants import variants
from training.data.dataset import RelationDataset
from training.data.folds import apart
from training.ensemble.teachers import teacher_votes
from training.errors import InvalidRecipe
from training.model.heads import HeadOptions, RelationClassifier, positions
from training.run.predictions import Predictions
from training.run.recipe import Recipe
from training.run.record import HELD_OUT, begin, claim, finish, last_checkpoint
from training.run.tracking import require_trackers, tracked
from training.run.trainer import RelationTrainer


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
        Predictions(label_ids(rows), softmax(logits)).save(recipe.output / HELD_OUT)
    return finish(recipe, validation, trainer.state.log_history)


def prepare(recipe: Recipe, callbacks: Sequence[TrainerCallback] = ()) -> RelationTrainer:
    """The trainer of a recipe, with rows, encoder and model. Raises the errors of `train`.

    1. Read the rows and the encoder's tokenizer; check that every row fits into the window.
    2. Get the teachers' probabilities.
    3. Add augmented rows.
    4. Build the model.
    """
    require_trackers(recipe.report_to)
    rows, held_out = recipe.training_rows(), recipe.held_out_rows()
    validation = read_labelled(recipe.validation)
    try:
        tokenizer, encoder = _load_tokenizer(recipe)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    _require_window(recipe.train, [*rows, *held_out], encoder)
    _require_window(recipe.validation, validation, encoder)
    teacher = teacher_votes(recipe, rows)
    new = _augmented(recipe, rows, held_out, encoder)
    if teacher is not None:
        teacher = _with_labels(teacher, new)
    train = RelationDataset([*rows, *new], encoder, recipe.seed, recipe.type_dropout, teacher)
    set_seed(recipe.seed)  # here, because loading the teachers draws random numbers
    try:
        model = _build_model(recipe, tokenizer, encoder.max_length)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    return RelationTrainer(recipe, model, train, RelationDataset(validation, encoder), tokenizer, callbacks)


def fit(trainer: RelationTrainer) -> None:
    """Train to the end, from the last checkpoint if there is one. The trainer then has `predictions`."""
    begin(trainer.recipe, rows=len(trainer.train_dataset))
    with tracked(trainer.recipe):
        trainer.train(resume_from_checkpoint=last_checkpoint(trainer.recipe.output))
        if trainer.predictions is None:  # it was interrupted between its last step and the evaluation
            trainer.evaluate()


def _load_tokenizer(recipe: Recipe) -> tuple[PreTrainedTokenizerFast, Encoder]:
    tokenizer = AutoTokenizer.from_pretrained(recipe.encoder)
    window = min(recipe.max_length, positions(AutoConfig.from_pretrained(recipe.encoder)))
    tokenizer.add_tokens(list(MARKER_STYLES[recipe.markers].tokens), special_tokens=True)
    return tokenizer, Encoder(tokenizer.backend_tokenizer, recipe.markers, window, tokenizer.pad_token_id)


def _build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, window: int) -> RelationClassifier:
    options = HeadOptions(
        recipe.pooling, recipe.markers, window, recipe.dropout, recipe.layers, recipe.encoder_dropout
    )
    model = RelationClassifier.from_encoder(recipe.encoder, options)
    if MARKER_STYLES[recipe.markers].tokens:
        # New tokens start at random. As the mean of all tokens they would start equal, and one epoch would
        # not separate subject from object (docs/log.md).
        size = max(len(tokenizer), model.config.vocab_size)
        model.encoder.resize_token_embeddings(size, mean_resizing=False)
    return model


def _augmented(
    recipe: Recipe, rows: Sequence[LabelledExample], held_out: Sequence[LabelledExample], encoder: Encoder
) -> list[LabelledExample]:
    """New rows whose sentence is not held out and whose entities fit into the window together."""
    if recipe.augmentation is None:
        return []
    try:
        new = [variant.row for variant in variants(rows, recipe.augmentation, recipe.seed)]
    except InvalidExample as error:
        raise InvalidRecipe(f"augmentation: {error}") from None
    return [row for row in apart(new, held_out) if _fits(row.example, encoder)]


def _with_labels(teacher: NDArray[np.float32], new: Sequence[LabelledExample]) -> NDArray[np.float32]:
    """The teachers' probabilities, and for new rows, which the teachers have not seen, their labels."""
    labels = np.eye(len(RELATIONS), dtype=np.float32)[label_ids(new)]
    return np.concatenate([teacher, labels])


def _require_window(path: Path, rows: Iterable[LabelledExample], encoder: Encoder) -> None:
    for row in rows:
        try:
            encoder.encode(row.example)
        except InvalidExample as error:
            raise InvalidRows(f"{path}, line {read_labelled(path).index(row) + 1}: {error}") from None


def _fits(example: Example, encoder: Encoder) -> bool:
    try:
        encoder.encode(example)
    except InvalidExample:
        return False
    return True
