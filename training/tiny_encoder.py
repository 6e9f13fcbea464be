"""Write a tiny encoder with random weights, to try every command without a download.

    python -m training.tiny_encoder runs/tiny/encoder
    python -m training.train recipes/tiny/train.yaml

The same rows give the same files.
"""

import sys
from pathlib import Path
from typing import Any

from training.command import TrainingParser


def main(argv: list[str] | None = None) -> int:
    parser = TrainingParser("training.tiny_encoder", __doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder for the model and the tokenizer")
    parser.add_argument(
        "--rows",
        type=Path,
        default=Path("recipes/tiny/train.jsonl"),
        metavar="ROWS.jsonl",
        help="rows whose words the tokenizer knows (default: recipes/tiny/train.jsonl)",
    )
    arguments = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        from models.rows import read_labelled

        rows = read_labelled(arguments.rows)
        from training.model.tiny_encoder import write_encoder

        write_encoder(arguments.folder, [row.example.sentence for row in rows])
        return {"encoder": str(arguments.folder)}

    return parser.run(work)


if __name__ == "__main__":
    sys.exit(main())
