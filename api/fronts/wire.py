"""The messages between front processes and the engine, in MessagePack.

    front → engine                                engine → front
    Predict    predict a request's rows           Predicted, or Failed
    AskRoom    would a request be refused?        Told, or Failed
    Describe   the document of /info              Told
    Measure    set the gauges for /metrics        Told
    Cancel     the client of a request has left
                                                  Status     what the engine serves now
    Took       the front encodes for this bundle
    Released   no request of the front needs this bundle any more

`number` ties an answer to its question. Times are on `time.monotonic`'s clock, which all processes of a
machine share. A message is a list: its name, then its fields. Arrays are bytes in this machine's order.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import numpy as np

from api.seam import State
from models.bundle import Bundle
from models.encoding import Encoded, EncodedExample
from models.example import ENTITY_TYPES, Prediction
from models.labels import RELATIONS

STATES: Final[tuple[State, ...]] = ("loading", "ready", "draining", "stopping", "refused")


class Malformed(ValueError):
    """The other side sent what is no message."""


@dataclass(frozen=True, slots=True)
class Predict:
    number: int
    generation: int
    deadline: float
    rows: Sequence[EncodedExample]


@dataclass(frozen=True, slots=True)
class AskRoom:
    number: int
    generation: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Describe:
    number: int


@dataclass(frozen=True, slots=True)
class Measure:
    number: int


@dataclass(frozen=True, slots=True)
class Cancel:
    number: int


@dataclass(frozen=True, slots=True)
class Took:
    generation: int


@dataclass(frozen=True, slots=True)
class Released:
    generation: int


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions in the order of the rows, and where the time went, in seconds."""

    number: int
    queue_s: float
    inference_s: float
    predictions: Sequence[Prediction]


@dataclass(frozen=True, slots=True)
class Failed:
    """`kind` is the name of a class in engine/errors.py, or of any other exception."""

    number: int
    kind: str
    detail: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Told:
    number: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Status:
    """What the engine serves.

    Attributes:
        generation: counts the bundles since the engine's start; 0 while the first one loads.
        path: the bundle's folder.
        manifest: SHA-256 of its manifest: the front must read the same one.
    """

    state: State
    generation: int
    path: str
    manifest: str


Question = Predict | AskRoom | Describe | Measure
Answer = Predicted | Failed | Told
FromFront = Question | Cancel | Took | Released
FromEngine = Answer | Status
Message = FromFront | FromEngine


def fingerprint(bundle: Bundle) -> str:
    """SHA-256 of a bundle's manifest, for a `Status`."""
    return hashlib.sha256(bundle.manifest.model_dump_json().encode()).hexdigest()


def encode(message: Message) -> bytes:
    fields = [getattr(message, name) for name in message.__slots__]
    packed: bytes = msgpack.packb([type(message).__name__, *fields], default=_plain)
    return packed


def decode(values: object) -> Message:
    """A message from what `msgpack` unpacked.

    Raises:
        Malformed: it is no message.
    """
    match values:
        case ["Predict", int(number), int(generation), float(deadline), [*rows]]:
            return Predict(number, generation, deadline, [_row(row) for row in rows])
        case ["Predicted", int(number), float(queue_s), float(inference_s), [*predictions]]:
            return Predicted(number, queue_s, inference_s, [_prediction(each) for each in predictions])
        case ["Failed", int(number), str(kind), str(detail), float() | int() | None as retry_after_s]:
            return Failed(number, kind, detail, retry_after_s)
        case ["AskRoom", int(number), int(generation), float(deadline)]:
            return AskRoom(number, generation, deadline)
        case ["Told", int(number), dict(document)]:
            return Told(number, document)
        case ["Describe", int(number)]:
            return Describe(number)
        case ["Measure", int(number)]:
            return Measure(number)
        case ["Cancel", int(number)]:
            return Cancel(number)
        case ["Took", int(generation)]:
            return Took(generation)
        case ["Released", int(generation)]:
            return Released(generation)
        case ["Status", str(state), int(generation), str(path), str(manifest)] if state in STATES:
            return Status(state, generation, path, manifest)
    raise Malformed(f"no message: {values!r:.100}")


def _plain(value: object) -> object:
    """A row or a prediction as lists and bytes."""
    if isinstance(value, EncodedExample):
        return [None if value.allowed is None else value.allowed.tobytes(), value.encodings]
    if isinstance(value, Encoded):
        parts = (value.entity_positions, value.entity_spans, value.entity_types, value.input_ids)
        return [b"".join([part.tobytes() for part in parts]), value.second_segment, value.truncated]
    if isinstance(value, Prediction):
        return [value.probabilities.tobytes(), value.members, value.truncated]
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _row(values: object) -> EncodedExample:
    match values:
        case [None, [_, *_] as encodings]:
            return EncodedExample(tuple(map(_encoded, encodings)))
        case [bytes(allowed), [_, *_] as encodings] if len(allowed) == len(RELATIONS):
            return EncodedExample(tuple(map(_encoded, encodings)), np.frombuffer(allowed, dtype=np.bool_))
    raise Malformed(f"no row: {values!r:.100}")


def _encoded(values: object) -> Encoded:
    match values:
        case [bytes(arrays), int(second), bool(truncated)] if len(arrays) > 64 and len(arrays) % 8 == 0:
            numbers = np.frombuffer(arrays, dtype=np.int64)
            tokens = len(numbers) - 8
            subject, object_, first, stop, other_first, other_stop, kind, other_kind = numbers[:8].tolist()
            if (
                0 <= subject < tokens
                and 0 <= object_ < tokens
                and 0 <= first < stop <= tokens
                and 0 <= other_first < other_stop <= tokens
                and 0 <= kind <= len(ENTITY_TYPES)
                and 0 <= other_kind <= len(ENTITY_TYPES)
                and 0 <= second <= tokens
            ):
                return Encoded.of(numbers, second, truncated)
    raise Malformed(f"no token ids: {values!r:.100}")


def _prediction(values: object) -> Prediction:
    match values:
        case [bytes(probabilities), int(members), bool(truncated)] if len(probabilities) == 8 * len(
            RELATIONS
        ):
            return Prediction(np.frombuffer(probabilities, dtype=np.float64), members, truncated)
    raise Malformed(f"no prediction: {values!r:.100}")
