"""A sentence as a masked language model reads it: whole words masked, and what may stand in their place.

A word here is a run of Hangul between white space, without the signs around it, in which neither entity
occurs. The sentence is tokenised
piece by piece, such words apart, so that their tokens are known by construction: neither a decomposed
syllable nor a user's own '[MASK]' can move them.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from models.example import Example
from training.augmentation.words import Word, free, split

MASKABLE = re.compile(r"(\W*)([가-힣]+)(\W*)")


@dataclass(frozen=True, slots=True, eq=False)
class MaskedWords:
    """A sentence as token ids, and where the words are that were chosen to be masked.

    Attributes:
        input_ids: int64 of shape (tokens,), special tokens included, every word as it was.
        spans: for each chosen word its place among the sentence's words, its first token, and the one behind
            its last.
    """

    input_ids: NDArray[np.int64]
    spans: list[tuple[int, int, int]]


def maskable(example: Example) -> list[int]:
    """The places, among the words of `split`, of those that may be masked."""
    words, _ = split(example)
    return [place for place in free(words, example) if MASKABLE.fullmatch(words[place].text)]


def choose(example: Example, ratio: float, generator: np.random.Generator) -> list[int]:
    """Some of the maskable words, at random: `ratio` of the sentence's words, at least one where there is
    one."""
    places = maskable(example)
    count = max(1, int(ratio * len(split(example)[0])))
    return sorted(places[index] for index in generator.permutation(len(places))[:count])


class WordMasker:
    """Turns examples into token ids in which words can be masked, and tokens back into words.

    Args:
        tokenizer: of the WordPiece (##) or the SentencePiece (▁) kind, with a mask token.
        max_length: the model's window in tokens, special tokens included; words beyond it are not masked.

    Attributes:
        opens: bool of shape (vocabulary,): the Hangul pieces that a word can begin with.
        continues: bool of shape (vocabulary,): the Hangul pieces that go on with a word.

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
        self._tokenizer.encode_special_tokens = True  # a user's '[MASK]' is text
        self._opening, *self._closing = self._tokenizer.encode("").ids
        size = max(tokenizer.get_vocab().values()) + 1
        self._texts = [""] * size
        self.opens, self.continues = np.zeros((2, size), dtype=bool)
        # ## in WordPiece; SentencePiece has none
        continuing = getattr(self._tokenizer.model, "continuing_subword_prefix", None)
        for token, index in tokenizer.get_vocab().items():
            opens, self._texts[index] = _piece(token, continuing)
            if re.fullmatch("[가-힣]+", self._texts[index]):
                (self.opens if opens else self.continues)[index] = True
        if not self.opens.any():
            raise ValueError(
                "its tokenizer is neither of the WordPiece nor of the SentencePiece kind, or knows no Hangul"
            )

    def encode(self, example: Example, chosen: Collection[int]) -> MaskedWords:
        """Tokenise, and find the `chosen` words again; a word of characters that the tokenizer does not know
        is not among the spans."""
        segments, places = zip(*_segments(example, chosen), strict=True)
        input_ids, spans = [self._opening], []
        for encoding, place in zip(
            self._tokenizer.encode_batch(segments, add_special_tokens=False), places, strict=True
        ):
            ids = [self._unknown if index in self._never_from_text else index for index in encoding.ids]
            if place is not None:
                # SentencePiece may begin a word with a bare ▁, which stays: every piece is refilled by one of
                # its own kind.
                bare = int(self._texts[ids[0]] == "")
                if all(self.opens[index] or self.continues[index] for index in ids[bare:]):
                    spans.append((place, len(input_ids) + bare, len(input_ids) + len(ids)))
            input_ids += ids
        stop = self.max_length - len(self._closing)
        input_ids = [*input_ids[:stop], *self._closing]
        return MaskedWords(np.array(input_ids, dtype=np.int64), [span for span in spans if span[2] <= stop])

    def text(self, pieces: Sequence[int]) -> str:
        """The word that the pieces spell."""
        return "".join(self._texts[piece] for piece in pieces)


def refill(word: Word, text: str) -> Word:
    """A maskable word with another text between its signs."""
    return Word(MASKABLE.sub(rf"\g<1>{text}\g<3>", word.text), word.space)


def _segments(example: Example, chosen: Collection[int]) -> Iterator[tuple[str, int | None]]:
    """The sentence in pieces of text: a chosen word with its place, and what stands between such words,
    without one."""
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


def _piece(token: str, continuing: str | None) -> tuple[bool, str]:
    """Whether a word can begin with this token of the vocabulary, and the characters that it spells."""
    if continuing:
        return not token.startswith(continuing), token.removeprefix(continuing)
    return token.startswith("▁"), token.removeprefix("▁")
