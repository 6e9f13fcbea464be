"""Graphs that share one file of weights: what they have in common is stored once.

It is ONNX's external data: a tensor names the file, an offset and a length, and ONNX Runtime maps the file
instead of reading it. The file lies beside the graphs, since ONNX Runtime refuses a path that leads out of
their folder.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
from onnx.external_data_helper import set_external_data

WEIGHTS: Final = "weights.bin"
SMALLEST: Final = 1024
"""Bytes below which a tensor stays in its graph: a place in the file would hardly be smaller."""
ALIGNMENT: Final = 64


def save_shared(graphs: Mapping[Path, onnx.ModelProto]) -> Path:
    """Write graphs under their paths, all in one folder, and their large tensors into one file beside them,
    whose path is returned."""
    weights = next(iter(graphs)).with_name(WEIGHTS)
    places: dict[bytes, int] = {}
    with weights.open("wb") as file:
        for path, model in graphs.items():
            for tensor in model.graph.initializer:
                content = tensor.raw_data
                if len(content) < SMALLEST:
                    continue
                digest = hashlib.sha256(content).digest()
                if digest not in places:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    places[digest] = file.tell()
                    file.write(content)
                set_external_data(tensor, WEIGHTS, offset=places[digest], length=len(content))
                tensor.ClearField("raw_data")
            path.write_bytes(model.SerializeToString())
    return weights
