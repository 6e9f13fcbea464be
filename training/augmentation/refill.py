"""Words of many rows refilled by a model that knows the rows' relations.

Each new word replaces its old word in the original sentence, so the text around it and the entities stay.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from models.example import Example
from models.rows import LabelledExample
from training.augmentation.contextual import Contextual
from training.augmentation.words import join, split
from training.data.masked_words import MaskedWords, WordMasker, choose, refill
from training.model.conditional import ConditionalMaskedLM
from training.model.pretrained import accelerator

ROWS_A_BATCH = 32


class Draft:
    """A row that is being changed: its tokens, in which the chosen words are refilled step by step."""

    def __init__(
        self, row: LabelledExample, words: MaskedWords, generator: np.random.Generator, mask_token_id: int
    ) -> None:
        self.row = row
        self.spans = words.spans
        self.generator = generator
        self.ids = words.input_ids.copy()
        for _, start, stop in self.spans:
            self.ids[start:stop] = mask_token_id
        self.original = words.input_ids
        self.probabilities = np.ones(len(self.ids))  # of the drawn tokens, by the model

    def open(self, step: int) -> list[int]:
        """The tokens to refill in this step: token number `step` of each chosen word that has one."""
        return [start + step for _, start, stop in self.spans if start + step < stop]


class Refiller:
    """Chooses words of rows and refills them.

    1. Choose words at random, `alpha` of the sentence's words, at least one.
    2. Mask all their tokens.
    3. Refill the first token of each chosen word, then the second one, and so on. Each token is drawn from
       the `top_k` likeliest Hangul tokens that are allowed at its place: the start of a word or within it.
    4. Keep the old word where the geometric mean of the new tokens' probabilities is below
       `min_probability`. They are the model's probabilities over the allowed tokens, without `temperature`
       and `top_k`.

    A row's result depends on its own generator. The other rows change it only by rounding.

    Args:
        options: `options.model` is a checkpoint folder of `ConditionalMaskedLM` with its tokenizer.
    """

    def __init__(self, options: Contextual) -> None:
        device = accelerator()
        self.options = options
        self.model = ConditionalMaskedLM.load(options.model).to(device)
        self.masker = WordMasker(AutoTokenizer.from_pretrained(options.model), self.model.config.window)
        # Tokens that are allowed within a word and at its start; shape (2, vocabulary).
        allowed = np.stack([self.masker.continues, self.masker.opens])
        self.forbidden = ~torch.from_numpy(
            np.pad(allowed, [(0, 0), (0, self.model.config.vocab_size - allowed.shape[1])])
        ).to(device)

    def __call__(
        self, rows: Sequence[LabelledExample], generators: Sequence[np.random.Generator]
    ) -> list[Example | None]:
        """The rows' examples with refilled words; None for a row without a word that can be refilled."""
        drafts = [self._draft(row, generator) for row, generator in zip(rows, generators, strict=True)]
        by_length = sorted((draft for draft in drafts if draft.spans), key=lambda draft: len(draft.ids))
        for low in range(0, len(by_length), ROWS_A_BATCH):
            self._refill(by_length[low : low + ROWS_A_BATCH])
        return [self._example(draft) if draft.spans else None for draft in drafts]

    def _draft(self, row: LabelledExample, generator: np.random.Generator) -> Draft:
        words = self.masker.encode(row.example, choose(row.example, self.options.alpha, generator))
        return Draft(row, words, generator, self.masker.mask_token_id)

    def _refill(self, drafts: Sequence[Draft]) -> None:
        step = 0
        while drafts := [draft for draft in drafts if draft.open(step)]:
            drawn = iter(self._draw(drafts, step))
            for draft in drafts:
                for token in draft.open(step):
                    draft.ids[token], draft.probabilities[token] = next(drawn)
            step += 1

    def _draw(self, drafts: Sequence[Draft], step: int) -> list[tuple[int, float]]:
        """New token ids for the open tokens of the drafts, in their order, with their probabilities."""
        device = self.forbidden.device
        pad = self.masker.pad_token_id
        input_ids = pad_sequence(
            [torch.from_numpy(draft.ids) for draft in drafts], batch_first=True, padding_value=pad
        ).to(device)
        lengths = torch.tensor([len(draft.ids) for draft in drafts], device=device)
        attention_mask = (torch.arange(input_ids.shape[1], device=device) < lengths.unsqueeze(1)).long()
        masked = torch.zeros_like(input_ids, dtype=torch.bool)
        for index, draft in enumerate(drafts):
            masked[index, draft.open(step)] = True
        relation_ids = torch.tensor([draft.row.label_id for draft in drafts], device=device)
        opens = [
            bool(self.masker.opens[draft.original[token]]) for draft in drafts for token in draft.open(step)
        ]
        with torch.inference_mode():
            logits = self.model(input_ids, attention_mask, relation_ids, masked).logits
            logits = logits.masked_fill(self.forbidden[torch.tensor(opens, device=device).long()], -torch.inf)
            likeliest = logits.topk(min(self.options.top_k, logits.shape[1]))
            by_model = (likeliest.values - logits.logsumexp(dim=1, keepdim=True)).exp().cpu().numpy()
        # on the CPU: some accelerators have no float64
        chances = torch.softmax(likeliest.values.cpu().double() / self.options.temperature, dim=1).numpy()
        tokens = likeliest.indices.cpu().numpy()
        generators = (draft.generator for draft in drafts for _ in draft.open(step))
        drawn = [
            int(generator.choice(len(chance), p=chance))
            for chance, generator in zip(chances, generators, strict=True)
        ]
        return [(int(tokens[row, place]), float(by_model[row, place])) for row, place in enumerate(drawn)]

    def _example(self, draft: Draft) -> Example:
        words, space = split(draft.row.example)
        for place, start, stop in draft.spans:
            likely = np.exp(np.log(draft.probabilities[start:stop]).mean())
            if likely >= self.options.min_probability:
                words[place] = refill(words[place], self.masker.text(draft.ids[start:stop]))
        return join(words, space, draft.row.example)
