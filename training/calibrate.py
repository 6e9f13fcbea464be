r"""Calibrate a finished member: fit a temperature and, on request, a shift of the share of `no_relation`.

    python -m training.calibrate runs/tiny/member --data recipes/tiny/validation.jsonl \
        --output runs/tiny/calibrated --train recipes/tiny/train.jsonl --prior-shift em

The head of the new member contains the calibration (Guo et al., 2017). KLUE-RE's training rows have
`no_relation` in 29 % of the cases, its development rows in 60 %. The share in the target rows is estimated
without labels by expectation maximisation (em; Saerens et al., 2002), or from the labels of --data (labels).

The gain is measured by cross-fitting: each half of the rows is calibrated with a fit on the other half. The
summary is also in the new checkpoint, as calibration.json. If the cross-fitted likelihood or micro-F1 is
worse than before, nothing is written.
"""

import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from models.command import share
from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.calibrate", __doc__)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of a finished member")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROWS.jsonl", help="labelled KLUE-RE rows to fit on"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder to write; it must not exist"
    )
    parser.add_argument(
        "--train",
        type=Path,
        metavar="ROWS.jsonl",
        help="the member's training rows; rows of --data with one of their sentences are not used",
    )
    parser.add_argument(
        "--prior-shift",
        dest="method",
        choices=["none", "em", "labels"],
        default="none",
        help="how to estimate the share of no_relation in the target rows (default: none, no shift)",
    )
    parser.add_argument(
        "--target",
        type=Path,
        metavar="ROWS.jsonl",
        help="target rows for em, labels not needed (default: --data)",
    )
    parser.add_argument(
        "--strength",
        type=share,
        default=SUPPRESS,
        help="part of the prior shift to apply, above 0 and up to 1 (default: half of it)",
    )
    parser.add_argument(
        "--even-if-worse",
        action="store_true",
        help="write the member although its cross-fitted likelihood or micro-F1 is worse than before",
    )
    arguments = parser.parse_args(argv)
    if arguments.method != "none" and arguments.train is None:
        parser.error("--prior-shift: --train is required, the rows whose label shares the member has learned")
    if arguments.target is not None and arguments.method != "em":
        parser.error("--target: only --prior-shift em reads it")

    def work() -> dict[str, Any]:
        from training.run.calibrated import CalibrationOptions, calibrate

        return calibrate(CalibrationOptions(**vars(arguments)))

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
