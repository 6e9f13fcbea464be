"""One member into a bundle's folder: its graph in every precision asked for, each proven beside the PyTorch model."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from export.checkpoint import Checkpoint
from export.convert import convert, fuse
from export.parity import answer, check, compare
from export.quantize import quantize
from models.bundle import InputEncoding, Member, ModelFile, Precision
from models.classifier import OnnxClassifier
from models.encoding import Encoded, EncodedBatch
from models.lanes import available_cores, cut_sorted
from models.rows import LabelledExample, label_ids

CALIBRATION_ROWS = 400


def export_member(
    checkpoint: Checkpoint,
    weight: float,
    number: int,
    folder: Path,
    rows: list[LabelledExample],
    calibration_rows: list[LabelledExample],
    precisions: tuple[Precision, ...],
) -> Member:
    """Convert, fuse, quantise and prove one member; its files lie in `folder` afterwards.

    Args:
        number: its place in the order of cost, from 1.
        rows: what the proof runs over.
        calibration_rows: what int8's activation scales are fitted on.
        precisions: the graphs to keep; fp32 is converted and proven in any case.

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
        converted, graphs = Path(scratch) / "converted.onnx", {"fp32": Path(scratch) / "fp32.onnx"}
        convert(checkpoint, converted)
        fusions = dict(fuse(converted, graphs["fp32"], checkpoint.layers, config.num_attention_heads, config.hidden_size))
        if "int8" in precisions:
            graphs["int8"] = Path(scratch) / "int8.onnx"
            chosen = calibration_rows[:: max(1, len(calibration_rows) // CALIBRATION_ROWS)][:CALIBRATION_ROWS]
            quantize(graphs["fp32"], graphs["int8"], _batches([checkpoint.encoder.encode(row.example) for row in chosen], pad))
        encoded = [checkpoint.encoder.encode(row.example) for row in rows]
        before = answer(checkpoint.logits, encoded, pad, f"{name} in PyTorch")
        files = []
        for precision, graph in graphs.items():
            after = answer(OnnxClassifier(graph, available_cores()), encoded, pad, f"{name} in ONNX, {precision}")
            parity = compare(before, after, label_ids(rows))
            check(parity, name, precision)
            if precision in precisions:
                path = f"members/{name}/{precision}.onnx"
                shutil.move(graph, folder / path)
                files.append(ModelFile(path=path, device="cpu", precision=precision, fusions=fusions, parity=parity))
    return Member(
        name=name,
        weight=weight,
        layers=checkpoint.layers,
        encoding=InputEncoding(markers=checkpoint.markers, tokenizer=tokenizer, pad_token_id=pad),
        files=files,
    )


def _batches(rows: list[Encoded], pad_token_id: int) -> list[EncodedBatch]:
    rows = sorted(rows, key=len)
    return [EncodedBatch.collate(rows[cut.start : cut.stop], pad_token_id) for cut in cut_sorted(list(map(len, rows)))]
