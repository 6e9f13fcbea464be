"""Graphs for CUDA: made, shared and proven here on the CPU as far as it goes; on a GPU with `pytest -m
gpu`."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from benchmarks.gpu.__main__ import main as benchmark
from engine.devices import choose_device, gpus
from engine.lanes import Lanes
from engine.split import Split, possible_splits
from export import add_cuda, checkpoint
from export.__main__ import main as export
from export.convert import ConversionFailed, check_fusions, convert, fuse
from export.cpu import for_cpu
from export.cuda_graphs import REFERENCE
from export.dequantize import dequantize
from export.half import halve
from export.inspect import main as inspect
from export.member import ProvenGraphs, fastest
from export.narrow import narrow
from export.packing import pack
from export.parity import ParityFailed, compare
from export.proof import at_work
from export.quantize import quantize
from export.verify import main as verify
from export.weights import save_shared
from models import classifier
from models.bundle import Bundle, BundleRefused
from models.classifier import OnnxClassifier, OutOfMemory
from models.encoding import Encoded, EncodedBatch
from models.ensemble import DeviceUnavailable, EncodedExample, Ensemble
from models.precision import PRECISIONS
from models.rows import read_labelled
from models.voting import softmax

PAD = 1
ARENA = (
    "Non-zero status code returned while running MatMul node. "
    "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer"
)


@pytest.fixture(scope="module")
def trained(checkpoints: list[Path]) -> checkpoint.Checkpoint:
    return checkpoint.load(checkpoints[0])


@pytest.fixture(scope="module")
def encoded(trained: checkpoint.Checkpoint, rows_file: Path) -> list[Encoded]:
    return [trained.encoder.encode(row.example) for row in read_labelled(rows_file)]


@pytest.fixture(scope="module")
def batch(encoded: list[Encoded]) -> EncodedBatch:
    return EncodedBatch.collate(encoded[:100], PAD)


@pytest.fixture(scope="module")
def fused(trained: checkpoint.Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    convert(trained.model, trained.inputs, folder / "converted.onnx")
    fuse(folder / "converted.onnx", folder / "fused.onnx", layers=2, heads=2, hidden_size=32)
    return folder / "fused.onnx"


@pytest.fixture(scope="module")
def int8(fused: Path, encoded: list[Encoded]) -> Path:
    quantized = quantize(onnx.load(fused), [EncodedBatch.collate(encoded[:64], PAD)])
    onnx.save(for_cpu(narrow(quantized)), fused.with_name("int8.onnx"))
    return fused.with_name("int8.onnx")


@pytest.fixture(scope="module")
def cuda_bundle(tiny_bundle: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with graphs for CUDA that share its int8 weights."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("cuda") / "tiny"))
    assert add_cuda.main([str(copy), "--data", str(rows_file)]) == 0
    return copy


def probabilities(graph: Path, batch: EncodedBatch) -> NDArray[np.float64]:
    return softmax(OnnxClassifier(graph, threads=1)(batch))


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_fp16_asks_and_answers_as_fp32_does(fused: Path, batch: EncodedBatch, tmp_path: Path) -> None:
    half = halve(onnx.load(fused))
    onnx.save(half, tmp_path / "fp16.onnx")
    before = onnx.load(fused).graph
    assert (list(half.graph.input), list(half.graph.output)) == (list(before.input), list(before.output))
    assert onnx.TensorProto.FLOAT not in {tensor.data_type for tensor in half.graph.initializer}
    assert OnnxClassifier(tmp_path / "fp16.onnx", threads=1)(batch).dtype == np.float32
    assert np.abs(probabilities(tmp_path / "fp16.onnx", batch) - probabilities(fused, batch)).max() < 5e-3


def test_packing_takes_padding_out_once_and_packs_every_layer(fused: Path) -> None:
    packed = pack(halve(onnx.load(fused)))
    counts = operators(packed)
    assert (
        counts["RemovePadding"],
        counts["PackedAttention"],
        counts["Attention"],
        counts["RestorePadding"],
    ) == (1, 2, 0, 1)
    check_fusions(packed, layers=2)
    with pytest.raises(ConversionFailed, match="2 of 3 layers"):
        check_fusions(packed, layers=3)


def test_a_graph_that_cannot_be_packed_is_refused(fused: Path) -> None:
    unfused = onnx.load(fused.with_name("converted.onnx"))
    with pytest.raises(ConversionFailed, match="0 attention blocks were packed"):
        pack(unfused)


def test_dequantized_weights_say_what_the_model_says(
    trained: checkpoint.Checkpoint, int8: Path, batch: EncodedBatch, tmp_path: Path
) -> None:
    """Without rounded activations the int8 graph's weights are nearer to the model than the int8 graph is."""
    onnx.save(dequantize(onnx.load(int8), half=False), tmp_path / "fp32.onnx")
    model = softmax(trained.logits(batch))
    floats, integers = (
        np.abs(probabilities(graph, batch) - model).mean() for graph in (tmp_path / "fp32.onnx", int8)
    )
    assert floats < integers
    assert floats < 0.01


