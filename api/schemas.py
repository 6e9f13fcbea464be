"""The documents that go over the wire, as OpenAPI shows them. `models/example.py` defines an example."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from models.example import Row
from models.labels import RELATIONS

TopK = Annotated[
    StrictInt, Field(ge=1, le=len(RELATIONS), description="how many of the likeliest relations are listed")
]


class OneExample(Row):
    """A question about one example."""

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
    """A question about several examples."""

    examples: list[Row] = Field(min_length=1)
    top_k: TopK = 1


class RequestOptions(BaseModel):
    """The fields of a request that are not examples."""

    top_k: TopK = 1


class PredictionOut(BaseModel):
    """The ensemble's answer to one example."""

    relation: str = Field(description="the likeliest of the 30 relations")
    score: float = Field(description="its probability")
    probabilities: dict[str, float] = Field(description="the top_k highest, highest first; all 30 sum to 1")
    members: int = Field(description="how many members of the ensemble voted")


class PredictionsOut(BaseModel):
    predictions: list[PredictionOut] = Field(description="in the order of the examples")


class ProblemOut(BaseModel):
    detail: str


class FaultOut(BaseModel):
    type: str = Field(description="kind of fault")
    loc: list[str | int] = Field(description="where: body or header, then the path to the field")
    msg: str


class FaultsOut(BaseModel):
    detail: list[FaultOut] = Field(description="every fault")
