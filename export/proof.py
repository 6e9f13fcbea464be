"""What the ensemble as a whole answers, on each device that its bundle has graphs for: golden rows and
quality.

A graph for CUDA is proven on the GPU where there is one. Where there is none it runs on the CPU, if the CPU
knows its operators: ONNX Runtime casts what it has no fp16 kernel for to fp32 and back, so weights and
activations are rounded as on a GPU and only the sums inside a kernel differ. The manifest says which machine
it was; and a server on a GPU must answer the golden rows in any case before it is ready.
"""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from engine.devices import gpus
from engine.lanes import Lanes
from export.evaluate import evaluate
from models.bundle import Bundle, Golden, GoldenRow, Manifest
from models.classifier import CPU, CUDA
from models.example import Example
from models.precision import PRECISIONS, Device
from models.rows import LabelledExample


def with_golden_and_quality(
    folder: Path,
    manifest: Manifest,
    devices: Sequence[Device],
    examples: Sequence[dict[str, Any]],
    data: Path,
    rows: list[LabelledExample],
) -> Manifest:
    """The manifest with what the ensemble answers to the golden examples and to the rows of `data`; the
    folder holds its graphs."""
    golden, quality = dict(manifest.golden), dict(manifest.quality)
    for device in devices:
        lanes = at_work(Bundle(folder, manifest), device)
        ensemble = lanes.ensemble
        answers = [
            ensemble.run([ensemble.encode(Example.from_row(example))], every_member=True)[0]
            for example in examples
        ]
        golden[device] = Golden(
            tolerance=max(
                PRECISIONS[file.precision].tolerance
                for member in manifest.members
                if (file := member.file_for(device))
            ),
            rows=[
                GoldenRow(
                    example=example, relation=answer.relation, probabilities=answer.probabilities.tolist()
                )
                for example, answer in zip(examples, answers, strict=True)
            ],
        )
        quality[device] = evaluate(lanes, rows, data)
    return manifest.model_copy(update={"golden": golden, "quality": quality})


def has_gpu() -> bool:
    """Whether graphs for CUDA can be proven on CUDA: this machine has a GPU, and this ONNX Runtime is the one
    for it."""
    return bool(gpus()) and CUDA in onnxruntime.get_available_providers()


def at_work(bundle: Bundle, device: Device) -> Lanes:
    """The members with the graphs of a device, every one voting; graphs for CUDA on the CPU where there is no
    GPU."""
    return Lanes.load(bundle, device, cascade_caution=1.0, provider=provider(device))


def provider(device: Device) -> str:
    """The execution provider to prove graphs for a device with on this machine."""
    return CUDA if device == "cuda" and has_gpu() else CPU


def machine(provider: str) -> str:
    """What a session with this provider ran on, for the manifest."""
    return f"{gpus()[0] if provider == CUDA else _processor()}, {provider}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
