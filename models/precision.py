"""The precisions that a graph can have: one table, read by export, bundle and engine.

name            device  weights                       activations
fp32            cpu     float32                       float32
int8            cpu     int8, a scale per column      int8, constant scales fitted at export
fp16            cuda    float16                       float16
fp16-packed     cuda    float16                       float16, padding removed before the first layer
fp16-from-int8  cuda    int8, multiplied by their     float16
                        scales when the graph loads
"""

from dataclasses import dataclass
from typing import Final, Literal

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "int8", "fp16", "fp16-packed", "fp16-from-int8"]


@dataclass(frozen=True, slots=True)
class PrecisionFacts:
    """What the project promises of a graph in one precision.

    Attributes:
        device: the device that the graph is for.
        agreement: export refuses a graph if a smaller share of its labels agrees with the PyTorch model.
        tolerance: the largest difference of a golden row's probability that a server accepts.
        exact: whether a row gets the same digits in every batch. Where it does not, the digits near a
            threshold would decide which members vote, so all of them vote.
        weights_of: the graph whose file of weights this graph shares.
        runs_on_cpu: whether ONNX Runtime can run the graph on a CPU, so that export can prove it there.
    """

    device: Device
    agreement: float
    tolerance: float
    exact: bool = True
    weights_of: Precision | None = None
    runs_on_cpu: bool = True


# Within a device, export's `auto` tries the graphs in this order.
PRECISIONS: Final[dict[Precision, PrecisionFacts]] = {
    "int8": PrecisionFacts("cpu", agreement=0.96, tolerance=2e-2),
    "fp32": PrecisionFacts("cpu", agreement=0.999, tolerance=1e-3),
    # Its weights are those of int8, so it is held to the same agreement.
    "fp16-from-int8": PrecisionFacts("cuda", agreement=0.96, tolerance=2e-2, exact=False, weights_of="int8"),
    "fp16": PrecisionFacts("cuda", agreement=0.995, tolerance=2e-2, exact=False),
    "fp16-packed": PrecisionFacts("cuda", agreement=0.995, tolerance=2e-2, exact=False, runs_on_cpu=False),
}

PREFERRED: Final[dict[Device, tuple[Precision, ...]]] = {
    "cpu": ("int8", "fp32"),
    "cuda": ("fp16-packed", "fp16", "fp16-from-int8", "fp32"),
}
"""Which graph a device runs where a member has several: the fastest first."""


def for_device(device: Device) -> list[Precision]:
    """The precisions whose graphs are for this device, in the table's order."""
    return [precision for precision, facts in PRECISIONS.items() if facts.device == device]
