"""Split labelled rows into rows to train on and rows to validate on. No sentence is in both.

    python -m training.split recipes/tiny/train.jsonl runs/tiny/rows --of 10

The folder gets train.jsonl and validation.jsonl. ROWS has any form that training reads, such as the
competition's train.csv. The same rows give the same files.
"""

import sys
from pathlib import Path
from typing import Any

from models.command import whole_number
from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.split", __doc__)
    parser.add_argument("rows", type=Path, metavar="ROWS", help="a file of KLUE-RE rows with labels")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder for the two files")
    parser.add_argument(
        "--of",
        type=whole_number(2),
        default=10,
        metavar="K",
        help="one of K parts of the sentences is for validation (default: 10)",
    )
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from training.data.folds import split_file

        return split_file(arguments.rows, arguments.folder, arguments.of)

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
