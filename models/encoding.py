"""Examples into token ids: mark the two entities, tokenise, cut the sentence to the model's window around
them.

A sentence is tokenised in pieces (text, marker, word, marker, text, ...), never as one marked string, so the
place of a marker
is known by construction: a user's own '@' or '<subj>', a decomposed syllable or a zero-width joiner beside a
span cannot move it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.example import Example, InvalidExample, Problem
from models.markers import MARKER_STYLES, Token

CHARACTERS_A_TOKEN: Final = 64
"""Text farther than so many characters for each token of the window is not even tokenised: megabytes of it
would take seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One example as token ids.

    Attributes:
        input_ids: int64 of shape (tokens,), special tokens included.
        entity_positions: int64 of shape (2,): the tokens that open the subject and the object.
        second_segment: how many tokens at the end are of type 1, where the tokenizer tells a second segment
            from the first by type.
        truncated: whether the sentence was cut to the model's window.
    """

    input_ids: NDArray[np.int64]
    entity_positions: NDArray[np.int64]
    second_segment: int = 0
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedBatch:
    """Several examples, padded on the right (fused attention assumes that side) to the longest.

    Attributes:
        input_ids: int64 of shape (rows, tokens).
        attention_mask: int64 of shape (rows, tokens), 1 on tokens and 0 on padding.
        entity_positions: int64 of shape (rows, 2).
        token_type_ids: int64 of shape (rows, tokens), 1 on the second segment and 0 elsewhere.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    entity_positions: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]

    @classmethod
    def collate(cls, rows: Sequence[Encoded], pad_token_id: int, tokens: int | None = None) -> "EncodedBatch":
        """Pad rows to `tokens`, by default to the longest of them."""
        tokens = tokens or max(map(len, rows))
        input_ids = np.full((len(rows), tokens), pad_token_id, dtype=np.int64)
        attention_mask, token_type_ids = np.zeros((2, len(rows), tokens), dtype=np.int64)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = row.input_ids
            attention_mask[index, : len(row)] = 1
            token_type_ids[index, len(row) - row.second_segment : len(row)] = 1
        return cls(
            input_ids, attention_mask, np.stack([row.entity_positions for row in rows]), token_type_ids
        )

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, rows: slice) -> "EncodedBatch":
        return EncodedBatch(
            self.input_ids[rows],
            self.attention_mask[rows],
            self.entity_positions[rows],
            self.token_type_ids[rows],
        )


