"""A fused fp32 graph into int8 for CPUs, with constant activation scales.

Dynamic quantisation takes a scale over the whole batch, so a row's answer depends on its neighbours
(measured on this task: 13 of 240 labels changed). Here every scale is a constant, fitted on calibration
rows, and int32 sums are exact. So a row gets the same answer alone and in any batch. Smoothing wins most of
the lost accuracy back (SmoothQuant, Xiao et al., 2022, arXiv:2211.10438): it moves outlier channels from
the activations into the weights.

Weights have 7 bits, not 8: on processors without VNNI, the int8 kernels add two products in 16 bits, and 8
bits would saturate.
"""

import copy
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.edit import drop_unread, replace
from export.weights import in_blocks, save, values_of
from models.classifier import INPUT_IDS, feed
from models.encoding import EncodedBatch

WEIGHT_LIMIT: Final = 63
SMOOTHING: Final = 0.8  # best agreement with fp32 of 0.5, 0.6, 0.7, 0.8 (docs/log.md)
HEAD: Final = "/features"
"""In the names of a head's nodes: the attribute of RelationClassifier that holds the head."""
MICROSOFT: Final = "com.microsoft"
ATTENTION_ATTRIBUTES: Final = {"num_heads", "unidirectional", "mask_filter_value", "do_rotary", "scale"}
"""Attributes that Attention and QAttention share."""


@dataclass(slots=True)
class _Range:
    """The smallest and largest value seen in each channel of an activation, shape (channels,) each."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]


def quantize(
    model: onnx.ModelProto,
    calibration: Iterable[EncodedBatch],
    smoothing: float = SMOOTHING,
    folder: Path | None = None,
) -> onnx.ModelProto:
    """The int8 form of a fused graph: attention, matrix products and the embedding table; the head stays
    fp32.

    Args:
        model: a graph from `export.convert.fuse`; it is changed.
        calibration: batches of real rows; a few hundred rows are enough.
        smoothing: SmoothQuant's alpha, the share of an outlier's magnitude that moves into the weights.
        folder: of the graph. It is required for a graph with its table in a file.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    targets = [
        node
        for node in graph.node
        if node.op_type in ("Attention", "MatMul") and node.input[1] in weights and HEAD not in node.name
    ]
    ranges = _observe(model, sorted({node.input[0] for node in targets}), calibration, folder)
    rewritten: list[NodeProto] = []
    for node in graph.node:
        if node in targets:
            weight = numpy_helper.to_array(weights[node.input[1]])
            rewritten += _integer_product(graph, node, weight, ranges[node.input[0]], smoothing)
        elif node.op_type == "Gather" and node.input[0] in weights and node.input[1] == INPUT_IDS:
            table = values_of(weights[node.input[0]], folder or Path())
            rewritten += _integer_embedding(graph, node, table)
        else:
            rewritten.append(node)
    replace(graph.node, rewritten)
    drop_unread(graph)
    return model


