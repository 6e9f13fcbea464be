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
from export.evaluate import read_rows
from export.parity import answer, check, compare
from export.proof import has_gpu, machine, provider, with_golden_and_quality
from export.replace import recover, replacing
from export.weights import save_shared
from models.bundle import Bundle, BundleRefused, Manifest, Member, ModelFile, write
from models.classifier import CPU, Chain, OnnxClassifier
from models.encoding import Encoded, EncodedBatch, Encoder
from models.precision import Precision
from models.rows import LabelledExample, check_window, label_ids

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
    """The member with its graph for CUDA. The members that it continues must have theirs already."""
    encoder = _encoder(bundle, member)
    encoded = [encoder.encode(row.example) for row in rows]
    int8 = _file(member, "int8")
    # of the stages that lead to the member, its own last
    chain = [bundle.path / _file(stage, "int8").path for stage in bundle.manifest.chain(member)]
    if _file(member, ADDED) is None:
        weights = _split(member, chain, encoded)
        int8 = int8.model_copy(update={"weights": weights.relative_to(bundle.path).as_posix()})
    cuda = _prove(member, int8, chain, encoded, label_ids(rows))
    others = [file for file in member.files if file.precision not in ("int8", ADDED)]
    return member.model_copy(update={"files": [int8, *others, cuda]})


def _split(member: Member, chain: Sequence[Path], rows: Sequence[Encoded]) -> Path:
    """Write the graph for CUDA, and move the weights of both graphs into one file, whose path is returned.

    Args:
        chain: the int8 graphs that lead to the member, its own last.
    """
    int8 = chain[-1]
    batch = EncodedBatch.collate(rows[:COMPARED_ROWS], member.encoding.pad_token_id)
    before = _load(chain)(batch)
    quantized = onnx.load(str(int8))
    halved = dequantize(quantized)
    check_fusions(halved, member.layers)
    weights = save_shared({int8: quantized, _added_to(int8): halved})
    if not np.array_equal(before, _load(chain)(batch)):
        raise ConversionFailed(
            f"{member.name}: with its weights in their own file, the int8 graph answers differently"
        )
    return weights


def _prove(
    member: Member,
    int8: ModelFile,
    chain: Sequence[Path],
    rows: Sequence[Encoded],
    labels: NDArray[np.int64],
) -> ModelFile:
    pad = member.encoding.pad_token_id
    added = _load([_added_to(graph) for graph in chain], provider("cuda"))
    after = answer(added, rows, pad, f"{member.name} in {added.provider}, {ADDED}")[:, -1]
    before = _in_fp32(chain, rows, pad, member.name)
    parity = compare(before, after, labels).model_copy(update={"reference": REFERENCE})
    # both have the same weights, so only the arithmetic of fp16 can differ
    check(parity, member.name, "fp16")
    return ModelFile(
        path=_added_to(Path(int8.path)).as_posix(),
        device="cuda",
        precision=ADDED,
        weights=int8.weights,
        fusions=int8.fusions,
        parity=parity,
        machine=machine(added.provider),
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


def _load(graphs: Sequence[Path], provider: str = CPU) -> Chain:
    return Chain([OnnxClassifier(graph, available_cores(), provider) for graph in graphs])


def _in_fp32(
    chain: Sequence[Path], rows: Sequence[Encoded], pad_token_id: int, name: str
) -> NDArray[np.float64]:
    """The answers of the weights of a chain of int8 graphs on the CPU, without rounded activations, at its
    end: shape (rows, 30)."""
    with tempfile.TemporaryDirectory() as scratch:
        graphs = [Path(scratch) / f"{place}.onnx" for place in range(len(chain))]
        for int8, graph in zip(chain, graphs, strict=True):
            onnx.save(dequantize(onnx.load(str(int8)), half=False), str(graph))
        return answer(_load(graphs), rows, pad_token_id, f"{name} in fp32")[:, -1]
