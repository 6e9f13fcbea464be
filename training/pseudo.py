"""Label rows by a bundle or by finished members, and write the sure ones as training rows.

    python -m training.pseudo UNLABELLED.jsonl OUT.jsonl --by bundles/default --evaluation VALIDATION.jsonl
    python -m training.pseudo UNLABELLED.jsonl OUT.jsonl --by runs/a runs/b --evaluation VALIDATION.jsonl \\
        --threshold 0.95 --share no_relation=0.1

A row whose sentence is in an evaluation file is refused. OUT.jsonl.record.json counts the rows by label and
the refused ones by reason.
"""

import sys
from pathlib import Path
from typing import Any

from models.command import share
from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.pseudo", __doc__)
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
        type=share,
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

        shares: dict[str, float] = {}
        for label, part in arguments.share:
            if label is not None and label not in RELATIONS:
                raise InvalidArguments(f"--share: {label} is not one of the 30 relations")
            shares |= dict.fromkeys([label] if label else RELATIONS, part)
        from training.ensemble.pseudo import PseudoOptions, pseudo_label

        return pseudo_label(PseudoOptions(**{**vars(arguments), "share": shares}))

    return parser.run(work)


def _share(text: str) -> tuple[str | None, float]:
    label, equals, part = text.rpartition("=")
    return (label if equals else None), share(part)


if __name__ == "__main__":
    sys.exit(main())
