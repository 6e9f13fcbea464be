"""Fit the cascade of a bundle: how certain the first members must be for a row to stop there.

After each member, a row stops if the highest probability of the vote reaches the threshold. The thresholds
are lowered step by step, where a step saves most layers for the micro-F1 and AUPRC that it loses, as long as
the losses stay within --loss and --auprc-loss. Cross-fitting
measures the loss on new rows: each half of the rows with the thresholds of the other half. If that loss is
too high, thresholds are fitted again for half of the allowed loss, and so on. All rows of one sentence are
in the same half, because they are alike.

It needs only the packages that serving installs. The folder of the bundle needs room for a second bundle.

With --weights, the members get other weights in the vote first.

Examples:
  python -m export.cascade bundles/mine --data validation.jsonl --loss 0.2
  python -m export.cascade bundles/mine --data validation.jsonl --weights 1,2,5,15
"""

import argparse
import math
import sys
from typing import Any, Final

from export.command import ExportParser
from models.command import positive_numbers

LOSS: Final = 0.2
AUPRC_LOSS: Final = 0.5


def main(argv: list[str] | None = None) -> int:
    parser = ExportParser("export.cascade", __doc__)
    parser.add_bundle_folder()
    parser.add_rows("--data", "labelled KLUE-RE rows that no member was trained on", required=True)
    for flag, metric, points in (("--loss", "micro-F1", LOSS), ("--auprc-loss", "AUPRC", AUPRC_LOSS)):
        text = f"points of {metric} that the cascade can lose (default: {points})"
        parser.add_argument(flag, type=_points, default=points, metavar="POINTS", help=text)
    parser.add_argument(
        "--weights",
        type=positive_numbers,
        metavar="1,2,…",
        help="new weights in the vote, one for each member, before thresholds are fitted (default: the "
        "bundle's); golden rows and quality are measured again",
    )
    given = parser.parse_args(argv)
    return parser.run(lambda: _fit(given))


def _fit(given: argparse.Namespace) -> dict[str, Any]:
    from export.thresholds import fit_bundle

    cascade = fit_bundle(given.bundle, given.data, (given.loss, given.auprc_loss), given.weights)
    return {"bundle": str(given.bundle), **cascade.model_dump()}


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = math.nan
    if not math.isfinite(points):
        raise argparse.ArgumentTypeError(f"a number is required, not {text!r}")
    return points


if __name__ == "__main__":
    sys.exit(main())
