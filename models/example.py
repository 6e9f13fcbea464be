"""What is asked and what is answered: a sentence with two marked entities, and the relation predicted between
them.

Every way into the project (HTTP, files, training rows) builds its examples here, so a span is checked by one
rule everywhere.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field, StrictInt, StrictStr, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from models.labels import RELATIONS

EntityType = Literal["PER", "ORG", "LOC", "DAT", "POH", "NOH"]
ENTITY_TYPES: Final[tuple[EntityType, ...]] = get_args(EntityType)

OCCURRENCES_NAMED: Final = 10  # of an ambiguous word: enough to choose from, short enough to read
# while counting them: each costs a comparison of the whole word, and megabytes would take hours
CHARACTERS_COMPARED: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an example: where (`loc`, a path of field names), which `kind`, and a sentence for
    the caller."""

    loc: tuple[str, ...]
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{'.'.join(self.loc)}: {self.message}"


class InvalidExample(ValueError):
    """An example that cannot be asked. `problems` names every fault found, field by field."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _whole_number(value: Any) -> Any:
    """JSON writers that know one kind of number only write 3.0 for 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Index = Annotated[StrictInt, BeforeValidator(_whole_number, json_schema_input_type=int)]


@pydantic_dataclass(frozen=True, slots=True)
class Mention:
    """An entity as a caller writes it: its word, its indices, or both. `Example.resolve` makes it an `Entity`."""

    word: StrictStr | None = Field(None, description="can be left out when both indices are given")
    start_idx: Index | None = Field(
        None, description="first character; can be left out when the word occurs exactly once"
    )
    end_idx: Index | None = Field(None, description="last character, inclusive, in Unicode code points")
    type: EntityType | None = Field(None, description="left out when it is not known")


class Row(BaseModel):
    """A sentence with two marked entities. A row of KLUE-RE is one; unknown keys are ignored."""

    sentence: StrictStr
    subject_entity: Mention
    object_entity: Mention


@dataclass(frozen=True, slots=True)
class Entity:
    """A span of the sentence. Indices count Unicode code points and `end_idx` is inclusive, as in KLUE."""

    word: str
    start_idx: int
    end_idx: int
    type: EntityType | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence and two spans of it that do not overlap. Build one with `resolve` or `from_row`: they check
    it."""

    sentence: str
    subject_entity: Entity
    object_entity: Entity

    @classmethod
    def resolve(cls, sentence: str, subject_entity: Mention, object_entity: Mention) -> "Example":
        """Check a sentence and two mentions and fill in what they leave out.

        Raises:
            InvalidExample: the sentence is blank or not Unicode text, an index is out of range, word and span
                disagree, a word is empty, missing from the sentence or ambiguous, or the two spans overlap.
        """
        if not sentence.strip():
            raise InvalidExample(Problem(("sentence",), "blank", "the sentence is empty"))
        try:
            sentence.encode()
        except UnicodeEncodeError:
            raise InvalidExample(
                Problem(("sentence",), "surrogate", "the sentence holds a lone surrogate: not Unicode text")
            ) from None
        problems: list[Problem] = []
        entities: list[Entity] = []
        for field, mention in (("subject_entity", subject_entity), ("object_entity", object_entity)):
            try:
                entities.append(_locate(sentence, mention, field))
            except InvalidExample as error:
                problems.extend(error.problems)
        if problems:
            raise InvalidExample(*problems)
        subject, object_ = entities
        if subject.start_idx <= object_.end_idx and object_.start_idx <= subject.end_idx:
            message = f"the spans of subject ({subject.start_idx}-{subject.end_idx}) and object ({object_.start_idx}-{object_.end_idx}) overlap"
            raise InvalidExample(Problem(("object_entity",), "overlap", message))
        return cls(sentence, subject, object_)

    @classmethod
    def from_row(cls, row: Any) -> "Example":
        """Build an example from a KLUE-RE row as parsed from JSON; unknown keys are ignored.

        Raises:
            InvalidExample: as `resolve`, and where a field is missing or of the wrong JSON type.
        """
        try:
            checked = Row.model_validate(row)
        except ValidationError as error:
            raise InvalidExample(*_problems(error)) from None
        return cls.resolve(checked.sentence, checked.subject_entity, checked.object_entity)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The ensemble's answer to one example.

    Attributes:
        probabilities: float64 of shape (30,), in the order of `RELATIONS`, summing to 1.
        members: how many members of the ensemble voted.
        truncated: whether the sentence was longer than the model's window, so that it was cut.
        label_id: the likeliest relation.
    """

    probabilities: NDArray[np.float64]
    members: int
    truncated: bool = False
    # Found where the probabilities are made: on a server's event loop they would lie in another core's
    # caches.
    label_id: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_id", int(self.probabilities.argmax()))

    @property
    def relation(self) -> str:
        return RELATIONS[self.label_id]

    @property
    def score(self) -> float:
        return float(self.probabilities[self.label_id])

    def document(self, top_k: int = 1) -> dict[str, Any]:
        """The prediction as JSON: over HTTP and in JSONL the same fields."""
        likeliest = self.top(top_k)
        relation, score = next(iter(likeliest.items()))
        return {
            "relation": relation,
            "score": score,
            "probabilities": likeliest,
            "members": self.members,
            "truncated": self.truncated,
        }

    def top(self, k: int) -> dict[str, float]:
        """The `k` likeliest relations with their probabilities, likeliest first (ties in label order)."""
        order = [self.label_id] if k == 1 else np.argsort(-self.probabilities, kind="stable")[:k]
        return {RELATIONS[index]: float(self.probabilities[index]) for index in order}


