"""Fit a bundle's cascade: how sure its cheap members must be for the dear ones not to be asked.

    python -m export.cascade bundles/mine --data validation.jsonl --loss 0.2

After each member a row stops if the highest probability of the vote so far reaches the stage's threshold.
Thresholds are the lowest ones whose loss of micro-F1 and of AUPRC stays within what is allowed. What they
really cost is measured by cross-fitting, each half of the rows with the thresholds of the other half; if that
is more than allowed, less is asked for. Halves are made of whole sentences: the rows of one sentence resemble
each other.

Needs no more than serving does, and room for a second bundle beside it: manifest and sums are written anew in
a copy, which then takes the bundle's place.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.lanes import Lanes
from export.cascade_plot import plot
from export.evaluate import check_window, describe, read_rows
from export.replace import replacing
from models.bundle import Bundle, BundleRefused, Cascade, Manifest, Quality, write
from models.ensemble import DeviceUnavailable
from models.example import InvalidExample
from models.metrics import auprc, micro_f1
from models.rows import InvalidRows, LabelledExample, label_ids, sentence_halves
from models.voting import weighted_mean_probability

PLOT: Final = "cascade.svg"
LOSS: Final = 0.2
AUPRC_LOSS: Final = 0.5
STEPS: Final = np.round(np.arange(1.0, 0.29, -0.02), 2)
"""Thresholds that are tried, from next to never stopping down."""
HALVINGS: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """What an ensemble says over labelled rows.

    Attributes:
        stages: the vote of the first member, of the first two, …: shape (members, rows, 30).
        labels: shape (rows,).
    """

    stages: NDArray[np.float64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, members: NDArray[np.float64], weights: Sequence[float], labels: NDArray[np.int64]) -> "Votes":
        """From the members' own probabilities, shape (members, rows, 30)."""
        counts = range(1, len(members) + 1)
        return cls(
            np.stack(
                [weighted_mean_probability(members[:count], np.array(weights[:count])) for count in counts]
            ),
            labels,
        )

    def half(self, chosen: NDArray[np.bool_]) -> "Votes":
        return Votes(self.stages[:, chosen], self.labels[chosen])

    def stopped(self, thresholds: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The cascade's votes, shape (rows, 30), and how many members voted on each row."""
        voted = np.full(len(self.labels), len(self.stages))
        for stage in reversed(range(len(thresholds))):
            voted[self.stages[stage].max(axis=1) >= thresholds[stage]] = stage + 1
        return self.stages[voted - 1, np.arange(len(voted))], voted

    def loss(self, thresholds: Sequence[float]) -> NDArray[np.float64]:
        """Points of micro-F1 and of AUPRC that stopping costs."""
        return quality(self.labels, self.stages[-1]) - quality(self.labels, self.stopped(thresholds)[0])


def quality(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Micro-F1 and AUPRC."""
    return np.array([micro_f1(labels, probabilities.argmax(axis=1)), auprc(labels, probabilities)])


def fit(
    votes: Votes, halves: NDArray[np.bool_], allowed: NDArray[np.float64]
) -> tuple[list[float], NDArray[np.float64]]:
    """Thresholds for a cascade, and the votes that show what such thresholds cost.

    Args:
        halves: which of two halves a row is in, shape (rows,).
        allowed: points of micro-F1 and of AUPRC that may be lost.

    Returns:
        The thresholds, fitted on all rows; and each half's votes with thresholds fitted on the other half, shape (rows, 30).
    """
    for halvings in range(HALVINGS):
        # what half the rows promise, the other half may not keep: then less is asked for
        budget = allowed / 2**halvings
        crossed = np.empty_like(votes.stages[0])
        for side in (False, True):
            crossed[halves == side] = votes.half(halves == side).stopped(
                _fit(votes.half(halves != side), budget)
            )[0]
        lost = quality(votes.labels, votes.stages[-1]) - quality(votes.labels, crossed)
        if (lost <= allowed).all():
            return _fit(votes, budget), crossed
    return [1.0] * (len(votes.stages) - 1), votes.stages[-1]  # nothing may be lost: every member always votes


def _fit(votes: Votes, allowed: NDArray[np.float64]) -> list[float]:
    """Stage by stage, down from never stopping, until the stage's share of the loss is used up."""
    stages = len(votes.stages) - 1
    thresholds = [np.inf] * stages
    for stage in range(stages):
        for threshold in STEPS:
            tried = [*thresholds[:stage], threshold, *thresholds[stage + 1 :]]
            if not (votes.loss(tried) <= allowed * (stage + 1) / stages).all():
                break
            thresholds[stage] = float(threshold)
    return [min(threshold, 1.0) for threshold in thresholds]


def with_cascade(
    manifest: Manifest, votes: Votes, rows: Sequence[LabelledExample], data: str, allowed: NDArray[np.float64]
) -> Manifest:
    """The manifest with a fitted cascade."""
    thresholds, crossed = fit(votes, sentence_halves(rows), allowed)
    stopped, voted = votes.stopped(thresholds)
    shares = [float(np.mean(voted == count)) for count in range(1, len(votes.stages) + 1)]

    def measured(probabilities: NDArray[np.float64]) -> Quality:
        f1, area = quality(votes.labels, probabilities)
        return Quality(rows=len(rows), data=data, micro_f1=float(f1), auprc=float(area))

    cascade = Cascade(
        thresholds=thresholds, shares=shares, quality=measured(stopped), cross_fitted=measured(crossed)
    )
    return manifest.model_copy(update={"cascade": cascade})


def fit_bundle(path: Path, data: Path, loss: float, auprc_loss: float) -> Manifest:
    """Fit the cascade of the bundle that lies at `path`, and write its manifest, its sums and a plot of
    quality against cost.

    If anything fails, the bundle stays as it was.

    Raises:
        BundleRefused, InvalidRows, DeviceUnavailable, OSError: as `Bundle.open`, `read_rows`, `Lanes.load`,
            `replacing`.
    """
    bundle = Bundle.open(path)
    if len(bundle.manifest.members) < 2:
        raise BundleRefused(f"bundle {path}: a cascade needs two members, this bundle has one")
    rows = read_rows(data)
    lanes = Lanes.load(bundle, cascade_caution=1.0)
    check_window(data, rows, lanes.ensemble.encode)
    members = lanes.member_probabilities([row.example for row in rows])
    votes = Votes.of(members, [member.weight for member in bundle.manifest.members], label_ids(rows))
    manifest = with_cascade(bundle.manifest, votes, rows, describe(data), np.array([loss, auprc_loss]))
    costs = np.cumsum([member.layers for member in manifest.members])
    curve = [
        (
            float(costs[votes.stopped([step] * (len(costs) - 1))[1] - 1].mean() / costs[-1]),
            *_scores(votes, step),
        )
        for step in STEPS
    ]
    with replacing(path) as copy:
        (copy / PLOT).write_text(plot(curve, manifest), encoding="utf-8")
        write(copy, manifest)
    return manifest


def _scores(votes: Votes, threshold: float) -> tuple[float, float]:
    f1, area = quality(votes.labels, votes.stopped([threshold] * (len(votes.stages) - 1))[0])
    return float(f1), float(area)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, prog="python -m export.cascade", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="ROWS.jsonl",
        help="labelled KLUE-RE rows that no member was trained on",
    )
    parser.add_argument(
        "--loss", type=float, default=LOSS, help=f"points of micro-F1 that may be lost (default: {LOSS})"
    )
    parser.add_argument(
        "--auprc-loss",
        type=float,
        default=AUPRC_LOSS,
        help=f"points of AUPRC that may be lost (default: {AUPRC_LOSS})",
    )
    arguments = parser.parse_args(argv)
    try:
        manifest = fit_bundle(arguments.bundle, arguments.data, arguments.loss, arguments.auprc_loss)
    except (BundleRefused, DeviceUnavailable, InvalidRows, InvalidExample, OSError) as error:
        print(f"export.cascade: {error}", file=sys.stderr)
        return 2
    assert manifest.cascade is not None
    print(json.dumps({"bundle": str(arguments.bundle), **manifest.cascade.model_dump()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
