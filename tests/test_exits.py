"""One trunk with several exits: trained, calibrated, cut into a chain of graphs, and served as members."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError
from transformers import BertConfig, PretrainedConfig, RobertaConfig

from engine.lanes import Lanes
from export.__main__ import main as export
from export.add_cuda import main as add_cuda
from export.cascade import main as cascade
from export.convert import check_fusions, convert, fuse
from export.cpu import for_cpu
from export.inspect import main as inspect
from export.quantize import quantize
from export.stages import exit_names, join, stages
from export.verify import main as verify
from export.whole import main as whole
from models.bundle import Bundle, Manifest
from models.classifier import (
    ATTENTION_MASK,
    ENTITY_POSITIONS,
    INPUT_IDS,
    Chain,
    OnnxClassifier,
    OutOfMemory,
    States,
    feed,
)
from models.encoding import Encoded, EncodedBatch
from models.ensemble import Ensemble
from models.rows import read_examples
from models.voting import softmax
from training.calibrate import main as calibrate
from training.data.dataset import RelationDataset, collate
from training.ensemble.teachers import teach
from training.errors import InvalidRecipe
from training.model.head_name import EXIT_HEADS
from training.model.heads import HeadOptions, RelationClassifier
from training.model.member import TrainedMember, vote
from training.run.recipe import Recipe
from training.run.training import prepare
from training.train import main

pytestmark = pytest.mark.slow


def settings(*options: str) -> list[str]:
    return [part for option in options for part in ("--set", option)]


@pytest.fixture(scope="module")
def trunk(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member of two layers, a head after each."""
    folder = tmp_path_factory.mktemp("trunk") / "member"
    assert main([str(recipe_file), *settings("exits=[1, 2]", f"output={folder}", "evaluate=epoch")]) == 0
    return folder


