"""Task-adaptive pretraining: an encoder goes on with masked language modelling, on the sentences of the task,
before it is fine-tuned.

    python -m training.pretrain recipes/tiny/pretrain.yaml
    python -m training.train recipes/tiny/train.yaml --set encoder=runs/tiny/pretrained

Gururangan et al., "Don't Stop Pretraining: Adapt Language Models to Domains and Tasks", 2020
(arXiv:2004.10964). Labels are not looked at. Interrupted, the same command goes on from the last checkpoint.
The recipe's `output` is then an encoder's checkpoint folder, without the language model's head, which any
recipe's `encoder` may name, and holds the record of the run (training/run/experiment.py). The last
line of stdout is one JSON object: among others the loss on held-out sentences before and after, in nats a
masked token. Exit status: 0, or 2 when the recipe or a file cannot be used.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import (
    BatchEncoding,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    set_seed,
)
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput

from models.rows import InvalidRows, LabelledExample, read_labelled, sentence
from training.data.dataset import LENGTH_STEP, LengthBucketSampler
from training.data.files import write
from training.data.folds import apart
from training.model.heads import positions
from training.model.masked import load_masked_lm
from training.run.experiment import FINISHED, begin, claim, last_checkpoint
from training.run.recipe import InvalidRecipe, PretrainingRecipe, add_settings
from training.run.trainer import arguments, finite
from training.train import rows_to_train_on

Chance = tuple[int, int, int]


class Sentences(Dataset[tuple[Chance, BatchEncoding]]):
    """The rows' sentences, each once, as token ids, with what chance depends on: (seed, epoch, index)."""

    def __init__(
        self, rows: Sequence[LabelledExample], tokenizer: PreTrainedTokenizerFast, window: int, seed: int
    ) -> None:
        self.rows = list({sentence(row): row for row in rows}.values())
        self.tokenizer = tokenizer
        self.window = window
        self.seed = seed
        self.epoch = 0
        self.lengths = [len(self._tokens(index)["input_ids"]) for index in range(len(self.rows))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Chance, BatchEncoding]:
        return (self.seed, self.epoch, index), self._tokens(index)

    def _tokens(self, index: int) -> BatchEncoding:
        text = self.rows[index].example.sentence
        return self.tokenizer(text, truncation=True, max_length=self.window, return_special_tokens_mask=True)


class Masking(DataCollatorForLanguageModeling):
    """BERT's masking (Devlin et al., 2019, arXiv:1810.04805): 80 % of the tokens to be guessed are masked, 10
    % are replaced by others.

    Which they are depends on (seed, epoch, first row of the batch) alone, so a resumed run masks what it
    would have masked.
    """

    def __call__(
        self, rows: Sequence[tuple[Chance, BatchEncoding]], return_tensors: str | None = None
    ) -> dict[str, Tensor]:
        (chance, _), *_ = rows
        self.generator = torch.Generator().manual_seed(int(np.random.default_rng(chance).integers(2**63)))
        return super().__call__([tokens for _, tokens in rows], return_tensors)


class MaskedLMTrainer(Trainer):
    """The Hugging Face Trainer with rows bucketed by length, and a loss that stands a batch without a masked
    token."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, MaskedLMOutput]:
        labels = inputs["labels"]
        masked = labels != -100

        def only_masked(_: nn.Module, __: object, output: BaseModelOutput) -> BaseModelOutput:
            output.last_hidden_state = output.last_hidden_state[masked]
            return output

        # The head gets the masked tokens alone: over all of them the vocabulary would cost more than the
        # encoder. A model that several GPUs share cuts the rows itself, and so tells all tokens.
        hook = (
            model.base_model.register_forward_hook(only_masked)
            if isinstance(model, PreTrainedModel)
            else None
        )
        try:
            outputs = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        finally:
            if hook:
                hook.remove()
        logits = outputs.logits if hook else outputs.logits[masked]
        # Not the model's own loss: its mean over no token, of one short sentence, would turn all weights into
        # NaN.
        value = nn.functional.cross_entropy(
            logits.float(), labels[masked], reduction="sum"
        ) / masked.sum().clamp_min(1)
        return (value, outputs) if return_outputs else value

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return LengthBucketSampler(
            train_dataset or self.train_dataset, self.args.train_batch_size, self.args.seed
        )


def pretrain(recipe: PretrainingRecipe) -> dict[str, Any]:
    """Pretrain and save an encoder; returns how many sentences it saw, and the loss on others before and
    after, in nats a masked token.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the encoder is neither a checkpoint folder nor a name on the hub, or has no masked
            language model, or the recipe's folder holds another run.
        Diverged: the model no longer answers with numbers.
    """
    recipe = claim(recipe)
    set_seed(recipe.seed)
    rows = rows_to_train_on(recipe)
    held_out = sorted(
        apart(read_labelled(recipe.validation), rows), key=lambda row: len(row.example.sentence)
    )  # little padding
    if not held_out:
        raise InvalidRows(f"{recipe.validation}: no sentence that is not trained on")
    try:
        model, tokenizer = load_masked_lm(recipe.encoder, recipe.layers)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    window = min(recipe.max_length, tokenizer.model_max_length, positions(model.config))
    window -= window % LENGTH_STEP  # batches are padded to a multiple of it
    sentences, others = (Sentences(some, tokenizer, window, recipe.seed) for some in (rows, held_out))
    trainer = MaskedLMTrainer(
        model=model,
        args=arguments(recipe),
        train_dataset=sentences,
        eval_dataset=others,
        data_collator=Masking(tokenizer, mlm_probability=recipe.masked_share, pad_to_multiple_of=LENGTH_STEP),
    )
    begin(recipe, rows=len(sentences))
    before = trainer.evaluate()["eval_loss"]
    trainer.train(resume_from_checkpoint=last_checkpoint(recipe.output))
    after = finite(trainer.evaluate()["eval_loss"])
    trainer.model.base_model.save_pretrained(recipe.output)
    tokenizer.save_pretrained(recipe.output)
    summary = {
        "sentences": len(sentences),
        "held_out": len(others),
        "loss_before": before,
        "loss_after": after,
    }
    write(recipe.output / FINISHED, json.dumps(summary, indent=2) + "\n")
    return summary


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.pretrain",
        description="Go on pretraining an encoder on the sentences of the task.",
    )
    parser.add_argument(
        "recipe", type=Path, help="a YAML file; its fields are described in training/run/recipe.py"
    )
    add_settings(parser)
    options = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()  # it warns of a head that is new or left out
    try:
        summary = pretrain(recipe := PretrainingRecipe.read(options.recipe, dict(options.set)))
    except (InvalidRecipe, InvalidRows, OSError) as error:
        print(f"training.pretrain: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps({"encoder": str(recipe.output), **summary}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
