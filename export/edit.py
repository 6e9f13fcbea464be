"""Small changes to ONNX graphs, in place."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import onnx
from onnx import NodeProto


def replace(field: Any, values: Iterable[Any]) -> None:
    """Give a repeated field of a graph or a node other values."""
    values = list(values)
    del field[:]
    field.extend(values)


def rename_inputs(node: NodeProto, names: Mapping[str, str]) -> None:
    """Let a node read other tensors; `names` has the new name of each."""
    node.input[:] = [names.get(name, name) for name in node.input]


def needed(nodes: Sequence[NodeProto], outputs: Collection[str]) -> list[NodeProto]:
    """The nodes that some outputs need, in their order."""
    names = set(outputs)
    for node in reversed(nodes):
        if names.intersection(node.output):
            names.update(node.input)
    return [node for node in nodes if names.intersection(node.output)]


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the initializers that no node reads."""
    read = {name for node in graph.node for name in node.input}
    replace(graph.initializer, (tensor for tensor in graph.initializer if tensor.name in read))
