"""Store an ensemble's predictions for training rows, for a student to learn from (distillation).

    python -m training.teach runs/tiny/member --data recipes/tiny/train.jsonl --output runs/tiny/teachers.npz
    python -m training.train RECIPE --set teacher_probabilities=runs/tiny/teachers.npz

The file holds the mean of the members' probabilities. It finds rows by their content, so a student can train
on a part of them, in any order. A recipe's `teachers` field does the same within a training run.
"""

import sys
from pathlib import Path
from typing import Any

from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.teach", __doc__)
    parser.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="folder of a finished member"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROWS.jsonl", help="KLUE-RE rows; labels are not read"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.npz", help="file to write")
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from models.rows import read_examples

        examples = read_examples(arguments.data)
        from training.ensemble.teachers import save, teach

        save(arguments.output, examples, teach(arguments.checkpoints, examples), arguments.checkpoints)
        teachers = [str(folder) for folder in arguments.checkpoints]
        return {"output": str(arguments.output), "rows": len(examples), "teachers": teachers}

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
