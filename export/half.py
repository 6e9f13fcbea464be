"""A fused fp32 graph into fp16 for GPUs. Inputs and outputs stay the same: int64 ids, float32 logits, and the
float32 states of a stage."""

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from models.classifier import STATES_IN


def halve(fused: onnx.ModelProto) -> onnx.ModelProto:
    """The fp16 form of a graph; changes the graph."""
    outputs = [output.name for output in fused.graph.output]
    states = [value.name for value in fused.graph.input if value.name in STATES_IN]
    return convert_float_to_float16(fused, keep_io_types=[*outputs, *states])