class Encoder:
    """Turns examples into token ids, the same way in training, export and serving. Safe to share between
    threads.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; its special tokens are never matched inside a user's text, nor
            are the style's.
        markers: a name in `MARKER_STYLES`.
        max_length: the model's window in tokens, special tokens included.
        pad_token_id: the id that fills short rows of a batch.

    Raises:
        ValueError: the tokenizer lacks a token of the marker style, or special tokens around a segment or
            between two.
    """

    def __init__(self, tokenizer: Tokenizer, markers: str, max_length: int, pad_token_id: int) -> None:
        style = MARKER_STYLES[markers]
        if missing := [token for token in style.tokens if tokenizer.token_to_id(token) is None]:
            raise ValueError(
                f"the tokenizer lacks {', '.join(missing)}, which the marker style {markers} needs"
            )
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        # as ordinary tokens, which they may be, a user's text would match them
        tokenizer.add_special_tokens(list(style.tokens))
        self.mark = style.mark
        self.max_length = max_length
        self.pad_token_id = pad_token_id
        self._tokenizer = tokenizer
        self._frame = _Frame.of_pair(tokenizer) if style.has_question else _Frame.of_one(tokenizer)
        self._marker_ids = {token: tokenizer.token_to_id(token) for token in style.tokens}
        self._fixed_ids: dict[str, list[int]] = {
            piece: tokenizer.encode(piece, add_special_tokens=False).ids for piece in style.words
        }
        specials = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        unknown = next((i for t in ("<unk>", "[UNK]") if (i := tokenizer.token_to_id(t)) is not None), None)
        # A unigram vocabulary lists '</s>' as a piece like any other, so a user's '</s>' would end the
        # sequence.
        self._never_from_text = {} if unknown is None else dict.fromkeys(specials, unknown)

    @classmethod
    def from_file(cls, tokenizer: Path, markers: str, max_length: int, pad_token_id: int) -> "Encoder":
        return cls(Tokenizer.from_file(str(tokenizer)), markers, max_length, pad_token_id)

    def encode(self, example: Example) -> Encoded:
        """Mark, tokenise and cut one example.

        Raises:
            InvalidExample: the two entities, with what stands between them and the question, do not fit into
                the window together.
        """
        marked, frame = self.mark(example), self._frame
        before, *between, after = marked.pieces
        reach = CHARACTERS_A_TOKEN * self.max_length
        room = self.max_length - len(frame)
        if sum(map(len, between)) > reach:
            raise _too_far_apart(f"more than {reach} characters", room)
        ids, pieces = self._tokenise([before[-reach:], *between, after[:reach]])
        question = self._tokenise([marked.question])[0] if marked.question else []
        # Pieces come in order, so a binary search finds where each begins; markers always yield a token.
        subject, object_, first = (
            bisect_left(pieces, piece) for piece in (marked.subject, marked.object_, marked.first)
        )
        low, high = _window(len(ids), first, bisect_right(pieces, marked.last), room - len(question))
        input_ids = [*frame.opening, *ids[low:high], *frame.between, *question, *frame.closing]
        offset = len(frame.opening) - low
        return Encoded(
            np.array(input_ids, dtype=np.int64),
            np.array([subject + offset, object_ + offset], dtype=np.int64),
            len(question) + len(frame.closing) if frame.types else 0,
            truncated=high - low < len(ids) or max(len(before), len(after)) > reach,
        )

    def _tokenise(self, pieces: list[str]) -> tuple[list[int], list[int]]:
        """Token ids, and for each of them the index of its piece."""
        known = [
            [self._marker_ids[piece]] if isinstance(piece, Token) else self._fixed_ids.get(piece)
            for piece in pieces
        ]
        texts = [piece for piece, fixed in zip(pieces, known, strict=True) if fixed is None]
        # fast: without offsets, which nobody reads
        read = iter(self._tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        ids: list[int] = []
        origins: list[int] = []
        for index, fixed in enumerate(known):
            piece_ids = [self._never_from_text.get(i, i) for i in next(read).ids] if fixed is None else fixed
            ids += piece_ids
            origins += [index] * len(piece_ids)
        return ids, origins


@dataclass(frozen=True, slots=True)
class _Frame:
    """The special tokens that a tokenizer puts around one segment, or around and between two.

    `types` says whether it tells the second segment, with the tokens that close it, from the first by token
    type.
    """

    opening: list[int]
    closing: list[int]
    between: list[int]
    types: bool

    def __len__(self) -> int:
        return len(self.opening) + len(self.between) + len(self.closing)

    @classmethod
    def of_one(cls, tokenizer: Tokenizer) -> "_Frame":
        ids = tokenizer.encode("").ids
        if not ids:
            raise ValueError("the tokenizer puts no special tokens around a text")
        return cls(ids[:1], ids[1:], [], types=False)

    @classmethod
    def of_pair(cls, tokenizer: Tokenizer) -> "_Frame":
        pair = tokenizer.encode("a", "b")
        first, second = (
            [place for place, segment in enumerate(pair.sequence_ids) if segment == wanted]
            for wanted in (0, 1)
        )
        if first[-1] + 1 == second[0]:
            raise ValueError(
                "the tokenizer puts nothing between two segments, and the marker style needs two"
            )
        return cls(
            pair.ids[: first[0]],
            pair.ids[second[-1] + 1 :],
            pair.ids[first[-1] + 1 : second[0]],
            types=pair.type_ids[-1] == 1,
        )


def _too_far_apart(span: str, room: int) -> InvalidExample:
    message = f"the two entities are too far apart: they span {span}, the model's window holds {max(room, 0)} tokens"
    return InvalidExample(Problem(("sentence",), "window", message))


def _window(tokens: int, first: int, stop: int, room: int) -> tuple[int, int]:
    """The part of the tokens to keep: all, or as much on both sides of the entities [first, stop) as there is
    room for."""
    if tokens <= room:
        return 0, tokens
    spare = room - (stop - first)
    if spare < 0:
        raise _too_far_apart(f"{stop - first} tokens", room)
    left = min(first, max(spare // 2, spare - (tokens - stop)))
    return first - left, first - left + room
