"""An example (a sentence with two entities) and the prediction for it.

HTTP, scoring, training and export all build their examples with `Example.resolve`, so one rule checks them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field, StrictInt, StrictStr, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from models.composed import ComposedText, compose
from models.errors import UserError
from models.labels import RELATIONS

EntityType = Literal["PER", "ORG", "LOC", "DAT", "POH", "NOH"]
ENTITY_TYPES: Final[tuple[EntityType, ...]] = get_args(EntityType)

OCCURRENCES_NAMED: Final = 10
"""How many places of an ambiguous word an error lists."""
CHARACTERS_COMPARED: Final = 1_000_000
"""Limit of counting these places: each costs a comparison of the whole word."""


Loc = tuple[str | int, ...]
"""The path to a field of a row: names, and indices in lists."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an example.

    Attributes:
        loc: where it is.
        kind: one word for programs.
        message: a sentence for people.
    """

    loc: Loc
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.loc))}: {self.message}"

    def at(self, *loc: str | int) -> "Problem":
        """The same fault of the field at `loc`."""
        return Problem((*loc, *self.loc), self.kind, self.message)


class InvalidExample(UserError, ValueError):
    """An example that cannot be used. `problems` lists every fault."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _whole_number(value: Any) -> Any:
    """Takes 3.0 as 3: some JSON writers know only floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Index = Annotated[StrictInt, BeforeValidator(_whole_number, json_schema_input_type=int)]


@pydantic_dataclass(frozen=True, slots=True)
class Mention:
    """An entity as a caller gives it: its word, its indices, or both."""

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
    """A span of an example's sentence, in its code points. `end_idx` is inclusive, as in KLUE."""

    word: str
    start_idx: int
    end_idx: int
    type: EntityType | None = None

    def overlaps(self, other: "Entity") -> bool:
        return self.start_idx <= other.end_idx and other.start_idx <= self.end_idx


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence and two spans of it that do not overlap, in Unicode's composed form (NFC).

    Build it with `resolve` or `from_row`: they check it. Its indices are those of the composed sentence. If
    the sentence was sent in another form, they differ from the indices that were sent.
    """

    sentence: str
    subject_entity: Entity
    object_entity: Entity

    @classmethod
    def resolve(cls, sentence: str, subject_entity: Mention, object_entity: Mention) -> "Example":
        """Check a sentence and two mentions, and fill in the indices or words that they leave out.

        1. Compose the sentence.
        2. Find each mention in it. Indices count the code points of the sentence as sent.
        3. Check that the two spans do not overlap.

        Raises:
            InvalidExample: the sentence is blank or not Unicode text; an index is out of range or splits a
                composed character; word and span disagree; a word is empty, missing from the sentence or
                ambiguous; or the two spans overlap.
        """
        composed = compose_sentence(sentence)
        mentions: dict[Loc, Mention] = {
            ("subject_entity",): subject_entity,
            ("object_entity",): object_entity,
        }
        subject, object_ = locate(composed, mentions)
        if subject.overlaps(object_):
            subject_span, object_span = span_as_sent(composed, subject), span_as_sent(composed, object_)
            message = f"the spans of subject ({subject_span}) and object ({object_span}) overlap"
            raise _invalid("overlap", message, "object_entity")
        return cls(composed.text, subject, object_)

    @classmethod
    def from_row(cls, row: Any) -> "Example":
        """Build an example from a row of KLUE-RE. Unknown keys are ignored.

        Raises:
            InvalidExample: as `resolve`; also if a field is missing or has the wrong type.
        """
        try:
            checked = Row.model_validate(row)
        except ValidationError as error:
            raise InvalidExample(*problems_of(error)) from None
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
    # Found on the thread that computes the probabilities: they are still in its core's caches.
    label_id: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        # NumPy's argmax releases the interpreter's lock, and next to other lanes gets it back late.
        probabilities = self.probabilities.tolist()
        object.__setattr__(self, "label_id", probabilities.index(max(probabilities)))

    @property
    def relation(self) -> str:
        return RELATIONS[self.label_id]

    @property
    def score(self) -> float:
        return float(self.probabilities[self.label_id])

    def document(self, top_k: int = 1) -> dict[str, Any]:
        """The prediction as JSON, over HTTP and in JSONL."""
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
        """The `k` likeliest relations with their probabilities, likeliest first, ties in label order."""
        order = [self.label_id] if k == 1 else np.argsort(-self.probabilities, kind="stable")[:k]
        return {RELATIONS[index]: float(self.probabilities[index]) for index in order}


_MESSAGES: Final = {
    "missing": "this field is required",
    "string_type": "a string is required",
    "int_type": "a whole number is required",
    "literal_error": f"one of {', '.join(ENTITY_TYPES)} is required; leave type out if it is not known",
    "model_type": "an object is required",
}
"""Our sentences for pydantic's kinds of faults."""


def problems_of(error: ValidationError) -> list[Problem]:
    """What pydantic found wrong with a row's fields."""
    problems = []
    for found in error.errors(include_url=False, include_input=False):
        kind = "model_type" if found["type"] == "dataclass_type" else found["type"]
        problems.append(Problem(found["loc"], kind, _MESSAGES.get(kind, found["msg"])))
    return problems


