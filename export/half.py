"""A fused fp32 graph into fp16 for GPUs. Inputs and outputs stay the same: int64 ids, float32 logits, and the
float32 states of a stage."""

from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16, convert_np_to_float16

from export.weights import in_blocks, values_of, without_table
from models.classifier import STATES_IN


def halve(fused: onnx.ModelProto, folder: Path = Path()) -> onnx.ModelProto:
    """The fp16 form of a graph; changes the graph.

    Args:
        folder: of the graph, for a table that it has in a file.
    """
    outputs = [output.name for output in fused.graph.output]
    states = [value.name for value in fused.graph.input if value.name in STATES_IN]

    def convert(model: onnx.ModelProto) -> onnx.ModelProto:
        return convert_float_to_float16(model, keep_io_types=[*outputs, *states])

    def table(tensor: TensorProto) -> TensorProto:
        halved = in_blocks(convert_np_to_float16, values_of(tensor, folder))
        return numpy_helper.from_array(halved, tensor.name)

    return without_table(fused, convert, table)
