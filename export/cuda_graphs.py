"""Graphs for CUDA from the int8 weights that a bundle has already; no checkpoint is needed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.cores import available_cores
from engine.lanes import Lanes
from export.convert import check_fusions
from export.dequantize import dequantize
from export.errors import ConversionFailed
from export.evaluate import check_window, read_rows
from export.parity import answer, check, compare
from export.proof import has_gpu, machine, provider, with_golden_and_quality
from export.replace import recover, replacing
from export.weights import save_shared
from models.bundle import Bundle, BundleRefused, Manifest, Member, ModelFile, write
from models.classifier import OnnxClassifier
from models.encoding import Encoded, EncodedBatch, Encoder
from models.precision import Precision
from models.rows import LabelledExample, label_ids

REFERENCE: Final = "fp32 arithmetic on the same weights"
ADDED: Final[Precision] = "fp16-from-int8"
COMPARED_ROWS: Final = 32
"""Rows that show that the int8 graph still gives the same digits."""


def add_cuda(path: Path, data: Path) -> Manifest:
    """Add graphs for CUDA to the bundle at `path`, or prove on this machine the ones that it has. After an
    error, the bundle is as it was.

    Raises:
        BundleRefused, InvalidRows, InvalidExample: the bundle or the rows cannot be used, or a member has
            no int8 graph.
        ConversionFailed, ParityFailed: a graph does not answer as its weights should.
        DeviceUnavailable: there is a GPU, but ONNX Runtime cannot use it.
    """
    recover(path)
    bundle = Bundle.open(path)
    for member in bundle.manifest.members:
        if _file(member, "int8") is None:
            raise BundleRefused(f"bundle {path}: member {member.name} has no int8 graph to take weights from")
    rows = read_rows(data)
    for member in bundle.manifest.members:
        check_window(data, rows, _encoder(bundle, member).encode)
    examples = [row.example for row in bundle.manifest.golden["cpu"].rows]
    with replacing(path) as folder:
        copy = Bundle(folder, bundle.manifest)
        members = [_with_cuda(copy, member, rows) for member in bundle.manifest.members]
        manifest = bundle.manifest.model_copy(update={"members": members})
        manifest = with_golden_and_quality(folder, manifest, ["cuda"], examples, data, rows)
        write(folder, manifest)
        for device in ("cpu", "cuda") if has_gpu() else ("cpu",):
            Lanes.load(Bundle.open(folder), device).ensemble.prove()
    return manifest


def _with_cuda(bundle: Bundle, member: Member, rows: list[LabelledExample]) -> Member:
    encoder = _encoder(bundle, member)
    encoded = [encoder.encode(row.example) for row in rows]
    int8 = _file(member, "int8")
    if _file(member, ADDED) is None:
        weights = _split(bundle, member, encoded)
        int8 = int8.model_copy(update={"weights": weights})
    cuda = _prove(bundle, member, int8, encoded, label_ids(rows))
    others = [file for file in member.files if file.precision not in ("int8", ADDED)]
    return member.model_copy(update={"files": [int8, *others, cuda]})


def _split(bundle: Bundle, member: Member, rows: Sequence[Encoded]) -> str:
    """Write the graph for CUDA, and move the weights of both graphs into one file, whose path is returned."""
    int8 = bundle.path / _file(member, "int8").path
    batch = EncodedBatch.collate(rows[:COMPARED_ROWS], member.encoding.pad_token_id)
    before = OnnxClassifier(int8, available_cores())(batch)
    quantized = onnx.load(str(int8))
    halved = dequantize(quantized)
    check_fusions(halved, member.layers)
    weights = save_shared({int8: quantized, _added_to(int8): halved})
    if not np.array_equal(before, OnnxClassifier(int8, available_cores())(batch)):
        raise ConversionFailed(
            f"{member.name}: with its weights in their own file, the int8 graph answers differently"
        )
    return weights.relative_to(bundle.path).as_posix()


def _prove(
    bundle: Bundle, member: Member, int8: ModelFile, rows: Sequence[Encoded], labels: NDArray[np.int64]
) -> ModelFile:
    graph, pad = _added_to(bundle.path / int8.path), member.encoding.pad_token_id
    classifier = OnnxClassifier(graph, available_cores(), provider("cuda"))
    after = answer(classifier, rows, pad, f"{member.name} in {classifier.provider}, {ADDED}")
    before = _in_fp32(bundle.path / int8.path, rows, pad, member.name)
    parity = compare(before, after, labels).model_copy(update={"reference": REFERENCE})
    # both have the same weights, so only the arithmetic of fp16 can differ
    check(parity, member.name, "fp16")
    return ModelFile(
        path=graph.relative_to(bundle.path).as_posix(),
        device="cuda",
        precision=ADDED,
        weights=int8.weights,
        fusions=int8.fusions,
        parity=parity,
        machine=machine(classifier.provider),
    )


def _file(member: Member, precision: Precision) -> ModelFile | None:
    return next((file for file in member.files if file.precision == precision), None)


def _added_to(int8: Path) -> Path:
    return int8.with_name(f"{ADDED}.onnx")


def _encoder(bundle: Bundle, member: Member) -> Encoder:
    encoding, window = member.encoding, bundle.manifest.max_length
    return Encoder.from_file(
        bundle.path / encoding.tokenizer, encoding.markers, window, encoding.pad_token_id
    )


def _in_fp32(int8: Path, rows: Sequence[Encoded], pad_token_id: int, name: str) -> NDArray[np.float64]:
    """The answers of the int8 graph's weights on the CPU, without rounded activations: shape (rows, 30)."""
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "fp32.onnx"
        onnx.save(dequantize(onnx.load(str(int8)), half=False), str(graph))
        return answer(OnnxClassifier(graph, available_cores()), rows, pad_token_id, f"{name} in fp32")
