"""A fused fp32 graph into fp16 for GPUs. Inputs and outputs stay the same: int64 ids and float32 logits."""

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16


def halve(fused: onnx.ModelProto) -> onnx.ModelProto:
    """The fp16 form of a graph; changes the graph."""
    return convert_float_to_float16(fused, keep_io_types=[output.name for output in fused.graph.output])
