"""Fine-tune the masked language model that `training.augment --method contextual` refills words with.

    python -m training.contextual recipes/tiny/contextual.yaml
    python -m training.augment train.jsonl more.jsonl --method contextual --model runs/tiny/contextual

Interrupted, the first command goes on from the last checkpoint; the record of the run lies in its folder
(training/run/experiment.py). The last
line of stdout is one JSON object: among others the loss on held-out rows, told their relation and told
another row's. Only if the first is clearly lower has the model learnt what a relation has to do with words.
Exit status: 0, or 2 when the recipe or a file cannot be used.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import AutoConfig, AutoTokenizer, Trainer, set_seed
from transformers.modeling_outputs import MaskedLMOutput

from models.rows import InvalidRows, LabelledExample, read_labelled
from training.data.dataset import LENGTH_STEP, LengthBucketSampler
from training.data.files import write
from training.data.folds import apart, parts
from training.data.masking import WordMasker, choose, maskable
from training.model.conditional import LABEL_EMBEDDING, ConditionalMaskedLM
from training.model.heads import positions
from training.run.experiment import FINISHED, begin, claim, last_checkpoint
from training.run.recipe import ContextualRecipe, InvalidRecipe, add_settings
from training.run.trainer import adamw, arguments, finite
from training.train import rows_to_train_on

NOT_MASKED = -100  # where cross-entropy has no target
HELD_OUT = 10  # one of so many parts of the sentences, where the recipe names no file of rows


class MaskedWordsDataset(Dataset[tuple[Tensor, Tensor, int]]):
    """Rows with masked words, others in each epoch: token ids, targets (`NOT_MASKED` where nothing is
    masked), relation.

    Of each chosen word the first pieces are shown, at random how many: words are refilled piece by piece,
    from the left.
    """

    def __init__(self, rows: Sequence[LabelledExample], masker: WordMasker, ratio: float, seed: int) -> None:
        self.rows = rows
        self.masker = masker
        self.ratio = ratio
        self.seed = seed
        self.epoch = 0
        self.lengths = [len(masker.encode(row.example, ()).input_ids) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        row = self.rows[index]
        generator = np.random.default_rng((self.seed, self.epoch, index))
        words = self.masker.encode(row.example, choose(row.example, self.ratio, generator))
        input_ids, targets = words.input_ids.copy(), np.full_like(words.input_ids, NOT_MASKED)
        for _, start, stop in words.spans:
            hidden = slice(int(generator.integers(start, stop)), stop)
            targets[hidden] = words.input_ids[hidden]
            input_ids[hidden] = self.masker.mask_token_id
        return torch.from_numpy(input_ids), torch.from_numpy(targets), row.label_id


def collate(rows: Sequence[tuple[Tensor, Tensor, int]], pad_token_id: int, window: int) -> dict[str, Tensor]:
    """The arguments of `ConditionalMaskedLM.forward`, padded on the right, and `labels`, the targets, of
    shape (rows, tokens)."""
    longest = max(len(input_ids) for input_ids, _, _ in rows)
    tokens = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, window)
    input_ids, attention_mask, targets = (
        torch.full((len(rows), tokens), fill) for fill in (pad_token_id, 0, NOT_MASKED)
    )
    for index, (ids, wanted, _) in enumerate(rows):
        input_ids[index, : len(ids)], attention_mask[index, : len(ids)], targets[index, : len(ids)] = (
            ids,
            1,
            wanted,
        )
    relation_ids = torch.tensor([relation_id for _, _, relation_id in rows])
    batch = {"input_ids": input_ids, "attention_mask": attention_mask, "relation_ids": relation_ids}
    return batch | {"masked": targets != NOT_MASKED, "labels": targets}


class ConditionalTrainer(Trainer):
    """Trains a `ConditionalMaskedLM`; the labels' embeddings, which start all the same, learn faster than the
    pretrained rest."""

    def __init__(
        self, recipe: ContextualRecipe, model: ConditionalMaskedLM, train: MaskedWordsDataset
    ) -> None:
        self.recipe = recipe
        pad = partial(collate, pad_token_id=train.masker.pad_token_id, window=train.masker.max_length)
        super().__init__(model=model, args=arguments(recipe), train_dataset=train, data_collator=pad)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, MaskedLMOutput]:
        outputs = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        targets = inputs["labels"][inputs["masked"]]
        # Not the mean: a batch may have no masked word.
        value = nn.functional.cross_entropy(outputs.logits.float(), targets, reduction="sum") / max(
            1, len(targets)
        )
        return (value, outputs) if return_outputs else value

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return LengthBucketSampler(
            train_dataset or self.train_dataset, self.args.train_batch_size, self.args.seed
        )

    def create_optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))
            self.optimizer = adamw(
                self.model, self.recipe, decayed, LABEL_EMBEDDING, self.recipe.label_learning_rate
            )
        return self.optimizer


def fine_tune(recipe: ContextualRecipe) -> dict[str, Any]:
    """Fine-tune and save the model; returns how many rows it saw and its losses on the others, in nats a
    masked piece.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the encoder or its tokenizer is missing or not of a kind that can be used, or the
            recipe's folder holds another run.
        Diverged: the model no longer answers with numbers.
    """
    recipe = claim(recipe)
    set_seed(recipe.seed)
    rows, held_out = _rows(recipe)
    try:
        tokenizer = AutoTokenizer.from_pretrained(recipe.encoder)
        window = min(recipe.max_length, positions(AutoConfig.from_pretrained(recipe.encoder)))
        masker = WordMasker(tokenizer, window)
        model = ConditionalMaskedLM.from_encoder(recipe.encoder, window, recipe.layers)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    trainer = ConditionalTrainer(
        recipe, model, MaskedWordsDataset(rows, masker, recipe.mask_ratio, recipe.seed)
    )
    begin(recipe, rows=len(rows))
    trainer.train(resume_from_checkpoint=last_checkpoint(recipe.output))

    def loss(rows: Sequence[LabelledExample]) -> float:
        return finite(
            trainer.evaluate(MaskedWordsDataset(rows, masker, recipe.mask_ratio, recipe.seed))["eval_loss"]
        )

    shuffled = np.random.default_rng(recipe.seed).permutation([row.label_id for row in held_out])
    wrong = [replace(row, label_id=int(label_id)) for row, label_id in zip(held_out, shuffled, strict=True)]
    summary = {
        "rows": len(rows),
        "held_out": len(held_out),
        "loss_true_relation": loss(held_out),
        "loss_shuffled_relation": loss(wrong),
    }
    trainer.model.save_pretrained(recipe.output)
    tokenizer.save_pretrained(recipe.output)
    write(recipe.output / FINISHED, json.dumps(summary, indent=2) + "\n")
    return summary


def _rows(recipe: ContextualRecipe) -> tuple[list[LabelledExample], list[LabelledExample]]:
    """The rows to learn from and those held out, of other sentences, as far as they have a word that may be
    masked."""
    rows = [row for row in rows_to_train_on(recipe) if maskable(row.example)]
    if not rows:
        raise InvalidRows(f"{recipe.train}: no row with a Hangul word outside its entities")
    if recipe.validation is None:
        held_out = [row for row, part in zip(rows, parts(rows, HELD_OUT), strict=True) if part == 1]
        return apart(rows, held_out), held_out
    held_out = [row for row in apart(read_labelled(recipe.validation), rows) if maskable(row.example)]
    if not held_out:
        raise InvalidRows(
            f"{recipe.validation}: no row of a sentence that is not trained on with a Hangul word outside its entities"
        )
    return rows, held_out


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.contextual",
        description="Fine-tune a masked language model told the relation.",
    )
    parser.add_argument(
        "recipe", type=Path, help="a YAML file; its fields are described in training/run/recipe.py"
    )
    add_settings(parser)
    given = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()  # it warns of a head that is not there
    try:
        summary = fine_tune(recipe := ContextualRecipe.read(given.recipe, dict(given.set)))
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.contextual: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps({"model": str(recipe.output), **summary}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
