"""One member into a bundle's folder: its graph in every precision asked for, each proven beside the PyTorch
model."""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import onnx

from engine.cores import available_cores
from engine.planner import TOKEN_BUDGET, cut_sorted
from export.checkpoint import Checkpoint
from export.convert import ConversionFailed, check_fusions, convert, fuse
from export.cpu import for_cpu
from export.dequantize import dequantize
from export.half import halve
from export.narrow import narrow
from export.packing import pack
from export.parity import ParityFailed, answer, check, compare
from export.proof import has_gpu, machine, provider
from export.quantize import quantize
from export.weights import save_shared
from models.bundle import InputEncoding, Member, ModelFile
from models.classifier import CUDA, OnnxClassifier
from models.encoding import Encoded, EncodedBatch
from models.precision import PRECISIONS, Device, Precision
from models.rows import LabelledExample, label_ids

CALIBRATION_ROWS = 400

TIMED_ROWS: Final = 256
GPU_TOKEN_BUDGET: Final = 8192
"""Of the batches that a graph is timed on."""
CLEARLY: Final = 1.05
"""So many times as fast as the one before it a graph must be for `auto` to take it: less may be noise."""


@dataclass(frozen=True, slots=True)
class _Proven:
    """A graph that passed its gates, and the seconds that the timed rows take it; 0 where nothing is left to
    choose."""

    graph: Path
    file: ModelFile
    seconds: float


def export_member(
    checkpoint: Checkpoint,
    weight: float,
    number: int,
    folder: Path,
    rows: list[LabelledExample],
    calibration_rows: list[LabelledExample],
    precisions: tuple[Precision, ...] | Literal["auto"],
) -> Member:
    """Convert, fuse, quantise and prove one member; its files lie in `folder` afterwards.

    Args:
        number: its place in the order of cost, from 1.
        rows: what the proof runs over.
        calibration_rows: what int8's activation scales are fitted on.
        precisions: the graphs to keep; fp32 is converted and proven in any case. auto: for each device the
            fastest that passes its gates.

    Raises:
        ConversionFailed, ParityFailed: a graph is not the model that was trained.
    """
    name = f"{number}-{checkpoint.name}"
    config = checkpoint.model.config
    pad = int(config.pad_token_id)
    tokenizer = f"tokenizers/{hashlib.sha256(checkpoint.tokenizer_json).hexdigest()[:12]}.json"
    (folder / tokenizer).write_bytes(checkpoint.tokenizer_json)
    (folder / "members" / name).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        converted, fused = Path(scratch) / "converted.onnx", Path(scratch) / "fused.onnx"
        convert(checkpoint.model, checkpoint.inputs, converted)
        fusions = dict(
            fuse(converted, fused, checkpoint.layers, config.num_attention_heads, config.hidden_size)
        )
        chosen = calibration_rows[:: max(1, len(calibration_rows) // CALIBRATION_ROWS)][:CALIBRATION_ROWS]
        calibration = _batches([checkpoint.encoder.encode(row.example) for row in chosen], pad)
        encoded = [checkpoint.encoder.encode(row.example) for row in rows]
        before = answer(checkpoint.logits, encoded, pad, f"{name} in PyTorch")

        def prove(precision: Precision) -> _Proven:
            graph = _build(precision, fused, calibration)
            check_fusions(onnx.load(str(graph)), checkpoint.layers)
            classifier = OnnxClassifier(graph, available_cores(), provider(PRECISIONS[precision].device))
            parity = compare(
                before, answer(classifier, encoded, pad, f"{name} in ONNX, {precision}"), label_ids(rows)
            )
            check(parity, name, precision)
            file = ModelFile(
                path=f"members/{name}/{precision}.onnx",
                device=PRECISIONS[precision].device,
                precision=precision,
                fusions=fusions,
                parity=parity,
                machine=machine(classifier.provider),
            )
            return _Proven(
                graph, file, _seconds(classifier, encoded[:TIMED_ROWS], pad) if precisions == "auto" else 0.0
            )

        proven = (
            _fastest(prove)
            if precisions == "auto"
            else [prove(precision) for precision in dict.fromkeys(("fp32", *precisions))]
        )
        kept = [each for each in proven if precisions == "auto" or each.file.precision in precisions]
        files = _place(kept, folder)
    return Member(
        name=name,
        weight=weight,
        layers=checkpoint.layers,
        encoding=InputEncoding(markers=checkpoint.markers, tokenizer=tokenizer, pad_token_id=pad),
        files=files,
    )


def _build(precision: Precision, fused: Path, calibration: Sequence[EncodedBatch]) -> Path:
    """A graph beside the fused one, complete in one file."""
    graph = fused.with_name(f"{precision}.onnx")
    if graph.exists():
        return graph
    if precision == "fp32":
        model = for_cpu(narrow(onnx.load(str(fused))))
    elif precision == "int8":
        model = for_cpu(narrow(quantize(onnx.load(str(fused)), calibration)))
    elif precision == "fp16-from-int8":
        model = dequantize(onnx.load(str(_build("int8", fused, calibration))))
    elif precision == "fp16":
        model = halve(narrow(onnx.load(str(fused))))
    else:
        # without padding no token has a place of its own that the last layer could pick
        model = pack(halve(onnx.load(str(fused))))
    onnx.save(model, str(graph))
    return graph


def _seconds(classifier: OnnxClassifier, rows: Sequence[Encoded], pad_token_id: int) -> float:
    """What some rows take a graph that has run before, in batches of a size that suits the machine."""
    batches = _batches(rows, pad_token_id, GPU_TOKEN_BUDGET if classifier.provider == CUDA else TOKEN_BUDGET)
    for batch in batches:
        classifier(batch)  # the first batch of a shape takes longer
    began = time.perf_counter()
    for batch in batches:
        classifier(batch)
    return time.perf_counter() - began


def _fastest(prove: Callable[[Precision], _Proven]) -> list[_Proven]:
    """For each device the fastest graph of those that pass their gates."""
    taken: dict[Device, _Proven] = {}
    for precision, facts in PRECISIONS.items():
        device = facts.device
        if precision == "fp16-from-int8" and taken["cpu"].file.precision != "int8":
            continue  # nobody would share its weights
        if precision in ("fp16", "fp16-packed") and not has_gpu():
            continue  # which of them is fast, only a GPU tells
        try:
            proven = prove(precision)
        except (ConversionFailed, ParityFailed) as error:
            if precision == "fp32":
                raise
            print(f"export: left out: {error}", file=sys.stderr)
            continue
        if device not in taken or CLEARLY * proven.seconds < taken[device].seconds:
            taken[device] = proven
    return list(taken.values())


def _place(kept: Sequence[_Proven], folder: Path) -> list[ModelFile]:
    """Move graphs into the bundle; int8 and what is made of its weights share one file of them."""
    together = [each for each in kept if each.file.precision in ("int8", "fp16-from-int8")]
    if len(together) == 2:
        weights = save_shared({folder / each.file.path: onnx.load(str(each.graph)) for each in together})
    files = []
    for each in kept:
        if len(together) == 2 and each in together:
            files.append(each.file.model_copy(update={"weights": weights.relative_to(folder).as_posix()}))
        else:
            shutil.move(each.graph, folder / each.file.path)
            files.append(each.file)
    return files


def _batches(rows: Sequence[Encoded], pad_token_id: int, budget: int = TOKEN_BUDGET) -> list[EncodedBatch]:
    rows = sorted(rows, key=len)
    return [
        EncodedBatch.collate(rows[cut.start : cut.stop], pad_token_id)
        for cut in cut_sorted(list(map(len, rows)), budget)
    ]
