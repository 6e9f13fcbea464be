"""Add new labelled rows to a file. The two entities and the label of each row stay true.

    python -m training.augment recipes/tiny/train.jsonl runs/tiny/more.jsonl --method eda --copies 2
    python -m training.augment recipes/tiny/train.jsonl runs/tiny/balanced.jsonl --method aeda --balance 500

The output has the rows of the input and then the new rows. The guid of a new row ends in the method and a
number. A recipe's `augmentation` block does the same in memory.
"""

import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from models.command import whole_number
from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.augment", __doc__)
    from training.augmentation.methods import METHODS, flag_help, read_options

    parser.add_argument("source", type=Path, metavar="IN", help="a file of KLUE-RE rows with labels")
    parser.add_argument("output", type=Path, metavar="OUT", help="JSONL file to write")
    parser.add_argument("--method", required=True, choices=METHODS, help="how new rows are made")
    parser.add_argument(
        "--seed", type=whole_number(0), default=42, help="the same seed gives the same rows (default: 42)"
    )
    parser.add_argument(
        "--only-new", action="store_true", help="write the new rows without the rows of the input"
    )
    for flag, text in flag_help().items():
        parser.add_argument(flag, default=SUPPRESS, help=text)
    arguments = vars(parser.parse_args(argv))
    source, output, method, seed, only_new = (
        arguments.pop(name) for name in ("source", "output", "method", "seed", "only_new")
    )

    def work() -> dict[str, Any]:
        augmentation = read_options(method, arguments)
        from training.augmentation.rows_file import augment

        return augment(source, output, augmentation, seed, only_new)

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
