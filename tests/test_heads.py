"""Every pooling, in PyTorch and as the fused graph that export makes of it: the same answers, and none that
depends on padding."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.convert import convert, fuse
from loadtest.sentences import Row
from models.classifier import ATTENTION_MASK, ENTITY_POSITIONS, INPUT_IDS, OnnxClassifier, feed
from models.encoding import Encoded, EncodedBatch, Encoder
from models.example import Example
from training.errors import InvalidCheckpoint
from training.model.conditional import ConditionalMaskedLM
from training.model.heads import POOLED_VECTORS, HeadOptions, RelationClassifier
from training.model.masked import load_masked_lm
from training.model.member import TrainedMember

PAD = 1
INPUTS = (INPUT_IDS, ATTENTION_MASK, ENTITY_POSITIONS)


@pytest.fixture(scope="module")
def encoded(encoder_folder: Path, rows: list[Row]) -> list[Encoded]:
    encoder = Encoder.from_file(encoder_folder / "tokenizer.json", "typed_punctuation", 128, PAD)
    return [encoder.encode(Example.from_row(row)) for row in rows[:20]]


@pytest.mark.parametrize("pooling", POOLED_VECTORS)
def test_no_pooling_reads_padding_before_or_after_export(
    encoder_folder: Path, encoded: list[Encoded], pooling: str, tmp_path: Path
) -> None:
    options = HeadOptions(pooling, "typed_punctuation", 128, dropout=0.1)
    model = RelationClassifier.from_encoder(str(encoder_folder), options).eval()
    with torch.no_grad():  # random weights of the usual size make all rows nearly the same
        for weight in model.parameters():
            weight *= 5 if weight.dim() > 1 else 1
    convert(model, INPUTS, tmp_path / "converted.onnx")
    assert (
        fuse(tmp_path / "converted.onnx", tmp_path / "fused.onnx", layers=2, heads=2, hidden_size=32)[
            "Attention"
        ]
        == 2
    )
    graph = OnnxClassifier(tmp_path / "fused.onnx", threads=1)

    @torch.inference_mode()
    def in_pytorch(batch: EncodedBatch) -> np.ndarray:
        return model(
            **{name: torch.from_numpy(array) for name, array in feed(batch, INPUTS).items()}
        ).logits.numpy()

    def padded(logits: Callable[[EncodedBatch], np.ndarray]) -> np.ndarray:
        neighbour = Encoded(np.full(100, 7), np.array([3, 50]))
        return np.concatenate([logits(EncodedBatch.collate([row, neighbour], PAD))[:1] for row in encoded])

    alone = np.concatenate([in_pytorch(EncodedBatch.collate([row], PAD)) for row in encoded])
    assert np.ptp(alone, axis=0).max() > 0.1, "the rows differ, or nothing is shown"
    for answers in (padded(in_pytorch), padded(graph), graph(EncodedBatch.collate(encoded, PAD))):
        assert np.abs(answers - alone).max() < 1e-5


@pytest.mark.parametrize(("asked", "probability"), [(None, 0.1), (0.0, 0.0), (0.3, 0.3)])
def test_the_encoder_drops_out_as_its_checkpoint_or_the_recipe_says(
    encoder_folder: Path, asked: float | None, probability: float
) -> None:
    options = HeadOptions(
        "entity_start", "typed_punctuation", 128, dropout=0.2, layers=1, encoder_dropout=asked
    )
    model = RelationClassifier.from_encoder(str(encoder_folder), options)
    inside = {module.p for module in model.encoder.modules() if isinstance(module, torch.nn.Dropout)}
    assert inside == {probability}
    assert model.encoder.encoder.layer[0].attention.self.dropout_prob == probability, (
        "the fused attention takes it from here"
    )
    assert model.dropout.p == 0.2


def test_a_finished_member_goes_on_with_its_head_and_a_checkpoint_that_lacks_weights_is_refused(
    checkpoints: list[Path], encoder_folder: Path, tmp_path: Path
) -> None:
    options = HeadOptions("entity_start", "typed_punctuation", 64, dropout=0.3)
    member = RelationClassifier.from_encoder(str(checkpoints[0]), options)
    stored = load_file(checkpoints[0] / "model.safetensors")
    assert all(torch.equal(weight, stored[name]) for name, weight in member.state_dict().items())
    assert (member.config.window, member.dropout.p) == (64, 0.3)
    for pooling, markers in (("mean", "typed_punctuation"), ("entity_start", "entity_tokens")):
        with pytest.raises(ValueError, match="is a finished member with"):
            RelationClassifier.from_encoder(
                str(checkpoints[0]), HeadOptions(pooling, markers, 64, dropout=0.3)
            )
    with pytest.raises(ValueError, match=r"lacks 16 of its weights, the first one is encoder\.layer\.2\."):
        RelationClassifier.from_encoder(str(encoder_folder), replace(options, layers=3))
    (tmp_path / "config.json").write_text('{"model_type": "distilbert"}')
    with pytest.raises(ValueError, match="encoder_dropout has no effect on a distilbert"):
        RelationClassifier.from_encoder(str(tmp_path), replace(options, encoder_dropout=0.0))
    for load in (load_masked_lm, partial(ConditionalMaskedLM.from_encoder, window=64)):
        with pytest.raises(ValueError, match=r"lacks \d+ of its weights"):
            load(str(checkpoints[0]))


def test_a_finished_member_that_lost_a_weight_is_no_member(checkpoints: list[Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints[0], tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    del weights["head.bias"]
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    options = HeadOptions("entity_start", "typed_punctuation", 64, dropout=0.3)
    with pytest.raises(ValueError, match=r"lacks 1 of its weights, the first one is head\.bias"):
        RelationClassifier.from_encoder(str(tmp_path / "broken"), options)
    with pytest.raises(InvalidCheckpoint, match=r"lacks 1 of its weights, the first one is head\.bias"):
        TrainedMember.load(tmp_path / "broken")
