"""Label rows by a bundle or by finished members, and write the sure ones as training rows.

    python -m training.pseudo UNLABELLED.jsonl OUT.jsonl --by bundles/default --evaluation VALIDATION.jsonl
    python -m training.pseudo UNLABELLED.jsonl OUT.jsonl --by runs/a runs/b --evaluation VALIDATION.jsonl \\
        --threshold 0.95 --share no_relation=0.1

A row whose sentence is in an evaluation file is refused. OUT.jsonl.record.json counts the rows by label and
the refused ones by reason.
"""

import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from training.command import CommandParser


def main(argv: list[str] | None = None) -> int:
    parser = CommandParser("pseudo", __doc__)
    parser.add_argument("source", type=Path, metavar="IN", help="a file of KLUE-RE rows without labels")
    parser.add_argument("output", type=Path, metavar="OUT", help="JSONL file to write")
    parser.add_argument(
        "--by",
        nargs="+",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the bundle that labels, or finished members, which vote",
    )
    parser.add_argument(
        "--evaluation",
        nargs="+",
        type=Path,
        required=True,
        metavar="ROWS",
        help="files of rows that models are measured on; their sentences are refused",
    )
    parser.add_argument(
        "--threshold",
        type=_part,
        default=0.9,
        metavar="P",
        help="least probability of a label that is kept (default: 0.9)",
    )
    parser.add_argument(
        "--share",
        action="append",
        type=_share,
        default=[],
        metavar="[LABEL=]S",
        help="keep only this share of the rows that got a label, the surest ones; for all labels or for one, "
        "such as no_relation=0.1; can be repeated (default: 1)",
    )
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from models.labels import RELATIONS
        from training.errors import InvalidArguments

        share: dict[str, float] = {}
        for label, part in arguments.share:
            if label is not None and label not in RELATIONS:
                raise InvalidArguments(f"--share: {label} is not one of the 30 relations")
            share |= dict.fromkeys([label] if label else RELATIONS, part)
        from training.ensemble.pseudo import PseudoOptions, pseudo_label

        return pseudo_label(
            PseudoOptions(
                arguments.source,
                arguments.output,
                arguments.by,
                arguments.evaluation,
                arguments.threshold,
                share,
            )
        )

    return parser.run(work)


def _part(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"a number above 0, at most 1, is required, not {text!r}")
    return value


def _share(text: str) -> tuple[str | None, float]:
    label, equals, part = text.rpartition("=")
    return (label if equals else None), _part(part)


if __name__ == "__main__":
    sys.exit(main())
