"""An example into pieces of text and markers, by a marker template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.example import ENTITY_TYPES, EntityType, Example
from models.markers import MarkerTemplate, Token

TYPES: Final[tuple[EntityType | None, ...]] = (*ENTITY_TYPES, None)


@dataclass(frozen=True, slots=True)
class Marked:
    """A sentence in pieces of text and markers.

    Attributes:
        pieces: joined, they are the marked sentence.
        subject: index of the piece that opens the subject.
        object_: index of the piece that opens the object.
        words: indices of the pieces that are the subject's and the object's word.
        first: index of the first piece of the two entities. From here to `last` nothing is ever cut away.
        last: index of the last piece of the two entities.
        before: pieces of the text before the sentence.
        after: pieces of the text after the sentence.
    """

    pieces: list[str]
    subject: int
    object_: int
    words: tuple[int, int]
    first: int
    last: int
    before: Sequence[str] = ()
    after: Sequence[str] = ()


class Marking:
    """Marks examples by a template. The pieces around the words are made once for each entity type."""

    def __init__(self, template: MarkerTemplate) -> None:
        self._subject = {type_: template.around("subject", type_) for type_ in TYPES}
        self._object = {type_: template.around("object", type_) for type_ in TYPES}
        self._before = template.context("before")
        self._after = template.context("after")
        around = [*self._subject.values(), *self._object.values()]
        self.texts = {
            piece for sides in around for side in sides for piece in side if not isinstance(piece, Token)
        }
        """The pieces around the words that are text."""

    def mark(self, example: Example) -> Marked:
        """The sentence with each entity replaced by its pieces."""
        subject, object_ = example.subject_entity, example.object_entity
        subject_opens, subject_closes = self._subject[subject.type]
        object_opens, object_closes = self._object[object_.type]
        subject_pieces = [*subject_opens, subject.word, *subject_closes]
        object_pieces = [*object_opens, object_.word, *object_closes]
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
        subject_at = leading_opens if subject_leads else trailing_opens
        object_at = trailing_opens if subject_leads else leading_opens
        return Marked(
            pieces,
            subject=subject_at,
            object_=object_at,
            words=(subject_at + len(subject_opens), object_at + len(object_opens)),
            first=leading_opens,
            last=len(pieces) - 2,
            before=_filled(self._before, example) if self._before else (),
            after=_filled(self._after, example) if self._after else (),
        )


def _filled(parts: Sequence[str], example: Example) -> list[str]:
    words = {"subject": example.subject_entity.word, "object": example.object_entity.word}
    return [part if isinstance(part, Token) else part.format_map(words) for part in parts]
