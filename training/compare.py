"""Compare finished runs: what differs, their metrics, and whether the difference can be chance.

    python -m training.compare runs/tiny/member runs/tiny/student

Each run is compared with the first one if both have the same validation rows: an interval for the difference
in micro-F1, McNemar's test, and the relations whose F1 changed most.
"""

import sys
from pathlib import Path
from typing import Any

from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.compare", __doc__)
    parser.add_argument("first", type=Path, metavar="RUN", help="the run that the others are compared with")
    parser.add_argument("others", type=Path, nargs="+", metavar="RUN", help="output folder of another run")
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from training.experiments.comparison import FinishedRun, compare, print_comparison

        folders = [arguments.first, *arguments.others]
        comparison = compare([FinishedRun.read(folder) for folder in folders])
        print_comparison(comparison)
        return comparison

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
