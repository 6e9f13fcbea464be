"""The figures of a model card, measured on labelled rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.lanes import Lanes
from export.evaluate import describe, read_rows
from export.thresholds import Votes
from models.bundle import Bundle, Quality
from models.metrics import klue_metrics
from models.rows import LabelledExample, check_window, label_ids, sentence


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """One way to answer the rows.

    Attributes:
        labels: true labels, shape (rows,).
        probabilities: shape (rows, 30).
        layers: mean number of layers that a row costs.
        data: name and SHA-256 of the file of rows.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    layers: float
    data: str

    @property
    def quality(self) -> Quality:
        metrics = klue_metrics(self.labels, self.probabilities)
        return Quality(rows=len(self.labels), data=self.data, **metrics)

    def of(self, chosen: NDArray[np.bool_]) -> "Answers":
        """The answers to some of the rows; `chosen` has shape (rows,)."""
        return replace(self, labels=self.labels[chosen], probabilities=self.probabilities[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class CardFigures:
    """All figures of a card.

    Attributes:
        served: the answers of a server with default settings.
        voting: every member votes on every row.
        members: each member's own answers, by its name.
        untyped: as served, with no entity's type given.
        apart: as served, for the rows whose sentence is not in a training row; None without training rows.
        types: each row's pair of entity types.
        tokens: each row's length, shape (rows,).
    """

    served: Answers
    voting: Answers
    members: dict[str, Answers]
    untyped: Answers
    apart: Answers | None
    types: list[tuple[str, str]]
    tokens: NDArray[np.int64]


def measure(bundle: Bundle, data: Path, train: Sequence[LabelledExample]) -> CardFigures:
    """Answer the rows of a file twice, with and without types, and take all figures from these answers.

    Args:
        train: the members' training rows, if they are known.

    Raises:
        InvalidRows, DeviceUnavailable: as `read_rows`, `Lanes.load`.
    """
    rows, members = read_rows(data), bundle.manifest.members
    lanes = Lanes.load(bundle, cascade_caution=1.0)
    check_window(data, rows, lanes.ensemble.encode)
    cascade = bundle.manifest.cascade
    thresholds = cascade.thresholds if cascade else [np.inf] * (len(members) - 1)
    layers, name = np.array([member.layers for member in members]), describe(data)

    def served(votes: Votes) -> Answers:
        probabilities, voted = votes.stopped(thresholds)
        return Answers(votes.labels, probabilities, float(np.cumsum(layers)[voted - 1].mean()), name)

    own, votes = _votes(lanes, rows)
    answers = served(votes)
    whole = Answers(votes.labels, votes.stages[-1], float(layers.sum()), name)
    costs = [sum(stage.layers for stage in bundle.manifest.chain(member)) for member in members]
    seen = {sentence(row) for row in train}
    new = np.array([sentence(row) not in seen for row in rows])
    return CardFigures(
        served=answers,
        voting=whole,
        members={
            member.name: Answers(votes.labels, probabilities, cost, name)
            for member, probabilities, cost in zip(members, own, costs, strict=True)
        },
        untyped=served(_votes(lanes, [_untyped(row) for row in rows])[1]),
        apart=answers.of(new) if train else None,
        types=[_types(row) for row in rows],
        tokens=np.array([len(lanes.ensemble.encode(row.example)) for row in rows]),
    )


def _votes(lanes: Lanes, rows: Sequence[LabelledExample]) -> tuple[NDArray[np.float64], Votes]:
    """Each member's own probabilities, shape (members, rows, 30), and the votes."""
    own = lanes.member_probabilities([row.example for row in rows])
    weights = [member.weight for member in lanes.ensemble.bundle.manifest.members]
    return own, Votes.of(own, weights, label_ids(rows))


def _untyped(row: LabelledExample) -> LabelledExample:
    example = row.example
    subject, object_ = replace(example.subject_entity, type=None), replace(example.object_entity, type=None)
    return replace(row, example=replace(example, subject_entity=subject, object_entity=object_))


def _types(row: LabelledExample) -> tuple[str, str]:
    return row.example.subject_entity.type or "–", row.example.object_entity.type or "–"
