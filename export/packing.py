"""A fused fp16 graph in packing mode: padding is taken out before the first layer and put back after the
last, so that a batch costs its tokens and not its longest row. CUDA only: there is no packed attention for
CPUs."""

import onnx
from onnxruntime.transformers.convert_to_packing_mode import PackingMode
from onnxruntime.transformers.onnx_model import OnnxModel

from export.convert import ConversionFailed


def pack(fused: onnx.ModelProto) -> onnx.ModelProto:
    """The packed form of a graph, which is used up.

    Raises:
        ConversionFailed: ONNX Runtime's tool left attention unpacked, as it does in silence where it does not
            recognise a graph.
    """
    packing = PackingMode(OnnxModel(fused))
    packing.convert()
    packed: onnx.ModelProto = packing.model.model
    operators = [node.op_type for node in packed.graph.node]
    if "Attention" in operators or "PackedAttention" not in operators:
        raise ConversionFailed(
            f"{operators.count('PackedAttention')} attention blocks were packed, {operators.count('Attention')} were not"
        )
    return packed