_MESSAGES: Final = {
    "missing": "this field is required",
    "string_type": "a string is required",
    "int_type": "a whole number is required",
    "literal_error": f"one of {', '.join(ENTITY_TYPES)} is required; leave type out if it is not known",
    "model_type": "an object is required",
}
"""pydantic's kinds of wrong fields, in our words."""


def _problems(error: ValidationError) -> list[Problem]:
    problems = []
    for found in error.errors(include_url=False, include_input=False):
        kind = "model_type" if found["type"] == "dataclass_type" else found["type"]
        loc = tuple(map(str, found["loc"]))
        problems.append(Problem(loc, kind, _MESSAGES.get(kind, found["msg"])))
    return problems


def _locate(sentence: str, mention: Mention, field: str) -> Entity:
    word, start, end = mention.word, mention.start_idx, mention.end_idx
    if word is not None and not word.strip():
        raise InvalidExample(Problem((field, "word"), "empty_word", "the word is empty"))
    if (start is None) != (end is None):
        missing = "start_idx" if start is None else "end_idx"
        raise InvalidExample(
            Problem((field, missing), "missing", "start_idx and end_idx go together: give both or neither")
        )
    if start is None or end is None:
        if word is None:
            raise InvalidExample(
                Problem((field, "word"), "missing", "give the word, or start_idx and end_idx, or all three")
            )
        start = _only_occurrence(sentence, word, field)
        return Entity(word, start, start + len(word) - 1, mention.type)
    problems = [
        Problem(
            (field, key),
            "out_of_range",
            f"{_number(index)} is outside the sentence, whose indices run from 0 to {len(sentence) - 1}",
        )
        for key, index in (("start_idx", start), ("end_idx", end))
        if not 0 <= index < len(sentence)
    ]
    if problems:
        raise InvalidExample(*problems)
    if end < start:
        raise InvalidExample(
            Problem((field, "end_idx"), "out_of_range", f"end_idx {end} lies before start_idx {start}")
        )
    span = sentence[start : end + 1]
    if word is not None and word != span:
        message = f"the word disagrees with the span: {_short(word)} was given, {_short(span)} stands at {start}-{end}"
        raise InvalidExample(Problem((field, "word"), "word_span_mismatch", message))
    if not span.strip():
        raise InvalidExample(
            Problem((field, "start_idx"), "empty_word", f"the span {start}-{end} holds only white space")
        )
    return Entity(span, start, end, mention.type)


def _only_occurrence(sentence: str, word: str, field: str) -> int:
    first = sentence.find(word)
    if first < 0:
        raise InvalidExample(
            Problem((field, "word"), "not_in_sentence", f"{_short(word)} does not occur in the sentence")
        )
    starts = [first]
    most = max(OCCURRENCES_NAMED, CHARACTERS_COMPARED // len(word))
    while len(starts) <= most and (following := sentence.find(word, starts[-1] + 1)) >= 0:
        starts.append(following)
    if len(starts) > 1:
        count = str(len(starts)) if len(starts) <= most else f"more than {most}"
        places = ", ".join(map(str, starts[:OCCURRENCES_NAMED])) + (
            ", …" if len(starts) > OCCURRENCES_NAMED else ""
        )
        message = f"{_short(word)} occurs {count} times, at start_idx {places}: give start_idx and end_idx"
        raise InvalidExample(Problem((field, "word"), "ambiguous_word", message))
    return first


def _number(index: int) -> str:
    # thousands of digits cannot even be printed
    return str(index) if abs(index) < 10**12 else "a number of more than 12 digits"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
