"""Graphs with their large tensors in a file of weights: graphs that share them, and graphs of over 2 GiB.

A file of weights stores equal tensors once.

This is ONNX's external data: a tensor names the file, an offset and a length, and ONNX Runtime maps the
file instead of reading it. The file is in the folder of the graphs, because ONNX Runtime refuses a path to
another folder.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
from onnx.external_data_helper import set_external_data

WEIGHTS: Final = "weights.bin"
SMALLEST: Final = 1024
"""Bytes. A smaller tensor stays in its graph: a reference would hardly be shorter."""
ALIGNMENT: Final = 64
LARGEST_GRAPH: Final = 1 << 30
"""Bytes of tensors. A larger graph gets a file of weights: protobuf, ONNX's format, ends at 2 GiB."""


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph, with a file of weights next to it if it is large. Its tensors then leave the model."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > LARGEST_GRAPH:
        save_shared({path: model}, f"{path.name}.{WEIGHTS}")
    else:
        onnx.save(model, str(path))


def has_weights_file(path: Path) -> bool:
    """Whether `save` wrote this graph with a file of weights."""
    return path.with_name(f"{path.name}.{WEIGHTS}").exists()


def save_shared(graphs: Mapping[Path, onnx.ModelProto], name: str = WEIGHTS) -> Path:
    """Write graphs to their paths, all in one folder, and their large tensors into one file there; returns
    its path. The tensors leave the models."""
    weights = next(iter(graphs)).with_name(name)
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
                set_external_data(tensor, name, offset=places[digest], length=len(content))
                tensor.ClearField("raw_data")
            path.write_bytes(model.SerializeToString())
    return weights
