"""The int8 graph's weights in a graph for CUDA, so that a bundle answers on a GPU without a second copy of
them.

int8 products are slow on a GPU and fp16 products fast. So the integers are multiplied by their scales, and
the smoothing that the int8 graph applies to its activations is folded back into them, all by nodes of the
graph itself, which ONNX Runtime runs once, when it loads the graph. What is left are fused products of
floats: the int8 graph's weights, and activations that are not rounded to integers at all.
"""

from collections.abc import Collection
from typing import Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.cpu import for_gpu
from export.half import halve
from export.quantize import ATTENTION_ATTRIBUTES, MICROSOFT

COLUMN: Final = "column_axis"


def dequantize(quantized: onnx.ModelProto, half: bool = True) -> onnx.ModelProto:
    """A graph of floats from an int8 graph of this project's.

    Its large initializers are those of `quantized`, bit by bit, so that both graphs can refer to one file of
    them (`export.weights`). Scales and what they multiply are fp32, since half a scale would be a coarse one;
    what comes of it is cast.

    Args:
        half: fp16 products; else fp32, which is what fp16 is to be compared with.
    """
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    model = for_gpu(model)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), COLUMN))
    loading, products = _split(model.graph)
    loaded = {node.output[0] for node in loading} & {name for node in products for name in node.input}
    _replace(model.graph.node, products)
    if half:
        model = _halve(model, loaded)
        for node in loading:
            if node.output[0] in loaded:
                node.output[0] += "/fp32"
        loading += [
            helper.make_node("Cast", [f"{name}/fp32"], [name], to=TensorProto.FLOAT16)
            for name in sorted(loaded)
        ]
    graph = model.graph
    _replace(graph.node, [*loading, *graph.node])
    used = {name for node in graph.node for name in node.input}
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    del graph.value_info[:]  # half the file, and inferred again at loading
    return model


def _split(graph: onnx.GraphProto) -> tuple[list[NodeProto], list[NodeProto]]:
    """The nodes that make floats of what is stored, and the graph of floats behind them."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    loading: list[NodeProto] = []
    rest: list[NodeProto] = []
    for node in graph.node:
        if node.op_type in ("QAttention", "MatMulIntegerToFloat"):
            # in front of the product: Mul, then QuantizeLinear
            smooth = makers[makers[node.input[0]].input[0]]
            scales = node.input[4 if node.op_type == "QAttention" else 3]
            loading += _weight(node.output[0], node.input[1], scales, smooth.input[1])
            rest.append(_product(node, smooth.input[0]))
        elif _of_the_table(node, stored, makers):
            loading.append(node)
        else:
            rest.append(node)
    rest = _without_dead_ends(rest, {output.name for output in graph.output})
    floats = {
        name for name, tensor in stored.items() if tensor.data_type == TensorProto.FLOAT and tensor.dims
    }
    for name in sorted(floats & {name for node in rest for name in node.input}):
        loading.append(helper.make_node("Identity", [name], [f"{name}/loaded"]))
    for node in rest:
        _replace(node.input, [f"{name}/loaded" if name in floats else name for name in node.input])
    return loading, rest


def _weight(name: str, integers: str, scales: str, smoothing: str) -> list[NodeProto]:
    """W = integers · a scale for each column · a smoothing factor for each row."""
    return [
        helper.make_node("Cast", [integers], [f"{name}/floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}/floats", scales], [f"{name}/scaled"]),
        helper.make_node("Unsqueeze", [smoothing, COLUMN], [f"{name}/smoothing_column"]),
        helper.make_node("Mul", [f"{name}/scaled", f"{name}/smoothing_column"], [f"{name}/dequantized"]),
    ]


def _product(node: NodeProto, source: str) -> NodeProto:
    name = node.output[0]
    if node.op_type == "MatMulIntegerToFloat":
        return helper.make_node("MatMul", [source, f"{name}/dequantized"], [name], name=name)
    bias, mask = node.input[2], node.input[5]
    attention = helper.make_node(
        "Attention", [source, f"{name}/dequantized", bias, mask], [name], name=name, domain=MICROSOFT
    )
    attention.attribute.extend(
        attribute for attribute in node.attribute if attribute.name in ATTENTION_ATTRIBUTES
    )
    return attention


def _of_the_table(node: NodeProto, stored: Collection[str], makers: dict[str, NodeProto]) -> bool:
    """Whether it is of the int8 embedding: rows of the table and their scales, gathered, cast and
    multiplied."""
    if node.op_type == "Gather":
        return node.input[0] in stored and node.input[0].endswith(("/table", "/scales"))
    return node.op_type in ("Cast", "Mul") and all(
        name in makers and _of_the_table(makers[name], stored, makers) for name in node.input
    )


def _without_dead_ends(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """What the outputs need: smoothing and rounding of the activations have lost their readers."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def _halve(model: onnx.ModelProto, loaded: Collection[str]) -> onnx.ModelProto:
    """Convert a graph whose loading is cut off: what is loaded looks like inputs of the graph meanwhile."""
    inputs = list(model.graph.input)
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(loaded)
    )
    halved = halve(model)
    _replace(halved.graph.input, inputs)
    return halved


def _replace(field, values) -> None:
    values = list(values)
    del field[:]
    field.extend(values)
