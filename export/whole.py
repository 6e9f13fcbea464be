"""Write each member of a bundle as an ordinary graph in one file, for another server.

A graph takes `input_ids`, `attention_mask` and, if its model reads them, `token_type_ids`, all of shape
(rows, tokens), and `entity_positions` of shape (rows, 2). Some heads also read `entity_spans` of shape
(rows, 2, 2) or `entity_types` of shape (rows, 2), which docs/export.md describes. Its output is `logits` of
shape (rows, 30). An exit of a trunk becomes a graph that starts with token ids. So these graphs compute again
what the stages of the bundle compute once.

Example:
  python -m export.whole bundles/default runs/whole
"""

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from export.command import ExportParser
from models.precision import Device


def main(argv: list[str] | None = None) -> int:
    parser = ExportParser("export.whole", __doc__)
    parser.add_bundle()
    parser.add_argument("output", type=Path, metavar="FOLDER", help="folder to write; it must not exist")
    parser.add_argument(
        "--device", choices=get_args(Device), default="cpu", help="the device of the graphs (default: cpu)"
    )
    given = parser.parse_args(argv)
    return parser.run(lambda: _write(given))


def _write(given: argparse.Namespace) -> dict[str, Any]:
    from export.whole_graphs import write_whole

    written = write_whole(given.bundle, given.output, given.device)
    return {"bundle": str(given.bundle), "graphs": [str(graph) for graph in written]}


if __name__ == "__main__":
    sys.exit(main())
