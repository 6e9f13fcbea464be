"""Marker styles: how the two entities are marked in a sentence. `MARKER_STYLES` lists them all.

To add a style:

1. Write a function here that takes an `Example` and returns a `Marked`. Most call `_marked` with two lists of
   pieces: each list replaces one entity. The word is a piece of its own, and so is each marker.
2. Add one entry to `MARKER_STYLES`. Its key is the name that recipes, `export --markers` and manifests use.
   List the markers as `tokens` if the model was trained with them as single tokens, else as `words`.
3. Add the marked sentence of the test's example to `STYLES` in tests/test_markers.py; a test demands it.
4. Add a row to the table of marker styles in docs/export.md.

`Encoder` (models/encoding.py) tokenises piece by piece; it needs no change. So a tokenizer that marks the
beginning of a word (SentencePiece's `▁`) marks it at each piece: compare with how your model was trained.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from models.example import Entity, EntityType, Example

TYPE_WORDS: Final[dict[EntityType, str]] = {
    "PER": "사람",
    "ORG": "단체",
    "LOC": "장소",
    "DAT": "날짜",
    "POH": "기타",
    "NOH": "수량",
}
"""The entity types in Korean: a pretrained encoder knows these words, but not KLUE's abbreviations."""

ENTITY_TOKENS: Final = ("<subj>", "</subj>", "<obj>", "</obj>")


class Token(str):
    """A piece that is one token of the vocabulary. The same characters in a user's sentence stay text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Marked:
    """A sentence in pieces of text and markers.

    Attributes:
        pieces: joined, they are the marked sentence.
        subject: index of the piece that opens the subject.
        object_: index of the piece that opens the object.
        first: index of the first piece of the two entities. From here to `last` nothing is ever cut away.
        last: index of the last piece of the two entities.
        question: a second segment after the sentence; empty for none.
    """

    pieces: list[str]
    subject: int
    object_: int
    first: int
    last: int
    question: str = ""


@dataclass(frozen=True, slots=True)
class MarkerStyle:
    """One way to mark an example.

    Attributes:
        mark: turns an example into pieces.
        tokens: markers that are tokens. Training adds them to the vocabulary; the tokenizer must have them.
        words: markers that are text. They are tokenised once, not with every example.
        has_question: whether `mark` returns a question.
    """

    mark: Callable[[Example], Marked]
    tokens: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    has_question: bool = False


def typed_punctuation(example: Example) -> Marked:
    """Punctuation and the type: `@ * 사람 * 이순신 @ 은 조선 중기의 # ^ 기타 ^ 무신 # 이다.`

    '@' encloses the subject, '#' the object. An entity without a type has no type word. From Zhou and Chen,
    "An Improved Baseline for Sentence-level Relation Extraction", 2022 (arXiv:2102.01373).
    """
    return _marked(
        example, _punctuated(example.subject_entity, "@", "*"), _punctuated(example.object_entity, "#", "^")
    )


def typed_punctuation_question(example: Example) -> Marked:
    """`typed_punctuation`, with a question as second segment: `이순신 및 무신의 관계는 무엇인가?`

    '및' fits every word. '과' or '와' would depend on the word's last sound, which digits and Latin
    letters do not show.
    """
    question = f"{example.subject_entity.word} 및 {example.object_entity.word}의 관계는 무엇인가?"
    return replace(typed_punctuation(example), question=question)


def entity_tokens(example: Example) -> Marked:
    """KLUE's own markers, without types: `<subj>이순신</subj>은 조선 중기의 <obj>무신</obj>이다.`

    Each of the four is one token. From Park et al., "KLUE", 2021 (arXiv:2105.09680).
    """
    opens_subject, closes_subject, opens_object, closes_object = map(Token, ENTITY_TOKENS)
    return _marked(
        example,
        [opens_subject, example.subject_entity.word, closes_subject],
        [opens_object, example.object_entity.word, closes_object],
    )


_PUNCTUATION: Final = ("@", "*", "#", "^", *TYPE_WORDS.values())

MARKER_STYLES: Final[dict[str, MarkerStyle]] = {
    "typed_punctuation": MarkerStyle(typed_punctuation, words=_PUNCTUATION),
    "typed_punctuation_question": MarkerStyle(
        typed_punctuation_question, words=_PUNCTUATION, has_question=True
    ),
    "entity_tokens": MarkerStyle(entity_tokens, tokens=ENTITY_TOKENS),
}
"""All marker styles by name."""


def _marked(example: Example, subject_pieces: list[str], object_pieces: list[str]) -> Marked:
    """The sentence with each entity replaced by its pieces."""
    subject, object_ = example.subject_entity, example.object_entity
    subject_leads = subject.start_idx < object_.start_idx
    leading, trailing = (subject, object_) if subject_leads else (object_, subject)
    leading_pieces, trailing_pieces = (
        (subject_pieces, object_pieces) if subject_leads else (object_pieces, subject_pieces)
    )
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


def _punctuated(entity: Entity, mark: str, type_mark: str) -> list[str]:
    type_pieces = [type_mark, TYPE_WORDS[entity.type], type_mark] if entity.type else []
    return [mark, *type_pieces, entity.word, mark]
