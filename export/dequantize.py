"""A graph for CUDA from an int8 graph, so that a bundle runs on a GPU without a second copy of its weights.

On a GPU, int8 products are slow and fp16 products are fast. When ONNX Runtime loads the new graph, its
first nodes run once: they multiply the integers by their scales, and move the smoothing of the activations
back into the weights. The rest of the graph are fused products of floats, with activations that are not
rounded to integers.
"""

import copy
from collections.abc import Collection
from typing import Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.cpu import for_gpu
from export.edit import drop_unread, needed, rename_inputs, replace
from export.half import halve
from export.quantize import ATTENTION_ATTRIBUTES, MICROSOFT

COLUMN: Final = "column_axis"


def dequantize(quantized: onnx.ModelProto, half: bool = True) -> onnx.ModelProto:
    """A graph of floats from an int8 graph of this project's.

    Its large initializers are those of `quantized`, bit by bit, so that both graphs can share one file of
    them (`export.weights`). Scales are multiplied in fp32, because fp16 would be too coarse; the result is
    cast.

    Args:
        half: whether the products are in fp16; fp32 is the reference for fp16.
    """
    model = for_gpu(copy.deepcopy(quantized))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), COLUMN))
    loading, products = _split(model.graph)
    loaded = {node.output[0] for node in loading} & {name for node in products for name in node.input}
    replace(model.graph.node, products)
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
    replace(graph.node, [*loading, *graph.node])
    drop_unread(graph)
    del graph.value_info[:]  # half of the file; ONNX Runtime infers it again
    return model


def _split(graph: onnx.GraphProto) -> tuple[list[NodeProto], list[NodeProto]]:
    """The nodes that turn stored integers into floats, and the graph of floats after them."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    loading: list[NodeProto] = []
    rest: list[NodeProto] = []
    for node in graph.node:
        if node.op_type in ("QAttention", "MatMulIntegerToFloat"):
            # before the product: Mul, then QuantizeLinear
            smooth = makers[makers[node.input[0]].input[0]]
            scales = node.input[4 if node.op_type == "QAttention" else 3]
            loading += _weight(node.output[0], node.input[1], scales, smooth.input[1])
            rest.append(_product(node, smooth.input[0]))
        elif _of_the_table(node, stored, makers):
            loading.append(node)
        else:
            rest.append(node)
    # the smoothing and rounding of activations have no reader any more
    rest = needed(rest, [output.name for output in graph.output])
    floats = {
        name for name, tensor in stored.items() if tensor.data_type == TensorProto.FLOAT and tensor.dims
    }
    for name in sorted(floats & {name for node in rest for name in node.input}):
        loading.append(helper.make_node("Identity", [name], [f"{name}/loaded"]))
    for node in rest:
        rename_inputs(node, {name: f"{name}/loaded" for name in floats})
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
    """Whether a node belongs to the int8 embedding: it gathers, casts or multiplies rows of the table or
    scales."""
    if node.op_type == "Gather":
        return node.input[0] in stored and node.input[0].endswith(("/table", "/scales"))
    return node.op_type in ("Cast", "Mul") and all(
        name in makers and _of_the_table(makers[name], stored, makers) for name in node.input
    )


def _halve(model: onnx.ModelProto, loaded: Collection[str]) -> onnx.ModelProto:
    """Convert the graph of floats to fp16. The loaded tensors are inputs of the graph during the
    conversion."""
    inputs = list(model.graph.input)
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(loaded)
    )
    halved = halve(model)
    replace(halved.graph.input, inputs)
    return halved