def test_nothing_is_dequantized_at_run_time(int8: Path, batch: EncodedBatch, tmp_path: Path) -> None:
    onnx.save(dequantize(onnx.load(int8)), tmp_path / "fp16.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "fp16.onnx", options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx").graph
    stored = {tensor.name: tensor.data_type for tensor in loaded.initializer}
    assert [
        node.op_type for node in loaded.node if node.input and all(name in stored for name in node.input)
    ] == []
    assert list(stored.values()).count(onnx.TensorProto.INT8) == 1, (
        "the embedding's table, of which a batch reads few rows"
    )
    assert operators(onnx.load(tmp_path / "loaded.onnx"))["Attention"] == 2


def test_graphs_with_a_file_of_weights_between_them_answer_as_before(
    int8: Path, batch: EncodedBatch, tmp_path: Path
) -> None:
    quantized = onnx.load(int8)
    half = dequantize(quantized)
    onnx.save(half, tmp_path / "alone.onnx")
    weights = save_shared({tmp_path / "int8.onnx": quantized, tmp_path / "fp16.onnx": half})
    assert np.array_equal(probabilities(tmp_path / "int8.onnx", batch), probabilities(int8, batch))
    assert np.array_equal(
        probabilities(tmp_path / "fp16.onnx", batch), probabilities(tmp_path / "alone.onnx", batch)
    )
    assert weights.stat().st_size < int8.stat().st_size, "what both have in common is stored once"


def test_a_bundle_gets_graphs_for_cuda_without_its_checkpoints(
    tiny_bundle: Path, cuda_bundle: Path, batch: EncodedBatch
) -> None:
    bundle = Bundle.open(cuda_bundle)
    before = Bundle.open(tiny_bundle).manifest
    assert bundle.devices() == ["cpu", "cuda"]
    assert bundle.manifest.golden["cpu"] == before.golden["cpu"]
    assert bundle.manifest.quality["cuda"].micro_f1 == pytest.approx(before.quality["cpu"].micro_f1, abs=1)
    assert [row.relation for row in bundle.manifest.golden["cuda"].rows] == [
        row.relation for row in before.golden["cpu"].rows
    ]
    for each in bundle.manifest.members:
        files = {file.precision: file for file in each.files}
        cuda = files["fp16-from-int8"]
        assert cuda.weights == files["int8"].weights
        assert (cuda.device, cuda.fusions["Attention"], cuda.parity.reference) == (
            "cuda",
            each.layers,
            REFERENCE,
        )
        assert cuda.parity.label_agreement >= PRECISIONS["fp16"].agreement
        assert cuda.machine.endswith("ExecutionProvider")
        assert np.array_equal(
            *(probabilities(path / files["int8"].path, batch) for path in (tiny_bundle, cuda_bundle))
        )
    assert list(cuda_bundle.parent.iterdir()) == [cuda_bundle], "what was there before is gone"


