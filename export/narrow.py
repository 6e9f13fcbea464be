"""Computes the last layer only for the tokens that the head reads.

After its attention, a layer treats each token by itself. A head reads one to three tokens of a row: the
first one, or those that open the two entities. They are picked before the products of the last layer
instead of after them. This saves three quarters of that layer and changes no answer.
"""

import copy
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from export.edit import drop_unread, needed, rename_inputs, replace
from models.classifier import ENTITY_POSITIONS

ATTENTION: Final = ("Attention", "QAttention")
TOKEN_BY_TOKEN: Final = frozenset(
    [
        "Add",
        "BiasGelu",
        "FastGelu",
        "Gelu",
        "LayerNormalization",
        "MatMul",
        "MatMulIntegerToFloat",
        "Mul",
        "QuantizeLinear",
        "SkipLayerNormalization",
    ]
)
"""Operators that treat each token by itself, if all their inputs are constants or tokens."""


def only(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """The part of a graph that computes some of its outputs, with the inputs that it needs."""
    part = copy.deepcopy(model)
    graph = part.graph
    replace(graph.output, (output for output in graph.output if output.name in outputs))
    _keep_needed(graph, list(graph.node))
    read = {name for node in graph.node for name in node.input}
    replace(graph.input, (value for value in graph.input if value.name in read))
    return part


def last_layer(model: onnx.ModelProto) -> tuple[str, str]:
    """The names of the output of the last layer's attention, and of the layer's input. The other products of
    the layer read these two tensors only."""
    makers = {name: node for node in model.graph.node for name in node.output}
    attention = next(node for node in reversed(model.graph.node) if node.op_type in ATTENTION)
    return str(attention.output[0]), _tokens_before(attention, makers)


def narrow(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with the same answers, or the graph itself if its head reads the tokens in another way, such
    as their mean."""
    narrowed = copy.deepcopy(model)
    return narrowed if _narrow(narrowed.graph) else model


def _narrow(graph: onnx.GraphProto) -> bool:
    """Narrow a graph in place. After False, the graph is unusable."""
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer} | {
        name for name, node in makers.items() if node.op_type == "Constant"
    }
    attention = next((node for node in reversed(graph.node) if node.op_type in ATTENTION), None)
    if attention is None:
        return False
    context, residual = attention.output[0], _tokens_before(attention, makers)

    tokens, layer, readers = {context}, [], []
    for node in graph.node:
        if not tokens.intersection(node.input):
            continue
        if node.op_type in TOKEN_BY_TOKEN and tokens | constants | {residual, ""} >= set(node.input):
            layer.append(node)
            tokens.update(node.output)
        else:
            readers.append(node)
    at_entities = {
        node.output[0]: column for node in readers if (column := _column_of_entities(node, makers))
    }
    of_first = [node for node in readers if _reads_first(node, graph, makers)]
    sizes = [node for node in readers if node.op_type == "Shape"]
    columns = set(at_entities.values())
    known = len(at_entities) + len(of_first) + len(sizes) == len(readers) > len(sizes)
    if not known or len(columns) > 1 or not layer or any(context in node.input for node in readers):
        return False

    def pick(name: str) -> list[NodeProto]:
        """The tokens that are read, shape (rows, tokens read, hidden size): the first one, then the
        entities'."""
        picked = []
        if of_first:
            picked.append(helper.make_node("Gather", [name, "first_token"], [f"{name}/first"], axis=1))
        if columns:
            picked.append(helper.make_node("GatherND", [name, *columns], [f"{name}/entities"], batch_dims=1))
        if len(picked) == 2:
            return [
                *picked,
                helper.make_node("Concat", [f"{name}/first", f"{name}/entities"], [f"{name}/read"], axis=1),
            ]
        picked[0].output[0] = f"{name}/read"
        return picked

    for node in layer:
        rename_inputs(node, {context: f"{context}/read", residual: f"{residual}/read"})
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node is layer[0]:
            nodes += [made for name in columns for made in _with_what_it_needs(makers[name], makers)]
            nodes += pick(context) + pick(residual)
        if node.output[0] not in at_entities:
            nodes.append(node)
        elif of_first:
            nodes.append(helper.make_node("Gather", [node.input[0], "entity_tokens"], node.output, axis=1))
        else:
            nodes.append(helper.make_node("Identity", [node.input[0]], node.output))
    graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "first_token"))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "entity_tokens"))
    _keep_needed(graph, nodes)
    # else a node counts the tokens, of which only a few are left
    return not any(node in sizes for node in graph.node)


def _tokens_before(attention: NodeProto, makers: dict[str, NodeProto]) -> str:
    """The input of a layer: that of its attention, before it is smoothed and rounded to integers."""
    name = attention.input[0]
    while name in makers and makers[name].op_type in ("QuantizeLinear", "Mul"):
        name = makers[name].input[0]
    return str(name)


def _column_of_entities(node: NodeProto, makers: dict[str, NodeProto]) -> str | None:
    """The positions of the entities, shape (rows, 2, 1), by which a head of training/model/heads.py gathers
    its tokens; None for another node."""
    expand = makers.get(node.input[1]) if node.op_type == "GatherElements" else None
    column = makers.get(expand.input[0]) if expand is not None and expand.op_type == "Expand" else None
    if column is None or column.op_type != "Unsqueeze" or column.input[0] != ENTITY_POSITIONS:
        return None
    return str(column.output[0])


def _reads_first(node: NodeProto, graph: onnx.GraphProto, makers: dict[str, NodeProto]) -> bool:
    """Whether a node takes the first token of each row. In a narrowed graph, the first token is still
    first."""
    along_tokens = any(attribute.name == "axis" and attribute.i == 1 for attribute in node.attribute)
    if node.op_type != "Gather" or not along_tokens:
        return False
    index = next((tensor for tensor in graph.initializer if tensor.name == node.input[1]), None)
    if index is None and (maker := makers.get(node.input[1])) is not None and maker.op_type == "Constant":
        index = maker.attribute[0].t
    return index is not None and not numpy_helper.to_array(index).any()


def _with_what_it_needs(node: NodeProto, makers: dict[str, NodeProto]) -> list[NodeProto]:
    """A node and the constants that it reads, which can be later in the graph."""
    return [
        *(makers[name] for name in node.input if name in makers and makers[name].op_type == "Constant"),
        node,
    ]


def _keep_needed(graph: onnx.GraphProto, nodes: list[NodeProto]) -> None:
    """Set the nodes of a graph: those that its outputs need, each once. Remove constants without a reader."""
    kept: dict[str, NodeProto] = {}
    for node in needed(nodes, [output.name for output in graph.output]):
        kept.setdefault(node.output[0], node)
    replace(graph.node, kept.values())
    drop_unread(graph)
    del graph.value_info[:]
