"""Measure what each training method gives, compared with a plain recipe over several seeds.

    python -m training.study recipes/tiny/study.yaml --jobs 2

All runs learn from the same training rows, which are drawn by sentence. A method's effect is its mean
difference from the plain recipe, seed by seed. It counts as a gain or as harm only in two conditions: it is
larger than the spread of the plain recipe over its seeds, and all seeds agree on its sign. With one seed no
effect can be told from chance, and the table says so.

    python -m training.study recipes/study/deep.yaml     six layers, all rows, one seed: hours without a GPU

The study's `figures` file keeps the metrics of each finished run, its steps and its machine. When the command
is run again, it skips the runs whose metrics are there and which have the same recipe, rows and encoder, also
on another machine. The table is written again after each run, from the methods that are finished.
"""

import signal
import sys
from pathlib import Path
from typing import Any

from models.command import whole_number
from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.study", __doc__)
    parser.add_argument(
        "study",
        type=Path,
        metavar="STUDY",
        help="the study, a YAML file; docs/recipe.md describes its fields",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number(1),
        default=1,
        help="training runs at a time; they share the cores (default: 1)",
    )
    arguments = parser.parse_args(argv)
    # A terminated study raises SystemExit, so that it stops its training processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    def work() -> dict[str, Any]:
        from training.experiments.study import Study, run_study

        study = Study.read(arguments.study)
        summary = run_study(study, arguments.jobs)
        print(study.table.read_text(encoding="utf-8"), file=sys.stderr)
        return {"table": str(study.table), "methods": summary}

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
