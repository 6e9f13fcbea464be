"""Export's word: what is served is what was trained, or nothing is written."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import checkpoint, parity
from export.__main__ import main
from export.add_cuda import main as add_cuda
from export.cascade import main as cascade
from export.convert import ConversionFailed, convert, fuse
from export.inspect import main as inspect
from export.parity import ParityFailed, answer, check, compare
from export.quantize import quantize
from export.verify import main as verify
from models import bundle
from models.bundle import Bundle
from models.classifier import OnnxClassifier
from models.encoding import Encoded, EncodedBatch
from models.precision import PRECISIONS
from models.rows import LabelledExample, label_ids, read_labelled, sentence_halves

PAD = 1


@pytest.fixture(scope="module")
def member(checkpoints: list[Path]) -> checkpoint.Checkpoint:
    return checkpoint.load(checkpoints[0])


@pytest.fixture(scope="module")
def labelled(rows_file: Path) -> list[LabelledExample]:
    return read_labelled(rows_file)


@pytest.fixture(scope="module")
def encoded(member: checkpoint.Checkpoint, labelled: list[LabelledExample]) -> list[Encoded]:
    return [member.encoder.encode(row.example) for row in labelled]


@pytest.fixture(scope="module")
def fused(member: checkpoint.Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    convert(member.model, member.inputs, folder / "converted.onnx")
    fuse(folder / "converted.onnx", folder / "fused.onnx", layers=2, heads=2, hidden_size=32)
    return folder / "fused.onnx"


@pytest.fixture(scope="module")
def quantized(fused: Path, encoded: list[Encoded]) -> Path:
    path = fused.with_name("int8.onnx")
    onnx.save(quantize(onnx.load(fused), [EncodedBatch.collate(encoded[:64], PAD)]), path)
    return path


def test_the_fused_graph_is_the_model(
    member: checkpoint.Checkpoint, fused: Path, encoded: list[Encoded]
) -> None:
    batch = EncodedBatch.collate(encoded[:50], PAD)
    assert np.abs(member.logits(batch) - OnnxClassifier(fused, threads=1)(batch)).max() < 1e-4


def test_rows_and_tokens_are_free_in_the_graph(fused: Path, encoded: list[Encoded]) -> None:
    classifier = OnnxClassifier(fused, threads=1)
    for rows in (1, 2, 7):
        assert classifier(EncodedBatch.collate(encoded[:rows], PAD)).shape == (rows, 30)


def test_int8_answers_do_not_depend_on_neighbours(quantized: Path, encoded: list[Encoded]) -> None:
    classifier = OnnxClassifier(quantized, threads=1)
    together = classifier(EncodedBatch.collate(encoded[:100], PAD))
    alone = np.concatenate([classifier(EncodedBatch.collate([row], PAD)) for row in encoded[:100]])
    assert np.abs(together - alone).max() < 1e-5


def test_int8_holds_integers_where_fp32_held_floats(fused: Path, quantized: Path) -> None:
    operators = [node.op_type for node in onnx.load(quantized).graph.node]
    assert operators.count("QAttention") == 2
    assert operators.count("MatMulIntegerToFloat") == 3 * 2
    assert "Attention" not in operators
    assert "DynamicQuantizeLinear" not in operators, (
        "a scale taken from the batch makes answers depend on neighbours"
    )


def test_int8_weights_leave_room_for_processors_that_saturate(quantized: Path) -> None:
    for tensor in onnx.load(quantized).graph.initializer:
        if tensor.name.endswith("/weight") and tensor.data_type == onnx.TensorProto.INT8:
            assert np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() <= 63


def test_too_few_fusions_are_refused(member: checkpoint.Checkpoint, tmp_path: Path) -> None:
    convert(member.model, member.inputs, tmp_path / "converted.onnx")
    with pytest.raises(ConversionFailed, match="attention fused in 2 of 3 layers"):
        fuse(tmp_path / "converted.onnx", tmp_path / "fused.onnx", layers=3, heads=2, hidden_size=32)


def test_a_model_in_training_mode_is_refused(member: checkpoint.Checkpoint, tmp_path: Path) -> None:
    member.model.train()
    try:
        with pytest.raises(ConversionFailed, match="training mode"):
            convert(member.model, member.inputs, tmp_path / "converted.onnx")
    finally:
        member.model.eval()


def test_parity_sees_a_wrong_graph(
    member: checkpoint.Checkpoint,
    fused: Path,
    encoded: list[Encoded],
    labelled: list[LabelledExample],
    tmp_path: Path,
) -> None:
    """The token table of the graph is shifted by one row: valid ids in, valid probabilities out, and all of
    them wrong."""
    model = onnx.load(fused)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("word_embeddings.weight"):
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(
                    np.roll(onnx.numpy_helper.to_array(tensor), 1, axis=0), tensor.name
                )
            )
    onnx.save(model, tmp_path / "wrong.onnx")
    before = answer(member.logits, encoded, PAD, "before")
    right = compare(
        before, answer(OnnxClassifier(fused, threads=1), encoded, PAD, "right"), label_ids(labelled)
    )
    wrong = compare(
        before,
        answer(OnnxClassifier(tmp_path / "wrong.onnx", threads=1), encoded, PAD, "wrong"),
        label_ids(labelled),
    )
    check(right, "member", "fp32")
    assert right.label_agreement == 1
    assert right.largest_difference < 1e-4
    with pytest.raises(ParityFailed, match="labels agree with the PyTorch model"):
        check(wrong, "member", "int8")


def test_a_loss_of_f1_is_refused_however_well_labels_agree() -> None:
    figures = {"rows": 1000, "label_agreement": 1.0, "largest_difference": 0.0, "mean_difference": 0.0}
    check(parity.Parity(**figures, micro_f1_before=50.0, micro_f1=49.51), "member", "int8")
    with pytest.raises(ParityFailed, match=r"micro-F1 fell from 50\.00 to 49\.49"):
        check(parity.Parity(**figures, micro_f1_before=50.0, micro_f1=49.49), "member", "int8")


def test_no_bundle_is_written_when_a_gate_is_missed(
    checkpoints: list[Path],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PRECISIONS, "int8", replace(PRECISIONS["int8"], agreement=1.01))
    assert main([str(checkpoints[1]), "--output", str(tmp_path / "bundle"), "--data", str(rows_file)]) == 2
    assert "labels agree" in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_tells_the_proof(tiny_bundle: Path, rows_file: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    proof = int(sentence_halves(read_labelled(rows_file)).sum())
    for member in manifest.members:
        for file in member.files:
            assert file.fusions["Attention"] == member.layers
            assert file.parity.rows == proof, "not the rows that int8's scales were fitted on"
            assert file.parity.label_agreement >= PRECISIONS[file.precision].agreement
    assert len(manifest.golden["cpu"].rows) >= 10
    assert manifest.quality["cpu"].data.startswith("rows.jsonl, SHA-256 ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{checkpoint}", "--weights", "1,2"], "--weights"),
        (["{checkpoint}", "--notice", "nothing.md"], "nothing.md"),
        (
            ["{checkpoint}", "--notice", "README.md", "--notice", "docs/../README.md"],
            "another one is called README.md too",
        ),
        (
            ["{checkpoint}", "--notice", "bundles/default/manifest.json"],
            "the bundle has a file manifest.json",
        ),
        (["nowhere"], "nowhere"),
        (["{checkpoint}", "--calibration", "nothing.jsonl"], "nothing.jsonl"),
    ],
)
def test_what_cannot_be_exported_gets_one_plain_line(
    checkpoints: list[Path],
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    filled = [argument.format(checkpoint=checkpoints[1]) for argument in arguments]
    assert main([*filled, "--output", str(tmp_path / "bundle"), "--data", str(rows_file)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_checkpoint_of_another_architecture_is_refused(
    checkpoints: list[Path], rows_file: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoints[1], tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(
        json.dumps({**config, "architectures": ["BertForMaskedLM"]}), encoding="utf-8"
    )
    with pytest.raises(checkpoint.InvalidCheckpoint, match="BertForMaskedLM found"):
        checkpoint.load(copy)


def test_an_existing_output_is_left_alone(checkpoints: list[Path], rows_file: Path, tmp_path: Path) -> None:
    assert main([str(checkpoints[1]), "--output", str(tmp_path), "--data", str(rows_file)]) == 2


def test_inspect_shows_what_is_inside(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect([str(tiny_bundle)]) == 0
    shown = capsys.readouterr().out
    assert "tiny: 2 members" in shown
    assert "attention blocks fused" in shown
    assert json.loads(shown.splitlines()[-1])["members"] == 2


def test_verify_measures_what_the_manifest_says(
    tiny_bundle: Path, rows_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify([str(tiny_bundle), "--data", str(rows_file)]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    quality = Bundle.open(tiny_bundle).manifest.quality["cpu"]
    assert summary["micro_f1"] == quality.micro_f1
    assert summary["auprc"] == pytest.approx(quality.auprc)


@pytest.fixture
def boastful(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle whose manifest promises more than it holds."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "boastful"))
    manifest = Bundle.open(copy).manifest
    quality = {
        device: promised.model_copy(update={"micro_f1": promised.micro_f1 - 5})
        for device, promised in manifest.quality.items()
    }
    bundle.write(copy, manifest.model_copy(update={"quality": quality}))
    return copy


def test_verify_compares_metrics_whatever_the_file_is_called_and_says_so(
    tiny_bundle: Path, boastful: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed, others = tmp_path / "renamed.jsonl", tmp_path / "others.jsonl"
    shutil.copy(rows_file, renamed)
    others.write_text(
        "".join(rows_file.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8"
    )
    for path, compared in ((renamed, True), (others, False)):
        assert verify([str(tiny_bundle), "--data", str(path)]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["compared_with_manifest"] is compared
    assert verify([str(boastful), "--data", str(renamed)]) == 2
    assert "the manifest says" in capsys.readouterr().err
    assert verify([str(boastful), "--data", str(others)]) == 0, "other rows prove nothing"


COMMANDS = {"export": main, "verify": verify, "cascade": cascade, "add_cuda": add_cuda}


@pytest.mark.parametrize("command", COMMANDS)
def test_rows_that_cannot_be_used_are_named_with_their_line(
    command: str,
    checkpoints: list[Path],
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = {
        "sentence": "가람은 수원에 산다.",
        "subject_entity": {"word": "가람"},
        "object_entity": {"word": "수원"},
        "label": "no_relation",
    }
    far = {**good, "sentence": "가람은" + " 또" * 900 + " 수원에 산다."}
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in (good, good, far)), encoding="utf-8"
    )
    os.mkfifo(tmp_path / "pipe.jsonl")
    place = (
        [str(checkpoints[1]), "--output", str(tmp_path / "bundle")]
        if command == "export"
        else [str(tiny_bundle)]
    )
    for name, reason in (
        ("rows.jsonl", "rows.jsonl, line 3: sentence: the two entities"),
        ("pipe.jsonl", "a regular file is required"),
    ):
        assert COMMANDS[command]([*place, "--data", str(tmp_path / name)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert reason in line
    assert not (tmp_path / "bundle").exists()


def test_verify_and_inspect_refuse_a_tampered_bundle(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    (copy / "manifest.json").write_text("{}", encoding="utf-8")
    assert verify([str(copy)]) == inspect([str(copy)]) == 2
    assert "manifest.json has been altered" in capsys.readouterr().err
