"""The graphs of a checkpoint: one builder for each precision, applied to its fused fp32 graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from export.cpu import for_cpu
from export.dequantize import dequantize
from export.errors import ConversionFailed
from export.half import halve
from export.packing import pack
from export.quantize import quantize
from export.stages import stages
from export.weights import load, save
from models.encoding import EncodedBatch
from models.precision import Precision


@dataclass(frozen=True, slots=True)
class Graphs:
    """The graphs of one checkpoint, in one folder: one for each exit in every precision. Each is built once.

    Attributes:
        fused: path of the fused fp32 graph. The other graphs are written next to it.
        calibration: batches of rows for the scales of int8's activations.
        exits: number of exits of the fused graph.
        hidden_size: of the model.
    """

    fused: Path
    calibration: Sequence[EncodedBatch]
    exits: int
    hidden_size: int

    @property
    def folder(self) -> Path:
        return self.fused.parent

    def paths(self, precision: Precision) -> list[Path]:
        """The graphs in a precision, in the order of the exits."""
        paths = [self.fused.with_name(f"{precision}-{number}.onnx") for number in range(1, self.exits + 1)]
        if not paths[0].exists():
            for model, path in zip(BUILDERS[precision](self), paths, strict=True):
                save(model, path)
        return paths

    def load_fused(self) -> onnx.ModelProto:
        """Without its table of words (export/weights.py)."""
        return load(self.fused)

    def stages(self, model: onnx.ModelProto) -> list[onnx.ModelProto]:
        """Narrow graphs of this fused graph or of a quantised form of it, one for each exit."""
        return stages(model, self.exits, self.hidden_size)


def _packed(graphs: Graphs) -> list[onnx.ModelProto]:
    if graphs.exits > 1:
        raise ConversionFailed("fp16-packed: without padding, a stage has no states for the next one")
    # not narrowed: without padding, no token has a fixed place that the last layer could pick
    return [pack(halve(graphs.load_fused(), graphs.folder))]


BUILDERS: Final[dict[Precision, Callable[[Graphs], list[onnx.ModelProto]]]] = {
    "fp32": lambda graphs: [for_cpu(stage) for stage in graphs.stages(graphs.load_fused())],
    "int8": lambda graphs: [
        for_cpu(stage)
        for stage in graphs.stages(quantize(graphs.load_fused(), graphs.calibration, folder=graphs.folder))
    ],
    "fp16": lambda graphs: [halve(stage, graphs.folder) for stage in graphs.stages(graphs.load_fused())],
    "fp16-packed": _packed,
    "fp16-from-int8": lambda graphs: [dequantize(load(path)) for path in graphs.paths("int8")],
}
