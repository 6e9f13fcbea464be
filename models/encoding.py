"""Examples into token ids: mark the two entities, tokenise, cut the sentence to the model's window.

The positions of the markers are known, also if the user's text has '@', '<subj>' or a joiner.
A marker that is a token never reaches the tokenizer. The other pieces (text, marker, word) are tokenised each
on its own if the template is piecewise; otherwise pieces without a token between them are joined, and the
offsets of the tokens tell their pieces.

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
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from models.example import ENTITY_TYPES, EntityType, Example, InvalidExample, Problem
from models.markers import MarkerTemplate, Token, template_of
from models.marking import Marking
from models.tokenizer_check import check, explain

CHARACTERS_A_TOKEN: Final = 64
"""Text further from the entities than this times the window is not tokenised: it could be megabytes."""
TYPE_IDS: Final[dict[EntityType | None, int]] = {
    type_: place for place, type_ in enumerate((None, *ENTITY_TYPES))
}


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One example as token ids.

    Attributes:
        input_ids: int64 of shape (tokens,), special tokens included.
        entity_positions: int64 of shape (2,): the tokens that open the subject and the object.
        entity_spans: int64 of shape (2, 2): of subject and object, the first token of the word and the token
            after its last one. By default, for rows that only measure time, the first token.
        entity_types: int64 of shape (2,): of subject and object, the place in `ENTITY_TYPES` from 1, or 0 for
            no type.
        second_segment: how many tokens at the end have type 1; 0 if the tokenizer gives all of them type 0.
        truncated: whether the sentence was cut to the model's window.
    """

    input_ids: NDArray[np.int64]
    entity_positions: NDArray[np.int64]
    second_segment: int = 0
    truncated: bool = False
    entity_spans: NDArray[np.int64] = field(default_factory=lambda: np.array([[0, 1], [0, 1]]))
    entity_types: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, dtype=np.int64))

    @classmethod
    def of(cls, numbers: NDArray[np.int64], second_segment: int, truncated: bool) -> "Encoded":
        """An example whose arrays are views of one: positions (2), spans (4), types (2), token ids."""
        spans = numbers[2:6].reshape(2, 2)
        return cls(numbers[8:], numbers[:2], second_segment, truncated, spans, numbers[6:8])

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedExample:
    """One example, tokenised once for each distinct encoding among the members.

    Its length is that of its longest encoding.

    Attributes:
        encodings: one for each distinct encoding, in the ensemble's order.
        allowed: the relations that the bundle's type restriction allows, shape (30,); None for all.
    """

    encodings: tuple[Encoded, ...]
    allowed: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return max(map(len, self.encodings))

    @property
    def truncated(self) -> bool:
        """Whether the sentence was cut in any encoding."""
        return any(encoding.truncated for encoding in self.encodings)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedBatch:
    """Several examples, padded on the right to the longest. Fused attention requires that side.

    Attributes:
        input_ids: int64 of shape (rows, tokens).
        attention_mask: int64 of shape (rows, tokens), 1 on tokens and 0 on padding.
        entity_positions: int64 of shape (rows, 2).
        token_type_ids: int64 of shape (rows, tokens), 1 on the second segment and 0 elsewhere.
        entity_spans: int64 of shape (rows, 2, 2), as in `Encoded`.
        entity_types: int64 of shape (rows, 2), as in `Encoded`.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    entity_positions: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    entity_spans: NDArray[np.int64]
    entity_types: NDArray[np.int64]

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
            input_ids,
            attention_mask,
            np.stack([row.entity_positions for row in rows]),
            token_type_ids,
            np.stack([row.entity_spans for row in rows]),
            np.stack([row.entity_types for row in rows]),
        )

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, rows: slice) -> "EncodedBatch":
        return EncodedBatch(
            self.input_ids[rows],
            self.attention_mask[rows],
            self.entity_positions[rows],
            self.token_type_ids[rows],
            self.entity_spans[rows],
            self.entity_types[rows],
        )


class Encoder:
    """Turns examples into token ids. Safe to share between threads.

    Args:
        tokenizer: a user's text never matches its special tokens, nor the tokens of the marker template.
        markers: a name of `models.markers.MARKER_STYLES`, or a template.
        max_length: the model's window in tokens, special tokens included.
        pad_token_id: the id that fills short rows of a batch.
        keep_lock: whether the interpreter's lock is held while pieces are tokenised. Released, they take a
            third less time, but next to lanes it takes longer to get the lock back than to tokenise a row.

    Raises:
        ValueError: the tokenizer lacks a token of the template, or puts no special tokens around a text,
            or none between two segments where the template has two.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        markers: str | MarkerTemplate,
        max_length: int,
        pad_token_id: int,
        keep_lock: bool = True,
    ) -> None:
        template = template_of(markers)
        tokens = template.vocabulary
        if missing := [token for token in tokens if tokenizer.token_to_id(token) is None]:
            raise ValueError(f"the tokenizer lacks {', '.join(missing)}, which the markers need")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        # If they were ordinary tokens, a user's text would match them.
        tokenizer.add_special_tokens(list(tokens))
        marking = Marking(template)
        self.mark = marking.mark
        self.max_length = max_length
        self.pad_token_id = pad_token_id
        self._tokenizer = tokenizer
        self._keep_lock = keep_lock
        self._frame = _Frame.of_pair(tokenizer) if template.two_segments else _Frame.of_one(tokenizer)
        self._is_first = template.two_segments and template.before is not None
        self._marker_ids = {token: tokenizer.token_to_id(token) for token in tokens}
        self._tokenise = self._tokenise_each if template.piecewise else self._tokenise_joined
        self._fixed_ids: dict[str, list[int]] = {
            piece: tokenizer.encode(piece, add_special_tokens=False).ids for piece in marking.texts
        }
        specials = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        unknown = next((i for t in ("<unk>", "[UNK]") if (i := tokenizer.token_to_id(t)) is not None), None)
        # A unigram vocabulary has '</s>' as an ordinary piece too: a user's '</s>' would end the sequence.
        self._never_from_text = {} if unknown is None else dict.fromkeys(specials - {unknown}, unknown)

    @classmethod
    def from_file(
        cls,
        tokenizer: Path,
        markers: str | MarkerTemplate,
        max_length: int,
        pad_token_id: int,
        keep_lock: bool = True,
    ) -> "Encoder":
        """Raises ValueError, as the class and `tokenizer_check.check`; the library raises bare Exception."""
        read = Tokenizer.from_file(str(tokenizer))
        read.no_padding()  # to a length that the file can choose
        check(read)
        return cls(read, markers, max_length, pad_token_id, keep_lock)

    def encode(self, example: Example, tokenised: dict[str, list[int]] | None = None) -> Encoded:
        """Encode one example.

        1. Mark it.
        2. Tokenise its pieces. Text that is too far from the entities for the window is left out.
        3. Keep the tokens of both entities, of the text between them and of the template's own text before
           and after the sentence.
        4. Fill the window with the text before and after the entities, in equal parts.

        Args:
            tokenised: the token ids of pieces of text, shared by the examples of one sentence: most of their
                pieces are equal. Filled here, if the template's pieces are tokenised one by one.

        Raises:
            InvalidExample: the tokens of step 3 do not fit into the window.
            ValueError: the tokenizer fails on the text.
        """
        marked, frame = self.mark(example), self._frame
        before, *between, after = marked.pieces
        reach = CHARACTERS_A_TOKEN * self.max_length
        room = self.max_length - len(frame)
        if sum(map(len, between)) > reach:
            raise _too_far_apart(f"more than {reach} characters", room)
        try:
            ids, begins, ends = self._tokenise([before[-reach:], *between, after[:reach]], tokenised)
        except BaseException as failure:
            raise explain(failure) from None
        leading = self._tokenise_each(marked.before)[0] if marked.before else []
        trailing = self._tokenise_each(marked.after)[0] if marked.after else []
        # Both lists are sorted, so a binary search finds the tokens of a piece.
        subject, object_, first = (
            bisect_left(ends, piece) for piece in (marked.subject, marked.object_, marked.first)
        )
        low, high = _window(
            len(ids), first, bisect_right(begins, marked.last), room - len(leading) - len(trailing)
        )
        # The tokens between two segments are next to the template's own text, where there are two.
        opening = [*frame.opening, *leading, *(frame.between if self._is_first else ())]
        closing = [*(() if self._is_first else frame.between), *trailing, *frame.closing]
        offset = len(opening) - low
        second = (high - low if self._is_first else len(trailing)) + len(frame.closing)
        places = [subject, object_, *(end for word in marked.words for end in _span(word, begins, ends))]
        types = [TYPE_IDS[entity.type] for entity in (example.subject_entity, example.object_entity)]
        numbers = [*(place + offset for place in places), *types, *opening, *ids[low:high], *closing]
        return Encoded.of(
            np.array(numbers, dtype=np.int64),
            second if frame.types else 0,
            truncated=high - low < len(ids) or max(len(before), len(after)) > reach,
        )

    def _from_text(self, ids: list[int]) -> list[int]:
        """The tokens of a user's text; those that a text can never be are unknown tokens."""
        never = self._never_from_text
        return ids if never.keys().isdisjoint(ids) else [never.get(index, index) for index in ids]

    def _read(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenise texts, and hold the interpreter's lock."""
        return [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]

    def _read_ids(self, texts: Sequence[str]) -> list[Encoding]:
        """As `_read`, but the lock is released, and all offsets are 0."""
        read: list[Encoding] = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return read

    def _tokenise_each(
        self, pieces: Sequence[str], tokenised: dict[str, list[int]] | None = None
    ) -> tuple[list[int], list[int], list[int]]:
        """Token ids, and for each of them, twice, the index of its piece."""
        if tokenised is None:
            tokenised = {}
        known = [
            [self._marker_ids[piece]]
            if isinstance(piece, Token)
            else self._fixed_ids.get(piece) or tokenised.get(piece)
            for piece in pieces
        ]
        texts = [piece for piece, fixed in zip(pieces, known, strict=True) if fixed is None]
        read = self._read if self._keep_lock else self._read_ids
        for text, encoding in zip(texts, read(texts), strict=True):
            tokenised[text] = self._from_text(encoding.ids)
        ids: list[int] = []
        origins: list[int] = []
        for index, (piece, fixed) in enumerate(zip(pieces, known, strict=True)):
            piece_ids = tokenised[piece] if fixed is None else fixed
            ids += piece_ids
            origins += [index] * len(piece_ids)
        return ids, origins, origins

    def _tokenise_joined(
        self, pieces: Sequence[str], _: dict[str, list[int]] | None = None
    ) -> tuple[list[int], list[int], list[int]]:
        """Token ids, and for each of them the index of the piece in which it begins and of that in which it
        ends."""
        runs = _runs(pieces)
        texts = ["".join(pieces[index] for index in run) for run in runs]
        ids: list[int] = []
        begins: list[int] = []
        ends: list[int] = []
        for run, text, encoding in zip(runs, texts, self._read(texts), strict=True):
            if isinstance(pieces[run[0]], Token):
                ids.append(self._marker_ids[text])
                begins.append(run[0])
                ends.append(run[0])
                continue
            starts = list(accumulate((len(pieces[index]) for index in run[:-1]), initial=0))
            for token, (start, stop) in zip(self._from_text(encoding.ids), encoding.offsets, strict=True):
                ids.append(token)
                begins.append(run[bisect_right(starts, start) - 1])
                # some tokenizers give the token of a space no width: it belongs to the piece before
                ends.append(run[bisect_right(starts, max(stop - 1, 0)) - 1])
        return ids, begins, ends


def _span(piece: int, begins: Sequence[int], ends: Sequence[int]) -> tuple[int, int]:
    """The tokens of a piece, [first, stop); the next token for a piece of which the tokenizer leaves none."""
    first = bisect_left(ends, piece)
    return first, max(bisect_right(begins, piece), first + 1)


def _runs(pieces: Sequence[str]) -> list[list[int]]:
    """The indices of the pieces, each token in a list of its own and neighbouring texts in one list."""
    return [
        run
        for is_token, group in groupby(range(len(pieces)), key=lambda index: isinstance(pieces[index], Token))
        for run in ([[index] for index in group] if is_token else [list(group)])
    ]


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
            raise ValueError("the tokenizer puts nothing between two segments, and the markers need two")
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
