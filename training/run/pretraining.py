"""Task-adaptive pretraining of an encoder: masked language modelling on the sentences of the task."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BatchEncoding,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)
from transformers.modeling_outputs import BaseModelOutput

from models.rows import InvalidRows, LabelledExample, read_labelled, sentence
from training.data.dataset import LENGTH_STEP
from training.data.folds import apart
from training.data.masked_words import NOT_MASKED
from training.errors import InvalidRecipe
from training.model.heads import positions
from training.model.pretrained import require_encoder
from training.run.arguments import arguments
from training.run.recipe import PretrainingRecipe
from training.run.record import begin, claim, last_checkpoint, write_metrics
from training.run.trainer import BucketTrainer, finite, masked_cross_entropy

Place = tuple[int, int, int]
"""(seed, epoch, index): the random numbers of a batch depend on this only."""


class Sentences(Dataset[tuple[Place, BatchEncoding]]):
    """The rows' sentences as token ids, each sentence once."""

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

    def __getitem__(self, index: int) -> tuple[Place, BatchEncoding]:
        return (self.seed, self.epoch, index), self._tokens(index)

    def _tokens(self, index: int) -> BatchEncoding:
        text = self.rows[index].example.sentence
        return self.tokenizer(text, truncation=True, max_length=self.window, return_special_tokens_mask=True)


class Masking(DataCollatorForLanguageModeling):
    """BERT's masking (Devlin et al., 2019, arXiv:1810.04805).

    Of the chosen tokens 80 % are masked, 10 % are replaced by random tokens and 10 % stay. The choice depends
    on (seed, epoch, first row of the batch) only, so a resumed run masks the same tokens.
    """

    def __call__(
        self, rows: Sequence[tuple[Place, BatchEncoding]], return_tensors: str | None = None
    ) -> dict[str, Tensor]:
        (place, _), *_ = rows
        self.generator = torch.Generator().manual_seed(int(np.random.default_rng(place).integers(2**63)))
        return super().__call__([tokens for _, tokens in rows], return_tensors)


class MaskedLMTrainer(BucketTrainer):
    """Trains a masked language model. Only masked tokens go through its head."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"]
        masked = labels != NOT_MASKED

        def only_masked(_: nn.Module, __: object, output: BaseModelOutput) -> BaseModelOutput:
            output.last_hidden_state = output.last_hidden_state[masked]
            return output

        # For all tokens the vocabulary's matrix would cost more than the encoder. A model on several GPUs
        # splits the rows itself, so it computes all tokens.
        single = isinstance(model, PreTrainedModel)
        hook = model.base_model.register_forward_hook(only_masked) if single else None
        try:
            outputs = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        finally:
            if hook:
                hook.remove()
        logits = outputs.logits if hook else outputs.logits[masked]
        value = masked_cross_entropy(logits, labels[masked])
        return (value, outputs) if return_outputs else value


def pretrain(recipe: PretrainingRecipe) -> dict[str, Any]:
    """Pretrain and save an encoder.

    The saved encoder has no masked-LM head.

    Returns:
        The number of sentences, and the loss on held-out sentences before and after, in nats for each masked
        token.

    Raises:
        InvalidRows: a data file cannot be used.
        InvalidRecipe: the encoder is neither a checkpoint folder nor a hub name, or has no masked language
            model, or the recipe's folder has another run.
        Diverged: the model's outputs are not finite.
    """
    recipe = claim(recipe)
    set_seed(recipe.seed)
    rows = recipe.training_rows()
    held_out = apart(read_labelled(recipe.validation), rows)
    if not held_out:
        raise InvalidRows(f"{recipe.validation}: all its sentences are in the training rows; name other rows")
    held_out.sort(key=lambda row: len(row.example.sentence))  # little padding
    try:
        model, tokenizer = load_masked_lm(recipe.encoder, recipe.layers)
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    window = min(recipe.max_length, tokenizer.model_max_length, positions(model.config))
    window -= window % LENGTH_STEP  # batches are padded to a multiple of it
    sentences, others = (Sentences(some, tokenizer, window, recipe.seed) for some in (rows, held_out))
    trainer = MaskedLMTrainer(
        recipe,
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
    counts = {"sentences": len(sentences), "held_out": len(others)}
    summary = {**counts, "loss_before": before, "loss_after": after}
    write_metrics(recipe, summary)
    return summary


def load_masked_lm(name: str, layers: int | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The masked language model of an encoder (a folder or a hub name), in float32, and its tokenizer.

    A checkpoint without a masked-LM head, such as a sentence encoder, gets a new head: its output matrix is
    the input embeddings, its other weights are random and follow `transformers.set_seed`. A tokenizer without
    a mask token gets one, and the model gets a row of embeddings for it.

    Args:
        layers: number of the encoder's first layers to keep; all by default.

    Raises:
        OSError, ValueError: neither a checkpoint folder nor a hub name, an encoder without a masked language
            model, or a checkpoint with missing weights.
    """
    tokenizer = AutoTokenizer.from_pretrained(name)
    fewer = {"num_hidden_layers": layers} if layers else {}
    model, report = AutoModelForMaskedLM.from_pretrained(
        name, **fewer, dtype=torch.float32, output_loading_info=True
    )
    require_encoder(model, name, report["missing_keys"])
    if tokenizer.mask_token is None:
        mask = "[MASK]" if "[MASK]" in tokenizer.get_vocab() else "<mask>"
        tokenizer.add_special_tokens({"mask_token": mask})
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return model, tokenizer
