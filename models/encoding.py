"""Examples into token ids: mark the two entities, tokenise, cut the sentence to the model's window.

A sentence is tokenised in pieces (text, marker, word, marker, text, ...), never as one marked string. So the
positions of the markers are known, whatever characters the user's text has: '@', '<subj>' or a joiner.

The text reaches the tokenizer in composed form (models/example.py). The rest is left to the tokenizer, as in
training. With the tokenizer of the shipped bundle (tests/test_encoding.py):

    characters                                 tokens
    full-width digits, letters, signs          as their ASCII forms
    compatibility jamo (ㅋㅋ), half-width jamo  as conjoining jamo
    no-break space, tab, several spaces        as one space
    hanja                                      kept; a compatibility ideograph as the unified one
    zero-width space, joiner, byte order mark  as a space: they part a word in two
    soft hyphen, word joiner                   tokens of their own
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
"""Text further from the entities than this times the window is not tokenised: it could be megabytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One example as token ids.

    Attributes:
        input_ids: int64 of shape (tokens,), special tokens included.
        entity_positions: int64 of shape (2,): the tokens that open the subject and the object.
        second_segment: how many tokens at the end have type 1; 0 if the tokenizer gives all of them type 0.
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
    """Several examples, padded on the right to the longest. Fused attention requires that side.

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
    """Turns examples into token ids. Safe to share between threads.

    Args:
        tokenizer: a user's text never matches its special tokens, nor the tokens of the marker style.
        markers: a name in `MARKER_STYLES`.
        max_length: the model's window in tokens, special tokens included.
        pad_token_id: the id that fills short rows of a batch.

    Raises:
        ValueError: the tokenizer lacks a token of the marker style, or puts no special tokens around a text,
            or none between two segments where the style has two.
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
        # If they were ordinary tokens, a user's text would match them.
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
        # A unigram vocabulary has '</s>' as an ordinary piece too: a user's '</s>' would end the sequence.
        self._never_from_text = {} if unknown is None else dict.fromkeys(specials, unknown)

    @classmethod
    def from_file(cls, tokenizer: Path, markers: str, max_length: int, pad_token_id: int) -> "Encoder":
        return cls(Tokenizer.from_file(str(tokenizer)), markers, max_length, pad_token_id)

    def encode(self, example: Example, tokenised: dict[str, list[int]] | None = None) -> Encoded:
        """Encode one example.

        1. Mark it.
        2. Tokenise its pieces. Text that is too far from the entities for the window is left out.
        3. Keep the tokens of both entities, of the text between them and of the question.
        4. Fill the window with the text before and after the entities, in equal parts.

        Args:
            tokenised: the token ids of pieces of text, shared by the examples of one sentence: most of their
                pieces are equal. Filled here.

        Raises:
            InvalidExample: the tokens of step 3 do not fit into the window.
        """
        marked, frame = self.mark(example), self._frame
        before, *between, after = marked.pieces
        reach = CHARACTERS_A_TOKEN * self.max_length
        room = self.max_length - len(frame)
        if sum(map(len, between)) > reach:
            raise _too_far_apart(f"more than {reach} characters", room)
        ids, pieces = self._tokenise([before[-reach:], *between, after[:reach]], tokenised)
        question = self._tokenise([marked.question])[0] if marked.question else []
        # `pieces` is sorted, so a binary search finds where each piece begins. A marker always has a token.
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

    def _tokenise(
        self, pieces: list[str], tokenised: dict[str, list[int]] | None = None
    ) -> tuple[list[int], list[int]]:
        """Token ids, and for each of them the index of its piece."""
        if tokenised is None:
            tokenised = {}
        known = [
            [self._marker_ids[piece]]
            if isinstance(piece, Token)
            else self._fixed_ids.get(piece) or tokenised.get(piece)
            for piece in pieces
        ]
        texts = [piece for piece, fixed in zip(pieces, known, strict=True) if fixed is None]
        # "fast" means without offsets, which are not needed here
        read = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for text, encoding in zip(texts, read, strict=True):
            tokenised[text] = [self._never_from_text.get(i, i) for i in encoding.ids]
        ids: list[int] = []
        origins: list[int] = []
        for index, (piece, fixed) in enumerate(zip(pieces, known, strict=True)):
            piece_ids = tokenised[piece] if fixed is None else fixed
            ids += piece_ids
            origins += [index] * len(piece_ids)
        return ids, origins


@dataclass(frozen=True, slots=True)
class _Frame:
    """The special tokens that a tokenizer puts around one segment, or around and between two.

    `types` says whether it gives the second segment, with its closing tokens, token type 1.
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
    message = (
        f"the two entities are too far apart: they span {span}, "
        f"the model's window holds {max(room, 0)} tokens"
    )
    return InvalidExample(Problem(("sentence",), "window", message))


def _window(tokens: int, first: int, stop: int, room: int) -> tuple[int, int]:
    """The tokens to keep, [low, high): the entities [first, stop), and as much on both sides as has room."""
    if tokens <= room:
        return 0, tokens
    spare = room - (stop - first)
    if spare < 0:
        raise _too_far_apart(f"{stop - first} tokens", room)
    left = min(first, max(spare // 2, spare - (tokens - stop)))
    return first - left, first - left + room
