"""A calibrated copy of a finished member: `python -m training.calibrate`."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.rows import InvalidRows, label_ids, read_examples, read_labelled, sentence_halves
from models.voting import softmax
from training.data.folds import apart
from training.ensemble.teachers import KEPT
from training.errors import InvalidArguments, WorseCalibration
from training.model.calibration import (
    NONE,
    STRENGTH,
    PriorShift,
    ProbabilityQuality,
    ShiftOptions,
    cross_fit,
    fit,
    smoothed_share,
)
from training.model.member import TrainedMember, by_exit
from training.run.record import CHECKPOINTS, RESULTS

REPORT: Final = "calibration.json"
NOT_COPIED: Final = (CHECKPOINTS, KEPT, *RESULTS)
"""Files of a member that describe the uncalibrated one, or that only its training needs."""


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """What a member is calibrated on, and how.

    Attributes:
        checkpoint: folder of the member.
        output: folder of the copy.
        data: labelled rows to fit on. Rows whose sentence is in `train` are not used.
        train: the rows that the member was trained on. A prior shift requires them.
        method: how the share of `no_relation` among the target rows is estimated.
        target: rows for `em`, without labels; `data` by default.
        strength: part of the prior shift that is applied, above 0 and up to 1.
        even_if_worse: write the member although the cross-fitted quality is worse than before.
    """

    checkpoint: Path
    output: Path
    data: Path
    train: Path | None = None
    method: PriorShift = "none"
    target: Path | None = None
    strength: float = STRENGTH
    even_if_worse: bool = False


def calibrate(options: CalibrationOptions) -> dict[str, Any]:
    """Write a calibrated copy of a member; returns the fit and the quality before and after.

    Each exit of a member with several is calibrated by itself. The quality is that of their vote.

    Raises:
        InvalidCheckpoint, InvalidRows, InvalidArguments, InvalidExample: an input cannot be used.
        WorseCalibration: on rows that it was not fitted on, the calibration makes the member worse.
    """
    checkpoint, output = options.checkpoint, options.output
    if output.exists():
        raise InvalidArguments(f"--output: {output} exists already; name another folder")
    if (checkpoint / REPORT).exists():
        raise InvalidArguments(
            f"checkpoint {checkpoint}: it is calibrated already; name the member that it was made from"
        )
    train_rows = read_labelled(options.train) if options.train else []
    rows = apart(read_labelled(options.data), train_rows)
    if not rows:
        raise InvalidArguments(
            f"--data: every sentence of {options.data} is in --train; name rows that the member has not seen"
        )
    try:
        halves = sentence_halves(rows)
    except InvalidRows as error:
        raise InvalidRows(f"--data: {options.data}: {error}") from None
    member = TrainedMember.load(checkpoint)
    exits, labels = by_exit(member.logits([row.example for row in rows])), label_ids(rows)
    train_share = smoothed_share(sum(row.label_id == NONE for row in train_rows), len(train_rows))
    shift = ShiftOptions(options.method, train_share, strength=options.strength)
    shifts = [shift] * len(exits)
    if options.target:
        targets = by_exit(member.logits(read_examples(options.target)))
        shifts = [replace(shift, target=target) for target in targets]
    pairs = list(zip(exits, shifts, strict=True))
    calibrations = [fit(logits, labels, shift) for logits, shift in pairs]
    after = [calibration(logits) for calibration, logits in zip(calibrations, exits, strict=True)]
    crossed = [cross_fit(logits, labels, halves, shift) for logits, shift in pairs]
    before, expected = (ProbabilityQuality.of(_vote(logits), labels) for logits in (exits, crossed))
    if not options.even_if_worse:
        _require_better(before, expected)
    temperatures = [calibration.temperature for calibration in calibrations]
    no_relation = [float(calibration.shift[NONE]) for calibration in calibrations]
    summary = {
        "checkpoint": str(output),
        "rows": len(rows),
        # one number, or one for each exit
        "temperature": temperatures if member.model.exits else temperatures[0],
        "prior_shift": options.method,
        "no_relation_shift": no_relation if member.model.exits else no_relation[0],
        "before": asdict(before),
        "after": asdict(ProbabilityQuality.of(_vote(after), labels)),
        "cross_fitted": asdict(expected),
    }
    member.fold(calibrations)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        folder = Path(scratch) / "member"
        shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
        member.model.save_pretrained(folder)
        (folder / REPORT).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        folder.rename(output)
    return summary


def _require_better(before: ProbabilityQuality, expected: ProbabilityQuality) -> None:
    """Raises WorseCalibration if the likelihood or micro-F1 falls on rows that a fit has not seen."""
    was, is_ = before.negative_log_likelihood, expected.negative_log_likelihood
    worse = []
    if is_ > was:
        worse.append(f"negative log-likelihood rises from {was:.4f} to {is_:.4f}")
    if expected.micro_f1 < before.micro_f1:
        worse.append(f"micro-F1 falls from {before.micro_f1:.2f} to {expected.micro_f1:.2f}")
    if worse:
        raise WorseCalibration(
            f"cross-fitted, {' and '.join(worse)}; nothing was written. Use the member as it is, another "
            "--prior-shift or more rows; --even-if-worse writes it all the same"
        )


def _vote(exits: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Logits whose probabilities are the mean of the exits' probabilities; those of one head unchanged."""
    if len(exits) == 1:
        return exits[0]
    logits: NDArray[np.floating] = np.log(np.mean([softmax(logits) for logits in exits], axis=0))
    return logits
