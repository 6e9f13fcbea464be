"""Examples into token ids: mark the two entities, tokenise, cut the sentence to the model's window around them.

A sentence is tokenised in pieces (text, marker, word, marker, text, ...), never as one marked string, so the place of a marker
is known by construction: a user's own '@', a decomposed syllable or a zero-width joiner beside a span cannot move it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.example import Entity, EntityType, Example, InvalidExample, Problem

CHARACTERS_A_TOKEN: Final = 64
"""Text farther than so many characters for each token of the window is not even tokenised: megabytes of it would take seconds."""

TYPE_WORDS: Final[dict[EntityType, str]] = {
    "PER": "사람",
    "ORG": "단체",
    "LOC": "장소",
    "DAT": "날짜",
    "POH": "기타",
    "NOH": "수량",
}
"""The entity types in the encoder's own language: a pretrained encoder knows these words, not KLUE's abbreviations."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A sentence in pieces. `subject` and `object_` are the indices of the pieces that open the two entities; the pieces
    from `first` to `last` hold both entities with all their markers."""

    pieces: list[str]
    subject: int
    object_: int
    first: int
    last: int


def typed_punctuation(example: Example) -> Marked:
    """Typed entity markers made of punctuation: `@ * 사람 * 이순신 @ 은 조선 중기의 # ^ 기타 ^ 무신 # 이다.`

    Zhou and Chen, "An Improved Baseline for Sentence-level Relation Extraction", 2022 (arXiv:2102.01373). The subject stands
    between '@', the object between '#'; an entity without a type has no type word.
    """
    subject, object_ = example.subject_entity, example.object_entity
    subject_pieces, object_pieces = _punctuated(subject, "@", "*"), _punctuated(object_, "#", "^")
    subject_leads = subject.start_idx < object_.start_idx
    leading, trailing = (subject, object_) if subject_leads else (object_, subject)
    leading_pieces, trailing_pieces = (subject_pieces, object_pieces) if subject_leads else (object_pieces, subject_pieces)
    sentence = example.sentence
    pieces = [
        sentence[: leading.start_idx],
        *leading_pieces,
        sentence[leading.end_idx + 1 : trailing.start_idx],
        *trailing_pieces,
        sentence[trailing.end_idx + 1 :],
    ]
    leading_opens, trailing_opens = 1, len(leading_pieces) + 2
    return Marked(
        pieces,
        subject=leading_opens if subject_leads else trailing_opens,
        object_=trailing_opens if subject_leads else leading_opens,
        first=leading_opens,
        last=len(pieces) - 2,
    )


def _punctuated(entity: Entity, fence: str, type_fence: str) -> list[str]:
    type_pieces = [type_fence, TYPE_WORDS[entity.type], type_fence] if entity.type else []
    return [fence, *type_pieces, entity.word, fence]


MARKER_STYLES: Final = {"typed_punctuation": typed_punctuation}
"""Marker styles by the name that recipes and manifests use."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One example as token ids.

    Attributes:
        input_ids: int64 of shape (tokens,), special tokens included.
        entity_positions: int64 of shape (2,): the tokens that open the subject and the object.
    """

    input_ids: NDArray[np.int64]
    entity_positions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedBatch:
    """Several examples, padded on the right (fused attention assumes that side) to the longest.

    Attributes:
        input_ids: int64 of shape (rows, tokens).
        attention_mask: int64 of shape (rows, tokens), 1 on tokens and 0 on padding.
        entity_positions: int64 of shape (rows, 2).
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    entity_positions: NDArray[np.int64]

    @classmethod
    def collate(cls, rows: Sequence[Encoded], pad_token_id: int, tokens: int | None = None) -> "EncodedBatch":
        """Pad rows to `tokens`, by default to the longest of them."""
        tokens = tokens or max(map(len, rows))
        input_ids = np.full((len(rows), tokens), pad_token_id, dtype=np.int64)
        attention_mask = np.zeros((len(rows), tokens), dtype=np.int64)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = row.input_ids
            attention_mask[index, : len(row)] = 1
        return cls(input_ids, attention_mask, np.stack([row.entity_positions for row in rows]))

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, rows: slice) -> "EncodedBatch":
        return EncodedBatch(self.input_ids[rows], self.attention_mask[rows], self.entity_positions[rows])


class Encoder:
    """Turns examples into token ids, the same way in training, export and serving. Safe to share between threads.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; its special tokens are never matched inside a user's text.
        markers: a name in `MARKER_STYLES`.
        max_length: the model's window in tokens, special tokens included.
        pad_token_id: the id that fills short rows of a batch.
    """

    def __init__(self, tokenizer: Tokenizer, markers: str, max_length: int, pad_token_id: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self.mark = MARKER_STYLES[markers]
        self.max_length = max_length
        self.pad_token_id = pad_token_id
        self._tokenizer = tokenizer
        self._opening, *self._closing = tokenizer.encode("").ids
        specials = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        unknown = next((i for t in ("<unk>", "[UNK]") if (i := tokenizer.token_to_id(t)) is not None), None)
        # A unigram vocabulary lists '</s>' as a piece like any other, so a user's '</s>' would end the sequence.
        self._never_from_text = {} if unknown is None else dict.fromkeys(specials, unknown)

    @classmethod
    def from_file(cls, tokenizer: Path, markers: str, max_length: int, pad_token_id: int) -> "Encoder":
        return cls(Tokenizer.from_file(str(tokenizer)), markers, max_length, pad_token_id)

    def encode(self, example: Example) -> Encoded:
        """Mark, tokenise and cut one example.

        Raises:
            InvalidExample: the two entities, with what stands between them, do not fit into the window together.
        """
        marked = self.mark(example)
        before, *between, after = marked.pieces
        reach = CHARACTERS_A_TOKEN * self.max_length
        if sum(map(len, between)) > reach:
            raise self._too_far_apart(f"more than {reach} characters")
        near = [before[-reach:], *between, after[:reach]]
        encoding = self._tokenizer.encode(near, is_pretokenized=True, add_special_tokens=False)
        ids, pieces = encoding.ids, np.asarray(encoding.word_ids)
        # Pieces come in order, so a binary search finds where each begins; markers always yield a token.
        subject, object_, first = np.searchsorted(pieces, [marked.subject, marked.object_, marked.first])
        stop = np.searchsorted(pieces, marked.last, side="right")
        low, high = self._window(len(ids), int(first), int(stop))
        input_ids = [self._opening, *(self._never_from_text.get(i, i) for i in ids[low:high]), *self._closing]
        offset = 1 - low
        return Encoded(np.array(input_ids, dtype=np.int64), np.array([subject + offset, object_ + offset], dtype=np.int64))

    def _too_far_apart(self, span: str) -> InvalidExample:
        room = self.max_length - 1 - len(self._closing)
        message = f"the two entities are too far apart: they span {span}, the model's window holds {room} tokens"
        return InvalidExample(Problem(("sentence",), "window", message))

    def _window(self, tokens: int, first: int, stop: int) -> tuple[int, int]:
        """The part of the tokens to keep: all, or as much on both sides of the entities [first, stop) as the window holds."""
        room = self.max_length - 1 - len(self._closing)
        if tokens <= room:
            return 0, tokens
        spare = room - (stop - first)
        if spare < 0:
            raise self._too_far_apart(f"{stop - first} tokens")
        left = min(first, max(spare // 2, spare - (tokens - stop)))
        return first - left, first - left + room
