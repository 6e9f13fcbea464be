"""The answers of the whole ensemble on each device: golden rows and quality.

A graph for CUDA is proven on a GPU if there is one, or else on the CPU, if the CPU has its operators. Where
the CPU has no fp16 kernel, ONNX Runtime casts to fp32 and back. So weights and activations are rounded as
on a GPU, and only the sums inside a kernel differ. The manifest names the machine. A server on a GPU
answers the golden rows again before it is ready.
"""

import json
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

GOLDEN_ROWS = Path(__file__).with_name("golden.jsonl")


def golden_examples() -> list[dict[str, Any]]:
    """The hand-written examples that every bundle answers at export."""
    return [json.loads(line) for line in GOLDEN_ROWS.read_text(encoding="utf-8").splitlines()]


def with_golden_and_quality(
    folder: Path,
    manifest: Manifest,
    devices: Sequence[Device],
    examples: Sequence[dict[str, Any]],
    data: Path,
    rows: list[LabelledExample],
) -> Manifest:
    """The manifest with the ensemble's answers to the golden examples, and its quality on the rows of `data`.

    Args:
        folder: contains the graphs that the manifest names.
    """
    golden, quality = dict(manifest.golden), dict(manifest.quality)
    for device in devices:
        lanes = at_work(Bundle(folder, manifest), device)
        files = [file for member in manifest.members if (file := member.file_for(device))]
        tolerance = max(PRECISIONS[file.precision].tolerance for file in files)
        answered = [_golden_row(lanes, example) for example in examples]
        golden[device] = Golden(tolerance=tolerance, rows=answered)
        quality[device] = evaluate(lanes, rows, data)
    return manifest.model_copy(update={"golden": golden, "quality": quality})


def _golden_row(lanes: Lanes, example: dict[str, Any]) -> GoldenRow:
    row = lanes.ensemble.encode(Example.from_row(example))
    (answer,) = lanes.ensemble.run([row], every_member=True)
    return GoldenRow(example=example, relation=answer.relation, probabilities=answer.probabilities.tolist())


def has_gpu() -> bool:
    """Whether this machine has a GPU and the ONNX Runtime that uses it."""
    return bool(gpus()) and CUDA in onnxruntime.get_available_providers()


def at_work(bundle: Bundle, device: Device) -> Lanes:
    """The members with the graphs of a device; all of them vote. Without a GPU, graphs for CUDA run on the
    CPU."""
    return Lanes.load(bundle, device, cascade_caution=1.0, provider=provider(device))


def provider(device: Device) -> str:
    """The execution provider that proves graphs for a device on this machine."""
    return CUDA if device == "cuda" and has_gpu() else CPU


def machine(provider: str) -> str:
    """The processor or GPU that runs an execution provider, for the manifest."""
    return f"{gpus()[0] if provider == CUDA else _processor()}, {provider}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
