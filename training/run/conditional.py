"""Fine-tuning of the masked language model that knows the relation, for contextual augmentation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer, set_seed

from models.rows import InvalidRows, LabelledExample, read_labelled
from training.data.folds import apart, parts
from training.data.masked_words import NOT_MASKED, MaskedWordsDataset, WordMasker, maskable
from training.errors import InvalidRecipe
from training.model.conditional import LABEL_EMBEDDING, ConditionalMaskedLM
from training.model.heads import positions
from training.run.arguments import arguments
from training.run.recipe import ContextualRecipe
from training.run.record import begin, claim, last_checkpoint, write_metrics
from training.run.trainer import BucketTrainer, finite, masked_cross_entropy

HELD_OUT_PARTS = 10
"""One of this many parts of the sentences is held out if the recipe names no validation rows."""


class ConditionalTrainer(BucketTrainer):
    """Trains a `ConditionalMaskedLM`. The labels' embeddings start equal and get a higher learning rate."""

    new_weights = LABEL_EMBEDDING

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        value = masked_cross_entropy(outputs.logits, inputs["labels"][inputs["masked"]])
        return (value, outputs) if return_outputs else value


def fine_tune(recipe: ContextualRecipe) -> dict[str, Any]:
    """Fine-tune and save the model.

    Returns:
        The number of rows, and the losses on held-out rows in nats for each masked token: with their own
        relation, with another row's relation, and of a guess by word frequency.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the encoder or its tokenizer is missing or of another kind, or the recipe's folder has
            another run.
        Diverged: the model's outputs are not finite.
    """
    recipe = claim(recipe)
    set_seed(recipe.seed)
    rows, held_out = split_rows(recipe)
    try:
        window = min(recipe.max_length, positions(AutoConfig.from_pretrained(recipe.encoder)))
        tokenizer = AutoTokenizer.from_pretrained(recipe.encoder)
        masker = WordMasker(tokenizer, window)
        model = ConditionalMaskedLM.from_encoder(recipe.encoder, window, recipe.layers)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None

    def dataset(rows: Sequence[LabelledExample]) -> MaskedWordsDataset:
        return MaskedWordsDataset(rows, masker, recipe.mask_ratio, recipe.seed)

    trainer = ConditionalTrainer(
        recipe,
        recipe.label_learning_rate,
        model=model,
        args=arguments(recipe),
        train_dataset=(masked := dataset(rows)),
        data_collator=masked.collate,
    )
    begin(recipe, rows=len(rows))
    trainer.train(resume_from_checkpoint=last_checkpoint(recipe.output))
    shuffled = np.random.default_rng(recipe.seed).permutation([row.label_id for row in held_out])
    wrong = [replace(row, label_id=int(label_id)) for row, label_id in zip(held_out, shuffled, strict=True)]
    held_out_words = dataset(held_out)
    summary = {
        "rows": len(rows),
        "held_out": len(held_out),
        "loss_true_relation": finite(trainer.evaluate(held_out_words)["eval_loss"]),
        "loss_shuffled_relation": finite(trainer.evaluate(dataset(wrong))["eval_loss"]),
        "loss_word_frequency": frequency_loss(targets(masked), targets(held_out_words)),
    }
    trainer.model.save_pretrained(recipe.output)
    tokenizer.save_pretrained(recipe.output)
    write_metrics(recipe, summary)
    return summary


def frequency_loss(learned: NDArray[np.int64], held_out: NDArray[np.int64]) -> float:
    """The loss of a model that knows how often each token is masked, and nothing of the sentence.

    A model that is not better writes gibberish. Frequencies are smoothed by Laplace's rule, so that a token
    that was never seen has a probability.

    Args:
        learned, held_out: the masked tokens of the training rows and of the held-out rows.

    Returns:
        Mean over the held-out tokens, in nats.
    """
    tokens, places = np.unique(np.concatenate([learned, held_out]), return_inverse=True)
    counts = np.bincount(places[: len(learned)], minlength=len(tokens)) + 1
    return float(-np.log(counts / counts.sum())[places[len(learned) :]].mean())


def targets(dataset: MaskedWordsDataset) -> NDArray[np.int64]:
    """All tokens of a dataset that the model has to predict in the present epoch."""
    every = np.concatenate([dataset[index][1].numpy() for index in range(len(dataset))])
    return every[every != NOT_MASKED]


def split_rows(recipe: ContextualRecipe) -> tuple[list[LabelledExample], list[LabelledExample]]:
    """The rows to learn from, and held-out rows of other sentences; only rows with a word to mask.

    Raises:
        InvalidRows: a data file cannot be used, or no row is left.
    """
    rows = [row for row in recipe.training_rows() if maskable(row.example)]
    if not rows:
        raise InvalidRows(f"{recipe.train}: no row has a Hangul word outside its entities; name other rows")
    if recipe.validation is None:
        held_out = [row for row, part in zip(rows, parts(rows, HELD_OUT_PARTS), strict=True) if part == 1]
        return apart(rows, held_out), held_out
    held_out = [row for row in apart(read_labelled(recipe.validation), rows) if maskable(row.example)]
    if not held_out:
        raise InvalidRows(
            f"{recipe.validation}: no sentence outside the training rows has a Hangul word outside its "
            "entities; name other rows"
        )
    return rows, held_out
