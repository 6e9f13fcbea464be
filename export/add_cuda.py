"""Let a bundle that was exported for CPUs also run on GPUs, from its int8 weights; no checkpoint is needed.

Each member gets a graph for CUDA of some hundred kilobytes. It shares the int8 weights, which move into a
file of their own; the int8 graph gives the same digits as before. The new graph and fp32 arithmetic on the
same weights answer the rows of --data, on a GPU if there is one, else on the CPU. The manifest says where.
On a machine with a GPU, the command proves the graphs again that the bundle has. The folder of the bundle
needs room for a second bundle.

Example:
  python -m export.add_cuda bundles/mine --data validation.jsonl
"""

import sys
from pathlib import Path
from typing import Any

from export.command import ExportParser


def main(argv: list[str] | None = None) -> int:
    parser = ExportParser("export.add_cuda", __doc__)
    parser.add_bundle_folder()
    parser.add_rows("--data", "labelled KLUE-RE rows for the proof", required=True)
    given = parser.parse_args(argv)
    return parser.run(lambda: _add(given.bundle, given.data))


def _add(path: Path, data: Path) -> dict[str, Any]:
    from export.cuda_graphs import add_cuda

    manifest = add_cuda(path, data)
    files = [file for member in manifest.members for file in member.files if file.device == "cuda"]
    machines = sorted({file.machine for file in files})
    return {"bundle": str(path), "proven_on": machines, **manifest.quality["cuda"].model_dump()}


if __name__ == "__main__":
    sys.exit(main())
