"""A sentence with several entities, and the pairs of them that are asked.

Every ordered pair whose subject can be a person or an organisation is one example: KLUE's relations have no
other subjects.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, StrictFloat, StrictStr, ValidationError

from models.composed import ComposedText
from models.example import (
    Entity,
    Example,
    InvalidExample,
    Loc,
    Mention,
    Prediction,
    Problem,
    compose_sentence,
    locate,
    problems_of,
    span_as_sent,
)
from models.labels import NO_RELATION

SUBJECT_TYPES: Final = ("PER", "ORG", None)

MinScore = Annotated[
    StrictFloat, Field(ge=0, le=1, description="pairs whose relation has a lower probability are left out")
]


class SentenceRow(BaseModel):
    """A sentence with several marked entities. Every ordered pair whose subject is PER, ORG or without a type
    is asked. Unknown keys are ignored."""

    sentence: StrictStr
    entities: list[Mention] = Field(min_length=2, max_length=16, description="they must not overlap")
    min_score: MinScore | None = Field(None, description="left out: as the request says")


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a sentence's entities, in Unicode's composed form (NFC). Build it with `from_row`.

    Attributes:
        min_score: pairs with a lower score are left out of the answer; None if the row does not say.
        places: subject and object of each pair, as indices of `entities`.
    """

    sentence: str
    entities: tuple[Entity, ...]
    min_score: float | None
    places: tuple[tuple[int, int], ...]

    @classmethod
    def from_row(cls, row: Any) -> "Pairs":
        """Check a row's entities as `Example.resolve` does, and pair them.

        Raises:
            InvalidExample: an entity is bad, or two of them overlap, or the row has a subject or an object
                too; lists every fault.
        """
        if isinstance(row, dict) and not row.keys().isdisjoint(("subject_entity", "object_entity")):
            message = "give either entities, or subject_entity and object_entity"
            raise InvalidExample(Problem(("entities",), "ambiguous", message))
        try:
            checked = SentenceRow.model_validate(row)
        except ValidationError as error:
            raise InvalidExample(*problems_of(error)) from None
        composed = compose_sentence(checked.sentence)
        mentions: dict[Loc, Mention] = {
            ("entities", place): mention for place, mention in enumerate(checked.entities)
        }
        entities = locate(composed, mentions)
        if overlaps := _overlaps(composed, entities):
            raise InvalidExample(*overlaps)
        places = tuple(
            (subject, object_)
            for subject, object_ in permutations(range(len(entities)), 2)
            if entities[subject].type in SUBJECT_TYPES
        )
        return cls(composed.text, tuple(entities), checked.min_score, places)

    def example(self, subject: int, object_: int) -> Example:
        return Example(self.sentence, self.entities[subject], self.entities[object_])

    def document(
        self, predictions: Iterable[Prediction], top_k: int = 1, min_score: float = 0.0
    ) -> dict[str, Any]:
        """The relations as JSON, over HTTP and in JSONL: the highest score first.

        Args:
            predictions: one for each pair, in the order of `places`.
            min_score: used if the row does not say one.
        """
        least = min_score if self.min_score is None else self.min_score
        related = [
            {"subject": subject, "object": object_, **prediction.document(top_k)}
            for (subject, object_), prediction in zip(self.places, predictions, strict=True)
            if prediction.relation != NO_RELATION and prediction.score >= least
        ]
        related.sort(key=lambda relation: -relation["score"])
        return {"relations": related, "pairs": len(self.places)}


def _overlaps(sentence: ComposedText, entities: Sequence[Entity]) -> list[Problem]:
    """One fault for each entity that overlaps an earlier one."""
    problems = []
    for place, entity in enumerate(entities):
        earlier = next((other for other in range(place) if entities[other].overlaps(entity)), None)
        if earlier is not None:
            own, others = span_as_sent(sentence, entity), span_as_sent(sentence, entities[earlier])
            message = f"its span ({own}) and the span of entity {earlier} ({others}) overlap"
            problems.append(Problem(("entities", place), "overlap", message))
    return problems


def example_or_pairs(row: Any) -> Example | Pairs:
    """The pairs of a row with `entities`, or the example of any other row.

    Raises:
        InvalidExample: as `Pairs.from_row` and `Example.from_row`.
    """
    return Pairs.from_row(row) if isinstance(row, dict) and "entities" in row else Example.from_row(row)
