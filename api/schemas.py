"""What goes over the wire: the request as JSON, checked into examples, and predictions as JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError
from pydantic_core import from_json

from api.errors import Fault, InvalidRequest, TooLarge, fault
from models.ensemble import EncodedExample
from models.example import EntityType, Example, InvalidExample, Mention, Prediction
from models.labels import RELATIONS

TopK = Annotated[
    StrictInt, Field(1, ge=1, le=len(RELATIONS), description="how many of the likeliest relations to list")
]


class EntityIn(BaseModel):
    """A marked entity: its word, its indices, or both."""

    word: StrictStr | None = Field(None, description="may be left out when both indices are given")
    start_idx: StrictInt | None = Field(
        None, description="first character; may be left out when the word occurs exactly once"
    )
    end_idx: StrictInt | None = Field(None, description="last character, inclusive, in Unicode code points")
    type: EntityType | None = Field(None, description="left out when it is not known")

    def mention(self) -> Mention:
        return Mention(self.word, self.start_idx, self.end_idx, self.type)


class ExampleIn(BaseModel):
    """A sentence with two marked entities; a row of KLUE-RE as it is, further keys ignored."""

    sentence: StrictStr
    subject_entity: EntityIn
    object_entity: EntityIn


class OneExample(ExampleIn):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sentence": "배우 윤가람은 1990년 3월 2일 부산에서 태어났다.",
                    "subject_entity": {"word": "윤가람", "start_idx": 3, "end_idx": 5, "type": "PER"},
                    "object_entity": {"word": "1990년 3월 2일", "start_idx": 8, "end_idx": 18, "type": "DAT"},
                    "top_k": 3,
                }
            ]
        }
    )

    top_k: TopK = 1


class SeveralExamples(BaseModel):
    examples: list[ExampleIn] = Field(min_length=1)
    top_k: TopK = 1


class _TopKOnly(BaseModel):
    top_k: TopK = 1


class PredictionOut(BaseModel):
    """The ensemble's answer to one example."""

    relation: str = Field(description="the likeliest of the 30 relations")
    score: float = Field(description="its probability")
    probabilities: dict[str, float] = Field(description="the top_k highest, highest first; all 30 sum to 1")
    members: int = Field(description="how many members of the ensemble voted")


class PredictionsOut(BaseModel):
    predictions: list[PredictionOut] = Field(description="in the order asked")


class ProblemOut(BaseModel):
    detail: str


class FaultOut(BaseModel):
    type: str = Field(description="kind of fault")
    loc: list[str | int] = Field(description="where: body or header, then the path to the field")
    msg: str


class FaultsOut(BaseModel):
    detail: list[FaultOut] = Field(description="every fault")


@dataclass(frozen=True, slots=True)
class Question:
    """A request that can be answered: its encoded examples, and the form its answer takes."""

    rows: list[EncodedExample]
    top_k: int
    single: bool

    def answer(self, predictions: list[Prediction]) -> dict[str, Any]:
        """The body of the answer, as `PredictionOut` or `PredictionsOut` describes it."""
        documents = [prediction.document(self.top_k) for prediction in predictions]
        return documents[0] if self.single else {"predictions": documents}


def read_question(body: bytes, max_examples: int, encode: Callable[[Example], EncodedExample]) -> Question:
    """Parse, check and encode a request's body; all or nothing.

    Raises:
        InvalidRequest: not JSON, or some example cannot be asked; every bad one is listed.
        TooLarge: more examples than `max_examples`.
    """
    document = _parse(body)
    single = "examples" not in document
    if not single and "sentence" in document:
        raise InvalidRequest(
            [fault("ambiguous", ["body"], "send either one example or 'examples', not both")]
        )
    candidates = [document] if single else document["examples"]
    if not isinstance(candidates, list) or not candidates:
        raise InvalidRequest(
            [fault("list_type", ["body", "examples"], "a list of at least one example is required")]
        )
    if len(candidates) > max_examples:
        raise TooLarge(f"a request may hold {max_examples} examples, {len(candidates)} were sent")
    faults: list[Fault] = []
    rows: list[EncodedExample] = []
    top_k = 1
    try:
        top_k = _TopKOnly.model_validate(document).top_k
    except ValidationError as error:
        faults += _faults(error, ["body"])
    for index, candidate in enumerate(candidates):
        place: list[str | int] = ["body"] if single else ["body", "examples", index]
        try:
            example = ExampleIn.model_validate(candidate)
            mentions = example.subject_entity.mention(), example.object_entity.mention()
            rows.append(encode(Example.resolve(example.sentence, *mentions)))
        except ValidationError as error:
            faults += _faults(error, place)
        except InvalidExample as error:
            faults += [
                fault(problem.kind, [*place, *problem.loc], problem.message) for problem in error.problems
            ]
    if faults:
        raise InvalidRequest(faults)
    return Question(rows, top_k, single)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest([fault("json_invalid", ["body"], f"not JSON: {error}")]) from None
    if not isinstance(document, dict):
        raise InvalidRequest([fault("model_type", ["body"], "a JSON object is required")])
    return document


def _faults(error: ValidationError, place: list[str | int]) -> list[Fault]:
    return [
        fault(found["type"], [*place, *found["loc"]], found["msg"])
        for found in error.errors(include_url=False, include_input=False)
    ]
