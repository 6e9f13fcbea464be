"""The documents that go over the wire, as OpenAPI shows them. `models/example.py` defines an example."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from engine.cost import CostModel
from models.bundle import Quality, Source
from models.example import Row
from models.labels import RELATIONS
from models.pairs import MinScore, SentenceRow
from models.precision import Device
from models.relations import Relation

TopK = Annotated[
    StrictInt, Field(ge=1, le=len(RELATIONS), description="how many of the likeliest relations are listed")
]


ONE: Final[dict[str, Any]] = {
    "sentence": "배우 윤가람은 1990년 3월 2일 부산에서 태어났다.",
    "subject_entity": {"word": "윤가람", "start_idx": 3, "end_idx": 5, "type": "PER"},
    "object_entity": {"word": "1990년 3월 2일", "start_idx": 8, "end_idx": 18, "type": "DAT"},
    "top_k": 3,
}
SHORT: Final[dict[str, Any]] = {
    "sentence": "이순신은 조선 중기의 무신이다.",
    "subject_entity": {"word": "이순신", "type": "PER"},
    "object_entity": {"word": "무신", "type": "POH"},
}
SENTENCE: Final[dict[str, Any]] = {
    "sentence": "가수 윤가람과 배우 한가온은 2015년에 결혼했다.",
    "entities": [
        {"word": "윤가람", "type": "PER"},
        {"word": "한가온", "type": "PER"},
        {"word": "2015년", "type": "DAT"},
    ],
    "min_score": 0.5,
}
"""The examples of the OpenAPI document."""


class OneExample(Row):
    """A question about one example."""

    model_config = ConfigDict(json_schema_extra={"examples": [ONE]})

    top_k: TopK = 1


class OneSentence(SentenceRow):
    """A question about all pairs of one sentence's entities."""

    model_config = ConfigDict(json_schema_extra={"examples": [SENTENCE]})

    min_score: MinScore = 0.0
    top_k: TopK = 1


class RequestOptions(BaseModel):
    """The fields of a request that are not examples."""

    min_score: MinScore = 0.0
    top_k: TopK = 1


class SeveralExamples(RequestOptions):
    """A question about several examples, and about all pairs of several sentences."""

    examples: list[Row | SentenceRow] = Field(min_length=1)


class PredictionOut(BaseModel):
    """The ensemble's answer to one example."""

    relation: Annotated[str, Field(json_schema_extra={"enum": list(RELATIONS)})] = Field(
        description="the likeliest of the 30 relations"
    )
    score: float = Field(description="its probability")
    probabilities: dict[str, float] = Field(description="the top_k highest, highest first; all 30 sum to 1")
    members: int = Field(description="how many members of the ensemble voted")
    truncated: bool = Field(
        description="whether the sentence was longer than the model's window and was cut around the entities"
    )


class PairOut(PredictionOut):
    """The ensemble's answer to one pair of a sentence's entities."""

    subject: int = Field(description="index of the subject in the request's entities")
    object: int = Field(description="index of the object in the request's entities")


class RelationsOut(BaseModel):
    """The relations between the entities of one sentence."""

    relations: list[PairOut] = Field(
        description="highest score first, without no_relation and scores below min_score"
    )
    pairs: int = Field(description="how many pairs were asked")


class PredictionsOut(BaseModel):
    """The answers to several examples."""

    predictions: list[PredictionOut | RelationsOut] = Field(description="in the order of the examples")


class StatusOut(BaseModel):
    status: str


class ProblemOut(BaseModel):
    """Why a request got no predictions."""

    detail: str


class FaultOut(BaseModel):
    type: str = Field(description="kind of fault")
    loc: list[str | int] = Field(description="where: body or header, then the path to the field")
    msg: str


class FaultsOut(BaseModel):
    """Every fault of a request that cannot be asked."""

    detail: list[FaultOut]


class SwapOut(BaseModel):
    outcome: Literal["swapped", "refused"]
    reason: str


class MemberOut(BaseModel):
    name: str
    weight: float = Field(description="in the vote")
    layers: int
    file: str = Field(description="the graph that runs")
    provider: str = Field(description="the execution provider that runs it")


class SplitOut(BaseModel):
    lanes: int
    threads_per_lane: int
    rows_per_s: float = Field(description="that the split promised")


class TuningOut(BaseModel):
    """How the bundle runs on this machine; measured at start."""

    lanes: int
    threads_per_lane: int
    token_budget: int = Field(description="tokens that a batch can hold, padding included")
    all_cores_for_one: bool
    cost_seconds: CostModel = Field(description="the prices of the cost model, in seconds")
    cost_error: float = Field(description="mean relative error of the cost model")
    tried: list[SplitOut]
    measured_in_s: float


class LimitsOut(BaseModel):
    max_examples: int
    max_queue: int
    max_body_bytes: int
    max_wait_ms: float
    request_timeout_s: float


class InfoOut(BaseModel):
    """What is served, where and within which limits. What belongs to the bundle is missing while it loads."""

    version: str
    state: str
    swapping: bool = Field(description="whether a new bundle is being loaded")
    last_swap: SwapOut | None
    labels: list[Relation] = Field(description="the 30 relations in KLUE's official order")
    limits: LimitsOut
    card: bool = Field(description="whether `/card` shows the bundle's model card")
    bundle: str | None = None
    bundle_bytes: int | None = Field(None, description="size of all files of the bundle")
    voting: str | None = None
    cascade_thresholds: list[float] | None = None
    max_length: int | None = Field(None, description="the model's window in tokens")
    device: Device | None = None
    lanes: int | None = None
    tuning: TuningOut | None = None
    members: list[MemberOut] | None = None
    quality: Quality | None = None
    source: Source | None = None