def test_every_exit_learns_and_the_record_has_its_figures(trunk: Path, rows_file: Path) -> None:
    config = json.loads((trunk / "config.json").read_text(encoding="utf-8"))
    assert config["exits"] == [1, 2]
    logits = TrainedMember.load(trunk).logits(examples := read_examples(rows_file))
    assert logits.shape == (len(examples), 2, 30)
    assert np.abs(logits[:, 0] - logits[:, 1]).max() > 0.1, "each exit has a head of its own"
    last = json.loads((trunk / "epochs.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["exit_1_micro_f1"] > 90
    assert last["exit_2_micro_f1"] > 90
    assert last["micro_f1"] == json.loads((trunk / "metrics.json").read_text(encoding="utf-8"))["micro_f1"]


def test_as_a_teacher_it_says_the_mean_of_its_exits(trunk: Path, rows_file: Path) -> None:
    examples = read_examples(rows_file)[:20]
    logits = TrainedMember.load(trunk).logits(examples)
    expected = (softmax(logits[:, 0]) + softmax(logits[:, 1])) / 2
    np.testing.assert_allclose(teach([trunk], examples), expected, atol=1e-6)
    np.testing.assert_allclose(vote(logits[:, 0]), softmax(logits[:, 0]))


def test_each_exit_is_calibrated_by_itself(
    trunk: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(rows_file), "--output", str(tmp_path / "calibrated")]
    assert calibrate([str(trunk), *options]) == 0
    fitted = json.loads(capsys.readouterr().out.splitlines()[-1])
    examples = read_examples(rows_file)[:20]
    before, after = (TrainedMember.load(path).logits(examples) for path in (trunk, tmp_path / "calibrated"))
    assert len(fitted["temperature"]) == 2
    np.testing.assert_allclose(after, before / np.array(fitted["temperature"])[:, None], atol=1e-4)


def test_the_loss_is_the_mean_of_the_exits_losses(recipe_file: Path, tmp_path: Path) -> None:
    recipe = Recipe.read(recipe_file, {"exits": "[1, 2]", "output": str(tmp_path), "encoder_dropout": "0"})
    trainer = prepare(recipe)
    model = trainer.model.eval()
    data = trainer.train_dataset
    assert isinstance(data, RelationDataset)
    batch = collate([data[index] for index in range(8)], pad_token_id=1, window=128)
    labels = batch.pop("labels")
    logits = model(**batch).logits
    losses = [torch.nn.functional.cross_entropy(logits[:, place], labels) for place in (0, 1)]
    value = trainer.compute_loss(model, batch | {"labels": labels})
    torch.testing.assert_close(value, (losses[0] + losses[1]) / 2)


def test_a_finished_member_goes_on_with_other_exits_and_keeps_the_heads_it_has(
    checkpoints: list[Path], trunk: Path
) -> None:
    def load(folder: Path, *exits: int) -> RelationClassifier:
        options = HeadOptions("entity_start", "typed_punctuation", 128, dropout=0.1, exits=exits)
        return RelationClassifier.from_encoder(str(folder), options)

    plain, finished = load(checkpoints[0]), load(trunk, 1, 2)
    more = load(checkpoints[0], 1, 2)
    assert more.exits == [1, 2]
    assert torch.equal(more.heads[1].weight, plain.heads[0].weight)
    assert not torch.equal(more.heads[0].weight, plain.heads[0].weight)
    for name, weight in plain.encoder.state_dict().items():
        assert torch.equal(more.encoder.state_dict()[name], weight)
    fewer = load(trunk)
    assert torch.equal(fewer.heads[0].weight, finished.heads[1].weight)
    with pytest.raises(ValueError, match="the last one must be the last layer, 2"):
        load(trunk, 1)


def test_compiled_steps_are_for_training_alone_and_not_for_dropout_on_a_cpu(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compiled(model: torch.nn.Module, dynamic: bool) -> object:
        assert dynamic, "one compiled step serves batches of every length"
        return lambda **inputs: calls.append(model.training) or model(**inputs)

    monkeypatch.setattr(torch, "compile", compiled)
    asked = ["epochs=1", "train_rows=64", "compile=true"]
    output = f"output={tmp_path / 'member'}"
    assert main([str(recipe_file), *settings(*asked, output, "encoder_dropout=0")]) == 0
    assert calls == [True, True]
    if not torch.accelerator.is_available():
        recipe = Recipe.read(recipe_file, {"compile": "true", "output": str(tmp_path / "other")})
        with pytest.raises(InvalidRecipe, match="compile: compiled dropout"):
            prepare(recipe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["exits=[2, 1]"], "exits"),
        (["exits=[0, 2]"], "exits"),
        (["exits=[2]"], "exits"),
        (["exits=[1, 3]"], "the last one must be the last layer, 2"),
        (["exits=[1, 2]", "layers=1"], "the last one must be the last layer, 1"),
        (["exits=[1, 2]", "head=mean"], "exits"),
        (["exits=[1, 2]", "pooling=lstm"], "exits"),
        (["exits=[1, 2]", "head=mine.py:Mine"], "exits"),
    ],
)
def test_wrong_exits_get_one_plain_line(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([str(recipe_file), *settings(*options, f"output={tmp_path}")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


SHAPE = {"num_hidden_layers": 4, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
WORDS = {"vocab_size": 50, "pad_token_id": 1, "max_position_embeddings": 40, "type_vocab_size": 1}


@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig])
@pytest.mark.parametrize("pooling", EXIT_HEADS)
def test_the_stages_of_a_trunk_are_the_trunk(
    kind: type[PretrainedConfig], pooling: str, tmp_path: Path
) -> None:
    config = kind(**SHAPE, **WORDS, pooling=pooling, head_dropout=0.1, exits=[1, 2, 4])
    torch.manual_seed(1)
    model = RelationClassifier(config).eval()
    with torch.no_grad():  # random weights of the usual size make all rows nearly the same
        for weight in model.parameters():
            weight *= 5 if weight.dim() > 1 else 1
    generator = np.random.default_rng(2)
    rows = [
        Encoded(
            generator.integers(5, 50, size), np.array([1, size - 2]), entity_types=np.array([size % 5, 6])
        )
        for size in (12, 30, 21)
    ]
    batch = EncodedBatch.collate(rows, pad_token_id=1)
    inputs = (INPUT_IDS, ATTENTION_MASK, ENTITY_POSITIONS, *model.reads)
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array) for name, array in feed(batch, inputs).items()}
        expected = model(**tensors).logits.numpy()
    assert np.ptp(expected, axis=0).max() > 0.1, "the rows differ, or nothing is shown"
    convert(model, inputs, tmp_path / "converted.onnx", exit_names(3))
    fuse(tmp_path / "converted.onnx", tmp_path / "fused.onnx", layers=4, heads=2, hidden_size=32)

    def chain(fused: onnx.ModelProto) -> tuple[list[onnx.ModelProto], Chain]:
        graphs = [for_cpu(stage) for stage in stages(fused, 3, hidden_size=32)]
        for graph, layers in zip(graphs, (1, 1, 2), strict=True):
            check_fusions(graph, layers)
        for place, graph in enumerate(graphs):
            onnx.save(graph, str(tmp_path / f"{place}.onnx"))
        return graphs, Chain([OnnxClassifier(tmp_path / f"{place}.onnx", threads=1) for place in range(3)])

    _, in_fp32 = chain(onnx.load(str(tmp_path / "fused.onnx")))
    np.testing.assert_allclose(in_fp32(batch), expected, atol=1e-4)
    graphs, in_int8 = chain(quantize(onnx.load(str(tmp_path / "fused.onnx")), [batch]))
    together = in_int8(batch)
    for place, row in enumerate(rows):
        alone = in_int8(EncodedBatch.collate([row], pad_token_id=1))
        np.testing.assert_allclose(alone[0], together[place], atol=1e-5)
    # the last layer of a stage is narrow: no product before its head is of the full length
    assert all("read" in name for graph in graphs for name in _inputs_of_last_products(graph))
    for count in (1, 2, 3):
        onnx.save(join(graphs[:count]), str(tmp_path / "whole.onnx"))
        whole = OnnxClassifier(tmp_path / "whole.onnx", threads=1)
        np.testing.assert_array_equal(whole(batch), together[:, count - 1])


def _inputs_of_last_products(graph: onnx.ModelProto) -> list[str]:
    attention = max(place for place, node in enumerate(graph.graph.node) if node.op_type == "QAttention")
    after = [node for node in graph.graph.node[attention + 1 :] if node.op_type == "Mul"]
    return [after[0].input[0]]


@pytest.fixture(scope="module")
def bundle(
    trunk: Path, checkpoints: list[Path], rows_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An ordinary member of one layer, and the two exits of the trunk."""
    output = tmp_path_factory.mktemp("exits") / "bundle"
    asked = [str(checkpoints[1]), str(trunk), "--output", str(output), "--data", str(rows_file)]
    assert export([*asked, "--precision", "int8,fp32,fp16-from-int8", "--weights", "1,0.5,2"]) == 0
    return output


def test_each_exit_is_a_member_that_continues_the_one_before(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    members = [(member.name, member.layers, member.continues, member.weight) for member in manifest.members]
    assert members == [
        ("1-half", 1, None, 1.0),
        ("2-member-exit-1", 1, None, 0.5),
        ("3-member-exit-2", 1, "2-member-exit-1", 2.0),
    ]


def test_a_row_that_stops_has_the_vote_of_the_exits_so_far_alone_and_in_any_batch(
    bundle: Path, rows_file: Path, tmp_path: Path
) -> None:
    fitted = Path(shutil.copytree(bundle, tmp_path / "fitted"))
    assert cascade([str(fitted), "--data", str(rows_file), "--loss", "5", "--auprc-loss", "50"]) == 0
    manifest = Bundle.open(fitted).manifest
    assert manifest.cascade is not None
    assert len(manifest.cascade.thresholds) == 2
    examples = read_examples(rows_file)[:60]
    lanes = Lanes.load(Bundle.open(fitted))
    weights = np.array([member.weight for member in manifest.members])
    members = lanes.member_probabilities(examples)
    assert members.shape == (3, 60, 30)
    stages = np.stack([np.average(members[:n], axis=0, weights=weights[:n]) for n in (1, 2, 3)])
    # thresholds at which half of the rows stop that are left
    sure = stages.max(axis=2)
    first = float(np.median(sure[0]))
    middle = (first, float(np.median(sure[1][sure[0] < first])))
    lanes.ensemble.thresholds = middle
    together = lanes.predict(examples)
    assert {answer.members for answer in together} == {1, 2, 3}
    for place, example in enumerate(examples):
        stopped = [stage for stage in (0, 1) if stages[stage, place].max() >= middle[stage]]
        stage = min([*stopped, 2])
        assert together[place].members == stage + 1
        np.testing.assert_allclose(together[place].probabilities, stages[stage, place], atol=1e-9)
        (alone,) = lanes.ensemble.run([lanes.ensemble.encode(example)])
        assert alone.members == stage + 1
        np.testing.assert_allclose(alone.probabilities, together[place].probabilities, atol=1e-4)


def test_graphs_for_cuda_are_stages_too(bundle: Path, rows_file: Path, tmp_path: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    for member in manifest.members:
        (file,) = [file for file in member.files if file.precision == "fp16-from-int8"]
        assert file.parity.label_agreement >= 0.96
    assert inspect([str(bundle)]) == 0
    assert verify([str(bundle), "--data", str(rows_file)]) == 0


def test_a_bundle_gets_graphs_for_cuda_later(
    trunk: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = tmp_path / "later"
    assert export([str(trunk), "--output", str(later), "--data", str(rows_file)]) == 0
    assert add_cuda([str(later), "--data", str(rows_file)]) == 0
    for member in Bundle.open(later).manifest.members:
        assert [file.precision for file in member.files] == ["int8", "fp16-from-int8"]
    assert inspect([str(later)]) == 0
    assert "1 layers after those of 1-member-exit-1" in capsys.readouterr().out


def test_each_member_can_be_written_as_a_graph_of_its_own(
    bundle: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole([str(bundle), str(tmp_path / "whole")]) == 0
    graphs = json.loads(capsys.readouterr().out)["graphs"]
    assert [Path(graph).name for graph in graphs] == [
        "1-half.onnx",
        "2-member-exit-1.onnx",
        "3-member-exit-2.onnx",
    ]
    ensemble = Ensemble.load(Bundle.open(bundle))
    rows = [ensemble.encode(example) for example in read_examples(rows_file)[:9]]
    batch = EncodedBatch.collate([row.encodings[0] for row in rows], pad_token_id=1)
    for graph, expected in zip(graphs, ensemble.member_probabilities(rows), strict=True):
        np.testing.assert_array_equal(softmax(OnnxClassifier(Path(graph), threads=1)(batch)), expected)
    assert whole([str(bundle), str(tmp_path / "whole")]) == 2
    assert "exists" in capsys.readouterr().err


def test_a_batch_that_does_not_fit_goes_through_every_stage_in_halves(
    bundle: Path, rows_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = read_examples(rows_file)[:9]
    ensemble = Ensemble.load(Bundle.open(bundle))
    rows = [ensemble.encode(example) for example in examples]
    expected = ensemble.run(rows, every_member=True)
    run = OnnxClassifier.run

    def small(
        self: OnnxClassifier, batch: EncodedBatch, states: States | None = None
    ) -> tuple[np.ndarray, States | None]:
        if len(batch) > 2:
            raise OutOfMemory("bad_alloc")
        return run(self, batch, states)

    monkeypatch.setattr(OnnxClassifier, "run", small)
    for answer, before in zip(ensemble.run(rows, every_member=True), expected, strict=True):
        np.testing.assert_allclose(answer.probabilities, before.probabilities, atol=1e-6)


@pytest.mark.parametrize("continues", ["nowhere", "3-member-exit-2"])
def test_a_member_that_continues_no_earlier_one_is_refused(bundle: Path, continues: str) -> None:
    fields = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    fields["members"][2]["continues"] = continues
    with pytest.raises(ValidationError, match="continues"):
        Manifest.model_validate(fields)
