"""The graphs of a member: one builder for each precision, applied to its fused fp32 graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from export.cpu import for_cpu
from export.dequantize import dequantize
from export.half import halve
from export.narrow import narrow
from export.packing import pack
from export.quantize import quantize
from models.encoding import EncodedBatch
from models.precision import Precision


@dataclass(frozen=True, slots=True)
class Graphs:
    """The graphs of one member, in one folder. Each is built once.

    Attributes:
        fused: path of the fused fp32 graph. The other graphs are written next to it.
        calibration: batches of rows for the scales of int8's activations.
    """

    fused: Path
    calibration: Sequence[EncodedBatch]

    def path(self, precision: Precision) -> Path:
        """The graph in a precision, complete in one file."""
        path = self.fused.with_name(f"{precision}.onnx")
        if not path.exists():
            onnx.save(BUILDERS[precision](self), str(path))
        return path

    def load_fused(self) -> onnx.ModelProto:
        return onnx.load(str(self.fused))


BUILDERS: Final[dict[Precision, Callable[[Graphs], onnx.ModelProto]]] = {
    "fp32": lambda graphs: for_cpu(narrow(graphs.load_fused())),
    "int8": lambda graphs: for_cpu(narrow(quantize(graphs.load_fused(), graphs.calibration))),
    "fp16": lambda graphs: halve(narrow(graphs.load_fused())),
    # not narrowed: without padding, no token has a fixed place that the last layer could pick
    "fp16-packed": lambda graphs: pack(halve(graphs.load_fused())),
    "fp16-from-int8": lambda graphs: dequantize(onnx.load(str(graphs.path("int8")))),
}