def test_added_again_the_graphs_stay_and_the_proof_is_new(
    cuda_bundle: Path, rows_file: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(cuda_bundle, tmp_path / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    assert add_cuda.main([str(copy), "--data", str(rows_file)]) == 0
    assert json.loads((copy / "manifest.json").read_text(encoding="utf-8")) == manifest
    assert (copy / "SHA256SUMS").read_bytes() == (cuda_bundle / "SHA256SUMS").read_bytes()


def test_a_graph_for_cuda_that_fails_its_gate_leaves_the_bundle_alone(
    tiny_bundle: Path,
    rows_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    monkeypatch.setitem(PRECISIONS, "fp16", replace(PRECISIONS["fp16"], agreement=1.01))
    assert add_cuda.main([str(copy), "--data", str(rows_file)]) == 2
    assert "labels agree with fp32 arithmetic on the same weights" in capsys.readouterr().err.splitlines()[-1]
    assert (copy / "SHA256SUMS").read_bytes() == (tiny_bundle / "SHA256SUMS").read_bytes()
    assert list(tmp_path.iterdir()) == [copy]


def test_a_missing_file_of_weights_is_refused(cuda_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(cuda_bundle, tmp_path / "copy"))
    next(copy.glob("members/*/weights.bin")).unlink()
    with pytest.raises(BundleRefused, match=r"weights\.bin is missing"):
        Bundle.open(copy)


def test_inspect_and_verify_know_the_new_graphs(
    cuda_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect([str(cuda_bundle)]) == 0
    shown = capsys.readouterr().out
    assert "fp16-from-int8.onnx: cuda" in shown
    assert "weights.bin shared)" in shown
    assert "proven on: " in shown
    assert verify([str(cuda_bundle), "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "cpu"


def test_answers_that_are_no_numbers_are_refused() -> None:
    right = np.full((4, 30), 1 / 30)
    broken = right.copy()
    broken[2, 5] = np.nan  # as after an overflow in fp16
    with pytest.raises(ParityFailed, match="row 3 of the proof: a probability is not finite"):
        compare(right, broken, np.zeros(4, dtype=np.int64))


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("fp16-from-int8", "give int8,fp16-from-int8"),
        ("fp16-packed", "only a machine with a GPU can prove it"),
        ("int4", "int4"),
    ],
)
def test_a_precision_that_cannot_be_had_gets_one_plain_line(
    checkpoints: list[Path],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    message: str,
) -> None:
    monkeypatch.setattr("export.ensemble.has_gpu", lambda: False)
    arguments = [
        str(checkpoints[1]),
        "--output",
        str(tmp_path / "bundle"),
        "--data",
        str(rows_file),
        "--precision",
        precision,
    ]
    try:
        status = export(arguments)
    except SystemExit as refused:  # argparse's way
        status = refused.code  # type: ignore[assignment]
    assert status == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_every_precision_is_exported_for_its_device(
    checkpoints: list[Path], rows_file: Path, tmp_path: Path
) -> None:
    arguments = [str(checkpoints[1]), "--output", str(tmp_path / "bundle"), "--data", str(rows_file)]
    assert export([*arguments, "--precision", "int8,fp16,fp16-from-int8"]) == 0
    bundle = Bundle.open(tmp_path / "bundle")
    (only,) = bundle.manifest.members
    assert {(file.device, file.precision, file.weights is not None) for file in only.files} == {
        ("cpu", "int8", True),
        ("cuda", "fp16", False),
        ("cuda", "fp16-from-int8", True),
    }
    assert bundle.devices() == ["cpu", "cuda"]
    assert only.file_for("cuda") == next(file for file in only.files if file.precision == "fp16")


@pytest.mark.parametrize(
    ("seconds", "failing", "gpu", "taken"),
    [
        pytest.param(
            {"int8": 1, "fp32": 2},
            [],
            False,
            ["int8", "fp16-from-int8"],
            id="int8 is fast: CUDA shares its weights",
        ),
        pytest.param({"int8": 1, "fp32": 2}, ["int8"], False, ["fp32"], id="int8 fails its gate"),
        pytest.param(
            {"int8": 2, "fp32": 1}, [], False, ["fp32"], id="int8 is slow, so there is nothing to share"
        ),
        pytest.param(
            {"int8": 1, "fp32": 0.99}, [], True, ["int8", "fp16-from-int8"], id="hardly faster is not faster"
        ),
        pytest.param({"int8": 1, "fp16-packed": 0.5}, [], True, ["int8", "fp16-packed"], id="packing pays"),
        pytest.param(
            {"int8": 1, "fp16-packed": 0.5},
            ["fp16-packed"],
            True,
            ["int8", "fp16-from-int8"],
            id="packing fails its gate",
        ),
        pytest.param({"int8": 1}, ["int8"], True, ["fp32", "fp16"], id="CUDA with weights of its own"),
    ],
)
def test_auto_takes_for_each_device_the_fastest_that_is_proven(
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[str, float],
    failing: list[str],
    gpu: bool,
    taken: list[str],
) -> None:
    def prove(precision: str) -> ProvenGraphs:
        if precision in failing:
            raise ParityFailed(precision)
        return ProvenGraphs(precision, [], [], seconds.get(precision, 1))  # type: ignore[arg-type]

    monkeypatch.setattr("export.member.has_gpu", lambda: gpu)
    assert [proven.precision for proven in fastest(prove)] == taken


def test_auto_exports_what_is_proven_here(checkpoints: list[Path], rows_file: Path, tmp_path: Path) -> None:
    arguments = [
        str(checkpoints[1]),
        "--output",
        str(tmp_path / "bundle"),
        "--data",
        str(rows_file),
        "--precision",
        "auto",
    ]
    assert export(arguments) == 0
    (only,) = Bundle.open(tmp_path / "bundle").manifest.members
    precisions = {file.precision for file in only.files}  # which it is depends on the machine's speed
    assert len([file for file in only.files if file.device == "cpu"]) == 1
    assert "fp16-from-int8" not in precisions or "int8" in precisions
    Ensemble.load(Bundle.open(tmp_path / "bundle"), "cpu").prove()


def test_auto_fails_where_the_conversion_itself_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(precision: str) -> ProvenGraphs:
        raise ParityFailed(precision)

    with pytest.raises(ParityFailed, match="fp32"):
        fastest(prove)


class SmallMemory:
    """A session with memory for some rows, which reports a larger batch as ONNX Runtime does."""

    def __init__(self, rows: int, message: str = ARENA) -> None:
        self.rows = rows
        self.message = message
        self.batches: list[int] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input_ids")]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="logits")]

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def run(self, outputs: list[str], inputs: dict[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        ids = inputs["input_ids"]
        self.batches.append(len(ids))
        if len(ids) > self.rows:
            raise RuntimeError(self.message)
        return [np.repeat(ids[:, :1], 30, axis=1).astype(np.float32) * np.arange(30, dtype=np.float32)]


Loader = Callable[[SmallMemory], Ensemble]


@pytest.fixture
def load(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """The tiny ensemble, each of whose graphs runs in a given session."""

    def load_with(session: SmallMemory) -> Ensemble:
        monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
        return Ensemble.load(Bundle.open(tiny_bundle))

    return load_with


def numbered(rows: int) -> list[EncodedExample]:
    return [EncodedExample((Encoded(np.full(8, number + 1), np.array([1, 4])),)) for number in range(rows)]


@pytest.mark.parametrize(
    "message",
    [ARENA, "CUDA failure 2: out of memory ; GPU=0", "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"],
)
def test_a_batch_that_does_not_fit_goes_through_in_halves(load: Loader, message: str) -> None:
    roomy, narrow = SmallMemory(100), SmallMemory(3, message)
    expected = load(roomy).run(numbered(13))
    answers = load(narrow).run(numbered(13))
    assert all(
        np.array_equal(one.probabilities, other.probabilities)
        for one, other in zip(answers, expected, strict=True)
    )
    assert max(batch for batch in narrow.batches if batch <= 3) == 3
    assert roomy.batches == [13, 13]


def test_a_row_that_does_not_fit_alone_is_an_error(load: Loader) -> None:
    ensemble = load(SmallMemory(0))
    with pytest.raises(OutOfMemory, match="Failed to allocate"):
        ensemble.run(numbered(4))


def test_another_failure_is_not_tried_again(load: Loader) -> None:
    session = SmallMemory(0, "CUDA failure 700: an illegal memory access was encountered")
    ensemble = load(session)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        ensemble.run(numbered(4))
    assert session.batches == [4]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.devices.gpus", lambda: ())


@pytest.mark.usefixtures("no_gpu")
def test_cuda_without_a_gpu_is_refused_and_auto_says_why_it_took_the_cpu(cuda_bundle: Path) -> None:
    bundle = Bundle.open(cuda_bundle)
    with pytest.raises(DeviceUnavailable, match="CUDA is required, but this machine has no GPU"):
        Lanes.load(bundle, "cuda")
    device, why = choose_device(bundle, "auto")
    assert device == "cpu"
    assert "no GPU" in why
    assert "asked for" not in why


def test_a_gpu_without_the_right_onnx_runtime_is_told_what_to_install(
    cuda_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.devices.gpus", lambda: ("a GPU",))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceUnavailable, match="install the extra `cuda`"):
        Lanes.load(Bundle.open(cuda_bundle), "cuda")


@pytest.mark.parametrize(
    ("found", "splits"), [((), [Split(1, 1), Split(2, 1)]), (("a", "b"), [Split(2, 1), Split(4, 1)])]
)
def test_every_gpu_has_a_lane_or_two(
    monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...], splits: list[Split]
) -> None:
    monkeypatch.setattr("engine.split.gpus", lambda: found)
    assert possible_splits("cuda", 16) == splits
    assert possible_splits("cuda", 16, lanes=3) == [Split(3, 1)]


@pytest.mark.slow
def test_the_benchmark_runs_at_a_small_size(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KLUE_RE_DATA", raising=False)  # some of those rows are too long for a tiny window
    output = tmp_path / "gpu.json"
    arguments = [
        "--device",
        "cpu",
        "--shape",
        "tiny",
        "--members",
        "2",
        "--bundle",
        str(tiny_bundle),
        "--output",
        str(output),
    ]
    assert (
        benchmark(
            [*arguments, "--seconds", "0", "--http-seconds", "0.2", "--connections", "2", "--tuning-s", "0"]
        )
        == 0
    )
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["fusions"]["Attention"] == 2
    for way in ("ONNX Runtime, fused", "ONNX Runtime, unfused"):
        assert found[way]["compared with eager"]["largest_difference"] < 1e-4, "they run the same model"
        assert all(timed["rows_per_s"] > 0 for timed in found[way]["batches"].values())
    assert found["ensemble"]["batches"].keys() == found["bundle"].keys() == {"4 × 32", "8 × mixed"}
    assert all(
        each["errors"] == {} and each["answers"] > 0
        for part in ("ensemble", "bundle")
        for each in found[f"{part} over HTTP"]
    )
    captured = capsys.readouterr()
    assert "| 4 × 32 |" in captured.err
    assert json.loads(captured.out.splitlines()[-1])["times_eager_mixed"] > 0


on_gpu = pytest.mark.skipif(not gpus(), reason="no CUDA device")


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_the_golden_rows_are_answered(cuda_bundle: Path) -> None:
    bundle = Bundle.open(cuda_bundle)
    assert choose_device(bundle, "auto")[0] == "cuda"
    served = Lanes.load(bundle, "cuda", Split(2, 1)).ensemble
    served.prove()
    assert set(served.providers) == {"CUDAExecutionProvider"}
    assert {file.machine for member in bundle.manifest.members if (file := member.file_for("cuda"))} == {
        f"{gpus()[0]}, CUDAExecutionProvider"
    }


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_a_row_gets_one_answer_alone_and_in_any_batch(cuda_bundle: Path, rows_file: Path) -> None:
    served = Lanes.load(Bundle.open(cuda_bundle), "cuda", Split(1, 1)).ensemble
    encoded = [served.encode(row.example) for row in read_labelled(rows_file)[:100]]
    alone = np.stack([served.run([row])[0].probabilities for row in encoded])
    together = np.stack([prediction.probabilities for prediction in served.run(encoded)])
    assert np.abs(alone - together).max() < 5e-3


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_a_batch_that_does_not_fit_goes_through_in_halves(
    cuda_bundle: Path, rows_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(cuda_bundle)
    roomy = Lanes.load(bundle, "cuda", Split(1, 1)).ensemble
    encoded = [roomy.encode(row.example) for row in read_labelled(rows_file)[:200]] * 40
    monkeypatch.setitem(classifier.CUDA_OPTIONS, "gpu_mem_limit", str(32 << 20))
    narrow = Lanes.load(bundle, "cuda", Split(1, 1)).ensemble
    graph = bundle.manifest.members[0].file_for("cuda")
    assert graph is not None
    alone = OnnxClassifier(bundle.path / graph.path, 1, "CUDAExecutionProvider")
    with pytest.raises(OutOfMemory):
        alone(EncodedBatch.collate([row.encodings[0] for row in encoded], PAD))
    answers, expected = narrow.run(encoded), roomy.run(encoded)
    assert (
        max(
            np.abs(one.probabilities - other.probabilities).max()
            for one, other in zip(answers, expected, strict=True)
        )
        < 5e-3
    )


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_it_answers_as_on_the_cpu(cuda_bundle: Path, rows_file: Path) -> None:
    bundle = Bundle.open(cuda_bundle)
    examples = [row.example for row in read_labelled(rows_file)]
    here, there = (
        device.predict(examples)
        for device in (at_work(bundle, "cpu"), Lanes.load(bundle, "cuda", Split(1, 1)))
    )
    assert np.mean([one.relation == other.relation for one, other in zip(here, there, strict=True)]) > 0.97


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_packed_answers_are_those_of_the_model(
    trained: checkpoint.Checkpoint, fused: Path, batch: EncodedBatch, tmp_path: Path
) -> None:
    onnx.save(pack(halve(onnx.load(fused))), tmp_path / "packed.onnx")
    packed = softmax(OnnxClassifier(tmp_path / "packed.onnx", 1, "CUDAExecutionProvider")(batch))
    assert np.abs(packed - softmax(trained.logits(batch))).max() < 1e-2


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_auto_ships_a_graph_that_is_proven_there(
    checkpoints: list[Path], rows_file: Path, tmp_path: Path
) -> None:
    arguments = [
        str(checkpoints[1]),
        "--output",
        str(tmp_path / "bundle"),
        "--data",
        str(rows_file),
        "--precision",
        "auto",
    ]
    assert export(arguments) == 0
    assert verify([str(tmp_path / "bundle"), "--data", str(rows_file), "--device", "cuda"]) == 0
