"""Calibrate a finished member: its head takes in a temperature and, if asked, the prior shift between its
training rows and the target.

    python -m training.calibrate runs/default/member-6 --data validation.jsonl --output runs/calibrated/member-6 \\
        --train train.jsonl --prior-shift em

The temperature is that of Guo et al. (2017). The prior shift is one of `no_relation` against all else, whose
share differs most between KLUE-RE's training set (29 %) and its development set (60 %):

    em       the share among the target rows by expectation maximisation (Saerens et al., 2002), which needs no labels
    labels   the share that labelled rows have

The proportions among the other 29 relations stay: estimating all 30 was far off on these rows. A part of the
shift is taken only (--strength), because a model sees some of it in the sentences: of the default members'
answers, 43 % were `no_relation` already. What it brings is measured by cross-fitting, each half of the rows
with what was fitted on the other half; halves are made of whole sentences. The last line of stdout is one
JSON object; it lies in the new checkpoint too, as calibration.json.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from models.example import InvalidExample
from models.labels import NO_RELATION, RELATION_IDS, RELATIONS
from models.metrics import auprc, micro_f1
from models.rows import InvalidRows, label_ids, read_examples, read_labelled, sentence_halves
from models.voting import softmax
from training.data.folds import apart
from training.model.calibration import (
    Calibration,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    prior_shift,
    reestimate_priors,
)
from training.model.heads import RelationClassifier
from training.model.member import InvalidCheckpoint, TrainedMember
from training.run.experiment import CHECKPOINTS, FINISHED, HELD_OUT, PREDICTIONS
from training.teach import KEPT

PriorShift = Literal["none", "em", "labels"]

REPORT: Final = "calibration.json"
# micro-F1 is flat from 0.25 to 0.75 on KLUE-RE's validation rows and falls towards 1 (docs/log.md)
STRENGTH: Final = 0.5
NONE: Final = RELATION_IDS[NO_RELATION]
LEFT_BEHIND: Final = (
    CHECKPOINTS,
    KEPT,
    FINISHED,
    PREDICTIONS,
    HELD_OUT,
    "epochs.jsonl",
    "curves.svg",
    "confusion.svg",
)
"""Of a member's folder: what says how the uncalibrated one does, and what only its training goes on from."""


class InvalidRequest(ValueError):
    """The command line asks for something impossible; the message names the option."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How good probabilities are on labelled rows: nats, a share from 0 to 1, and KLUE's two metrics."""

    negative_log_likelihood: float
    expected_calibration_error: float
    micro_f1: float
    auprc: float

    @classmethod
    def of(cls, logits: NDArray[np.floating], labels: NDArray[np.int64]) -> "Fit":
        probabilities = softmax(logits)
        return cls(
            negative_log_likelihood(probabilities, labels),
            expected_calibration_error(probabilities, labels),
            micro_f1(labels, probabilities.argmax(axis=1)),
            auprc(labels, probabilities),
        )


def fit(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    method: PriorShift = "none",
    train_share: float = 0.5,
    target: NDArray[np.floating] | None = None,
    strength: float = STRENGTH,
) -> Calibration:
    """A calibration from logits of labelled rows, shape (rows, 30).

    Args:
        labels: shape (rows,).
        train_share: share of `no_relation` among the rows that the model was trained on.
        target: logits of the rows that `em` estimates this share on, shape (target rows, 30); by default
            those of the labelled rows.
        strength: part of the shift that is taken.
    """
    temperature = fit_temperature(logits, labels)
    shift = np.zeros(len(RELATIONS))
    if method != "none":
        priors = np.array([train_share, 1 - train_share])
        if method == "labels":
            share = smoothed_share(np.count_nonzero(labels == NONE), len(labels))
        else:
            none = softmax((logits if target is None else target) / temperature)[:, NONE]
            share = smoothed_share(
                len(none) * reestimate_priors(np.stack([none, 1 - none], axis=1), priors)[0], len(none)
            )
        towards, away = prior_shift(np.array([share, 1 - share]), priors)
        shift[NONE] = strength * (towards - away)
    return Calibration(temperature, shift)


def cross_fit(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    halves: NDArray[np.bool_],
    method: PriorShift = "none",
    train_share: float = 0.5,
    target: NDArray[np.floating] | None = None,
    strength: float = STRENGTH,
) -> NDArray[np.float64]:
    """Logits calibrated with what was fitted on the other half, shape (rows, 30); arguments as of `fit`.

    Args:
        halves: which half a row is in, shape (rows,).
    """
    crossed = np.empty(logits.shape)
    for fitted_on in (halves, ~halves):
        half = fit(logits[fitted_on], labels[fitted_on], method, train_share, target, strength)
        crossed[~fitted_on] = half(logits[~fitted_on])
    return crossed


