"""The thresholds of a cascade: fitted on labelled rows, measured by cross-fitting."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.lanes import Lanes
from export.cascade_plot import CurvePoint, plot
from export.errors import InvalidOptions
from export.evaluate import describe, read_rows
from export.proof import with_golden_and_quality
from export.replace import recover, replacing
from models.bundle import Bundle, BundleRefused, Cascade, Manifest, Quality, write
from models.metrics import auprc, micro_f1
from models.rows import LabelledExample, check_window, label_ids, sentence_halves
from models.voting import weighted_mean_probability

PLOT: Final = "cascade.svg"
STEPS: Final = np.round(np.arange(1.0, 0.29, -0.02), 2)
"""Thresholds to try, from nearly never stopping down."""
HALVINGS: Final = 6
LITTLE: Final = 0.01
"""Part of an allowed loss; a step that uses less of it counts as one that uses this part."""


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """The votes of an ensemble on labelled rows.

    Attributes:
        stages: the vote of the first member, of the first two, …: shape (members, rows, 30).
        labels: shape (rows,).
    """

    stages: NDArray[np.float64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, members: NDArray[np.float64], weights: Sequence[float], labels: NDArray[np.int64]) -> "Votes":
        """From each member's own probabilities, shape (members, rows, 30)."""
        stages = [
            weighted_mean_probability(members[:count], np.array(weights[:count]))
            for count in range(1, len(members) + 1)
        ]
        return cls(np.stack(stages), labels)

    def half(self, chosen: NDArray[np.bool_]) -> "Votes":
        return Votes(self.stages[:, chosen], self.labels[chosen])

    def stopped(self, thresholds: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The cascade's votes, shape (rows, 30), and how many members voted on each row, shape (rows,)."""
        voted = np.full(len(self.labels), len(self.stages))
        for stage in reversed(range(len(thresholds))):
            voted[self.stages[stage].max(axis=1) >= thresholds[stage]] = stage + 1
        return self.stages[voted - 1, np.arange(len(voted))], voted

    def quality(self, probabilities: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Micro-F1 and AUPRC of probabilities, shape (rows, 30); by default those of all members together."""
        voted = self.stages[-1] if probabilities is None else probabilities
        return np.array([micro_f1(self.labels, voted.argmax(axis=1)), auprc(self.labels, voted)])

    def cost(self, thresholds: Sequence[float], costs: NDArray[np.float64]) -> float:
        """The mean cost of a row, if a row costs `costs[n - 1]` when n members vote on it."""
        return float(costs[self.stopped(thresholds)[1] - 1].mean())


def fit(
    votes: Votes, halves: NDArray[np.bool_], allowed: NDArray[np.float64], costs: NDArray[np.float64]
) -> tuple[list[float], NDArray[np.float64]]:
    """Fit thresholds, and show what they lose on new rows.

    1. Fit thresholds on each half of the rows, and apply them to the other half.
    2. If the loss over both halves is allowed, fit the thresholds on all rows and return them.
    3. Else repeat with half of the allowed loss.
    4. If no loss is small enough, every member votes on every row.

    Args:
        halves: the half of each row, shape (rows,).
        allowed: points of micro-F1 and of AUPRC that can be lost.
        costs: of a row that one, two, … members vote on, in any unit; shape (members,).

    Returns:
        The thresholds; and the votes of step 1, shape (rows, 30).
    """
    for halvings in range(HALVINGS):
        budget = allowed / 2**halvings
        crossed = np.empty_like(votes.stages[0])
        for side in (False, True):
            thresholds = _fit(votes.half(halves != side), budget, costs)
            crossed[halves == side] = votes.half(halves == side).stopped(thresholds)[0]
        if (votes.quality() - votes.quality(crossed) <= allowed).all():
            return _fit(votes, budget, costs), crossed
    return [1.0] * (len(votes.stages) - 1), votes.stages[-1]


def _fit(votes: Votes, allowed: NDArray[np.float64], costs: NDArray[np.float64]) -> list[float]:
    """Lower the thresholds step by step, where a step saves most.

    1. Start where no row stops.
    2. For each stage, try the next lower threshold. Drop the tries whose loss is not allowed.
    3. Keep the try that saves most cost for the part of the allowed loss that it uses.
    4. Repeat from 2 until no try is left.
    """
    steps = [-1] * (len(votes.stages) - 1)  # indices of STEPS; -1: no row stops
    cost, used, best = votes.cost(_thresholds(steps), costs), 0.0, votes.quality()
    while True:
        tries = []
        for stage, step in enumerate(steps):
            if step + 1 == len(STEPS):
                continue
            tried = [*steps[:stage], step + 1, *steps[stage + 1 :]]
            lost = best - votes.quality(votes.stopped(_thresholds(tried))[0])
            if (lost <= allowed).all():
                uses = float(np.max(lost / np.maximum(allowed, LITTLE)))
                costs_now = votes.cost(_thresholds(tried), costs)
                tries.append(((cost - costs_now) / max(uses - used, LITTLE), tried, costs_now, uses))
        if not tries:
            return [min(threshold, 1.0) for threshold in _thresholds(steps)]
        _, steps, cost, used = max(tries)


def _thresholds(steps: Sequence[int]) -> list[float]:
    return [float(STEPS[step]) if step >= 0 else np.inf for step in steps]


def fit_bundle(
    path: Path, data: Path, allowed: tuple[float, float], weights: Sequence[float] | None = None
) -> Cascade:
    """Fit the cascade of the bundle at `path`; write its manifest, its sums and a plot of quality against
    cost. After an error, the bundle is as it was.

    Args:
        allowed: points of micro-F1 and of AUPRC that can be lost.
        weights: new weights in the vote, one for each member; by default the bundle's.

    Raises:
        BundleRefused, InvalidRows, DeviceUnavailable, OSError: as `Bundle.open`, `read_rows`, `Lanes.load`,
            `replacing`.
        InvalidOptions: there are not as many weights as members.
    """
    recover(path)
    bundle = Bundle.open(path)
    members = bundle.manifest.members
    if len(members) < 2:
        raise BundleRefused(f"bundle {path}: a cascade needs two members, this bundle has one")
    rows = read_rows(data)
    lanes = Lanes.load(bundle, cascade_caution=1.0)
    check_window(data, rows, lanes.ensemble.encode)
    manifest = bundle.manifest if weights is None else _weighted(bundle, weights, data, rows)
    probabilities = lanes.member_probabilities([row.example for row in rows])
    votes = Votes.of(probabilities, [member.weight for member in manifest.members], label_ids(rows))
    layers = [member.layers for member in members]
    costs = np.cumsum(layers).astype(np.float64)
    thresholds, crossed = fit(votes, sentence_halves(rows), np.array(allowed), costs)
    cascade = _measured(votes, thresholds, crossed, describe(data))
    with replacing(path) as copy:
        (copy / PLOT).write_text(plot(_curve(votes, layers), cascade, layers), encoding="utf-8")
        write(copy, manifest.model_copy(update={"cascade": cascade}))
    return cascade


def _weighted(bundle: Bundle, weights: Sequence[float], data: Path, rows: list[LabelledExample]) -> Manifest:
    """The manifest with other weights in the vote, and with the golden rows and the quality of this vote."""
    members = bundle.manifest.members
    if len(weights) != len(members):
        raise InvalidOptions(f"--weights: {len(weights)} given for {len(members)} members")
    weighted = [
        member.model_copy(update={"weight": weight}) for member, weight in zip(members, weights, strict=True)
    ]
    manifest = bundle.manifest.model_copy(update={"members": weighted, "cascade": None})
    examples = [row.example for row in bundle.manifest.golden[bundle.devices()[0]].rows]
    return with_golden_and_quality(bundle.path, manifest, bundle.devices(), examples, data, rows)


def _measured(votes: Votes, thresholds: list[float], crossed: NDArray[np.float64], data: str) -> Cascade:
    def quality(probabilities: NDArray[np.float64]) -> Quality:
        f1, area = votes.quality(probabilities).tolist()
        return Quality(rows=len(votes.labels), data=data, micro_f1=f1, auprc=area)

    stopped, voted = votes.stopped(thresholds)
    shares = [float(np.mean(voted == count)) for count in range(1, len(votes.stages) + 1)]
    return Cascade(
        thresholds=thresholds, shares=shares, quality=quality(stopped), cross_fitted=quality(crossed)
    )


def _curve(votes: Votes, layers: Sequence[int]) -> list[CurvePoint]:
    """Cost and quality for the same threshold after every member."""
    costs = np.cumsum(layers)
    curve = []
    for step in STEPS:
        probabilities, voted = votes.stopped([step] * (len(layers) - 1))
        cost = float(costs[voted - 1].mean() / costs[-1])
        curve.append(CurvePoint(cost, *votes.quality(probabilities).tolist()))
    return curve
