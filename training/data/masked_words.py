"""A sentence as a masked language model reads it: whole words can be masked and refilled.

A word is a run of Hangul between white space, without the punctuation around it, in which neither entity
occurs. Each chosen word is tokenised separately from the rest of the sentence. So its tokens are known, even
if the sentence contains decomposed syllables or the text '[MASK]'.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from models.example import Example
from models.rows import LabelledExample
from training.augmentation.words import Word, free, split
from training.data.dataset import LENGTH_STEP

MASKABLE = re.compile(r"(\W*)([가-힣]+)(\W*)")
NOT_MASKED = -100
"""The target of a token that is not masked. Cross-entropy ignores it."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskedWords:
    """A sentence as token ids, and the spans of the words that were chosen to be masked.

    Attributes:
        input_ids: int64 of shape (tokens,), with special tokens; the words are not masked yet.
        spans: (place among the sentence's words, first token, last token + 1) of each chosen word.
    """

    input_ids: NDArray[np.int64]
    spans: list[tuple[int, int, int]]


def maskable(example: Example) -> list[int]:
    """The places of the words that can be masked, among the words of `split`."""
    words, _ = split(example)
    return [place for place in free(words, example) if MASKABLE.fullmatch(words[place].text)]


def choose(example: Example, ratio: float, generator: np.random.Generator) -> list[int]:
    """Random maskable words: `ratio` of the number of the sentence's words, at least one if there is one."""
    places = maskable(example)
    count = max(1, int(ratio * len(split(example)[0])))
    return sorted(places[index] for index in generator.permutation(len(places))[:count])


class WordMasker:
    """Turns examples into token ids in which words can be masked, and tokens back into words.

    Args:
        tokenizer: a WordPiece (##) or SentencePiece (▁) tokenizer with a mask token.
        max_length: the model's window in tokens, with special tokens. Words beyond it are not masked.

    Attributes:
        opens: bool of shape (vocabulary,): the Hangul tokens that can start a word.
        continues: bool of shape (vocabulary,): the Hangul tokens that continue a word.

    Raises:
        ValueError: the tokenizer has no mask token, or is of another kind.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        if tokenizer.mask_token_id is None:
            raise ValueError("its tokenizer has no mask token")
        self.max_length = max_length
        self.mask_token_id = tokenizer.mask_token_id
        self.pad_token_id = tokenizer.pad_token_id
        self._unknown = tokenizer.unk_token_id
        self._never_from_text = set(tokenizer.all_special_ids)
        self._tokenizer = tokenizer.backend_tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # '[MASK]' in a sentence is text
        self._opening, *self._closing = self._tokenizer.encode("").ids
        size = max(tokenizer.get_vocab().values()) + 1
        self._texts = [""] * size
        self.opens, self.continues = np.zeros((2, size), dtype=bool)
        # ## for WordPiece, nothing for SentencePiece
        continuing = getattr(self._tokenizer.model, "continuing_subword_prefix", None)
        for token, index in tokenizer.get_vocab().items():
            opens, self._texts[index] = _read_token(token, continuing)
            if re.fullmatch("[가-힣]+", self._texts[index]):
                (self.opens if opens else self.continues)[index] = True
        if not self.opens.any():
            raise ValueError("its tokenizer is neither WordPiece nor SentencePiece, or has no Hangul tokens")

    def encode(self, example: Example, chosen: Collection[int]) -> MaskedWords:
        """Tokenise a sentence and find the tokens of the `chosen` words.

        A word with characters that the tokenizer does not know gets no span.
        """
        segments, places = zip(*_segments(example, chosen), strict=True)
        input_ids, spans = [self._opening], []
        for encoding, place in zip(
            self._tokenizer.encode_batch(segments, add_special_tokens=False), places, strict=True
        ):
            ids = [self._unknown if index in self._never_from_text else index for index in encoding.ids]
            if place is not None:
                # SentencePiece can start a word with a bare ▁. It stays: a token is refilled by its own kind.
                bare = int(self._texts[ids[0]] == "")
                if all(self.opens[index] or self.continues[index] for index in ids[bare:]):
                    spans.append((place, len(input_ids) + bare, len(input_ids) + len(ids)))
            input_ids += ids
        stop = self.max_length - len(self._closing)
        input_ids = [*input_ids[:stop], *self._closing]
        return MaskedWords(np.array(input_ids, dtype=np.int64), [span for span in spans if span[2] <= stop])

    def text(self, tokens: Sequence[int]) -> str:
        """The word that the tokens spell."""
        return "".join(self._texts[token] for token in tokens)


class MaskedWordsDataset(Dataset[tuple[Tensor, Tensor, int]]):
    """Rows with masked words: token ids, targets (`NOT_MASKED` where nothing is masked), relation.

    The words change with the epoch. The first tokens of each chosen word stay, a random number of them,
    because words are refilled token by token from the left.
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

    def collate(self, rows: Sequence[tuple[Tensor, Tensor, int]]) -> dict[str, Tensor]:
        """The arguments of `ConditionalMaskedLM.forward`, padded on the right, and the targets.

        Returns:
            Among others `labels`, the targets, and `masked`, bool, both of shape (rows, tokens).
        """
        longest = max(len(input_ids) for input_ids, _, _ in rows)
        tokens = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, self.masker.max_length)
        input_ids, attention_mask, targets = (
            torch.full((len(rows), tokens), fill) for fill in (self.masker.pad_token_id, 0, NOT_MASKED)
        )
        for index, (ids, wanted, _) in enumerate(rows):
            input_ids[index, : len(ids)] = ids
            attention_mask[index, : len(ids)] = 1
            targets[index, : len(ids)] = wanted
        relation_ids = torch.tensor([relation_id for _, _, relation_id in rows])
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "relation_ids": relation_ids}
        return batch | {"masked": targets != NOT_MASKED, "labels": targets}


def refill(word: Word, text: str) -> Word:
    """A maskable word with another text between its punctuation."""
    return Word(MASKABLE.sub(rf"\g<1>{text}\g<3>", word.text), word.space)


def _segments(example: Example, chosen: Collection[int]) -> Iterator[tuple[str, int | None]]:
    """The sentence in segments: each chosen word with its place, and the text between them without one."""
    words, space = split(example)
    between = ""
    for place, word in enumerate(words):
        match = MASKABLE.fullmatch(word.text) if place in chosen else None
        if match is None:
            between += word.space + word.text
            continue
        if (between := between + word.space + match[1]).strip():
            yield between, None
        yield match[2], place
        between = match[3]
    if (between + space).strip():
        yield between + space, None


def _read_token(token: str, continuing: str | None) -> tuple[bool, str]:
    """Whether a word can start with this token of the vocabulary, and the characters that it spells."""
    if continuing:
        return not token.startswith(continuing), token.removeprefix(continuing)
    return token.startswith("▁"), token.removeprefix("▁")