def smoothed_share(count: float, rows: int) -> float:
    """Of so many rows, neither 0 nor 1 however few they are (Laplace's rule of succession)."""
    return float((count + 1) / (rows + 2))


def fold(model: RelationClassifier, calibration: Calibration) -> None:
    """Let the model's head take in a calibration: its logits then are the calibrated ones."""
    with torch.no_grad():
        model.head.weight /= calibration.temperature
        model.head.bias /= calibration.temperature
        model.head.bias += torch.from_numpy(calibration.shift).to(model.head.bias)


def calibrate(
    checkpoint: Path,
    data: Path,
    output: Path,
    train: Path | None = None,
    method: PriorShift = "none",
    target: Path | None = None,
    strength: float = STRENGTH,
) -> dict[str, Any]:
    """Write a calibrated copy of a checkpoint folder; returns what was fitted, and how good it was before and
    is after.

    Args:
        data: labelled rows; those whose sentence is in `train` are left out.
        train: the rows that the checkpoint was trained on.
        target: rows for `em`, which need no labels; `data` by default.

    Raises:
        InvalidCheckpoint, InvalidRows, InvalidRequest, InvalidExample: something given cannot be used.
    """
    if output.exists():
        raise InvalidRequest(f"--output {output}: exists already")
    if (checkpoint / REPORT).exists():
        raise InvalidRequest(
            f"checkpoint {checkpoint}: calibrated already; shifted twice its priors would be wrong"
        )
    if method != "none" and train is None:
        raise InvalidRequest("--prior-shift: --train is required, the rows whose prior the model has learned")
    if target is not None and method != "em":
        raise InvalidRequest("--target: only --prior-shift em reads it")
    rows, train_rows = read_labelled(data), read_labelled(train) if train else []
    rows = apart(rows, train_rows)
    if not rows:
        raise InvalidRequest(
            f"--data {data}: every sentence of it is in --train; rows that were trained on calibrate nothing"
        )
    halves = sentence_halves(rows)
    if halves.all() or not halves.any():
        raise InvalidRequest(f"--data {data}: too few sentences, two halves are required")
    member = TrainedMember.load(checkpoint)
    logits, labels = member.logits([row.example for row in rows]), label_ids(rows)
    target_logits = member.logits(read_examples(target)) if target else None
    train_share = smoothed_share(sum(row.label_id == NONE for row in train_rows), len(train_rows))
    crossed = cross_fit(logits, labels, halves, method, train_share, target_logits, strength)
    calibration = fit(logits, labels, method, train_share, target_logits, strength)
    summary = {
        "checkpoint": str(output),
        "rows": len(rows),
        "temperature": calibration.temperature,
        "prior_shift": method,
        "no_relation_shift": float(calibration.shift[NONE]),
        "before": asdict(Fit.of(logits, labels)),
        "after": asdict(Fit.of(calibration(logits), labels)),
        "cross_fitted": asdict(Fit.of(crossed, labels)),
    }
    fold(member.model, calibration)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        folder = Path(scratch) / "member"
        shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        member.model.save_pretrained(folder)
        (folder / REPORT).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        folder.rename(output)
    return summary


def _strength(text: str) -> float:
    if not 0 < (strength := float(text)) <= 1:
        raise argparse.ArgumentTypeError("a number above 0 and up to 1 is required")
    return strength


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.calibrate",
        description="Calibrate a finished member: its head takes in a temperature and, if asked, a prior shift.",
        epilog="Rows that the member was trained on calibrate nothing. A checkpoint does not know its rows: give them as --train, and no "
        "row of --data that shares a sentence with them is used.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of a finished member")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROWS.jsonl", help="labelled KLUE-RE rows to fit on"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="NEW_CHECKPOINT", help="folder to write; must not exist"
    )
    parser.add_argument(
        "--train", type=Path, metavar="ROWS.jsonl", help="the rows that the member was trained on"
    )
    parser.add_argument(
        "--prior-shift",
        choices=get_args(PriorShift),
        default="none",
        help="estimate the target's share of no_relation without labels (em) or from those of --data (labels); none by default",
    )
    parser.add_argument(
        "--target", type=Path, metavar="ROWS.jsonl", help="rows for em, labels not needed (default: --data)"
    )
    parser.add_argument(
        "--strength",
        type=_strength,
        default=STRENGTH,
        help=f"part of the prior shift to take, up to 1 (default {STRENGTH})",
    )
    arguments = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()
    try:
        summary = calibrate(
            arguments.checkpoint,
            arguments.data,
            arguments.output,
            arguments.train,
            arguments.prior_shift,
            arguments.target,
            arguments.strength,
        )
    except (InvalidCheckpoint, InvalidRows, InvalidRequest, InvalidExample, OSError) as error:
        print(f"training.calibrate: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
