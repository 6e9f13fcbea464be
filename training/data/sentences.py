"""Sentences for masked language modelling, and BERT's masking."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BatchEncoding, DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from models.rows import LabelledExample, sentence

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
