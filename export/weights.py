"""Graphs with their large tensors in files: the table of words, graphs that share weights, and graphs of over
2 GiB.

The table of words is most of a small or multilingual model. Between the steps of an export it is only in a
file of its own, and a graph in memory refers to it. So the steps copy and write small graphs, and ONNX's
format, which ends at 2 GiB, is no limit for the table.

This is ONNX's external data: a tensor names the file, an offset and a length, and ONNX Runtime maps the
file instead of reading it. The file is in the folder of the graphs, because ONNX Runtime refuses a path to
another folder. A file of weights stores equal tensors once.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_tensor,
    set_external_data,
    uses_external_data,
)

from export.errors import ConversionFailed

WEIGHTS: Final = "weights.bin"
TABLE: Final = "table.bin"
SMALLEST: Final = 1024
"""Bytes. A smaller tensor stays in its graph: a reference would hardly be shorter."""
ALIGNMENT: Final = 64
LARGEST_GRAPH: Final = 1 << 30
"""Bytes of tensors. A larger graph gets a file of weights: protobuf, ONNX's format, ends at 2 GiB."""
BLOCK: Final = 8192
"""Rows of a table."""


def load(path: Path) -> onnx.ModelProto:
    """Read a graph of an export with its tensors, except for its table of words."""
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor) and not _is_table(tensor):
            load_external_data_for_tensor(tensor, str(path.parent))
    return model


def write_table(tensor: TensorProto, values: NDArray[np.float32], graph: Path) -> None:
    """Write the table of words of the graph that will be saved as `graph`, and let a tensor refer to it.

    Args:
        tensor: has the name and the type of the table; the rest is replaced.
        values: shape (words, hidden size).
    """
    path = graph.with_name(f"{graph.name}.{TABLE}")
    values.tofile(path)
    tensor.dims[:] = values.shape
    set_external_data(tensor, path.name, offset=0, length=values.nbytes)
    tensor.ClearField("raw_data")


def values_of(tensor: TensorProto, folder: Path) -> NDArray[np.generic]:
    """The values of a tensor. Those of a file are mapped, not read.

    Args:
        folder: of the graph.
    """
    if not uses_external_data(tensor):
        return numpy_helper.to_array(tensor)
    info = ExternalDataInfo(tensor)
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(
        folder / info.location, kind, mode="r", offset=info.offset or 0, shape=tuple(tensor.dims)
    )


def without_table(
    model: onnx.ModelProto,
    change: Callable[[onnx.ModelProto], onnx.ModelProto],
    table: Callable[[TensorProto], TensorProto] = copy.deepcopy,
) -> onnx.ModelProto:
    """Change a graph by a tool that needs all values at hand: a table in a file is one row meanwhile.

    Args:
        change: the tool. It must not depend on the values or the number of rows of the table.
        table: what the tool does to the table.

    Raises:
        ConversionFailed: the tool has removed the table.
    """
    tables = {}
    for tensor in model.graph.initializer:
        if _is_table(tensor):
            tables[tensor.name] = table(tensor)
            # tools merge equal tensors, so this one is unlike all others
            tensor.CopyFrom(
                numpy_helper.from_array(np.full((1, tensor.dims[1]), np.pi, np.float32), tensor.name)
            )
    changed = change(model)
    for tensor in changed.graph.initializer:
        if tensor.name in tables:
            tensor.CopyFrom(tables.pop(tensor.name))
    if tables:
        raise ConversionFailed(f"{', '.join(tables)}: the table of words is missing in the changed graph")
    return changed


def in_blocks(
    function: Callable[[NDArray[np.generic]], NDArray[np.generic]], table: NDArray[np.generic]
) -> NDArray[np.generic]:
    """The function of each row of a table. It is called with some thousand rows at a time, because its
    intermediate results need memory."""
    blocks = [function(table[first : first + BLOCK]) for first in range(0, len(table), BLOCK)]
    return np.concatenate(blocks)


def _is_table(tensor: TensorProto) -> bool:
    return uses_external_data(tensor) and ExternalDataInfo(tensor).location.endswith(f".{TABLE}")


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph, with a file of weights next to it if it is large. Its tensors then leave the model."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > LARGEST_GRAPH:
        save_shared({path: model}, f"{path.name}.{WEIGHTS}")
    else:
        onnx.save(model, str(path))


def is_large(path: Path) -> bool:
    """Whether a graph has too many bytes of tensors for one file."""
    graph = onnx.load(str(path), load_external_data=False).graph
    sizes = [
        ExternalDataInfo(tensor).length if uses_external_data(tensor) else len(tensor.raw_data)
        for tensor in graph.initializer
    ]
    return sum(sizes) > LARGEST_GRAPH


def save_shared(
    graphs: Mapping[Path, onnx.ModelProto], name: str = WEIGHTS, folder: Path | None = None
) -> Path:
    """Write graphs to their paths, all in one folder, and their large tensors into one file there; returns
    its path. The tensors leave the models.

    Args:
        folder: of the files that tensors refer to already; these tensors are copied. None: they stay there.
    """
    weights = next(iter(graphs)).with_name(name)
    places: dict[bytes, int] = {}
    with weights.open("wb") as file:
        for path, model in graphs.items():
            for tensor in model.graph.initializer:
                if uses_external_data(tensor):
                    if folder is None:
                        continue
                    content = values_of(tensor, folder).view(np.uint8).data
                    tensor.raw_data = b""  # set_external_data requires the field
                else:
                    content = memoryview(tensor.raw_data)
                if content.nbytes < SMALLEST:
                    continue
                digest = hashlib.sha256(content).digest()
                if digest not in places:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    places[digest] = file.tell()
                    file.write(content)
                set_external_data(tensor, name, offset=places[digest], length=content.nbytes)
                tensor.ClearField("raw_data")
            path.write_bytes(model.SerializeToString())
    return weights