def compose_sentence(sentence: str) -> ComposedText:
    """A row's sentence in composed form.

    Raises:
        InvalidExample: it is blank or not Unicode text.
    """
    if not sentence.strip():
        raise _invalid("blank", "the sentence is empty", "sentence")
    try:
        sentence.encode()
    except UnicodeEncodeError:
        raise _invalid("surrogate", "a lone surrogate is not Unicode text", "sentence") from None
    return ComposedText.of(sentence)


def locate(sentence: ComposedText, mentions: Mapping[Loc, Mention]) -> list[Entity]:
    """Find mentions in their sentence.

    Args:
        mentions: by their place in the row, which the errors name.

    Raises:
        InvalidExample: lists every fault of every mention; see `Example.resolve`.
    """
    entities: list[Entity] = []
    problems: list[Problem] = []
    for loc, mention in mentions.items():
        try:
            entities.append(_locate(sentence, mention))
        except InvalidExample as error:
            problems += [problem.at(*loc) for problem in error.problems]
    if problems:
        raise InvalidExample(*problems)
    return entities


def span_as_sent(sentence: ComposedText, entity: Entity) -> str:
    """An entity's indices in the text as sent: `3-5`."""
    return f"{sentence.origin(entity.start_idx)}-{sentence.origin(entity.end_idx + 1) - 1}"


def _invalid(kind: str, message: str, *loc: str) -> InvalidExample:
    return InvalidExample(Problem(loc, kind, message))


def _locate(sentence: ComposedText, mention: Mention) -> Entity:
    word, start, end = mention.word, mention.start_idx, mention.end_idx
    if word is not None and not word.strip():
        raise _invalid("empty_word", "the word is empty", "word")
    if start is not None and end is not None:
        return _span(sentence, mention, start, end)
    if start is not None or end is not None:
        message = "start_idx and end_idx go together: give both or neither"
        raise _invalid("missing", message, "start_idx" if start is None else "end_idx")
    if word is None:
        message = "give the word, or start_idx and end_idx, or all three"
        raise _invalid("missing", message, "word")
    word = compose(word)
    start = _only_occurrence(sentence, word)
    return Entity(word, start, start + len(word) - 1, mention.type)


def _span(sentence: ComposedText, mention: Mention, start: int, end: int) -> Entity:
    """The entity at given indices of the sentence as sent."""
    word, last = mention.word, len(sentence.sent) - 1

    def hint() -> str:
        return _exclusive_end_hint(sentence.sent, word, start, end)

    if not (0 <= start <= last and 0 <= end <= last):
        message = f"is outside the sentence, whose indices run from 0 to {last}{hint()}"
        indices = {"start_idx": start, "end_idx": end}.items()
        outside = [(key, index) for key, index in indices if not 0 <= index <= last]
        raise InvalidExample(
            *(Problem((key,), "out_of_range", f"{_number(index)} {message}") for key, index in outside)
        )
    if end < start:
        raise _invalid("out_of_range", f"end_idx {end} is before start_idx {start}", "end_idx")
    begins, stops = sentence.offset(start), sentence.offset(end + 1)
    if begins is None or stops is None:
        key, index = ("start_idx", start) if begins is None else ("end_idx", end)
        first, final = sentence.group_at(index)
        advice = hint() or f"; give {first if begins is None else final}"
        message = f"{index} splits the character that {first}-{final} compose{advice}"
        raise _invalid("split_character", message, key)
    text = sentence.text[begins:stops]
    if word is not None and word != text and compose(word) != text:
        message = f"the word is {_short(word)}, but the span {start}-{end} is {_short(text)}{hint()}"
        raise _invalid("word_span_mismatch", message, "word")
    if not text.strip():
        raise _invalid("empty_word", f"the span {start}-{end} holds only white space", "start_idx")
    return Entity(text, begins, stops - 1, mention.type)


def _exclusive_end_hint(sent: str, word: str | None, start: int, end: int) -> str:
    """What to say if the word ends one before `end_idx`."""
    if word is None or not 0 <= start < end <= len(sent) or compose(sent[start:end]) != compose(word):
        return ""
    return f"; end_idx is inclusive: {end - 1} fits the word"


def _only_occurrence(sentence: ComposedText, word: str) -> int:
    """The offset of a composed word in the composed sentence."""
    text = sentence.text
    first = text.find(word)
    if first < 0:
        raise _invalid("not_in_sentence", f"{_short(word)} does not occur in the sentence", "word")
    starts = [first]
    most = max(OCCURRENCES_NAMED, CHARACTERS_COMPARED // len(word))
    while len(starts) <= most and (following := text.find(word, starts[-1] + 1)) >= 0:
        starts.append(following)
    if len(starts) > 1:
        count = str(len(starts)) if len(starts) <= most else f"more than {most}"
        places = ", ".join(str(sentence.origin(start)) for start in starts[:OCCURRENCES_NAMED])
        more = ", …" if len(starts) > OCCURRENCES_NAMED else ""
        message = (
            f"{_short(word)} occurs {count} times, at start_idx {places}{more}: give start_idx and end_idx"
        )
        raise _invalid("ambiguous_word", message, "word")
    return first


def _number(index: int) -> str:
    # Python refuses to print thousands of digits.
    return str(index) if abs(index) < 10**12 else "a number of more than 12 digits"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
