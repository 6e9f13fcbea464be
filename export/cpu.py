"""Splits the operators of a fused graph that are slow on a CPU, and fuses them again for a GPU.

On a CPU, SkipLayerNormalization is scalar code: for 70 tokens of 384 it takes 167 µs; an addition and a
LayerNormalization take 27 µs. BiasGelu reads its input once more than a Gelu after a product that adds the
bias. Together they take a third of a member's time (docs/log.md). On a GPU the fused operators are faster,
and ONNX Runtime does not fuse them again if it cannot infer every shape.
"""

from collections import Counter
from collections.abc import Iterable

import onnx
from onnx import NodeProto, helper

from export.edit import replace
from export.quantize import MICROSOFT

PRODUCT = "MatMulIntegerToFloat"
BIAS = 6
"""Place of a product's last input, which is optional."""


def for_cpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph whose fused additions, norms and activations are split where that is faster; changes the
    model."""
    graph = model.graph
    products = {node.output[0]: node for node in graph.node if node.op_type == PRODUCT}
    readers = Counter(name for node in graph.node for name in node.input)
    nodes: list[NodeProto] = []

    def biased(name: str, bias: str) -> str:
        """The sum of a tensor and a bias. The product that makes the tensor adds it, or else an addition."""
        product = products.get(name)
        if product is not None and len(product.input) == BIAS and readers[name] == 1:
            product.input.append(bias)
            return name
        nodes.append(helper.make_node("Add", [name, bias], [f"{name}/biased"]))
        return f"{name}/biased"

    for node in graph.node:
        if node.op_type == "SkipLayerNormalization":
            source, skip, gamma, beta, *bias = node.input
            name, added = node.output[0], f"{node.output[0]}/sum"
            nodes.append(helper.make_node("Add", [biased(source, *bias) if bias else source, skip], [added]))
            nodes.append(
                helper.make_node(
                    "LayerNormalization", [added, gamma, beta], [name], axis=-1, epsilon=_epsilon(node)
                )
            )
        elif node.op_type == "BiasGelu" and node.input[0] in products:
            nodes.append(helper.make_node("Gelu", [biased(*node.input)], node.output, domain=MICROSOFT))
        else:
            nodes.append(node)
    return _with_nodes(model, nodes)


def for_gpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Undo `for_cpu` on an int8 graph; changes the model."""
    makers = {node.output[0]: node for node in model.graph.node}
    sums = {f"{node.output[0]}/sum" for node in model.graph.node if node.op_type == "LayerNormalization"}
    nodes: list[NodeProto] = []

    def bias_of(name: str) -> list[str]:
        product = makers.get(name)
        return (
            [product.input.pop()]
            if product is not None and product.op_type == PRODUCT and len(product.input) > BIAS
            else []
        )

    for node in model.graph.node:
        name, source = node.output[0], node.input[0] if node.input else ""
        if node.op_type == "LayerNormalization" and source in sums:
            source, skip = makers[source].input
            inputs = [source, skip, *node.input[1:], *bias_of(source)]
            nodes.append(
                helper.make_node(
                    "SkipLayerNormalization", inputs, [name], domain=MICROSOFT, epsilon=_epsilon(node)
                )
            )
        elif node.op_type == "Gelu" and (bias := bias_of(source)):
            nodes.append(helper.make_node("BiasGelu", [source, *bias], [name], domain=MICROSOFT))
        elif name not in sums:
            nodes.append(node)
    return _with_nodes(model, nodes)


def _epsilon(node: NodeProto) -> float:
    return next(float(attribute.f) for attribute in node.attribute if attribute.name == "epsilon")


def _with_nodes(model: onnx.ModelProto, nodes: Iterable[NodeProto]) -> onnx.ModelProto:
    replace(model.graph.node, nodes)
    del model.graph.value_info[:]
    return model
