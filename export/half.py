"""A fused fp32 graph into fp16 for GPUs, whose matrix units do many times as much in it. For a caller nothing
changes: int64 ids in, float32 logits out."""

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16


def halve(fused: onnx.ModelProto) -> onnx.ModelProto:
    """The fp16 form of a graph, which is used up."""
    return convert_float_to_float16(fused, keep_io_types=[output.name for output in fused.graph.output])