def _observe(
    model: onnx.ModelProto, names: list[str], calibration: Iterable[EncodedBatch], folder: Path | None
) -> dict[str, _Range]:
    probe = copy.deepcopy(model)
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    with tempfile.TemporaryDirectory() as scratch:  # a graph of over 2 GiB runs only from a file
        path = (folder or Path(scratch)) / "observed.onnx"
        save(probe, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [node.name for node in session.get_inputs()]
    ranges: dict[str, _Range] = {}
    for batch in calibration:
        tokens = batch.attention_mask.astype(bool)
        for name, values in zip(names, session.run(names, feed(batch, inputs)), strict=True):
            seen = values[tokens]  # padding is computed too, but not read
            low, high = seen.min(axis=0), seen.max(axis=0)
            if name in ranges:
                low, high = np.minimum(low, ranges[name].low), np.maximum(high, ranges[name].high)
            ranges[name] = _Range(low, high)
    return ranges


def _integer_product(
    graph: onnx.GraphProto, node: NodeProto, weight: NDArray[np.float32], seen: _Range, smoothing: float
) -> list[NodeProto]:
    """x @ W as an integer product: smooth(x) in uint8, W in int8, one scale per column of W."""
    smooth = _smoothing_factors(weight, seen, smoothing)
    low, high = min(0.0, float((seen.low / smooth).min())), max(0.0, float((seen.high / smooth).max()))
    scale = (high - low) / 255
    zero_point = round(-low / scale)
    integers, weight_scale = _symmetric(weight * smooth[:, None], axis=0)
    name, source = node.output[0], node.input[0]

    def constant(suffix: str, values: NDArray[np.generic]) -> str:
        graph.initializer.append(numpy_helper.from_array(values, f"{name}/{suffix}"))
        return f"{name}/{suffix}"

    input_scale = constant("input_scale", np.array(scale, dtype=np.float32))
    input_zero_point = constant("input_zero_point", np.array(zero_point, dtype=np.uint8))
    weight_name = constant("weight", integers)
    weight_scales = constant("weight_scale", weight_scale)
    weight_zero_points = constant("weight_zero_point", np.zeros_like(weight_scale, dtype=np.int8))
    smoothed, quantized = f"{name}/smoothed", f"{name}/quantized"
    nodes = [
        helper.make_node("Mul", [source, constant("smoothing", (1 / smooth).astype(np.float32))], [smoothed]),
        helper.make_node("QuantizeLinear", [smoothed, input_scale, input_zero_point], [quantized]),
    ]
    if node.op_type == "Attention":
        _, _, bias, mask = node.input[:4]
        scales, zero_points = [input_scale, weight_scales], [input_zero_point, weight_zero_points]
        inputs = [quantized, weight_name, bias, *scales, mask, *zero_points]
        product = helper.make_node("QAttention", inputs, node.output, domain=MICROSOFT)
        product.attribute.extend(
            attribute for attribute in node.attribute if attribute.name in ATTENTION_ATTRIBUTES
        )
    else:
        inputs = [quantized, weight_name, input_scale, weight_scales, input_zero_point, weight_zero_points]
        product = helper.make_node("MatMulIntegerToFloat", inputs, node.output, domain=MICROSOFT)
    return [*nodes, product]


def _smoothing_factors(weight: NDArray[np.float32], seen: _Range, smoothing: float) -> NDArray[np.float32]:
    tiny = np.float32(1e-5)  # a constant channel needs no smoothing and must not divide by zero
    activation = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), tiny)
    columns = np.maximum(np.abs(weight).max(axis=1), tiny)
    return (activation**smoothing / columns ** (1 - smoothing)).astype(np.float32)


def _integer_embedding(
    graph: onnx.GraphProto, node: NodeProto, table: NDArray[np.float32]
) -> list[NodeProto]:
    """The embedding table as int8 with one scale per row: it saves a third of a small model's size, without
    measurable loss."""
    scales = in_blocks(lambda rows: _scales(rows, axis=1, limit=127), table)
    integers = in_blocks(lambda rows: _symmetric(rows, axis=1, limit=127)[0], table)
    name = node.output[0]
    graph.initializer.append(numpy_helper.from_array(integers, f"{name}/table"))
    graph.initializer.append(numpy_helper.from_array(scales[:, None], f"{name}/scales"))
    return [
        helper.make_node("Gather", [f"{name}/table", INPUT_IDS], [f"{name}/integers"]),
        helper.make_node("Cast", [f"{name}/integers"], [f"{name}/floats"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}/scales", INPUT_IDS], [f"{name}/row_scales"]),
        helper.make_node("Mul", [f"{name}/floats", f"{name}/row_scales"], [name]),
    ]


def _symmetric(
    values: NDArray[np.float32], axis: int, limit: int = WEIGHT_LIMIT
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers in [-limit, limit], and the scales that restore the values: one for each slice along
    `axis`."""
    scales = _scales(values, axis, limit)
    integers = np.rint(values / np.expand_dims(scales, axis)).astype(np.int8)
    return integers, scales.astype(np.float32)


def _scales(values: NDArray[np.float32], axis: int, limit: int) -> NDArray[np.float32]:
    return np.maximum(np.abs(values).max(axis=axis), 1e-12) / limit
