"""A fused fp16 graph in packing mode: padding is removed before the first layer and restored after the last
one. So the cost of a batch depends on its tokens, not on its longest row. Only CUDA has packed
attention."""

import onnx
from onnxruntime.transformers.convert_to_packing_mode import PackingMode
from onnxruntime.transformers.onnx_model import OnnxModel

from export.errors import ConversionFailed


def pack(fused: onnx.ModelProto) -> onnx.ModelProto:
    """The packed form of a graph; changes the graph.

    Raises:
        ConversionFailed: some attention is not packed. ONNX Runtime's tool is silent if it does not
            recognise a graph.
    """
    packing = PackingMode(OnnxModel(fused))
    packing.convert()
    packed: onnx.ModelProto = packing.model.model
    operators = [node.op_type for node in packed.graph.node]
    done, left = operators.count("PackedAttention"), operators.count("Attention")
    if left or not done:
        raise ConversionFailed(f"{done} attention blocks were packed, {left} were not")
    return packed
