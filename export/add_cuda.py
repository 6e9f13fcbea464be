"""Let a bundle that was exported for CPUs answer on GPUs too, from the int8 weights that it ships already; no
checkpoint is needed.

    python -m export.add_cuda bundles/mine --data validation.jsonl

Each member gets a graph for CUDA of some hundred kilobytes beside its int8 graph; the weights of both move
into one file, and the answers of the int8 graph stay the same bit by bit. The new graph answers the rows of
--data beside fp32 arithmetic on the same weights, on the GPU where there is one, else on the CPU; the
manifest says where. Run again on a machine with a GPU, it keeps the graphs and proves them there.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.cores import available_cores
from engine.lanes import Lanes
from export.convert import ConversionFailed, check_fusions
from export.dequantize import dequantize
from export.evaluate import check_window, read_rows
from export.parity import ParityFailed, answer, check, compare
from export.proof import has_gpu, machine, provider, with_golden_and_quality
from export.replace import replacing
from export.weights import save_shared
from models.bundle import Bundle, BundleRefused, Manifest, Member, ModelFile, write
from models.classifier import OnnxClassifier
from models.encoding import Encoded, EncodedBatch, Encoder
from models.ensemble import DeviceUnavailable
from models.example import InvalidExample
from models.rows import InvalidRows, LabelledExample, label_ids

REFERENCE = "fp32 arithmetic on the same weights"


def add_cuda(path: Path, data: Path) -> Manifest:
    """Add graphs for CUDA to the bundle at `path`, or prove on this machine those that it has. If anything
    fails, it stays as it was.

    Raises:
        BundleRefused, InvalidRows, InvalidExample: the bundle or the rows cannot be used, or a member has no
            int8 graph.
        ConversionFailed, ParityFailed: a graph does not answer as its weights should.
        DeviceUnavailable: there is a GPU, but ONNX Runtime cannot use it.
    """
    bundle = Bundle.open(path)
    for member in bundle.manifest.members:
        if not any(file.precision == "int8" for file in member.files):
            raise BundleRefused(
                f"bundle {path}: member {member.name} has no int8 graph, whose weights a graph for CUDA could take"
            )
    rows = read_rows(data)
    for member in bundle.manifest.members:
        check_window(data, rows, _encoder(bundle, member).encode)
    examples = [row.example for row in bundle.manifest.golden["cpu"].rows]
    with replacing(path) as folder:
        copy = Bundle(folder, bundle.manifest)
        members = [_with_cuda(copy, member, rows) for member in bundle.manifest.members]
        manifest = bundle.manifest.model_copy(update={"members": members})
        manifest = with_golden_and_quality(copy.path, manifest, ["cuda"], examples, data, rows)
        write(copy.path, manifest)
        for device in ("cpu", "cuda") if has_gpu() else ("cpu",):
            Lanes.load(Bundle.open(copy.path), device).ensemble.prove()
    return manifest


def _with_cuda(bundle: Bundle, member: Member, rows: list[LabelledExample]) -> Member:
    int8 = next(file for file in member.files if file.precision == "int8")
    cuda = next((file for file in member.files if file.precision == "fp16-from-int8"), None)
    graph = (bundle.path / int8.path).with_name("fp16-from-int8.onnx")
    encoding = member.encoding
    encoder = _encoder(bundle, member)
    encoded = [encoder.encode(row.example) for row in rows]
    if cuda is None:
        batch = EncodedBatch.collate(encoded[:32], encoding.pad_token_id)
        before = OnnxClassifier(bundle.path / int8.path, available_cores())(batch)
        quantized = onnx.load(str(bundle.path / int8.path))
        halved = dequantize(quantized)
        check_fusions(halved, member.layers)
        weights = save_shared({bundle.path / int8.path: quantized, graph: halved})
        int8 = int8.model_copy(update={"weights": weights.relative_to(bundle.path).as_posix()})
        if not np.array_equal(before, OnnxClassifier(bundle.path / int8.path, available_cores())(batch)):
            raise ConversionFailed(
                f"{member.name}: the int8 graph answers otherwise since its weights lie in a file of their own"
            )
    classifier = OnnxClassifier(graph, available_cores(), provider("cuda"))
    after = answer(
        classifier, encoded, encoding.pad_token_id, f"{member.name} in {classifier.provider}, fp16-from-int8"
    )
    parity = compare(
        _in_fp32(bundle.path / int8.path, encoded, encoding.pad_token_id, member.name), after, label_ids(rows)
    )
    parity = parity.model_copy(update={"reference": REFERENCE})
    check(parity, member.name, "fp16")
    cuda = ModelFile(
        path=graph.relative_to(bundle.path).as_posix(),
        device="cuda",
        precision="fp16-from-int8",
        weights=int8.weights,
        fusions=int8.fusions,
        parity=parity,
        machine=machine(classifier.provider),
    )
    others = [file for file in member.files if file.precision not in ("int8", "fp16-from-int8")]
    return member.model_copy(update={"files": [int8, *others, cuda]})


def _encoder(bundle: Bundle, member: Member) -> Encoder:
    encoding = member.encoding
    return Encoder.from_file(
        bundle.path / encoding.tokenizer, encoding.markers, bundle.manifest.max_length, encoding.pad_token_id
    )


def _in_fp32(int8: Path, rows: Sequence[Encoded], pad_token_id: int, name: str) -> NDArray[np.float64]:
    """What the int8 graph's weights say without any rounding of activations, on the CPU: shape (rows, 30)."""
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "fp32.onnx"
        onnx.save(dequantize(onnx.load(str(int8)), half=False), str(graph))
        return answer(OnnxClassifier(graph, available_cores()), rows, pad_token_id, f"{name} in fp32")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, prog="python -m export.add_cuda", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROWS.jsonl", help="labelled KLUE-RE rows for the proof"
    )
    arguments = parser.parse_args(argv)
    try:
        manifest = add_cuda(arguments.bundle, arguments.data)
    except (
        BundleRefused,
        DeviceUnavailable,
        InvalidRows,
        InvalidExample,
        ConversionFailed,
        ParityFailed,
        OSError,
    ) as error:
        print(f"export.add_cuda: {error}", file=sys.stderr)
        return 2
    machines = sorted(
        {file.machine for member in manifest.members for file in member.files if file.device == "cuda"}
    )
    print(
        json.dumps(
            {"bundle": str(arguments.bundle), "proven_on": machines, **manifest.quality["cuda"].model_dump()}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
